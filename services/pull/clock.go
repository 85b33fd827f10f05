package pull

import (
	"sync"
	"time"
)

// Clock is the time that a [Watcher] goes by. Its methods may be called
// concurrently.
type Clock interface {
	// Now returns the time since a moment of the clock's own choice. It never
	// goes back, and it counts the time that the device slept.
	Now() time.Duration
	// AfterFunc calls f in its own goroutine once d has passed, unless stop is
	// called before. It need not count sleep: whoever wakes late looks at Now.
	AfterFunc(d time.Duration, f func()) (stop func() bool)
}

// sleepClock is the system's clock, sleep included.
//
// Go's monotonic clock stands still on Linux and macOS while the device sleeps,
// and the portable library has no other that does not. The wall clock goes on in
// sleep, but is set back and forth. So every reading advances by the larger of
// what the two have advanced since the last one: sleep counts, and a wall clock
// that is set back does no harm. One that is set forward passes for sleep, which
// ends looks early; the other error would be to pull beyond the window.
type sleepClock struct {
	mu      sync.Mutex
	last    time.Time
	elapsed time.Duration
}

func newSleepClock() *sleepClock { return &sleepClock{last: time.Now()} }

func (c *sleepClock) Now() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	// Round(0) strips the monotonic reading, which Sub otherwise prefers.
	c.elapsed += passed(now.Sub(c.last), now.Round(0).Sub(c.last.Round(0)))
	c.last = now
	return c.elapsed
}

// passed is how much time went by while the two clocks advanced so far.
func passed(monotonic, wall time.Duration) time.Duration {
	return max(0, monotonic, wall)
}

func (c *sleepClock) AfterFunc(d time.Duration, f func()) func() bool {
	return time.AfterFunc(d, f).Stop
}
