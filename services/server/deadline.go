package server

import (
	"context"
	"sync"
	"time"
)

// deadline is the context of a request. It makes its timer only when somebody
// asks for Done: most handlers answer from memory and never wait, and a timer
// with its context would cost them more than all their other allocations.
type deadline struct {
	parent context.Context
	at     time.Time

	mu sync.Mutex
	// inner is the context with the timer, once there is one.
	inner    context.Context
	cancel   context.CancelFunc
	released bool
}

func (d *deadline) Deadline() (time.Time, bool) { return d.at, true }

func (d *deadline) Done() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.inner == nil {
		d.inner, d.cancel = context.WithDeadline(d.parent, d.at)
		if d.released {
			d.cancel()
		}
	}
	return d.inner.Done()
}

func (d *deadline) Err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.inner != nil:
		return d.inner.Err()
	case d.parent.Err() != nil:
		return d.parent.Err()
	case d.released:
		return context.Canceled
	case !time.Now().Before(d.at):
		return context.DeadlineExceeded
	}
	return nil
}

// Value comes from inner where there is one, so that contexts derived from this
// one find the standard library's canceler in it and need no goroutine.
func (d *deadline) Value(key any) any {
	d.mu.Lock()
	from := d.parent
	if d.inner != nil {
		from = d.inner
	}
	d.mu.Unlock()
	return from.Value(key)
}

// release ends the context, as the request is done.
func (d *deadline) release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.released = true
	if d.cancel != nil {
		d.cancel()
	}
}
