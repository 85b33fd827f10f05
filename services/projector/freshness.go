package projector

import (
	"sync"
	"time"

	"github.com/seenby/seenby/services/projector/protocol"
)

// maxLag is how long ago a ready partition may have applied everything.
const maxLag = time.Second

// end is an end of the log: whatever was acknowledged before asOf is below
// offset.
type end struct {
	offset int64
	asOf   time.Time
}

// freshness knows how long ago a partition had applied everything. When its
// position reaches an end of the log that was asked for at T, everything
// acknowledged before T is applied; ends that were not reached yet are kept, so
// that a partition which is steadily a little behind the newest end still learns
// of the older ones that it passes.
//
// Any number of goroutines may use it.
type freshness struct {
	mu      sync.Mutex
	pending []end
	known   end
	// caughtUp is the asOf of the newest end that was reached; zero: none.
	caughtUp time.Time
}

// maxPending bounds the ends that are kept. When there are more, the newest
// takes the last one's place: what is known of freshness then is late, but true.
const maxPending = 64

// note takes the newest known end and the position, and returns as of when
// everything was applied, or the zero time.
func (f *freshness) note(newest end, known bool, position int64) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	if known && newest.asOf.After(f.known.asOf) {
		f.known = newest
		f.add(newest)
	}
	reached := 0
	for reached < len(f.pending) && f.pending[reached].offset <= position {
		f.caughtUp = f.pending[reached].asOf
		reached++
	}
	if reached > 0 {
		f.pending = f.pending[:copy(f.pending, f.pending[reached:])]
	}
	return f.caughtUp
}

// add appends an end. Of two with one offset the later says more.
func (f *freshness) add(e end) {
	last := len(f.pending) - 1
	if last >= 0 && (f.pending[last].offset >= e.offset || len(f.pending) == maxPending) {
		// An end below an earlier one is that of a log that lost records; its
		// reader tells of that. Until then the higher one stands.
		e.offset = max(e.offset, f.pending[last].offset)
		f.pending[last] = e
		return
	}
	f.pending = append(f.pending, e)
}

// end returns the newest known end, or -1.
func (f *freshness) end() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.known.asOf.IsZero() {
		return -1
	}
	return f.known.offset
}

// lagSince is the time from caughtUp to now. Go's monotonic clock stands still
// while the machine sleeps and the wall clock may be set back; the larger of the
// two never makes a partition fresher than it is.
func lagSince(caughtUp, now time.Time) time.Duration {
	return max(0, now.Sub(caughtUp), now.Round(0).Sub(caughtUp.Round(0)))
}

// stateOf is the state of a partition that is not stopped.
func stateOf(caughtUp, now time.Time) protocol.State {
	switch {
	case caughtUp.IsZero():
		return protocol.Starting
	case lagSince(caughtUp, now) <= maxLag:
		return protocol.Ready
	}
	return protocol.Behind
}
