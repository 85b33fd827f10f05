package storetest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/seenby/seenby/projections/memstore"
)

// testRandom does the same random operations to the store and to a memstore, and
// compares what can be seen of them.
func testRandom(t *testing.T, h *harness) {
	r := newRandom(t, h)
	for range 300 {
		r.step(r.IntN(100))
	}
	r.compare()
}

// testRestarts opens the store again after each commit.
func testRestarts(t *testing.T, h *harness) {
	r := newRandom(t, h)
	for range 40 {
		r.step(r.IntN(85))
		h.reopen()
		r.compare()
	}
}

func newRandom(t *testing.T, h *harness) *random {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := &random{
		Rand:  rand.New(rand.NewPCG(seed, 0)),
		t:     t,
		h:     h,
		model: memstore.Open(&memstore.Medium{}, 1<<30),
	}
	for range 3 {
		w := newWorld()
		w.sealFrom, w.keepLonger = 1+r.IntN(50), r.Int64N(3)
		r.parts = append(r.parts, &randomPartition{world: w})
	}
	return r
}

type random struct {
	*rand.Rand
	t     *testing.T
	h     *harness
	model *memstore.Store
	parts []*randomPartition
	now   int64 // hours after base
}

type randomPartition struct {
	*world
	committed bool
	total     int64
}

func (r *random) step(n int) {
	r.t.Helper()
	number := int32(r.IntN(len(r.parts)))
	switch {
	case n < 75:
		r.commit(number)
	case n < 85:
		r.now += int64(r.IntN(3))
		r.prune(number)
	case n < 92:
		r.h.reopen()
	default:
		r.compare()
	}
}

func (r *random) commit(number int32) {
	r.t.Helper()
	p := r.parts[number]
	for range r.IntN(20) {
		r.change(p.world)
	}
	if r.IntN(8) == 0 { // as when all that is stored was visited
		p.scrub()
		p.forget()
	}
	b := p.batch()
	for range r.IntN(100) {
		b.Undecodable = append(b.Undecodable, undecodable(10*p.total))
		p.total++
	}
	b.UndecodableTotal = p.total
	if b.Size() > r.h.MaxBatch() {
		r.t.Fatalf("a batch of %d bytes", b.Size())
	}
	if err := r.model.Commit(number, b); err != nil {
		r.t.Fatalf("the model: %v", err)
	}
	r.h.commit(number, b)
	p.committed = true
}

// change is one that is seen in a log, or some of them.
func (r *random) change(w *world) {
	id := fmt.Sprintf("m%d", r.IntN(40))
	if r.IntN(2) == 0 {
		id = uuid(r.IntN(40))
	}
	m := w.messages[id]
	sentAt := base + r.now*hour + r.Int64N(hour)
	switch n := r.IntN(100); {
	case m == nil && n < 60 || n < 3:
		if n%3 == 0 {
			w.crowd(id, sentAt, person(r.IntN(20)))
		} else {
			w.group(id, sentAt, 1+r.IntN(5)*r.IntN(60))
		}
	case n < 92:
		from := r.IntN(300)
		w.read(id, from, from+r.IntN(200))
	case n < 95:
		w.recall(id)
	case n < 97:
		w.erase(person(r.IntN(300)))
	default:
		w.now += r.Int64N(hour)
	}
}

func (r *random) prune(number int32) {
	r.t.Helper()
	before := base + (r.now-2)*hour
	want := 0
	for done := false; !done; {
		n, all, err := r.model.Prune(number, before)
		if err != nil {
			r.t.Fatalf("the model: %v", err)
		}
		want, done = want+n, all
	}
	if got := r.h.prune(number, before); got != want {
		r.t.Fatalf("Prune removed %d, the model %d", got, want)
	}
	r.parts[number].prune(before)
}

func (r *random) compare() {
	r.t.Helper()
	for number, p := range r.parts {
		number := int32(number)
		if p.committed {
			r.h.wantNow(number, p.world)
		}
		want, wantFound, _ := r.model.Restore(number)
		got, found, err := r.h.Restore(number)
		if err != nil || found != wantFound || fmt.Sprint(got) != fmt.Sprint(want) {
			r.t.Fatalf("partition %d: restored %v %+v, %v; the model %v %+v", number, found, got, err, wantFound, want)
		}
		wantKept, _ := r.model.Undecodable(number)
		if kept, err := r.h.Undecodable(number); err != nil || !slices.EqualFunc(kept, wantKept, equalUndecodable) {
			r.t.Fatalf("partition %d: %d undecodable, %v; the model %d", number, len(kept), err, len(wantKept))
		}
	}
	r.compareMessages()
}

func (r *random) compareMessages() {
	r.t.Helper()
	for number := range int32(len(r.parts)) {
		for n := range 40 {
			for _, id := range []string{fmt.Sprintf("m%d", n), uuid(n)} {
				want, wantRef, _ := r.model.Message(number, []byte(id))
				got, gotRef, err := r.h.Message(number, []byte(id))
				if err != nil || (got == nil) != (want == nil) {
					r.t.Fatalf("partition %d: message %s: %v, %v; the model %v", number, id, got, err, want)
				}
				if got == nil {
					continue
				}
				if diff := diffStored(got, want, gotRef, wantRef); diff != "" {
					r.t.Fatalf("partition %d: message %s: %s", number, id, diff)
				}
			}
		}
	}
}
