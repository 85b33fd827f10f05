// Package storetest is what every materialize.Store has to pass.
package storetest

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/materialize"
)

// Opener opens one store, empty the first time. It is called again only after
// the store that it returned was closed.
type Opener func() (materialize.Store, error)

// Run holds stores to the contract. New returns the opener of a new store, which
// has at least 64 partitions.
func Run(t *testing.T, newStore func(t *testing.T) Opener) {
	for _, c := range []struct {
		name string
		test func(*testing.T, *harness)
	}{
		{"Empty", testEmpty},
		{"Messages", testMessages},
		{"Growth", testGrowth},
		{"CountOnlyGrowth", testCountOnlyGrowth},
		{"LargestRoster", testLargestRoster},
		{"Recall", testRecall},
		{"Replaced", testReplaced},
		{"Checkpoint", testCheckpoint},
		{"Waiting", testWaiting},
		{"ManyWaitingLeave", testManyWaitingLeave},
		{"Undecodable", testUndecodable},
		{"Prune", testPrune},
		{"PruneKeepsLaterMessages", testPruneKeepsLater},
		{"PruneWhatWasReplaced", testPruneReplaced},
		{"PartitionsAreApart", testPartitions},
		{"IDsAreApart", testIDs},
		{"TooLarge", testTooLarge},
		{"LargestBatch", testLargestBatch},
		{"NothingShared", testNothingShared},
		{"ReadersWhileCommitting", testReaders},
		{"RandomOperations", testRandom},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := &harness{t: t, open: newStore(t)}
			h.Store = h.mustOpen()
			t.Cleanup(func() {
				if err := h.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			})
			c.test(t, h)
		})
	}
}

// harness is a store under test that can be opened again.
type harness struct {
	materialize.Store
	t    testing.TB
	open Opener
}

func (h *harness) mustOpen() materialize.Store {
	h.t.Helper()
	s, err := h.open()
	if err != nil {
		h.t.Fatalf("open: %v", err)
	}
	return s
}

func (h *harness) reopen() {
	h.t.Helper()
	if err := h.Close(); err != nil {
		h.t.Fatalf("Close: %v", err)
	}
	h.Store = h.mustOpen()
}

func (h *harness) commit(partition int32, b *materialize.Batch) {
	h.t.Helper()
	if err := h.Commit(partition, b); err != nil {
		h.t.Fatalf("Commit: %v", err)
	}
}

// commitNew commits messages that are new.
func (h *harness) commitNew(partition int32, messages ...*projections.Message) {
	h.t.Helper()
	b := batch(1)
	for _, m := range messages {
		b.Messages = append(b.Messages, materialize.Change{Message: m})
	}
	h.commit(partition, b)
}

// commitGrown commits what a stored message has become.
func (h *harness) commitGrown(partition int32, m *projections.Message, receipts, unlisted int) {
	h.t.Helper()
	b := batch(1)
	b.Messages = []materialize.Change{{Message: m, Stored: true, Receipts: receipts, Unlisted: unlisted}}
	h.commit(partition, b)
}

func (h *harness) message(partition int32, id string) *projections.Message {
	h.t.Helper()
	m, err := h.Message(partition, []byte(id))
	if err != nil {
		h.t.Fatalf("Message(%q): %v", id, err)
	}
	return m
}

// wantMessage holds the store's message to want, now and after opening again.
func (h *harness) wantMessage(partition int32, want *projections.Message) {
	h.t.Helper()
	for range 2 {
		if diff := diffMessage(h.message(partition, want.ID), want); diff != "" {
			h.t.Fatalf("message %q: %s", want.ID, diff)
		}
		h.reopen()
	}
}

func (h *harness) wantNone(partition int32, id string) {
	h.t.Helper()
	if m := h.message(partition, id); m != nil {
		h.t.Fatalf("message %q is there: %+v", id, m)
	}
}

func (h *harness) restore(partition int32) materialize.Saved {
	h.t.Helper()
	saved, found, err := h.Restore(partition)
	if err != nil || !found {
		h.t.Fatalf("Restore: found %v, %v", found, err)
	}
	return saved
}

func (h *harness) prune(partition int32, before int64) int {
	h.t.Helper()
	n, err := h.Prune(partition, before)
	if err != nil {
		h.t.Fatalf("Prune: %v", err)
	}
	return n
}

// DiffMessage says how two messages differ in what a pull can show or the fold
// can tell, or "".
func DiffMessage(got, want *projections.Message) string { return diffMessage(got, want) }

func diffMessage(got, want *projections.Message) string {
	if got == nil || want == nil {
		if got == want {
			return ""
		}
		return fmt.Sprintf("got %s, want %s", brief(got), brief(want))
	}
	for _, f := range []struct {
		name      string
		got, want any
	}{
		{"ID", got.ID, want.ID},
		{"ConversationID", got.ConversationID, want.ConversationID},
		{"SentAt", got.SentAt, want.SentAt},
		{"Version", got.Version, want.Version},
		{"Recalled", got.Recalled, want.Recalled},
		{"CountOnly", got.CountOnly(), want.CountOnly()},
		{"Roster", got.Roster, want.Roster},
		{"Sender", got.Sender, want.Sender},
		{"SenderName", got.SenderName, want.SenderName},
		{"RecipientsGiven", got.RecipientsGiven, want.RecipientsGiven},
		{"Receipts", noNil(got.Receipts), noNil(want.Receipts)},
		{"Readers", noNil(got.Readers), noNil(want.Readers)},
		{"Unlisted", noNil(got.Unlisted), noNil(want.Unlisted)},
	} {
		if !reflect.DeepEqual(f.got, f.want) {
			return fmt.Sprintf("%s is %.300v, not %.300v", f.name, fmt.Sprintf("%+v", f.got), fmt.Sprintf("%+v", f.want))
		}
	}
	return ""
}

func noNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

func brief(m *projections.Message) string {
	if m == nil {
		return "none"
	}
	return fmt.Sprintf("%q of version %d", m.ID, m.Version)
}

func batch(position int64) *materialize.Batch {
	return &materialize.Batch{Checkpoint: projections.Checkpoint{Position: position, LeaderEpoch: 3, Timestamp: base}}
}

func testEmpty(t *testing.T, h *harness) {
	for range 2 {
		if _, found, err := h.Restore(5); found || err != nil {
			t.Errorf("Restore of a partition that was never committed: found %v, %v", found, err)
		}
		h.wantNone(5, "m")
		if kept, err := h.Undecodable(5); len(kept) > 0 || err != nil {
			t.Errorf("Undecodable: %v, %v", kept, err)
		}
		if n := h.prune(5, 1<<60); n != 0 {
			t.Errorf("Prune removed %d of nothing", n)
		}
		h.reopen()
	}
}

func testCheckpoint(t *testing.T, h *harness) {
	for _, c := range []projections.Checkpoint{
		{Position: 0, LeaderEpoch: -1},
		{Position: 17, LeaderEpoch: 0, Timestamp: -1},
		{Position: 1 << 60, LeaderEpoch: 1<<31 - 1, Timestamp: 1 << 50, Evicted: 1 << 40},
	} {
		h.commit(7, &materialize.Batch{Checkpoint: c, UndecodableTotal: c.Evicted})
		want := materialize.Saved{Checkpoint: c, Undecodable: c.Evicted}
		for range 2 {
			if got := h.restore(7); !reflect.DeepEqual(got, want) {
				t.Errorf("restored %+v, want %+v", got, want)
			}
			h.reopen()
		}
	}
}

func testTooLarge(t *testing.T, h *harness) {
	h.commitNew(1, listed("small", base, 3, 0))
	before := h.restore(1)
	b := batch(99)
	for i := 0; b.Size() < 4*h.MaxBatch(); i++ {
		b.Messages = append(b.Messages, materialize.Change{Message: listed(fmt.Sprintf("big-%d", i), base, 10_000, 0)})
	}
	b.WaitingAdded = []projections.WaitingEvent{{MessageID: "w", ReaderID: "r", Offset: 98}}
	if err := h.Commit(1, b); !errors.Is(err, materialize.ErrTooLarge) {
		t.Fatalf("Commit of %d bytes where %d fit: %v", b.Size(), h.MaxBatch(), err)
	}
	for range 2 {
		h.wantNone(1, "big-0")
		if after := h.restore(1); !reflect.DeepEqual(after, before) {
			t.Errorf("a commit that failed left %+v where %+v was", after, before)
		}
		h.reopen()
	}
	h.commitNew(1, listed("small too", base, 3, 0))
	h.wantMessage(1, listed("small too", base, 3, 0))
}

// testLargestBatch fills batches of each kind of record up to MaxBatch: all must
// fit one transaction.
func testLargestBatch(t *testing.T, h *harness) {
	var offset int64
	next := func() int64 { offset++; return offset }
	id := func() string { return fmt.Sprintf("%0128d", next()) }
	for name, add := range map[string]func(*materialize.Batch){
		"small messages": func(b *materialize.Batch) {
			m := listed(fmt.Sprint(next()), base, 1, 1)
			b.Messages = append(b.Messages, materialize.Change{Message: m})
		},
		"long IDs": func(b *materialize.Batch) {
			b.Messages = append(b.Messages, materialize.Change{Message: countOnly(id(), base, 10, 10)})
		},
		"large rosters": func(b *materialize.Batch) {
			b.Messages = append(b.Messages, materialize.Change{Message: listed(id(), base, 1000, 900)})
		},
		"waiting": func(b *materialize.Batch) {
			b.WaitingAdded = append(b.WaitingAdded, projections.WaitingEvent{MessageID: "m", ReaderID: "r", Offset: next()})
		},
		"leaving": func(b *materialize.Batch) { b.WaitingRemoved = append(b.WaitingRemoved, 1<<40+7*next()) },
	} {
		t.Run(name, func(t *testing.T) {
			b := batch(1)
			size := b.Size()
			for per := 0; ; {
				one := batch(1)
				add(one)
				if per = max(per, one.Size()); size+per > h.MaxBatch() {
					break
				}
				merge(b, one)
				size += one.Size()
			}
			if b.Size() > h.MaxBatch() {
				t.Fatalf("the batch has %d bytes", b.Size())
			}
			if err := h.Commit(9, b); err != nil {
				t.Errorf("%d messages, %d events: %v", len(b.Messages), len(b.WaitingAdded)+len(b.WaitingRemoved), err)
			}
		})
	}
}

func merge(b, one *materialize.Batch) {
	b.Messages = append(b.Messages, one.Messages...)
	b.WaitingAdded = append(b.WaitingAdded, one.WaitingAdded...)
	b.WaitingRemoved = append(b.WaitingRemoved, one.WaitingRemoved...)
}

func testPartitions(t *testing.T, h *harness) {
	for p := range int32(4) {
		h.commitNew(p, countOnly("same", base+int64(p), int(p), 0))
		h.commit(p, &materialize.Batch{
			Checkpoint:       projections.Checkpoint{Position: int64(100 + p)},
			WaitingAdded:     []projections.WaitingEvent{{MessageID: fmt.Sprint(p), ReaderID: "r", Offset: 5}},
			Undecodable:      []materialize.Undecodable{undecodable(6 + int64(p))},
			UndecodableTotal: 1,
		})
	}
	h.reopen()
	if n := h.prune(2, base+10*hour); n != 1 {
		t.Errorf("Prune removed %d messages", n)
	}
	for p := range int32(4) {
		if p == 2 {
			h.wantNone(p, "same")
		} else {
			h.wantMessage(p, countOnly("same", base+int64(p), int(p), 0))
		}
		saved := h.restore(p)
		if saved.Checkpoint.Position != int64(100+p) || len(saved.Waiting) != 1 || saved.Waiting[0].MessageID != fmt.Sprint(p) {
			t.Errorf("partition %d: restored %+v", p, saved)
		}
		if kept, err := h.Undecodable(p); err != nil || len(kept) != 1 || kept[0].Offset != 6+int64(p) {
			t.Errorf("partition %d: undecodable %+v, %v", p, kept, err)
		}
	}
	if _, found, _ := h.Restore(4); found {
		t.Error("partition 4 was never committed")
	}
}

// testIDs has messages whose IDs begin with one another's.
func testIDs(t *testing.T, h *harness) {
	ids := []string{"a", "aa", "a ", "a\u00a0", "aaa", "b", strings.Repeat("a", 127), strings.Repeat("a", 128), "\U0010ffff"}
	var all []*projections.Message
	for i, id := range ids {
		all = append(all, countOnly(id, base+int64(i)*hour, 130+i, 0))
	}
	h.commitNew(3, all...)
	for i, m := range all {
		h.wantMessage(3, m)
		if n := h.prune(3, base+int64(i+1)*hour); n != 1 {
			t.Errorf("Prune of the hour of %q removed %d", m.ID, n)
		}
		h.wantNone(3, m.ID)
	}
}
