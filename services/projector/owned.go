package projector

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/events/topic"
	"github.com/seenby/seenby/projections/materialize"
	"github.com/seenby/seenby/services/projector/protocol"
)

const (
	// queueLength is how many batches may be on their way to a partition; when it is
	// full, polling waits. It has to outlast a flush of the partition, so that the
	// others do not wait for it too; memory is bounded by the backlog.
	queueLength = 256
	// pruneEvery is how often what has expired is removed; it goes by whole hours
	// of sent_at. choreApart is how long the partition applies between two steps of
	// removing, and of scrubbing.
	pruneEvery = time.Hour
	choreApart = 20 * time.Millisecond
	// scrubEvery is how often it is seen whether there is something to scrub.
	scrubEvery = 10 * time.Second
	// catchUpFlushes is how many times longer than else what was applied may be
	// unsaved while the partition catches up: it is quickly applied again.
	catchUpFlushes = 10
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
	// until is the first offset that is not applied, 0: all are. past says that it
	// was come to.
	until int64
	past  atomic.Bool
	// busy and idle are how long the partition applied records, flushes included, and
	// waited for some. They are run's until it returns.
	busy, idle time.Duration
}

var _ source = (*owned)(nil)

func (o *owned) Number() int32   { return o.number }
func (o *owned) Position() int64 { return o.state.Position() }

func (o *owned) View(id []byte, receipts bool) (materialize.View, error) {
	return o.state.View(id, receipts)
}

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
	scrub := time.NewTimer(scrubEvery)
	defer scrub.Stop()
	late := 0 // flushes that were put off
	since := o.now()
	for {
		select {
		case <-ctx.Done():
			begun := o.now()
			o.saveLast()
			o.busy += o.now().Sub(begun)
			return
		case batch := <-o.queue:
			begun := o.now()
			o.idle += begun.Sub(since)
			o.must(func() error { return o.state.Apply(o.within(batch.Records)) })
			o.must(func() error { return batch.Err })
			o.backlog.leave(batch)
			since = o.now()
			o.busy += since.Sub(begun)
		case <-flush.C:
			if late++; !o.CaughtUp().IsZero() || late >= catchUpFlushes {
				o.must(o.state.Flush)
				late = 0
			}
			flush.Reset(flushEvery)
		case <-prune.C:
			prune.Reset(o.chore(o.prune, pruneEvery))
		case <-scrub.C:
			scrub.Reset(o.chore(o.state.Scrub, scrubEvery))
		}
	}
}

// within returns the records that are to be applied.
func (o *owned) within(recs []events.Record) []events.Record {
	n := len(recs)
	if o.until == 0 || n == 0 || recs[n-1].Offset < o.until {
		return recs
	}
	for n > 0 && recs[n-1].Offset >= o.until {
		n--
	}
	o.past.Store(true)
	return recs[:n]
}

// chore does a step of some work, and returns after which time to go on with it.
func (o *owned) chore(step func() (done bool, err error), otherwise time.Duration) time.Duration {
	next := otherwise
	o.must(func() error {
		done, err := step()
		if !done {
			next = choreApart
		}
		return err
	})
	return next
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

func (o *owned) prune() (done bool, err error) {
	_, done, err = o.state.Prune(o.now().UnixMilli())
	return done, err
}
