package projector

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seenby/seenby/events/topic"
	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/services/projector/protocol"
)

// Rebuilt is what came of a rebuild.
type Rebuilt struct {
	Topic      string           `json:"topic"`
	TopicID    protocol.TopicID `json:"topic_id"`
	Partitions int              `json:"partitions"`
	Lineage    string           `json:"lineage"`
	// Resumed says that the store held a part already.
	Resumed bool `json:"resumed"`
	// Events are the records applied, Outcomes how many by what they came to.
	Events   int64            `json:"events"`
	Outcomes map[string]int64 `json:"outcomes"`
	// Seconds is from the start until everything was durable and closed; PerSecond
	// is of the events.
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"per_second"`
	// Stages are seconds, of all partitions added up but for the first and the last:
	// open until the store was open, wait in which there was nothing to apply, apply
	// without what it had to store, commit storing, close.
	Stages map[string]float64 `json:"stages"`
	// StoreBytes is what the closed store takes on disk.
	StoreBytes int64 `json:"store_bytes"`
}

// rebuildEvery is how often a rebuild looks whether it is done.
const rebuildEvery = 20 * time.Millisecond

// Rebuild applies the log, from its start or from where the store is, to its end
// as of now, without serving anybody; what a projector does when it starts on an
// empty disk, and with the same settings. It can be ended, or killed, and goes on
// where it was when it is called again. report is told how far it is, now and then.
func Rebuild(ctx context.Context, c Config, report func(protocol.Progress)) (_ Rebuilt, err error) {
	if err := c.validateState(); err != nil {
		return Rebuilt{}, err
	}
	begun := c.Now()
	identity, err := topic.Identify(ctx, c.Connection)
	if err != nil {
		return Rebuilt{}, err
	}
	var commit atomic.Int64
	n, err := openNode(ctx, &c, identity, func(took time.Duration) { commit.Add(int64(took)) })
	if err != nil {
		return Rebuilt{}, err
	}
	r := Rebuilt{
		Topic: c.Connection.Topic, TopicID: identity.ID, Partitions: len(n.owned), Lineage: fmt.Sprintf("%08x", n.lineage.ID()),
		Resumed: n.saved(), Outcomes: make(map[string]int64), Stages: map[string]float64{"open": c.Now().Sub(begun).Seconds()},
	}
	err = n.rebuild(ctx, nil, report)
	closing := c.Now()
	for _, o := range n.owned {
		r.count(o)
	}
	r.Stages["commit"] = time.Duration(commit.Load()).Seconds()
	r.Stages["apply"] -= r.Stages["commit"]
	if err := errors.Join(err, n.close()); err != nil {
		return r, err
	}
	r.Stages["close"] = c.Now().Sub(closing).Seconds()
	r.Seconds = c.Now().Sub(begun).Seconds()
	r.PerSecond = float64(r.Events) / r.Seconds
	r.StoreBytes, err = diskUsage(c.DataDir)
	return r, err
}

func (r *Rebuilt) count(o *owned) {
	for outcome, n := range o.state.Stats().Outcomes {
		if n > 0 && projections.Outcome(outcome) != projections.Old {
			r.Outcomes[projections.Outcome(outcome).String()] += n
			r.Events += n
		}
	}
	r.Stages["apply"] += o.busy.Seconds()
	r.Stages["wait"] += o.idle.Seconds()
}

// saved says whether some partition was restored from the store.
func (n *node) saved() bool {
	for _, o := range n.owned {
		if o.state.Saved() > 0 {
			return true
		}
	}
	return false
}

// rebuild runs the node until it has applied, and saved, the log up to these
// positions, which it goes not beyond; nil: what was in the log when it began.
func (n *node) rebuild(ctx context.Context, to map[int32]int64, report func(protocol.Progress)) error {
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	var stopped error
	for _, o := range n.owned {
		o.until = to[o.number]
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		defer cancel()
		ends := n.ends(running)
		switch {
		case ends == nil:
			return
		case to == nil:
			to = ends
		}
		for p, position := range to {
			if ends[p] < position {
				stopped = errors.Join(stopped, fmt.Errorf("partition %d: the log ends at %d, before %d: records were lost, or it is another log", p, ends[p], position))
			}
		}
		if stopped != nil {
			return
		}
		for !n.reached(to, &stopped) {
			report(n.progress(to))
			if !pause(running, rebuildEvery) {
				return
			}
		}
		report(n.progress(to))
	})
	err := n.run(running)
	cancel()
	wg.Wait()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("rebuild: ended before it was done; what it had is saved, call it again to go on: %w", context.Cause(ctx))
	case err != nil || stopped != nil:
		return errors.Join(err, stopped)
	}
	for _, o := range n.owned {
		if o.state.Saved() < to[o.number] && !o.past.Load() {
			return fmt.Errorf("rebuild: partition %d is saved up to %d, not %d: see the log for why", o.number, o.state.Saved(), to[o.number])
		}
	}
	return nil
}

// ends returns where each partition ended when that was first known, or nil when
// ctx ends.
func (n *node) ends(ctx context.Context) map[int32]int64 {
	to := make(map[int32]int64, len(n.owned))
	for {
		for _, o := range n.owned {
			if _, known := to[o.number]; known {
				continue
			}
			if end, known := n.reader.End(o.number); known {
				to[o.number] = end.Offset
			}
		}
		if len(to) == len(n.owned) {
			return to
		}
		if !pause(ctx, rebuildEvery) {
			return nil
		}
	}
}

// reached says whether all partitions have come to a position, or one cannot.
func (n *node) reached(to map[int32]int64, stopped *error) bool {
	all := true
	for _, o := range n.owned {
		if err := o.Stopped(); err != nil {
			*stopped = errors.Join(*stopped, err)
			continue
		}
		all = all && (o.Position() >= to[o.number] || o.past.Load())
	}
	return all || *stopped != nil
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
