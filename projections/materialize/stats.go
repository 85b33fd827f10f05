package materialize

import "slices"

// Stats are counts since Open, unless they say what is now.
type Stats struct {
	// Outcomes counts the applied records, at the index projections.Outcome.
	Outcomes []int64
	// Undecodable counts undecodable and misplaced records, and Evicted waiting
	// events that had to give way, since the log's start.
	Undecodable    int64
	WaitingEvicted int64

	// Now: messages in memory and how many of them are dirty, a bound on what a
	// flush of them costs in bytes, and how many events wait.
	Messages   int
	Dirty      int
	DirtyBytes int
	Waiting    int

	// Loads are messages that pulls had to load from the store, Evicted those
	// that gave way in memory, Pruned those removed after they expired.
	Loads, Evicted, Pruned int64
	// Flushes, and the messages in them.
	Flushes, FlushedMessages int64
	// Erasures are those whose people may still be named somewhere on disk.
	Erasures int
}

// Stats is for any goroutine.
func (p *Partition) Stats() Stats {
	p.mu.RLock()
	defer p.mu.RUnlock()
	s := p.stats
	s.Outcomes = slices.Clone(s.Outcomes)
	s.Undecodable = p.total
	s.Messages, s.Dirty = len(p.hot.entries), len(p.hot.dirty)
	if p.fold != nil {
		s.WaitingEvicted = p.fold.Checkpoint().Evicted
		s.Waiting = p.fold.Waiting().Len()
		s.Erasures = len(p.fold.Erasures())
		if p.fold.Checkpoint() != p.flushed || len(p.hot.dirty) > 0 || p.hot.flushing {
			s.DirtyBytes = p.dirtyBytes()
		}
	}
	return s
}
