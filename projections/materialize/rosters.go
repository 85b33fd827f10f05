package materialize

import (
	"sync"

	"github.com/seenby/seenby/projections"
)

// rosters has the messages in memory share their rosters: those of a group have
// one, whoever sends and whichever partition they are in. Without it a message
// to 2,000 people would take a hundred kilobytes for its names alone.
type rosters struct {
	mu     sync.Mutex
	shared map[projections.RosterHash]*sharedRoster
}

// sharedRoster is a roster and how many entries of the node use it.
type sharedRoster struct {
	roster *projections.Roster
	hash   projections.RosterHash
	size   int64
	users  int
}

// shareRoster gives a message, which nobody else knows yet, the roster that equal
// ones have, and returns it; nil for a message without one. The first use of a
// roster counts it in memory.
func (m *Memory) shareRoster(of *projections.Message) *sharedRoster {
	if of.Roster == nil {
		return nil
	}
	hash := of.Roster.Hash()
	m.rosters.mu.Lock()
	defer m.rosters.mu.Unlock()
	s := m.rosters.shared[hash]
	if s == nil {
		s = &sharedRoster{roster: of.Roster, hash: hash, size: int64(of.Roster.Size())}
		m.rosters.shared[hash] = s
		m.used.Add(s.size)
	}
	s.users++
	of.Roster = s.roster
	return s
}

// releaseRoster is told that an entry uses a roster no more; s may be nil.
func (m *Memory) releaseRoster(s *sharedRoster) {
	if s == nil {
		return
	}
	m.rosters.mu.Lock()
	defer m.rosters.mu.Unlock()
	if s.users--; s.users == 0 {
		delete(m.rosters.shared, s.hash)
		m.used.Add(-s.size)
	}
}
