package storetest

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/materialize"
	"github.com/seenby/seenby/projections/memstore"
)

// testRandom does the same random operations to the store and to a memstore, and
// compares what can be seen of them.
func testRandom(t *testing.T, h *harness) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := &random{
		Rand:  rand.New(rand.NewPCG(seed, 0)),
		t:     t,
		h:     h,
		model: memstore.Open(&memstore.Medium{}, 1<<30),
		parts: make(map[int32]*randomPartition),
	}
	for range 300 {
		r.step()
		if t.Failed() {
			return
		}
	}
	r.compare()
}

type random struct {
	*rand.Rand
	t     *testing.T
	h     *harness
	model *memstore.Store
	parts map[int32]*randomPartition
	now   int64 // hours after base
}

type randomPartition struct {
	offset  int64
	total   int64
	waiting []int64
	// messages are what is stored.
	messages map[string]*projections.Message
}

func (r *random) step() {
	p := int32(r.IntN(3))
	switch n := r.IntN(100); {
	case n < 80:
		r.commit(p)
	case n < 88:
		r.now += int64(r.IntN(3))
		r.prune(p)
	case n < 94:
		r.h.reopen()
	default:
		r.compare()
	}
}

func (r *random) commit(number int32) {
	p := r.parts[number]
	if p == nil {
		p = &randomPartition{messages: make(map[string]*projections.Message)}
		r.parts[number] = p
	}
	p.offset += 1 + r.Int64N(1000)
	b := &materialize.Batch{Checkpoint: projections.Checkpoint{Position: p.offset, LeaderEpoch: int32(r.IntN(9)), Timestamp: base + r.now*hour, Evicted: r.Int64N(9)}}
	for _, n := range r.Perm(40)[:r.IntN(12)] {
		id := fmt.Sprintf("m%d", n)
		b.Messages = append(b.Messages, r.change(p, id))
		p.messages[id] = b.Messages[len(b.Messages)-1].Message
	}
	r.queues(p, b)
	if b.Size() > r.h.MaxBatch() {
		r.t.Fatalf("a batch of %d bytes", b.Size())
	}
	if err := r.model.Commit(number, b); err != nil {
		r.t.Fatalf("the model: %v", err)
	}
	r.h.commit(number, b)
}

// change is a message that is new, grown or recalled.
func (r *random) change(p *randomPartition, id string) materialize.Change {
	m := p.messages[id]
	if m == nil || r.IntN(20) == 0 {
		sentAt := base + r.now*hour + r.Int64N(hour)
		if r.IntN(2) == 0 {
			return materialize.Change{Message: countOnly(id, sentAt, r.IntN(200), 0)}
		}
		people := r.IntN(300)
		return materialize.Change{Message: listed(id, sentAt, people, r.IntN(people+1))}
	}
	c := materialize.Change{Message: m, Stored: true, Receipts: len(m.Receipts), Unlisted: len(m.Unlisted)}
	switch {
	case m.Recalled:
	case r.IntN(20) == 0:
		c.Message = recalled(m)
	case m.CountOnly() && r.IntN(2) == 0:
		c.Message = unlistedGrow(m, r.IntN(200))
	default:
		n := r.IntN(200)
		if !m.CountOnly() {
			n = min(n, len(m.Roster.Names)-len(m.Receipts))
		}
		c.Message = grow(m, n)
	}
	return c
}

func (r *random) queues(p *randomPartition, b *materialize.Batch) {
	for i := range int64(r.IntN(20)) {
		b.WaitingAdded = append(b.WaitingAdded, waiting(p.offset*100+i))
	}
	leave := r.IntN(len(p.waiting) + 1)
	r.Shuffle(len(p.waiting), func(i, j int) { p.waiting[i], p.waiting[j] = p.waiting[j], p.waiting[i] })
	b.WaitingRemoved, p.waiting = p.waiting[:leave:leave], slices.Clone(p.waiting[leave:])
	for _, w := range b.WaitingAdded {
		p.waiting = append(p.waiting, w.Offset)
	}
	for i := range int64(r.IntN(100)) {
		b.Undecodable = append(b.Undecodable, undecodable(p.offset*100+i))
		p.total++
	}
	b.UndecodableTotal = p.total
}

func (r *random) prune(number int32) {
	before := base + (r.now-2)*hour
	want, err := r.model.Prune(number, before)
	if err != nil {
		r.t.Fatalf("the model: %v", err)
	}
	if got := r.h.prune(number, before); got != want {
		r.t.Fatalf("Prune removed %d, the model %d", got, want)
	}
	if p := r.parts[number]; p != nil {
		for id, m := range p.messages {
			if materialize.HourEnded(materialize.Hour(m.SentAt), before) {
				delete(p.messages, id)
			}
		}
	}
}

func (r *random) compare() {
	r.t.Helper()
	for number := range int32(3) {
		want, wantFound, _ := r.model.Restore(number)
		got, found, err := r.h.Restore(number)
		if err != nil || found != wantFound || !reflect.DeepEqual(got, want) {
			r.t.Fatalf("partition %d: restored %v %+v, %v; the model %v %+v", number, found, got, err, wantFound, want)
		}
		wantKept, _ := r.model.Undecodable(number)
		if kept, err := r.h.Undecodable(number); err != nil || !slices.EqualFunc(kept, wantKept, equalUndecodable) {
			r.t.Fatalf("partition %d: %d undecodable, %v; the model %d", number, len(kept), err, len(wantKept))
		}
		for n := range 41 {
			id := fmt.Sprintf("m%d", n)
			want, _ := r.model.Message(number, []byte(id))
			if diff := diffMessage(r.h.message(number, id), want); diff != "" {
				r.t.Fatalf("partition %d: message %s: %s", number, id, diff)
			}
		}
	}
}
