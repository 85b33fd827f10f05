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
// Its memory follows Len, and the number of stored events that left since
// TakeChanges; adding and dropping one take constant time, whatever the others
// wait for. One goroutine at a time may use it.
type Waiting struct {
	// The queue is a list, because a MessageSent takes its events out of the
	// middle, and the front may stay for a day. The events that the store does
	// not have yet are always its end.
	first, last *waitingItem
	count       int
	// byMessage is the list of each message, in log order too: the first event
	// of the queue is the first of its message.
	byMessage map[string]messageItems
	// removed are the offsets of stored events that left.
	removed []int64
}

type waitingItem struct {
	WaitingEvent
	stored        bool
	before, after *waitingItem
	next          *waitingItem // of the same message
}

type messageItems struct {
	first, last *waitingItem
}

// RestoreWaiting returns a queue of these events, which must be in log order,
// as a store kept them.
func RestoreWaiting(stored []WaitingEvent) *Waiting {
	w := &Waiting{byMessage: make(map[string]messageItems)}
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
	for item := w.first; item != nil; item = item.after {
		all = append(all, item.WaitingEvent)
	}
	return all
}

// Of returns the events that wait for a message, in log order.
func (w *Waiting) Of(messageID string) (all []WaitingEvent) {
	for item := w.byMessage[messageID].first; item != nil; item = item.next {
		all = append(all, item.WaitingEvent)
	}
	return all
}

// For says whether events wait for a message. It allocates nothing.
func (w *Waiting) For(messageID []byte) bool {
	return w.byMessage[string(messageID)].first != nil
}

// TakeChanges returns what a store has to add, in log order, and to remove, by
// offset, to equal the queue; it equalled it when TakeChanges was last called.
func (w *Waiting) TakeChanges() (added []WaitingEvent, removed []int64) {
	for item := w.last; item != nil && !item.stored; item = item.before {
		item.stored = true
		added = append(added, item.WaitingEvent)
	}
	slices.Reverse(added)
	removed, w.removed = w.removed, nil
	return added, removed
}

// wait adds e, and reports whether an event had to give way: the first one, or
// e itself where the limit is 0.
func (w *Waiting) wait(e WaitingEvent, limit int) (evicted bool) {
	if limit <= 0 {
		return true
	}
	if w.count >= limit {
		w.evict()
		evicted = true
	}
	w.push(e)
	return evicted
}

// take removes and returns the events of a message, in log order.
func (w *Waiting) take(messageID string) (taken []WaitingEvent) {
	for item := w.byMessage[messageID].first; item != nil; item = item.next {
		taken = append(taken, item.WaitingEvent)
		w.unlink(item)
	}
	delete(w.byMessage, messageID)
	return taken
}

// takeOut removes the receipts of a person; recalls are nobody's. It visits all
// that waits.
func (w *Waiting) takeOut(person string) {
	clear(w.byMessage)
	for item := w.first; item != nil; item = item.after {
		if !item.Recall && item.ReaderID == person {
			w.unlink(item)
			continue
		}
		item.next = nil
		w.linkToMessage(item)
	}
}

// giveUp drops from the front what can no longer take effect at a record of
// this timestamp or a later one.
func (w *Waiting) giveUp(timestamp int64) {
	for w.first != nil && timestamp-w.first.Timestamp > (WaitingTime+timestampSlack).Milliseconds() {
		w.evict()
	}
}

func (w *Waiting) push(e WaitingEvent) *waitingItem {
	item := &waitingItem{WaitingEvent: e, before: w.last}
	if w.last == nil {
		w.first = item
	} else {
		w.last.after = item
	}
	w.last = item
	w.count++

	w.linkToMessage(item)
	return item
}

func (w *Waiting) linkToMessage(item *waitingItem) {
	items := w.byMessage[item.MessageID]
	if items.last == nil {
		items.first = item
	} else {
		items.last.next = item
	}
	items.last = item
	w.byMessage[item.MessageID] = items
}

// evict removes the first event of the queue, which must not be empty.
func (w *Waiting) evict() {
	item := w.first
	if item.next == nil {
		delete(w.byMessage, item.MessageID)
	} else {
		items := w.byMessage[item.MessageID]
		items.first = item.next
		w.byMessage[item.MessageID] = items
	}
	w.unlink(item)
}

// unlink takes an item out of the queue, but not from its message's list.
func (w *Waiting) unlink(item *waitingItem) {
	if item.before == nil {
		w.first = item.after
	} else {
		item.before.after = item.after
	}
	if item.after == nil {
		w.last = item.before
	} else {
		item.after.before = item.before
	}
	w.count--
	if item.stored {
		w.removed = append(w.removed, item.Offset)
	}
}
