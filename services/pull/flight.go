package pull

import (
	"context"
)

// fly makes one pull: a batch for all of its messages, and then, where a set did not
// fit, its further pages, one request at a time. Each message is shown when its set
// is whole. What one answer forbids is not asked for next: see [schedule.wanted].
func (w *Watcher) fly(ctx context.Context, f *flight) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer w.land()
	a, ok := w.board(f, cancel)
	if !ok {
		return
	}
	s := &session{fetcher: w.fetcher, spent: w.spend}
	batch := s.post(ctx, a, func() (ask, bool) { return w.again(f) })
	for _, c := range w.settle(f, batch) {
		w.follow(ctx, s, c)
	}
}

// board says what to ask for; false if nobody waits for it any more. From now on,
// leaving all of its messages ends the flight by cancel.
func (w *Watcher) board(f *flight, cancel func()) (ask, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f.cancel = cancel
	a, ok := w.schedule.board(f, w.clock.Now())
	w.nudge()
	return a, ok
}

// again says what is still to be asked for.
func (w *Watcher) again(f *flight) (ask, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer w.nudge()
	return w.schedule.manifest(f, w.clock.Now())
}

func (w *Watcher) settle(f *flight, a *batchAnswer) []*continued {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer w.nudge()
	return w.schedule.settleBatch(f, a, w.clock.Now())
}

// follow gets the pages that a message's set goes on with.
func (w *Watcher) follow(ctx context.Context, s *session, c *continued) {
	wanted := func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.schedule.wanted(c.trip, w.clock.Now())
	}
	if !wanted() {
		return
	}
	// Leaving this message ends its request, while others may still be waited for.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w.mu.Lock()
	c.trip.cancel = cancel
	w.mu.Unlock()
	a := s.follow(ctx, c, wanted)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.schedule.settle(c.trip, a, w.clock.Now())
	w.nudge()
}

// spend counts a request and what its answer's body had.
func (w *Watcher) spend(bytes int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.schedule.totals.Requests++
	w.schedule.totals.Bytes += bytes
}

func (w *Watcher) land() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.schedule.land()
	w.nudge()
}
