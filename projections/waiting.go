package projections

import (
	"slices"
	"time"
)

const (
	// WaitingTime is how much older than MessageSent, by record timestamps, a
	// waiting event may be to take effect.
	WaitingTime = 24 * time.Hour
	// timestampSlack is how far a partition's record timestamps may run back
	// when its leader changes. Waiting events are given up only when they are
	// past WaitingTime by more than this, so that giving up changes nothing.
	timestampSlack = time.Hour
)

// WaitingEvent is a receipt or a recall of a message that has not been sent
// yet. It shows nowhere.
type WaitingEvent struct {
	MessageID string
	// Recall says that it is a recall; ReaderID and ReadAt are a receipt's.
	Recall   bool
	ReaderID string
	// ReadAt is the claimed time in Unix milliseconds, or events.Unclaimed.
	ReadAt int64
	// Offset and Timestamp are the record's.
	Offset    int64
	Timestamp int64
}

// Waiting is the queue of a partition's waiting events, in log order. It
// remembers what changed since TakeChanges, for a store that keeps up with it.
type Waiting struct {
	// queue is by offset. What left from its middle is marked gone and is
	// dropped when it reaches the front.
	queue     []*waitingItem
	byMessage map[string][]*waitingItem
	count     int

	added   []*waitingItem
	removed []int64
}

type waitingItem struct {
	WaitingEvent
	gone   bool
	stored bool
}

// RestoreWaiting returns a queue of these events, which must be in log order,
// as a store kept them.
func RestoreWaiting(stored []WaitingEvent) *Waiting {
	w := &Waiting{byMessage: make(map[string][]*waitingItem)}
	for _, e := range stored {
		w.push(e).stored = true
	}
	return w
}

// Len is how many events wait.
func (w *Waiting) Len() int { return w.count }

// All returns the waiting events in log order.
func (w *Waiting) All() []WaitingEvent {
	all := make([]WaitingEvent, 0, w.count)
	for _, item := range w.queue {
		if !item.gone {
			all = append(all, item.WaitingEvent)
		}
	}
	return all
}

// TakeChanges returns what a store has to add and to remove, by offset, to
// equal the queue; it equalled it when TakeChanges was last called.
func (w *Waiting) TakeChanges() (added []WaitingEvent, removed []int64) {
	for _, item := range w.added {
		if !item.gone {
			item.stored = true
			added = append(added, item.WaitingEvent)
		}
	}
	removed = w.removed
	w.added, w.removed = nil, nil
	return added, removed
}

func (w *Waiting) push(e WaitingEvent) *waitingItem {
	item := &waitingItem{WaitingEvent: e}
	w.queue = append(w.queue, item)
	w.byMessage[e.MessageID] = append(w.byMessage[e.MessageID], item)
	w.count++
	return item
}

// wait adds e, and reports whether another one had to give way.
func (w *Waiting) wait(e WaitingEvent, limit int) (evicted bool) {
	if w.count >= limit {
		w.evict()
		evicted = true
	}
	if limit > 0 {
		w.added = append(w.added, w.push(e))
	}
	return evicted
}

// take removes and returns the events of a message, in log order.
func (w *Waiting) take(messageID string) []WaitingEvent {
	items := w.byMessage[messageID]
	if len(items) == 0 {
		return nil
	}
	delete(w.byMessage, messageID)
	taken := make([]WaitingEvent, len(items))
	for i, item := range items {
		taken[i] = item.WaitingEvent
		w.leave(item)
	}
	w.trim()
	return taken
}

// giveUp drops from the front what can no longer take effect at a record of
// this timestamp or a later one, and returns how many.
func (w *Waiting) giveUp(timestamp int64) (n int) {
	for len(w.queue) > 0 && timestamp-w.queue[0].Timestamp > (WaitingTime+timestampSlack).Milliseconds() {
		w.evict()
		n++
	}
	return n
}

// evict removes the first event. The front of the queue is never gone.
func (w *Waiting) evict() {
	if len(w.queue) == 0 {
		return
	}
	item := w.queue[0]
	rest := slices.DeleteFunc(w.byMessage[item.MessageID], func(other *waitingItem) bool { return other == item })
	if len(rest) == 0 {
		delete(w.byMessage, item.MessageID)
	} else {
		w.byMessage[item.MessageID] = rest
	}
	w.leave(item)
	w.trim()
}

func (w *Waiting) leave(item *waitingItem) {
	item.gone = true
	w.count--
	if item.stored {
		w.removed = append(w.removed, item.Offset)
	}
}

func (w *Waiting) trim() {
	n := 0
	for n < len(w.queue) && w.queue[n].gone {
		w.queue[n] = nil
		n++
	}
	w.queue = w.queue[n:]
}
