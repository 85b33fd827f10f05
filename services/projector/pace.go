package projector

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/seenby/seenby/services/contract"
)

const (
	// paceEvery is how often the interval is decided anew.
	paceEvery = time.Second
	// Above crowded, of the process's CPUs, the interval grows; below idle it
	// shrinks. Between, it stays, so that it does not swing.
	crowded, idle = 0.85, 0.60
	// It grows by a quarter and shrinks by a tenth: the load follows an interval
	// only after that interval.
	growth, shrinkage = 1.25, 1 / 1.1
	// paceStep is what the interval is rounded to.
	paceStep = 100 * time.Millisecond
)

// pollPace is the interval that whoever pulls is asked to keep. It is decided by how
// much of the CPUs that it may use this process takes: that is what runs out
// first, whether by pulls, by applying or by both, and pulls are what can be had
// later. Its methods may be called concurrently, but sample, which is for one
// goroutine.
type pollPace struct {
	least, most time.Duration
	// exact is the interval before it is rounded.
	exact   float64
	current atomic.Pointer[paced]
}

// paced is one pace, and the header that tells it.
type paced struct {
	contract.Poll
	text string
}

func newPollPace(poll contract.Poll, most time.Duration) *pollPace {
	p := &pollPace{least: poll.Interval, most: most, exact: float64(poll.Interval)}
	p.set(poll)
	return p
}

func (p *pollPace) now() *paced { return p.current.Load() }

func (p *pollPace) set(poll contract.Poll) {
	p.current.Store(&paced{poll, fmt.Sprintf("interval=%d, window=%d", poll.Interval.Milliseconds(), poll.Window.Milliseconds())})
}

// sample takes the share of the CPUs that were busy lately.
func (p *pollPace) sample(busy float64) {
	switch {
	case busy > crowded:
		p.exact = min(p.exact*growth, float64(p.most))
	case busy < idle:
		p.exact = max(p.exact*shrinkage, float64(p.least))
	}
	poll := p.now().Poll
	interval := min(max(time.Duration(p.exact).Round(paceStep), p.least), p.most)
	if interval != poll.Interval {
		poll.Interval = interval
		p.set(poll)
	}
}

// cpuMeter tells which share of the CPUs that it may use the process took.
type cpuMeter struct {
	used time.Duration
	at   time.Time
}

// busy returns the share since the last call, from 0 to 1 or a little more; 0 where
// the system does not tell.
func (m *cpuMeter) busy(now time.Time) float64 {
	used, before := cpuTime(), *m
	m.used, m.at = used, now
	took := now.Sub(before.at)
	if before.at.IsZero() || took <= 0 {
		return 0
	}
	return float64(used-before.used) / (float64(took) * float64(runtime.GOMAXPROCS(0)))
}
