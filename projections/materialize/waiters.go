package materialize

import (
	"container/heap"
	"context"
	"sync"
)

// waiters are those who wait for a position. Advancing costs as much as there
// are waiters to wake, however many there are.
type waiters struct {
	mu       sync.Mutex
	position int64
	stopped  error
	queue    waiterHeap
}

type waiter struct {
	position int64
	index    int // in the heap, or -1
	done     chan struct{}
}

// wait returns nil once the position is reached, why the partition stopped
// short of it, or ctx's error.
func (w *waiters) wait(ctx context.Context, position int64) error {
	one, err := w.enter(position)
	if one == nil {
		return err
	}
	select {
	case <-one.done:
		return w.outcome(position)
	case <-ctx.Done():
		w.leave(one)
		return ctx.Err()
	}
}

// enter returns nil if there is nothing to wait for.
func (w *waiters) enter(position int64) (*waiter, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.position >= position {
		return nil, nil
	}
	if w.stopped != nil {
		return nil, w.stopped
	}
	one := &waiter{position: position, done: make(chan struct{})}
	heap.Push(&w.queue, one)
	return one, nil
}

func (w *waiters) leave(one *waiter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if one.index >= 0 {
		heap.Remove(&w.queue, one.index)
	}
}

func (w *waiters) outcome(position int64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.position >= position {
		return nil
	}
	return w.stopped
}

// advance moves the position and wakes whoever waited for it.
func (w *waiters) advance(position int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.position = position
	for len(w.queue) > 0 && w.queue[0].position <= position {
		close(heap.Pop(&w.queue).(*waiter).done)
	}
}

// stop wakes everybody. The first error stays.
func (w *waiters) stop(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped == nil {
		w.stopped = err
	}
	for len(w.queue) > 0 {
		close(heap.Pop(&w.queue).(*waiter).done)
	}
}

func (w *waiters) stoppedBy() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stopped
}

func (w *waiters) now() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.position
}

// waiterHeap is a heap.Interface by position.
type waiterHeap []*waiter

func (h waiterHeap) Len() int           { return len(h) }
func (h waiterHeap) Less(i, j int) bool { return h[i].position < h[j].position }
func (h waiterHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push is called by package heap.
func (h *waiterHeap) Push(x any) {
	one := x.(*waiter)
	one.index = len(*h)
	*h = append(*h, one)
}

// Pop is called by package heap.
func (h *waiterHeap) Pop() any {
	last := len(*h) - 1
	one := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	one.index = -1
	return one
}
