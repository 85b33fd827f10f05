package pull

import (
	"context"
)

// fly makes one pull: it requests a batch, message by message, one request at a
// time, and shows each answer as it comes. What one answer forbids the next does
// not ask for: see [schedule.wanted].
func (w *Watcher) fly(ctx context.Context, trips []*trip) {
	for _, t := range trips {
		w.make(ctx, t)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.schedule.land()
	w.nudge()
}

// make makes one trip of a flight.
func (w *Watcher) make(ctx context.Context, t *trip) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if !w.await(ctx, t, cancel) {
		return
	}
	it, ok := w.board(t)
	if !ok {
		return
	}
	a := w.fetcher.fetch(ctx, it, func() bool { return w.wanted(t) })
	w.mu.Lock()
	defer w.mu.Unlock()
	w.schedule.settle(t, a, w.clock.Now())
	w.nudge()
}

// await waits until the trip's request may go out. It returns false if there is
// no need for it any more. From now on, leaving ends the trip by cancel.
func (w *Watcher) await(ctx context.Context, t *trip, cancel func()) bool {
	w.mu.Lock()
	t.cancel = cancel
	wait := w.schedule.notBefore(t) - w.clock.Now()
	needed := t.message.trip == t
	w.mu.Unlock()
	if !needed || wait <= 0 {
		return needed
	}
	rested := make(chan struct{})
	stop := w.clock.AfterFunc(wait, func() { close(rested) })
	defer stop()
	select {
	case <-rested:
		return true
	case <-ctx.Done():
		return false
	}
}

func (w *Watcher) board(t *trip) (item, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	it, ok := w.schedule.board(t, w.clock.Now())
	if ok {
		w.nudge()
	}
	return it, ok
}

func (w *Watcher) wanted(t *trip) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.schedule.wanted(t, w.clock.Now())
}
