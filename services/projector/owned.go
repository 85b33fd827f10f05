package projector

import (
	"context"
	"log/slog"
	"time"

	"github.com/seenby/seenby/events/topic"
	"github.com/seenby/seenby/projections/materialize"
	"github.com/seenby/seenby/services/projector/protocol"
)

const (
	// queueLength is how many batches may be on their way to a partition. When it
	// is full, polling waits: a node's partitions share one disk, so that one
	// which cannot keep up is rarely alone.
	queueLength = 4
	// pruneEvery is how often what has expired is removed; it goes by whole hours
	// of sent_at.
	pruneEvery = time.Hour
)

// owned is one partition of the node. Its state is changed by one goroutine,
// run; whatever that cannot handle stops this partition, with the reason kept,
// and no other.
type owned struct {
	number int32
	state  *materialize.Partition
	// newestEnd is the log's end as the reader knows it.
	newestEnd func(partition int32) (topic.End, bool)
	now       func() time.Time
	logger    *slog.Logger

	queue   chan queued
	backlog *backlog
	fresh   freshness
}

var _ source = (*owned)(nil)

func (o *owned) Number() int32   { return o.number }
func (o *owned) Position() int64 { return o.state.Position() }

func (o *owned) View(id []byte) (materialize.View, error) { return o.state.View(id) }

func (o *owned) Wait(ctx context.Context, position int64) error { return o.state.Wait(ctx, position) }

func (o *owned) Stopped() error { return o.state.Stopped() }

func (o *owned) CaughtUp() time.Time {
	newest, known := o.newestEnd(o.number)
	return o.fresh.note(end{offset: newest.Offset, asOf: newest.AsOf}, known, o.state.Position())
}

// status is how the partition is now.
func (o *owned) status() protocol.PartitionStatus {
	caughtUp, now := o.CaughtUp(), o.now()
	s := protocol.PartitionStatus{
		Partition: o.number,
		State:     stateOf(caughtUp, now),
		Position:  o.state.Position(),
		End:       o.fresh.end(),
		Saved:     o.state.Saved(),
		LagMS:     -1,
	}
	if !caughtUp.IsZero() {
		s.LagMS = lagSince(caughtUp, now).Milliseconds()
	}
	if err := o.Stopped(); err != nil {
		s.State, s.Error = protocol.Stopped, err.Error()
	}
	return s
}

// run applies what comes, and saves it now and then, until ctx ends; then it
// saves once more. What is still in the queue then is read again by the next
// start.
func (o *owned) run(ctx context.Context, firstFlush, flushEvery, firstPrune time.Duration) {
	flush := time.NewTimer(firstFlush)
	defer flush.Stop()
	prune := time.NewTimer(firstPrune)
	defer prune.Stop()
	for {
		select {
		case <-ctx.Done():
			o.saveLast()
			return
		case batch := <-o.queue:
			o.must(func() error { return o.state.Apply(batch.Records) })
			o.must(func() error { return batch.Err })
			o.backlog.leave(batch)
		case <-flush.C:
			o.must(o.state.Flush)
			flush.Reset(flushEvery)
		case <-prune.C:
			o.must(o.prune)
			prune.Reset(pruneEvery)
		}
	}
}

// must does something unless the partition has stopped, and stops it if that
// fails. It is never tried again: what failed once may have been done in part,
// and a start begins from what is known.
func (o *owned) must(do func() error) {
	if o.Stopped() != nil {
		return
	}
	if err := do(); err != nil {
		o.state.Stop(err)
		o.logger.Error("a partition has stopped", "partition", o.number, "position", o.state.Position(), "err", err)
	}
}

// saveLast saves also what a partition had applied before it stopped, unless it
// was saving that failed, which was told then.
func (o *owned) saveLast() {
	stopped := o.Stopped()
	if err := o.state.Flush(); err != nil && stopped == nil {
		o.logger.Error("the last flush failed; what it had is read again from the log", "partition", o.number, "err", err)
	}
}

func (o *owned) prune() error {
	_, err := o.state.Prune(o.now().UnixMilli())
	return err
}
