package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/materialize"
)

func testMessages(_ *testing.T, h *harness) {
	w := newWorld()
	w.sent("alone", base, "somebody", nil, nil)
	w.group("before 1970", -base, 4)
	w.read("before 1970", 1, 3)
	w.group("nobody yet", base, 10)
	w.group("some", base, 10)
	w.read("some", 0, 10)
	w.group(uuid(5), base, 10)
	w.read(uuid(5), 3, 7)
	w.group("many", base, 1000)
	w.read("many", 1, 640)
	w.crowd("count-only, nobody", base, uuid(1))
	w.crowd("count-only, some", base, "sender")
	w.read("count-only, some", 0, 20)
	w.crowd("truncated", base, "sender")
	w.read("truncated", 0, projections.MaxListedReaders+300)
	w.group("recalled at once", base, 10)
	w.recall("recalled at once")
	w.crowd("recalled, count-only", base, "sender")
	w.read("recalled, count-only", 0, 5)
	w.recall("recalled, count-only")
	h.flush(1, w)
	h.want(1, w)
	h.wantNone(1, "another")
	h.wantNone(2, "some")
}

// testGrowth has chunks of all lengths be sealed, and none.
func testGrowth(_ *testing.T, h *harness) {
	w := newWorld()
	w.group("m", base, 8000)
	h.flush(1, w)
	at := 1
	for _, n := range []int{1, 1, 29, 1, 1, 31, 1, 32, 33, 0, 600, 1, 2000, 31, 3000, 7} {
		w.read("m", at, at+n)
		at += n
		h.flush(1, w)
		h.want(1, w)
	}
}

func testCrowdGrowth(_ *testing.T, h *harness) {
	w := newWorld()
	w.crowd("m", base, "sender")
	at := 0
	for _, n := range []int{1, 127, projections.MaxListedReaders - 130, 1, 127, 1, 128, 500, 1} {
		w.read("m", at, at+n)
		at += n
		h.flush(1, w)
		h.wantNow(1, w)
	}
	h.want(1, w)
}

func testRecall(t *testing.T, h *harness) {
	for p, make := range []func(w *world){
		func(w *world) { w.group("m", base, 10) },
		func(w *world) { w.group("m", base, 10); w.read("m", 1, 4) },
		func(w *world) { w.group("m", base, 1000); w.read("m", 1, 700) },
		func(w *world) { w.crowd("m", base, "sender"); w.read("m", 0, 300) },
		func(w *world) { // more chunks than a store has to delete for a recall
			w.crowd("m", base, "sender")
			for at := range materialize.MaxDeletes + 100 {
				w.read("m", at, at+1)
				h.flush(int32(4), w)
			}
		},
	} {
		w, p := newWorld(), int32(p)
		w.sealFrom = 1
		make(w)
		h.flush(p, w)
		w.recall("m")
		h.flush(p, w)
		h.want(p, w)
		if n := h.prune(p, base+hour); n != 1 {
			t.Errorf("Prune removed %d", n)
		}
		w.prune(base + hour)
		h.want(p, w)
		h.wantNone(p, "m")
	}
}

// replaced are messages of which a later one may take the ID.
var replaced = []func(w *world){
	func(w *world) { w.group("m", base, 2000); w.read("m", 1, 1500) },
	func(w *world) { w.crowd("m", base, "sender"); w.read("m", 0, 700) },
	func(w *world) { w.group("m", base, 10); w.recall("m") },
}

// testReplaced takes an expired message's ID for a new one.
func testReplaced(_ *testing.T, h *harness) {
	for i, old := range replaced {
		for j, later := range []func(w *world){
			func(w *world) { w.crowd("m", base+50*hour, "sender"); w.read("m", 0, 2) },
			func(w *world) { w.group("m", base+50*hour, 5); w.read("m", 1, 2) },
			func(w *world) { w.group("m", base+1, 10) }, // in the same hour
		} {
			w, p := newWorld(), int32(8*i+j)
			old(w)
			h.flush(p, w)
			later(w)
			h.flush(p, w)
			h.want(p, w)
			w.read("m", 2, 4)
			h.flush(p, w)
			h.want(p, w)
		}
	}
}

func testChunks(t *testing.T, h *harness) {
	w := newWorld()
	w.group("m", base, 1000)
	for at := 1; at < 400; at += 50 {
		w.read("m", at, at+50)
		h.flush(1, w)
	}
	sealed := w.messages["m"].Receipts.Sealed()
	for _, n := range []int{0, 1, sealed, sealed + 5} {
		chunks, err := h.Chunks(1, []byte("m"), n)
		if err != nil || len(chunks) != min(n, sealed) {
			t.Fatalf("%d chunks of %d, %v", len(chunks), n, err)
		}
		for i, got := range chunks {
			if want := w.messages["m"].Receipts.Chunk(i).Bytes; !bytes.Equal(got, want) {
				t.Errorf("chunk %d is %x, not %x", i, got, want)
			}
		}
	}
}

func testPrune(t *testing.T, h *harness) {
	w := newWorld()
	for i := range 2500 {
		id := fmt.Sprintf("m%d", i)
		if i%2 == 0 {
			id = uuid(i)
		}
		sentAt := base + int64(i/500)*hour + int64(i)
		if i%10 == 0 {
			w.crowd(id, sentAt, "sender")
		} else {
			w.group(id, sentAt, 20+i/500)
		}
		w.read(id, 1, i%20)
		if i%100 == 99 {
			h.flush(1, w)
		}
	}
	position := w.fold.Checkpoint().Position
	if n := h.prune(1, base+hour-1); n != 0 {
		t.Errorf("Prune removed %d although no hour has ended", n)
	}
	if n := h.prune(1, base+2*hour); n != w.prune(base+2*hour) || n != 1000 {
		t.Errorf("Prune removed %d, not two hours of 500", n)
	}
	if n := h.prune(1, base+2*hour); n != 0 {
		t.Errorf("Prune removed %d a second time", n)
	}
	h.want(1, w)
	h.wantNone(1, "m1")
	if saved := h.restore(1); saved.Position != position {
		t.Errorf("restored %+v", saved)
	}
	if n := h.prune(1, base+100*hour); n != w.prune(base+100*hour) || n != 1500 {
		t.Errorf("Prune removed %d, not the other three hours", n)
	}
	h.want(1, w)
	for i := range 2500 {
		h.wantNone(1, fmt.Sprintf("m%d", i))
	}
	if ids, err := h.Crowds(1, nil, 10); len(ids) > 0 || err != nil {
		t.Errorf("crowds %q are left, %v", ids, err)
	}
}

// testPruneLarge has a step be no larger for one message with very many chunks, and
// no two.
func testPruneLarge(t *testing.T, h *harness) {
	w := newWorld()
	w.sealFrom = 1
	for i := range 3 {
		id := fmt.Sprint(i)
		w.crowd(id, base+int64(i)*hour, "sender")
		for at := range 700 {
			w.read(id, at, at+1)
			h.flush(1, w)
		}
	}
	for i := range int64(3) {
		before := base + (i+1)*hour
		if n := h.prune(1, before); n != 1 || w.prune(before) != 1 {
			t.Errorf("Prune removed %d", n)
		}
		h.wantNow(1, w)
	}
	h.want(1, w)
}

// testPruneKeepsLater prunes the hour of a message whose ID was used again.
func testPruneKeepsLater(t *testing.T, h *harness) {
	for p, old := range replaced {
		w, p := newWorld(), int32(p)
		old(w)
		h.flush(p, w)
		w.group("m", base+50*hour, 10)
		w.read("m", 1, 5)
		h.flush(p, w)
		if n := h.prune(p, base+10*hour); n != 0 {
			t.Errorf("Prune removed %d messages, none of which has expired", n)
		}
		w.prune(base + 10*hour)
		h.want(p, w)
		w.read("m", 5, 8)
		h.flush(p, w)
		h.want(p, w)
	}
}

func testPruneReplaced(t *testing.T, h *harness) {
	for p, old := range replaced {
		for q, at := range []int64{base + 50*hour, base + 1} {
			w, p := newWorld(), int32(2*p+q)
			old(w)
			h.flush(p, w)
			w.group("m", at, 10)
			w.read("m", 1, 5)
			h.flush(p, w)
			if n := h.prune(p, at+hour); n != 1 {
				t.Errorf("Prune removed %d", n)
			}
			w.prune(at + hour)
			h.want(p, w)
			h.wantNone(p, "m")
			// Were anything left of them, it would show in a message that takes the ID.
			w.group("m", base+99*hour, 2000)
			h.flush(p, w)
			h.want(p, w)
		}
	}
}

// testNothingShared changes what went in and what came out.
func testNothingShared(t *testing.T, h *harness) {
	w := newWorld()
	w.crowd("m", base, "sender")
	w.read("m", 0, 40)
	w.erase(person(3))
	w.scrub()
	b := w.batch()
	u := undecodable(3)
	b.Undecodable, b.UndecodableTotal = []materialize.Undecodable{u}, 1
	b.WaitingAdded = waitingOf(7)
	h.commit(1, b)
	m := b.Messages[0].Message
	spoil := func(m *projections.Message, u materialize.Undecodable) {
		m.ConversationID, m.Crowd.Given, m.Crowd.Taken[0] = "another", 0, 77
		for i := range m.Receipts.Sealed() {
			clear(m.Receipts.Chunk(i).Bytes)
		}
		clear(m.Receipts.Open().Bytes)
		clear(u.Key)
		clear(u.Value)
	}
	want := m.Crowd.Taken[0]
	chunk := bytes.Clone(m.Receipts.Chunk(0).Bytes)
	spoil(m, u)
	for range 2 {
		got, _, err := h.Message(1, []byte("m"))
		if err != nil || got.ConversationID != uuid(77) || got.Crowd.Given != 50_000 || got.Crowd.Taken[0] != want || !bytes.Equal(got.Receipts.Chunk(0).Bytes, chunk) {
			t.Fatalf("%+v, %v", got, err)
		}
		kept, err := h.Undecodable(1)
		if err != nil || len(kept) != 1 || !equalUndecodable(kept[0], undecodable(3)) {
			t.Fatalf("%+v, %v", kept, err)
		}
		chunks, err := h.Chunks(1, []byte("m"), 1)
		if err != nil || !bytes.Equal(chunks[0], chunk) {
			t.Fatal(chunks, err)
		}
		clear(chunks[0])
		spoil(got, kept[0])
	}
}

func testTooLarge(t *testing.T, h *harness) {
	w := newWorld()
	w.group("small", base, 3)
	h.flush(1, w)
	large := newWorld()
	var b *materialize.Batch
	for i := 0; ; i++ {
		large.group(fmt.Sprintf("big-%d", i), base, 9000+i)
		if i%20 > 0 {
			continue
		}
		large.dirty = dirtyAll(large)
		if b = large.batch(); b.Size() > 4*h.MaxBatch() {
			break
		}
	}
	b.WaitingAdded = waitingOf(98)
	if err := h.Commit(1, b); !errors.Is(err, materialize.ErrTooLarge) {
		t.Fatalf("Commit of %d bytes where %d fit: %v", b.Size(), h.MaxBatch(), err)
	}
	h.wantNone(1, "big-0")
	h.want(1, w)
	w.group("small too", base, 3)
	h.flush(1, w)
	h.want(1, w)
}

// dirtyAll has a world write all that it has in its next batch.
func dirtyAll(w *world) map[string]struct{} {
	all := make(map[string]struct{})
	for id := range w.messages {
		all[id] = struct{}{}
	}
	for _, r := range w.rosters {
		r.dirty, r.extended = true, true
	}
	clear(w.stored)
	return all
}

// testLargestBatch fills batches of each kind of record up to MaxBatch: all must
// fit one transaction.
func testLargestBatch(t *testing.T, h *harness) {
	var offset int64
	next := func() int64 { offset++; return offset }
	long := func() string { return fmt.Sprintf("%0128d", next()) }
	for name, add := range map[string]func(w *world) *materialize.Batch{
		"small messages": func(w *world) *materialize.Batch { w.group(fmt.Sprint(next()), base, 2); return w.batch() },
		"in many hours":  func(w *world) *materialize.Batch { w.crowd(long(), base+next()*hour, "s"); return w.batch() },
		"rosters":        func(w *world) *materialize.Batch { w.group(long(), base, 10+int(next())%4000); return w.batch() },
		"large rosters":  func(w *world) *materialize.Batch { w.group(long(), base, 5000+int(next())%4000); return w.batch() },
		"many receipts": func(w *world) *materialize.Batch {
			id := long()
			w.crowd(id, base, "s")
			w.read(id, 0, 1500)
			return w.batch()
		},
		"waiting": func(w *world) *materialize.Batch { return &materialize.Batch{WaitingAdded: waitingOf(next())} },
		"leaving": func(w *world) *materialize.Batch {
			return &materialize.Batch{WaitingRemoved: []int64{1<<40 + 7*next()}}
		},
		"erasures": func(w *world) *materialize.Batch { w.erase(long()); return w.batch() },
		"scrubbed rosters": func(w *world) *materialize.Batch {
			w.group(long(), base, 3000+int(next())%4000)
			w.erase(person(1))
			return w.batch()
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			b := batch(1)
			size := b.Size()
			for per := 0; ; {
				one := add(w)
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
				t.Errorf("%d messages, %d rosters, %d events: %v", len(b.Messages), len(b.Rosters), len(b.WaitingAdded)+len(b.WaitingRemoved), err)
			}
		})
	}
}

func merge(b, one *materialize.Batch) {
	b.Messages = append(b.Messages, one.Messages...)
	b.Rosters = append(b.Rosters, one.Rosters...)
	b.Digests = append(b.Digests, one.Digests...)
	b.ErasuresAdded = append(b.ErasuresAdded, one.ErasuresAdded...)
	b.WaitingAdded = append(b.WaitingAdded, one.WaitingAdded...)
	b.WaitingRemoved = append(b.WaitingRemoved, one.WaitingRemoved...)
}

func testPartitions(t *testing.T, h *harness) {
	var worlds []*world
	for p := range int32(4) {
		w := newWorld()
		w.offset = int64(100 + p)
		w.crowd("same", base+int64(p), fmt.Sprint(p))
		w.group("listed", base+int64(p), 5)
		w.read("same", 0, int(p))
		w.read("waited for", int(p), int(p)+1)
		w.erase("nobody")
		b := w.batch()
		b.Undecodable, b.UndecodableTotal = []materialize.Undecodable{undecodable(6 + int64(p))}, 1
		h.commit(p, b)
		worlds = append(worlds, w)
	}
	h.reopen()
	if n := h.prune(2, base+10*hour); n != 2 {
		t.Errorf("Prune removed %d messages", n)
	}
	worlds[2].prune(base + 10*hour)
	for p, w := range worlds {
		h.want(int32(p), w)
		if kept, err := h.Undecodable(int32(p)); err != nil || len(kept) != 1 || kept[0].Offset != 6+int64(p) {
			t.Errorf("partition %d: undecodable %+v, %v", p, kept, err)
		}
	}
	h.wantNone(2, "same")
	if _, found, _ := h.Restore(4); found {
		t.Error("partition 4 was never committed")
	}
}

// testIDs has messages whose IDs begin with one another's, and such as are nearly
// UUIDs.
func testIDs(t *testing.T, h *harness) {
	ids := []string{"a", "aa", "a ", "a\u00a0", "aaa", "b", strings.Repeat("a", 127), strings.Repeat("a", 128), "\U0010ffff",
		uuid(1), strings.ToUpper(uuid(1)), uuid(1)[:35], uuid(1) + "0", uuid(1)[1:] + "-", strings.ReplaceAll(uuid(1), "-", "0"),
		"ffffffff-ffff-ffff-ffff-ffffffffffff", "00000000-0000-0000-0000-000000000000", "g0000000-0000-0000-0000-000000000000"}
	w := newWorld()
	for i, id := range ids {
		w.crowd(id, base+int64(i)*hour, id)
		w.read(id, 0, 130+i)
	}
	h.flush(3, w)
	for i, id := range ids {
		h.want(3, w)
		before := base + int64(i+1)*hour
		if n := h.prune(3, before); n != 1 {
			t.Errorf("Prune of the hour of %q removed %d", id, n)
		}
		w.prune(before)
		h.wantNone(3, id)
	}
}

// testReaders reads while others write: each read is of one commit.
func testReaders(t *testing.T, h *harness) {
	const (
		messages = 4
		commits  = 60
		step     = 30
	)
	w := newWorld()
	w.sealFrom = step
	var ids [][]byte
	for i := range messages {
		id := fmt.Sprint("m", i)
		ids = append(ids, []byte(id))
		w.group(id, base, commits*step*5/4+2)
	}
	h.flush(1, w)
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
				m, ref, err := h.Message(1, ids[n])
				if err != nil || m == nil || m.Receipts.Sealed() < seen[n] || len(m.Receipts.Open().Bytes) > 0 {
					t.Errorf("message %d: %v, %v after %d", n, m, err, seen[n])
					return
				}
				seen[n] = m.Receipts.Sealed()
				stored, err := h.Roster(1, ref)
				if err != nil || stored == nil {
					t.Errorf("roster: %v, %v", stored, err)
					return
				}
				m.Roster = stored.Roster
				if err := m.Rebuild(); err != nil || m.ReadCount() != seen[n]*step {
					t.Errorf("message %d: read by %d, with %d chunks: %v", n, m.ReadCount(), seen[n], err)
				}
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
		w := newWorld()
		for i := range commits {
			w.group(fmt.Sprint(i), base+int64(i)*hour, 10)
			w.read(fmt.Sprint(i), 1, 4)
			if err := h.Commit(2, w.batch()); err != nil {
				t.Error(err)
			}
			if _, _, err := h.Prune(2, base+int64(i)*hour); err != nil {
				t.Error(err)
			}
		}
	})
	for i := range commits {
		for _, id := range ids {
			w.readMore(string(id), step)
		}
		b := w.batch()
		b.Undecodable, b.UndecodableTotal = []materialize.Undecodable{undecodable(int64(i))}, int64(i)+1
		h.commit(1, b)
	}
	writers.Wait()
	close(done)
	readers.Wait()
}
