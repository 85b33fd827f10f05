package storetest

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/materialize"
)

const (
	// base is a time at the beginning of an hour.
	base = 1_790_000_000_000 / hour * hour
	hour = int64(3_600_000)
)

// listed is a message to so many people (every fifth opted out), of whom the
// first read have read it. It is as the fold makes it.
func listed(id string, sentAt int64, people, read int) *projections.Message {
	r := &projections.Roster{}
	for i := range people + 1 {
		r.Names = append(r.Names, fmt.Sprintf("person-%06d", i))
		r.OptedOut = append(r.OptedOut, i%5 == 4)
	}
	m := &projections.Message{ID: id, ConversationID: "c-" + id[:min(len(id), 100)], SentAt: sentAt, Version: 1, Roster: r, Sender: uint32(people / 2)}
	return grow(m, read)
}

// countOnly is a count-only message with so many readers.
func countOnly(id string, sentAt int64, listed, unlisted int) *projections.Message {
	m := &projections.Message{ID: id, ConversationID: "conversation", SentAt: sentAt, Version: 1, SenderName: "sender", RecipientsGiven: 50_000}
	return grow(unlistedGrow(m, unlisted), listed)
}

func unlistedGrow(m *projections.Message, n int) *projections.Message {
	m = shallow(m)
	for range n {
		m.Unlisted = append(m.Unlisted, projections.HashReader(fmt.Appendf(nil, "unlisted-%d", len(m.Unlisted))))
		m.Version++
	}
	return m
}

// grow returns m with so many readers more.
func grow(m *projections.Message, n int) *projections.Message {
	m = shallow(m)
	for range n {
		i := len(m.Receipts)
		r := projections.Receipt{
			Person: uint32(i),
			ReadAt: m.SentAt + int64(i%7)*int64(i)*1000,
			Offset: m.Version + int64(i%3)*1000,
		}
		if m.CountOnly() {
			m.Readers = append(m.Readers, fmt.Sprintf("reader-%d", i))
		} else {
			r.Person = uint32((i*7 + 3) % len(m.Roster.Names))
		}
		m.Receipts = append(m.Receipts, r)
		m.Version = r.Offset + 1
	}
	return m
}

func recalled(m *projections.Message) *projections.Message {
	m = shallow(m)
	m.Recalled, m.Version = true, m.Version+10
	m.Receipts, m.Readers, m.Unlisted = nil, nil, nil
	return m
}

// shallow is a copy that shares nothing that grow appends to.
func shallow(m *projections.Message) *projections.Message {
	c := *m
	c.Receipts, c.Readers, c.Unlisted = slices.Clip(m.Receipts), slices.Clip(m.Readers), slices.Clip(m.Unlisted)
	return &c
}

func testMessages(t *testing.T, h *harness) {
	alone := listed("alone", base, 0, 0)
	early := listed("before 1970", -base, 3, 2)
	all := []*projections.Message{
		alone, early,
		listed("nobody yet", base, 10, 0),
		listed("some", base, 10, 7),
		listed("chunks", base, 1000, 640),
		countOnly("count-only, nobody", base, 0, 0),
		countOnly("count-only, some", base, 3, 0),
		countOnly("truncated", base, projections.MaxListedReaders, 300),
		recalled(listed("recalled at once", base, 10, 0)),
		recalled(countOnly("recalled, count-only", base, 5, 0)),
	}
	h.commitNew(1, all...)
	for _, m := range all {
		h.wantMessage(1, m)
	}
	h.wantNone(1, "another")
	h.wantNone(2, "some")
}

// testGrowth has the numbers around where a store may cut.
func testGrowth(t *testing.T, h *harness) {
	m := listed("m", base, 5000, 0)
	h.commitNew(1, m)
	for _, n := range []int{1, 1, 61, 1, 63, 1, 1, 126, 1, 128, 129, 1, 600, 1} {
		before := len(m.Receipts)
		m = grow(m, n)
		h.commitGrown(1, m, before, 0)
		h.wantMessage(1, m)
	}
	m = shallow(m)
	m.Version++ // as an erasure will: the version alone
	h.commitGrown(1, m, len(m.Receipts), 0)
	h.wantMessage(1, m)
}

func testCountOnlyGrowth(t *testing.T, h *harness) {
	m := countOnly("m", base, projections.MaxListedReaders-200, 0)
	h.commitNew(1, m)
	for _, n := range []int{1, 127, 72} {
		before := len(m.Receipts)
		m = grow(m, n)
		h.commitGrown(1, m, before, 0)
	}
	h.wantMessage(1, m)
	for _, n := range []int{1, 127, 1, 128, 500, 1} {
		before := len(m.Unlisted)
		m = unlistedGrow(m, n)
		h.commitGrown(1, m, len(m.Receipts), before)
		h.wantMessage(1, m)
	}
}

func testLargestRoster(t *testing.T, h *harness) {
	m := listed("large", base, 10_000, 3)
	for i := range m.Roster.Names {
		m.Roster.Names[i] = fmt.Sprintf("%0128d", i)
	}
	if size := (&materialize.Batch{Messages: []materialize.Change{{Message: m}}}).Size(); size > h.MaxBatch() {
		t.Skipf("requires a larger transaction: one of %d bytes, and this store has %d", size, h.MaxBatch())
	}
	h.commitNew(1, m)
	h.wantMessage(1, m)
}

func testRecall(t *testing.T, h *harness) {
	for i, m := range []*projections.Message{
		listed("none", base, 10, 0),
		listed("few", base, 10, 3),
		listed("many", base, 1000, 700),
		countOnly("count-only", base, 300, 0),
		// More hashes than a store has to delete for a recall.
		countOnly("truncated", base, projections.MaxListedReaders, 60_000),
	} {
		p := int32(i)
		h.commitNew(p, m)
		r := recalled(m)
		h.commitGrown(p, r, len(m.Receipts), len(m.Unlisted))
		h.wantMessage(p, r)
		if n := h.prune(p, base+hour); n != 1 {
			t.Errorf("Prune removed %d", n)
		}
		h.wantNone(p, m.ID)
	}
}

// testReplaced takes an expired message's ID for a new one.
func testReplaced(t *testing.T, h *harness) {
	for i, old := range []*projections.Message{
		listed("m", base, 2000, 1500),
		countOnly("m", base, 500, 700),
		recalled(listed("m", base, 10, 0)),
	} {
		for j, later := range []*projections.Message{
			countOnly("m", base+50*hour, 2, 0),
			listed("m", base+50*hour, 3, 1),
			listed("m", base+1, 10, 0), // in the same hour
		} {
			p := int32(8*i + j)
			h.commitNew(p, old)
			h.commitNew(p, later)
			h.wantMessage(p, later)
			grown := grow(later, 2)
			h.commitGrown(p, grown, len(later.Receipts), 0)
			h.wantMessage(p, grown)
		}
	}
}

func testPrune(t *testing.T, h *harness) {
	var all []*projections.Message
	for i := range 2500 {
		m := listed(fmt.Sprintf("m%d", i), base+int64(i%5)*hour+int64(i), 20, i%20)
		all = append(all, m)
	}
	for some := range slices.Chunk(all, 100) {
		h.commitNew(1, some...)
	}
	if n := h.prune(1, base+hour-1); n != 0 {
		t.Errorf("Prune removed %d although no hour has ended", n)
	}
	if n := h.prune(1, base+2*hour); n != 1000 {
		t.Errorf("Prune removed %d, not two hours of 500", n)
	}
	if n := h.prune(1, base+2*hour); n != 0 {
		t.Errorf("Prune removed %d a second time", n)
	}
	h.reopen()
	for i, m := range all {
		if i%5 < 2 {
			h.wantNone(1, m.ID)
		} else if diff := diffMessage(h.message(1, m.ID), m); diff != "" {
			t.Fatalf("message %q: %s", m.ID, diff)
		}
	}
	if saved := h.restore(1); saved.Checkpoint.Position != 1 {
		t.Errorf("restored %+v", saved)
	}
	if n := h.prune(1, base+100*hour); n != 1500 {
		t.Errorf("Prune removed %d, not the other three hours", n)
	}
}

// testPruneKeepsLater prunes the hour of a message whose ID was used again.
func testPruneKeepsLater(t *testing.T, h *harness) {
	h.commitNew(1, listed("m", base, 2000, 1500))
	later := listed("m", base+50*hour, 10, 5)
	h.commitNew(1, later)
	if n := h.prune(1, base+10*hour); n != 0 {
		t.Errorf("Prune removed %d messages, none of which has expired", n)
	}
	h.wantMessage(1, later)
	grown := grow(later, 3)
	h.commitGrown(1, grown, 5, 0)
	h.wantMessage(1, grown)
}

func testPruneReplaced(t *testing.T, h *harness) {
	h.commitNew(1, listed("m", base, 2000, 1500))
	h.commitNew(1, listed("m", base+50*hour, 10, 5))
	if n := h.prune(1, base+51*hour); n != 1 {
		t.Errorf("Prune removed %d", n)
	}
	h.wantNone(1, "m")
	// Were anything left of them, it would show in a message that takes the ID.
	third := listed("m", base+99*hour, 2000, 0)
	h.commitNew(1, third)
	h.wantMessage(1, third)
}

// testNothingShared changes what went in and what came out.
func testNothingShared(t *testing.T, h *harness) {
	m := countOnly("m", base, 10, 5)
	want := shallow(countOnly("m", base, 10, 5))
	u := undecodable(3)
	b := batch(5)
	b.Messages = []materialize.Change{{Message: m}}
	b.Undecodable, b.UndecodableTotal = []materialize.Undecodable{u}, 1
	h.commit(1, b)
	for range 2 {
		for _, other := range []*projections.Message{m, h.message(1, "m")} {
			other.Receipts[0].Offset++
			other.Readers[0] = "x"
			other.Unlisted[0][0]++
			other.Receipts = append(other.Receipts[:3], other.Receipts[5:]...)
			other.Version = 99
		}
		if kept, err := h.Undecodable(1); err != nil || len(kept) != 1 {
			t.Fatalf("Undecodable: %+v, %v", kept, err)
		} else {
			kept[0].Value[0]++
		}
		u.Key[0]++
		if diff := diffMessage(h.message(1, "m"), want); diff != "" {
			t.Fatal(diff)
		}
		if kept, _ := h.Undecodable(1); !equalUndecodable(kept[0], undecodable(3)) {
			t.Fatalf("undecodable is %+v", kept[0])
		}
		m = countOnly("m", base, 10, 5)
	}
}

// testReaders reads what is being committed: each message grows by ten receipts
// a commit, and must never show part of them.
func testReaders(t *testing.T, h *harness) {
	const messages, commits, step = 4, 30, 10
	var ids [][]byte
	all := make([]*projections.Message, messages)
	for i := range all {
		all[i] = listed(fmt.Sprintf("m%d", i), base, 1000, 0)
		ids = append(ids, []byte(all[i].ID))
	}
	h.commitNew(1, all...)
	done := make(chan struct{})
	var readers sync.WaitGroup
	for r := range 3 {
		readers.Go(func() {
			seen := make([]int, messages)
			for i := r; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				n := i % messages
				m, err := h.Message(1, ids[n])
				if err != nil || m == nil || len(m.Receipts)%step != 0 || len(m.Receipts) < seen[n] {
					t.Errorf("message %d: %v, %v after %d", n, m, err, seen[n])
					return
				}
				seen[n] = len(m.Receipts)
				if _, _, err := h.Restore(1); err != nil {
					t.Error(err)
				}
				if _, err := h.Undecodable(1); err != nil {
					t.Error(err)
				}
			}
		})
	}
	var writers sync.WaitGroup
	writers.Go(func() { // another partition, concurrently
		for i := range commits {
			if err := h.Commit(2, &materialize.Batch{Checkpoint: projections.Checkpoint{Position: int64(i)},
				Messages: []materialize.Change{{Message: listed(fmt.Sprint(i), base+int64(i)*hour, 10, 3)}}}); err != nil {
				t.Error(err)
			}
			if _, err := h.Prune(2, base+int64(i)*hour); err != nil {
				t.Error(err)
			}
		}
	})
	for i := range commits {
		b := batch(int64(i))
		for j, m := range all {
			all[j] = grow(m, step)
			b.Messages = append(b.Messages, materialize.Change{Message: all[j], Stored: true, Receipts: len(m.Receipts)})
		}
		b.Undecodable, b.UndecodableTotal = []materialize.Undecodable{undecodable(int64(i))}, int64(i)+1
		h.commit(1, b)
	}
	writers.Wait()
	close(done)
	readers.Wait()
}
