package storetest

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/materialize"
)

func waiting(offset int64) projections.WaitingEvent {
	if offset%5 == 0 {
		return projections.WaitingEvent{MessageID: fmt.Sprintf("m%d", offset%7), Recall: true, Offset: offset, Timestamp: base + offset}
	}
	w := projections.WaitingEvent{MessageID: fmt.Sprintf("m%d", offset%7), ReaderID: fmt.Sprintf("r%d", offset), ReadAt: base - offset, Offset: offset, Timestamp: base + offset}
	if offset%3 == 0 {
		w.ReadAt = events.Unclaimed
	}
	return w
}

func waitingOf(offsets ...int64) (all []projections.WaitingEvent) {
	for _, offset := range offsets {
		all = append(all, waiting(offset))
	}
	return all
}

func (h *harness) wantWaiting(offsets ...int64) {
	h.t.Helper()
	for range 2 {
		if got, want := h.restore(1).Waiting, waitingOf(offsets...); !slices.Equal(got, want) {
			h.t.Fatalf("%d events wait: %.500v; want %d: %.500v", len(got), fmt.Sprint(got), len(want), fmt.Sprint(want))
		}
		h.reopen()
	}
}

func testWaiting(_ *testing.T, h *harness) {
	change := func(added, removed []int64) {
		h.t.Helper()
		b := batch(1)
		b.WaitingAdded, b.WaitingRemoved = waitingOf(added...), removed
		h.commit(1, b)
	}
	change([]int64{0, 1, 2, 255, 256, 1 << 40}, nil)
	h.wantWaiting(0, 1, 2, 255, 256, 1<<40)
	change([]int64{1<<40 + 1}, []int64{0, 2, 1 << 40})
	h.wantWaiting(1, 255, 256, 1<<40+1)
	change(nil, []int64{1, 255, 256, 1<<40 + 1})
	h.wantWaiting()
	change([]int64{1<<40 + 9}, nil)
	h.wantWaiting(1<<40 + 9)
}

// testManyWaitingLeave is for what one MessageSent can take.
func testManyWaitingLeave(_ *testing.T, h *harness) {
	const n = 20_000
	var offsets, left []int64
	for some := int64(0); some < n; some += 1000 {
		b := batch(1)
		for i := some; i < some+1000; i++ {
			offset := 3 * i
			offsets = append(offsets, offset)
			b.WaitingAdded = append(b.WaitingAdded, waiting(offset))
		}
		h.commit(1, b)
	}
	b := batch(2)
	for i, offset := range offsets {
		if i%10 == 0 {
			left = append(left, offset)
		} else {
			b.WaitingRemoved = append(b.WaitingRemoved, offset)
		}
	}
	h.commit(1, b)
	h.wantWaiting(left...)
	b = batch(3)
	b.WaitingAdded, b.WaitingRemoved = waitingOf(1<<30), left
	h.commit(1, b)
	h.wantWaiting(1 << 30)
}

func undecodable(offset int64) materialize.Undecodable {
	u := materialize.Undecodable{
		Offset: offset, Timestamp: base - offset, Outcome: projections.Undecodable, Reason: "no kind of event",
		Key: []byte("key"), Value: fmt.Appendf(nil, "value %d", offset), KeySize: 3, ValueSize: 1 << 20,
	}
	switch offset % 3 {
	case 1:
		u.Outcome, u.Key, u.KeySize = projections.Misplaced, []byte{}, 0
	case 2:
		u.Key, u.KeySize = nil, 0
	}
	return u
}

func equalUndecodable(a, b materialize.Undecodable) bool {
	return reflect.DeepEqual(a, b) && (a.Key == nil) == (b.Key == nil)
}

func testUndecodable(t *testing.T, h *harness) {
	var total int64
	var all []materialize.Undecodable
	for _, n := range []int{1, 2, 0, materialize.MaxUndecodable - 4, 1, 1, 300, materialize.MaxUndecodable, 1} {
		b := batch(1)
		for range n {
			b.Undecodable = append(b.Undecodable, undecodable(10*total))
			total++
		}
		all = append(all, b.Undecodable...)
		b.UndecodableTotal = total
		// A flush may be too small for that many.
		for some := range slices.Chunk(b.Undecodable, 500) {
			part := batch(1)
			part.Undecodable, part.UndecodableTotal = some, some[len(some)-1].Offset/10+1
			h.commit(1, part)
		}
		all = all[max(0, len(all)-materialize.MaxUndecodable):]
		for range 2 {
			kept, err := h.Undecodable(1)
			if err != nil || !slices.EqualFunc(kept, all, equalUndecodable) {
				t.Fatalf("after %d, %d are kept, not the latest %d: %v", total, len(kept), len(all), err)
			}
			if saved := h.restore(1); saved.Undecodable != total {
				t.Fatalf("restored a total of %d, not %d", saved.Undecodable, total)
			}
			h.reopen()
		}
	}
	// Most were dropped before they came to the store.
	b := batch(2)
	total += 5000
	b.Undecodable, b.UndecodableTotal = []materialize.Undecodable{undecodable(10 * (total - 1))}, total
	h.commit(1, b)
	kept, err := h.Undecodable(1)
	if err != nil || len(kept) == 0 || len(kept) > materialize.MaxUndecodable || !equalUndecodable(kept[len(kept)-1], b.Undecodable[0]) {
		t.Errorf("%d are kept: %v", len(kept), err)
	}
}
