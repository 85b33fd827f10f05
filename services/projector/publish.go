package projector

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/seenby/seenby/events/topic"
	"github.com/seenby/seenby/services/projector/protocol"
)

const (
	// commitEvery is how often positions are committed for lag tools, and
	// commitTimeout how long Kafka may take.
	commitEvery   = 5 * time.Second
	commitTimeout = 4 * time.Second
)

// publisher commits positions to a consumer group, so that standard tools see
// the lag. Nothing depends on it, so that its failure is told and does no harm.
type publisher struct {
	committer *topic.Committer
	failed    atomic.Uint64
	failure   atomic.Pointer[error]
}

func (p *publisher) publish(ctx context.Context, owned []*owned) {
	positions := make(map[int32]int64, len(owned))
	for _, o := range owned {
		// A stopped partition's position may be one of a log that is no more.
		if o.Stopped() == nil && stateOf(o.CaughtUp(), o.now()) != protocol.Starting {
			positions[o.number] = o.Position()
		}
	}
	within, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	err := p.committer.Commit(within, positions)
	switch {
	case err == nil:
		p.failure.Store(nil)
	case ctx.Err() == nil:
		p.failed.Add(1)
		p.failure.Store(&err)
	}
}

// err is why the latest positions were not committed, or nil.
func (p *publisher) err() error {
	if err := p.failure.Load(); err != nil {
		return *err
	}
	return nil
}
