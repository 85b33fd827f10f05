package storetest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/projections"
)

func testLargestRosters(t *testing.T, h *harness) {
	for p, people := range []int{1000, 5000, events.MaxRecipients} {
		w, p := newWorld(), int32(p)
		var recipients [][]byte
		for i := range people {
			recipients = append(recipients, fmt.Appendf(nil, "%0128d", i))
		}
		w.sent("large", base, "sender", recipients, recipients[5:7])
		b := w.batch()
		if size := b.Size(); size > h.MaxBatch() {
			t.Skipf("requires a larger transaction: one of %d bytes, and this store has %d", size, h.MaxBatch())
		}
		h.commit(p, b)
		h.want(p, w)
		// It gets smaller.
		for _, i := range []int{0, people / 2, people - 1} {
			w.erase(string(recipients[i]))
		}
		h.flush(p, w)
		h.want(p, w)
		if n := h.prune(p, base+hour); n != 1 {
			t.Errorf("Prune removed %d", n)
		}
		w.prune(base + hour)
		h.want(p, w)
	}
}

func testRosterPages(t *testing.T, h *harness) {
	w := newWorld()
	for i := range 50 {
		w.group(fmt.Sprint(i), base, 2+i)
	}
	h.flush(1, w)
	for _, limit := range []int{1, 7, 49, 50, 51} {
		seen := make(map[projections.RosterRef]bool)
		var from projections.RosterRef
		for {
			page, err := h.Rosters(1, from, limit)
			if err != nil || len(page) > limit {
				t.Fatalf("%d rosters, %v", len(page), err)
			}
			for _, r := range page {
				if r.Roster.Ref < from || seen[r.Roster.Ref] {
					t.Fatalf("roster %016x after %016x", uint64(r.Roster.Ref), uint64(from))
				}
				seen[r.Roster.Ref] = true
				from = r.Roster.Ref + 1
			}
			if len(page) < limit {
				break
			}
		}
		if len(seen) != 50 {
			t.Errorf("%d rosters in pages of %d", len(seen), limit)
		}
	}
}

// testRosterKept uses a roster in later and later hours.
func testRosterKept(t *testing.T, h *harness) {
	w := newWorld()
	w.keepLonger = 3
	for i := range int64(20) {
		w.group(fmt.Sprint("m", i), base+i*hour, 10)
		w.group(fmt.Sprint("alone", i), base+i*hour, 20+int(i))
		h.flush(1, w)
		if n := h.prune(1, base+(i-1)*hour); n != w.prune(base+(i-1)*hour) {
			t.Errorf("Prune removed %d", n)
		}
		h.wantNow(1, w)
	}
	h.want(1, w)
	for i := int64(18); i < 25; i++ {
		h.prune(1, base+i*hour)
		w.prune(base + i*hour)
		h.want(1, w)
	}
	if len(w.rosters) > 0 {
		t.Errorf("%d rosters are left", len(w.rosters))
	}
}

func testErasedFromRosters(_ *testing.T, h *harness) {
	w := newWorld()
	for i := range 6 {
		w.group(fmt.Sprint(i), base, 3+i*7)
		w.read(fmt.Sprint(i), 0, 3+i*5)
	}
	h.flush(1, w)
	for _, i := range []int{5, 0, 999, 10, 2, 5} {
		w.erase(person(i))
		// Until they are written again, their names are there, and taken out by whoever
		// reads.
		for id := range w.messages {
			h.wantMessage(1, w, id)
		}
		h.flush(1, w)
		h.want(1, w)
	}
	w.group("6", base, 10) // with those who were erased
	w.read("6", 0, 10)
	h.flush(1, w)
	h.want(1, w)
	w.forget()
	h.flush(1, w)
	h.want(1, w)
}

func testErasedFromCrowds(t *testing.T, h *harness) {
	w := newWorld()
	w.crowd("few", base, person(1))
	w.read("few", 0, 40)
	w.crowd("many", base, "sender")
	w.read("many", 0, projections.MaxListedReaders+2000)
	w.crowd("recalled", base, person(2))
	w.recall("recalled")
	h.flush(1, w)
	for _, i := range []int{5, 1, 999, 7000, projections.MaxListedReaders + 500, 2, 5} {
		w.erase(person(i))
		for id := range w.messages {
			h.wantMessage(1, w, id)
		}
		w.scrub()
		b := w.batch()
		if i == 7000 && (len(b.Messages) != 1 || len(b.Messages[0].Rewritten) != 1) {
			t.Errorf("%d messages changed: the one that was read by them should, and one chunk of it", len(b.Messages))
		}
		h.commit(1, b)
		h.want(1, w)
	}
	w.read("few", 5, 6) // again
	w.forget()
	h.flush(1, w)
	h.want(1, w)
}

func testCrowdPages(t *testing.T, h *harness) {
	w := newWorld()
	var ids []string
	for i := range 50 {
		id := uuid(i)
		if i%2 == 0 {
			id = fmt.Sprint("crowd ", i)
		}
		ids = append(ids, id)
		w.crowd(id, base, "sender")
		w.group(fmt.Sprint("group ", i), base, 3)
	}
	h.flush(1, w)
	for _, limit := range []int{1, 7, 49, 50, 51} {
		var seen []string
		for after := []byte(nil); ; {
			page, err := h.Crowds(1, after, limit)
			if err != nil || len(page) > limit {
				t.Fatalf("%d crowds, %v", len(page), err)
			}
			for _, id := range page {
				seen = append(seen, string(id))
			}
			if len(page) < limit {
				break
			}
			after = page[len(page)-1]
		}
		slices.Sort(seen)
		if want := slices.Sorted(slices.Values(ids)); !slices.Equal(seen, want) {
			t.Errorf("in pages of %d: %q, not %q", limit, seen, want)
		}
	}
}

func testErasures(_ *testing.T, h *harness) {
	w := newWorld()
	for i := range 5 {
		w.erase(person(i))
		w.erase(person(2))
		h.flush(1, w)
		h.want(1, w)
	}
	w.forget()
	w.erase("after")
	h.flush(1, w)
	h.want(1, w)
	w.forget()
	h.flush(1, w)
	h.want(1, w)
	w.erase("last")
	h.flush(1, w)
	h.want(1, w)
}

func testDigests(t *testing.T, h *harness) {
	w := newWorld()
	for i := range int64(10) {
		w.group(fmt.Sprint(i), base+(i%5-2)*hour, 5)
		w.read(fmt.Sprint(i/2), 1, 3)
		if i == 4 {
			w.erase("somebody")
		}
		h.flush(1, w)
		h.want(1, w)
	}
	h.prune(1, base)
	w.prune(base)
	h.want(1, w)
	h.prune(1, base+1000*hour)
	w.prune(base + 1000*hour)
	h.want(1, w)
	if n := len(h.restore(1).Digests); n != 0 {
		t.Errorf("%d digests are left", n)
	}
}
