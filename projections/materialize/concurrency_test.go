package materialize_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/materialize"
	"github.com/seenby/seenby/projections/memstore"
)

// TestViewsAreOfTheirPosition has readers look at everything while records are
// applied, flushed and evicted. Each message's receipts follow from a position
// alone, so each view can be held to it.
func TestViewsAreOfTheirPosition(t *testing.T) {
	const messages, rounds = 50, 60
	c := testConfig(memstore.Open(&memstore.Medium{}, testMaxBatch))
	c.Memory = materialize.NewMemory(20_000) // a few messages
	c.FlushBytes = 3000
	p, _ := openChecked(t, c)
	l := newLog(t)
	var recs []events.Record
	for i := range messages {
		recs = append(recs, l.sent(fmt.Sprintf("m%d", i), rounds))
	}
	// Message i gets its n-th receipt at messages + n*messages + i.
	for n := range rounds {
		for i := range messages {
			recs = append(recs, l.read(fmt.Sprintf("m%d", i), n))
		}
	}
	p.StartAt(0)
	ctx, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for r := range 4 {
		readers.Go(func() {
			src := rand.New(rand.NewPCG(uint64(r), 1))
			var before int64
			for ctx.Err() == nil {
				i := src.IntN(messages)
				if err := p.Wait(ctx, before); err != nil && ctx.Err() == nil {
					t.Errorf("Wait: %v", err)
					return
				}
				v, err := p.View(fmt.Appendf(nil, "m%d", i), true)
				if err != nil {
					t.Errorf("View: %v", err)
					return
				}
				want := max(0, (int(v.Position)-messages-i+messages-1)/messages)
				if v.Found != (int(v.Position) > i) || v.Found && v.Message.Receipts.Len() != want || v.Position < before {
					t.Errorf("m%d at %d after %d: found %v, %d receipts, not %d", i, v.Position, before, v.Found, v.Message.Receipts.Len(), want)
					return
				}
				for n, receipt := range receipts(t, v) {
					if receipt.Offset != int64(messages+n*messages+i) {
						t.Errorf("m%d at %d: receipt %d is of offset %d", i, v.Position, n, receipt.Offset)
						return
					}
				}
				before = v.Position
				p.Stats()
				if _, _, err := p.Undecodable(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	src := rand.New(rand.NewPCG(9, 9))
	for len(recs) > 0 {
		n := min(len(recs), 1+src.IntN(10))
		mustApply(t, p, recs[:n]...)
		recs = recs[n:]
	}
	cancel()
	readers.Wait()
	if got := p.Stats(); got.Evicted < 100 || got.Flushes < 20 || got.Loads < 20 {
		t.Errorf("hardly anything happened: %+v", got)
	}
}

// TestViewDuringFlush has a commit that does not end until views were answered.
func TestViewDuringFlush(t *testing.T) {
	p, s := openChecked(t, testConfig(memstore.Open(&memstore.Medium{}, testMaxBatch)))
	p.StartAt(0)
	l := newLog(t)
	mustApply(t, p, l.sent("cold", 3))
	mustFlush(t, p)
	mustApply(t, p, l.sent("m", 3), l.record("bad", []byte("hi")))
	began, end := make(chan struct{}), make(chan struct{})
	undecodable := func() {
		t.Helper()
		if kept, total, err := p.Undecodable(); err != nil || len(kept) != 1 || total != 1 {
			t.Errorf("%v of %d, %v", kept, total, err)
		}
	}
	s.commit = func(number int32, b *materialize.Batch) error {
		close(began)
		<-end
		err := s.Store.Commit(number, b)
		undecodable() // once, though it is both stored and not settled
		return err
	}
	flushed := make(chan error, 1)
	go func() { flushed <- p.Flush() }()
	<-began
	for _, id := range []string{"m", "cold"} {
		if v := mustView(t, p, id); !v.Found || v.Position != 3 {
			t.Errorf("%+v", v)
		}
	}
	if err := p.Wait(t.Context(), 3); err != nil {
		t.Error(err)
	}
	undecodable()
	close(end)
	if err := <-flushed; err != nil {
		t.Error(err)
	}
}

// TestStaleLoad has a message change, be flushed and be evicted between a view's
// read of the store and its use of what it read.
func TestStaleLoad(t *testing.T) {
	c := testConfig(memstore.Open(&memstore.Medium{}, testMaxBatch))
	c.Memory = materialize.NewMemory(1) // everything clean is evicted at once
	p, s := openChecked(t, c)
	p.StartAt(0)
	l := newLog(t)
	mustApply(t, p, l.sent("m", 10))
	mustFlush(t, p)
	reads := 0
	interfering := &interferingStore{checkedStore: s}
	c.Store = interfering
	p = mustOpen(t, c)
	s.partition = p
	interfering.after = func() {
		if reads++; reads > 4 {
			return
		}
		interfering.busy = true
		mustApply(t, p, l.read("m", reads))
		mustFlush(t, p)
		interfering.busy = false
	}
	v := mustView(t, p, "m")
	if want := int(v.Position) - 1; v.Message.Receipts.Len() != want || v.Position < 3 {
		t.Errorf("at %d the message has %d receipts, not %d", v.Position, v.Message.Receipts.Len(), want)
	}
}

// interferingStore does something after a message was read and before whoever
// asked gets it. While it does, it does not.
type interferingStore struct {
	*checkedStore
	after func()
	busy  bool
}

func (s *interferingStore) Message(number int32, id []byte) (*projections.Message, projections.RosterRef, error) {
	m, ref, err := s.checkedStore.Message(number, id)
	// Three times, then View keeps others out while it reads.
	if !s.busy && s.commits < 4 {
		s.after()
	}
	return m, ref, err
}

func TestWait(t *testing.T) {
	p, _ := openChecked(t, testConfig(memstore.Open(&memstore.Medium{}, testMaxBatch)))
	const waiters = 500
	errs := make([]chan error, waiters)
	cancelled, cancel := context.WithCancel(t.Context())
	for i := range waiters {
		errs[i] = make(chan error, 1)
		ctx := t.Context()
		if i%5 == 4 {
			ctx = cancelled
		}
		go func() { errs[i] <- p.Wait(ctx, int64(i)) }()
	}
	p.StartAt(0)
	if err := <-errs[0]; err != nil {
		t.Errorf("Wait(0): %v", err)
	}
	cancel()
	for i := 4; i < waiters; i += 5 {
		if err := <-errs[i]; !errors.Is(err, context.Canceled) {
			t.Errorf("Wait(%d) that was cancelled: %v", i, err)
		}
	}
	l := newLog(t)
	var recs []events.Record
	for range waiters / 2 {
		recs = append(recs, l.record("k", []byte("hi")))
	}
	mustApply(t, p, recs...)
	for i := 1; i <= waiters/2; i++ {
		if i%5 != 4 {
			if err := <-errs[i]; err != nil {
				t.Errorf("Wait(%d): %v", i, err)
			}
		}
	}
	why := errors.New("records were lost")
	p.Stop(why)
	p.Stop(errors.New("another"))
	for i := waiters/2 + 1; i < waiters; i++ {
		if i%5 != 4 {
			if err := <-errs[i]; !errors.Is(err, why) {
				t.Errorf("Wait(%d) for a partition that stops: %v", i, err)
			}
		}
	}
	if err := p.Wait(t.Context(), waiters/2); err != nil {
		t.Errorf("Wait for what was reached before: %v", err)
	}
	if err := p.Wait(t.Context(), waiters); !errors.Is(err, why) || !errors.Is(p.Stopped(), why) {
		t.Errorf("Wait for a partition that has stopped: %v", err)
	}
	if err := p.Apply([]events.Record{l.record("k", []byte("hi"))}); !errors.Is(err, why) {
		t.Errorf("Apply to a partition that was stopped: %v", err)
	}
	done, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	if err := p.Wait(done, 1); err != nil {
		t.Errorf("Wait for what is there, with no time: %v", err)
	}
}

// TestViewStays is that a view is not changed by what comes after it.
func TestViewStays(t *testing.T) {
	p, _ := openChecked(t, testConfig(memstore.Open(&memstore.Medium{}, testMaxBatch)))
	if v := mustView(t, p, "m"); v.Found || v.Position != materialize.Nowhere {
		t.Errorf("before the start: %+v", v)
	}
	p.StartAt(0)
	l := newLog(t)
	mustApply(t, p, l.sentCountOnly("m"), l.read("m", 0), l.read("m", 1))
	v := mustView(t, p, "m")
	mustApply(t, p, l.read("m", 2), l.recalled("m"))
	if v.Message.Recalled || v.Message.ReadCount() != 2 || v.Message.Version() != 3 || v.Message.Reader(receipts(t, v)[1]) != "reader-1" {
		t.Errorf("%+v", v)
	}
	if after := mustView(t, p, "m"); !after.Message.Recalled || after.Message.ReadCount() != 0 {
		t.Errorf("%+v", after)
	}
}

// BenchmarkApply is the hot path: receipts of messages that are in memory.
func BenchmarkApply(b *testing.B) {
	c := testConfig(memstore.Open(&memstore.Medium{}, testMaxBatch))
	c.FlushBytes = testMaxBatch // a memstore's commits are not what is measured
	p := mustOpen(b, c)
	p.StartAt(0)
	l := newLog(b)
	const messages, people = 100, 2000
	for i := range messages {
		mustApply(b, p, l.sent(fmt.Sprintf("m%d", i), people))
	}
	var recs []events.Record
	for n := range people {
		for i := range messages {
			recs = append(recs, l.read(fmt.Sprintf("m%d", i), n))
		}
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		// Those that come again are repeats, with the same way to the message.
		rec := recs[i%len(recs)]
		rec.Offset = l.next + int64(i)
		mustApply(b, p, rec)
	}
}
