package materialize

import (
	"sync"
	"sync/atomic"

	"github.com/seenby/seenby/projections"
)

// Memory bounds what the partitions of a node keep of their messages in memory,
// together. Messages that are not dirty give way to newer ones, the longest
// unused about first, whichever partition they are in. Dirty ones never do;
// where they take more than their part, their partition flushes.
type Memory struct {
	limit int64
	used  atomic.Int64
	count atomic.Int64 // of partitions

	names namesPool

	// mu is taken before any partition's mu, never after.
	mu         sync.Mutex
	partitions []*Partition
	next       int
}

// NewMemory returns a budget of so many bytes, by [projections.Message.Size] and
// [projections.Names.Size], which counts once for all rosters that share them.
func NewMemory(limit int64) *Memory {
	return &Memory{limit: limit, names: namesPool{shared: make(map[projections.RosterHash]*sharedNames)}}
}

// Used is how many bytes the messages in memory take. Any goroutine may call it.
func (m *Memory) Used() int64 { return m.used.Load() }

// Limit is the budget.
func (m *Memory) Limit() int64 { return m.limit }

func (m *Memory) join(p *Partition) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.partitions = append(m.partitions, p)
	m.count.Store(int64(len(m.partitions)))
}

func (m *Memory) over() bool { return m.used.Load() > m.limit }

// share is one partition's part.
func (m *Memory) share() int64 { return m.limit / max(1, m.count.Load()) }

// shrink has partitions evict, in turn, until the budget is kept or nothing
// clean is left. The caller holds no partition's mu. One that finds another
// shrinking leaves it to that one.
func (m *Memory) shrink() {
	if !m.over() || !m.mu.TryLock() {
		return
	}
	defer m.mu.Unlock()
	// An entry is passed over once, for having been used, before it is evicted:
	// two rounds without eviction find nothing.
	for idle := 0; m.over() && idle < 2*len(m.partitions); {
		p := m.partitions[m.next%len(m.partitions)]
		m.next++
		if p.evict(m.used.Load() - m.limit) {
			idle = 0
		} else {
			idle++
		}
	}
}
