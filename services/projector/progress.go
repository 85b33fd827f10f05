package projector

import (
	"sync"
	"time"

	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/services/projector/protocol"
)

const (
	// measureEvery and measureOver say over which time the rate of applying is told.
	measureEvery = 500 * time.Millisecond
	measureOver  = 10 * time.Second
)

// meter tells how fast a node applies its log.
type meter struct {
	mu     sync.Mutex
	points []measured
}

type measured struct {
	at      time.Time
	applied int64
}

// note is told how many records were applied so far.
func (m *meter) note(at time.Time, applied int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := len(m.points); n > 0 && at.Sub(m.points[n-1].at) < measureEvery {
		return
	}
	m.points = append(m.points, measured{at, applied})
	for len(m.points) > 2 && at.Sub(m.points[1].at) > measureOver {
		m.points = m.points[1:]
	}
}

// rate is in records a second, and 0 while it is not known.
func (m *meter) rate(now time.Time, applied int64) float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.points) == 0 {
		return 0
	}
	first := m.points[0]
	took := now.Sub(first.at)
	if took < measureEvery/2 {
		return 0
	}
	return float64(applied-first.applied) / took.Seconds()
}

// progress is how far the node has got on its way to the log's end, as last known,
// or to the positions given.
func (n *node) progress(to map[int32]int64) protocol.Progress {
	now := n.config.Now()
	var p protocol.Progress
	for _, o := range n.owned {
		p.Applied += applied(o)
		end, known := to[o.number]
		if to == nil {
			end = o.fresh.end()
			known = end >= 0
		}
		if known {
			p.Remaining += max(0, end-max(0, o.Position()))
		}
	}
	p.PerSecond = n.meter.rate(now, p.Applied)
	if p.PerSecond > 0 {
		p.SecondsLeft = float64(p.Remaining) / p.PerSecond
	}
	return p
}

// applied is how many records of a partition were applied since the start.
func applied(o *owned) (records int64) {
	for outcome, n := range o.state.Stats().Outcomes {
		if projections.Outcome(outcome) != projections.Old {
			records += n
		}
	}
	return records
}

// measure notes how much was applied by now.
func (n *node) measure() {
	var sum int64
	for _, o := range n.owned {
		sum += applied(o)
	}
	n.meter.note(n.config.Now(), sum)
}
