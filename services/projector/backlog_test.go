package projector

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/events/topic"
	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/materialize"
	"github.com/seenby/seenby/projections/memstore"
)

// batchOf is a batch of one record of garbage.
func batchOf(offset int64, bytes int) topic.Batch {
	return topic.Batch{Records: []events.Record{{Offset: offset, Value: make([]byte, bytes)}}}
}

// full says that nothing more may enter now.
func (b *backlog) full() bool {
	if !b.free.TryAcquire(1) {
		return true
	}
	b.free.Release(1)
	return false
}

// empty says that all that entered has left.
func (b *backlog) empty() bool {
	if !b.free.TryAcquire(backlogBytes) {
		return false
	}
	b.free.Release(backlogBytes)
	return true
}

func TestBacklogIsBounded(t *testing.T) {
	over, cancel := context.WithCancel(t.Context())
	cancel()
	b := newBacklog()
	var inside []queued
	for i := range int64(4) {
		if b.full() {
			t.Fatalf("full after %d quarters", i)
		}
		q, err := b.enter(t.Context(), batchOf(i, backlogBytes/4-64<<10))
		if err != nil {
			t.Fatal(err)
		}
		inside = append(inside, q)
	}
	// Batches of many small records count what is known of each.
	small := topic.Batch{Records: make([]events.Record, 4*(64<<10)/64)}
	if _, err := b.enter(over, small); !errors.Is(err, context.Canceled) {
		t.Fatalf("it let in more than it has room for: %v", err)
	}
	for _, q := range inside {
		b.leave(q)
	}
	// What is larger than all of it gets through alone.
	q, err := b.enter(t.Context(), batchOf(0, 2*backlogBytes))
	if err != nil || !b.full() {
		t.Fatalf("full %v, %v", b.full(), err)
	}
	b.leave(q)
	if !b.empty() {
		t.Error("it is not empty in the end")
	}
}

// TestAppliedBatchesLeave: those of a partition that has stopped too, or it would
// stop the others.
func TestAppliedBatchesLeave(t *testing.T) {
	state, err := materialize.Open(materialize.Config{
		Lineage: projections.Lineage{Partitions: 1, FoldVersion: projections.FoldVersion, Retention: time.Hour},
		Store:   memstore.Open(new(memstore.Medium), 8<<20), Memory: materialize.NewMemory(1 << 20),
		FlushBytes: 1 << 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	state.StartAt(0)
	o := &owned{state: state, now: time.Now, logger: slog.New(slog.DiscardHandler), queue: make(chan queued, queueLength), backlog: newBacklog()}
	o.newestEnd = func(int32) (topic.End, bool) { return topic.End{}, false }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); o.run(ctx, time.Hour, time.Hour, time.Hour) }()
	broken := errors.New("the log does not go on")
	for i, batch := range []topic.Batch{batchOf(0, 1000), {Err: broken}, batchOf(1, 1000), batchOf(2, 1000)} {
		q, err := o.backlog.enter(ctx, batch)
		if err != nil {
			t.Fatal(i, err)
		}
		o.queue <- q
	}
	eventually(t, "all has left", func() bool { return len(o.queue) == 0 && o.backlog.empty() })
	cancel()
	<-done
	if at := state.Position(); at != 1 || !errors.Is(state.Stopped(), broken) {
		t.Errorf("at %d, %v", at, state.Stopped())
	}
}
