package topic

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

const (
	surveyEvery   = time.Second
	surveyTimeout = 5 * time.Second
	// surveyGap is the least time between two surveys, however often they are
	// asked for.
	surveyGap = 50 * time.Millisecond
)

// surveyUntil keeps the Reader's view of who leads what up to date until ctx
// ends.
func (r *Reader) surveyUntil(ctx context.Context) {
	failures := 0
	for {
		if err := r.surveyOnce(ctx); err != nil {
			failures++
			if !pause(ctx, backoff(failures)) {
				return
			}
			continue
		}
		failures = 0
		if !pause(ctx, surveyGap) {
			return
		}
		t := time.NewTimer(surveyEvery - surveyGap)
		select {
		case <-t.C:
		case <-r.survey:
		case <-ctx.Done():
		}
		t.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// askForSurvey has the surveyor look soon.
func (r *Reader) askForSurvey() {
	select {
	case r.survey <- struct{}{}:
	default: // one is due already
	}
}

// surveyOnce asks Kafka for the topic's layout and acts on what changed.
func (r *Reader) surveyOnce(ctx context.Context) error {
	asked, cancel := context.WithTimeout(ctx, surveyTimeout)
	defer cancel()
	l, err := describe(asked, r.client, r.config.Topic)
	r.mu.Lock()
	defer r.mu.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if is, was := l.identity(), r.config.Identity; err == nil && is != was {
		err = r.otherTopic(was, is)
	}
	switch {
	case err != nil && r.unsurveyed == nil:
		r.config.Logger.Warn("cannot learn who leads the topic's partitions", slog.Any("error", err))
	case err == nil && r.unsurveyed != nil:
		r.config.Logger.Info("learnt who leads the topic's partitions again")
	}
	r.unsurveyed = err
	if err != nil {
		return err
	}
	for id, lead := range l.partitions {
		if p := r.partitions[int32(id)]; p != nil && !p.ended {
			r.follow(ctx, p, lead)
		}
	}
	return nil
}

// otherTopic handles a topic that is not, or no longer, the one whose positions
// we have. Under an unchanged ID there can only be more partitions than before:
// a broker that knows fewer has not heard of them yet.
func (r *Reader) otherTopic(was, is Identity) error {
	var reason Reason
	switch {
	case is.ID != was.ID:
		reason = Recreated
	case is.Partitions > was.Partitions:
		reason = Repartitioned
	default:
		return fmt.Errorf("the topic has %d partitions, and a broker knows only %d", was.Partitions, is.Partitions)
	}
	for _, p := range r.partitions {
		r.conclude(p, &Discontinued{
			Reason: reason, Partition: p.id, Position: p.position, Epoch: p.epoch,
			LogStart: -1, End: -1, LeaderEpoch: -1, LastEpoch: -1, EpochEnd: -1, Was: was, Is: is,
		})
	}
	return fmt.Errorf("%s", reason)
}

// conclude ends a partition. The Reader's mutex is held.
func (r *Reader) conclude(p *partition, why *Discontinued) {
	if p.ended {
		return
	}
	p.ended = true
	r.ending = append(r.ending, Batch{Partition: p.id, Err: why})
	select {
	case r.ends <- struct{}{}:
	default: // Poll is to look already
	}
}

var errNoLeader = errors.New("it has no leader")

// follow notes who leads a partition. Leader epochs only rise: a broker that
// tells of a lower one than we know of has not heard the news yet. The same
// goes for one lower than the epoch of a record that we have read; a start from
// a checkpoint could otherwise be judged by a leader that was deposed long ago.
// The Reader's mutex is held.
func (r *Reader) follow(ctx context.Context, p *partition, lead leadership) {
	known := p.leader
	if lead.epoch < known.epoch {
		return
	}
	switch {
	case lead.node < 0:
		r.note(p, errNoLeader)
		return
	case lead.epoch < p.epoch && lead.epoch != noEpoch:
		r.note(p, fmt.Errorf("a broker names the leader of epoch %d, but records were read of epoch %d", lead.epoch, p.epoch))
		return
	case lead == known:
		return
	}
	p.leader = lead
	p.retryAt = time.Time{}
	// What they wait for may never come; and one has the partition meanwhile.
	r.fetchers[known.node].interrupt()
	of, found := r.fetchers[lead.node]
	if !found {
		for range fetchersPerNode {
			f := &fetcher{r: r, node: lead.node, wake: make(chan struct{}, 1), decoder: newDecoder(r.config.PartitionBytes)}
			of = append(of, f)
			r.wg.Go(func() { f.run(ctx) })
		}
		r.fetchers[lead.node] = of
	}
	of.nudge()
}

// note keeps what is wrong with a partition, and logs when that begins. The
// Reader's mutex is held.
func (r *Reader) note(p *partition, err error) {
	if p.trouble == nil {
		r.config.Logger.Warn("cannot read a partition just now; trying again", slog.Int("partition", int(p.id)), slog.Any("error", err))
	}
	p.trouble = err
}

// failed has a partition tried again after a while, longer each time in a row.
// The Reader's mutex is held.
func (r *Reader) failed(p *partition, err error) {
	p.failures++
	p.retryAt = time.Now().Add(backoff(p.failures))
	r.note(p, err)
	r.askForSurvey()
}

// fine forgets what was wrong with a partition. The Reader's mutex is held.
func (r *Reader) fine(p *partition) {
	if p.trouble != nil {
		r.config.Logger.Info("reading a partition again", slog.Int("partition", int(p.id)))
	}
	p.trouble, p.failures, p.retryAt = nil, 0, time.Time{}
}
