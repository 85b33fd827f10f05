package materialize

import (
	"fmt"
	"sync"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/projections"
)

// namesPool has the rosters in memory share their names: those of a group are
// there once, whichever partitions its messages are in. Without it a message to
// 2,000 people would take a hundred kilobytes for their names alone.
type namesPool struct {
	mu     sync.Mutex
	shared map[projections.RosterHash]*sharedNames
}

type sharedNames struct {
	names *projections.Names
	users int
}

// shareNames returns the names that equal ones in memory are kept as, which the caller
// must release. The first use counts in memory.
func (m *Memory) shareNames(names *projections.Names) *projections.Names {
	if names.Len() < largeRoster {
		m.used.Add(int64(names.Size()))
		return names
	}
	m.names.mu.Lock()
	defer m.names.mu.Unlock()
	s := m.names.shared[names.Hash()]
	switch {
	case s == nil:
		s = &sharedNames{names: names}
		m.names.shared[names.Hash()] = s
		m.used.Add(int64(names.Size()))
	case !s.names.Equal(names):
		// Of the same people, some scrubbed: it has memory of its own.
		m.used.Add(int64(names.Size()))
		return names
	}
	s.users++
	return s.names
}

func (m *Memory) releaseNames(names *projections.Names) {
	if names.Len() < largeRoster {
		m.used.Add(-int64(names.Size()))
		return
	}
	m.names.mu.Lock()
	defer m.names.mu.Unlock()
	s := m.names.shared[names.Hash()]
	if s == nil || s.names != names {
		m.used.Add(-int64(names.Size()))
		return
	}
	if s.users--; s.users == 0 {
		delete(m.names.shared, names.Hash())
		m.used.Add(-int64(names.Size()))
	}
}

// cell is a roster of the partition that is in memory. It is while a message in
// memory uses it, or it is dirty.
type cell struct {
	roster *projections.Roster
	// keepUntil is as in StoredRoster; extended says that it is later than stored.
	keepUntil int64
	extended  bool
	dirty     bool
	users     int // entries
	size      int // as counted in Memory, without the names
	// conversation is that of the latest message: messages of a group share it.
	conversation string
}

const (
	cellSize = 160
	// keepLonger is for how many hours more than needed a roster is kept, so that
	// it is not written again in each hour that has a message of it.
	keepLonger = 24
	// maxRecent is how many conversations are remembered with their roster.
	maxRecent = 4096
	// largeRoster is from how many people on a roster is shared between partitions,
	// and looked for by its conversation: for less it takes longer than it saves.
	largeRoster = 64
)

// rosterSet is the rosters of a partition that are in memory. The partition's mu
// guards it.
type rosterSet struct {
	memory  *Memory
	cells   map[projections.RosterRef]*cell
	dirty   []*cell
	recent  map[string]*cell
	matcher projections.Matcher
}

func newRosterSet(memory *Memory) rosterSet {
	return rosterSet{memory: memory, cells: make(map[projections.RosterRef]*cell), recent: make(map[string]*cell)}
}

// insert takes a roster that is not in memory.
func (s *rosterSet) insert(r *projections.Roster, keepUntil int64) *cell {
	r.Names = s.memory.shareNames(r.Names)
	c := &cell{roster: r, keepUntil: keepUntil, size: cellSize + r.Size()}
	s.memory.used.Add(int64(c.size))
	s.cells[r.Ref] = c
	return c
}

// use is told that one more entry uses the roster, sent in this conversation.
func (s *rosterSet) use(c *cell, m *projections.Message) {
	c.users++
	if c.conversation == m.ConversationID {
		m.ConversationID = c.conversation
		return
	}
	c.conversation = m.ConversationID
	if c.roster.Names.Len() < largeRoster {
		return
	}
	if len(s.recent) >= maxRecent {
		clear(s.recent)
	}
	s.recent[c.conversation] = c
}

// extend makes sure that the roster is kept for a message of this hour, and
// reports whether it has to be stored for that.
func (s *rosterSet) extend(c *cell, hour int64) bool {
	if hour <= c.keepUntil {
		return false
	}
	c.keepUntil, c.extended = hour+keepLonger, true
	if c.dirty {
		return false
	}
	c.dirty = true
	s.dirty = append(s.dirty, c)
	return true
}

// unuse is the reverse of use; c may be nil.
func (s *rosterSet) unuse(c *cell) {
	if c == nil {
		return
	}
	c.users--
	s.tidy(c)
}

// tidy lets go of a roster that nothing holds in memory.
func (s *rosterSet) tidy(c *cell) {
	if c.users > 0 || c.dirty {
		return
	}
	delete(s.cells, c.roster.Ref)
	if s.recent[c.conversation] == c {
		delete(s.recent, c.conversation)
	}
	s.memory.used.Add(-int64(c.size))
	s.memory.releaseNames(c.roster.Names)
}

// settled is told that the dirty rosters are stored.
func (s *rosterSet) settled(stored []*cell) {
	for _, c := range stored {
		c.dirty, c.extended = false, false
		s.tidy(c)
	}
}

// Roster is the fold's way to the roster of a message that it is about to create.
func (m *messages) Roster(e *events.MessageSent) (*projections.Roster, error) {
	s := &m.hot.rosters
	// One that was let go of may still be remembered for another conversation.
	if c := s.recent[string(e.ConversationID)]; c != nil && s.cells[c.roster.Ref] == c {
		m.fold.SettleRoster(c.roster)
		if c.roster.Gone() == nil && s.matcher.Match(c.roster.Names, e) {
			return c.roster, nil
		}
	}
	names := projections.NewNames(e)
	for ref := names.Hash().Ref(); ; ref = ref.Next() {
		c, err := m.cell(ref)
		if err != nil {
			return nil, err
		}
		if c == nil {
			return s.insert(projections.RestoreRoster(names, ref, m.fold.LastErasure(), nil), never).roster, nil
		}
		m.fold.SettleRoster(c.roster)
		if c.roster.Gone() == nil && c.roster.Names.Equal(names) {
			return c.roster, nil
		}
		s.tidy(c)
	}
}

// cell returns a roster in memory, from the store if need be; nil if there is
// none.
func (m *messages) cell(ref projections.RosterRef) (*cell, error) {
	if c := m.hot.rosters.cells[ref]; c != nil {
		return c, nil
	}
	stored, err := m.store.Roster(m.number, ref)
	if err != nil || stored == nil || projections.HourEnded(stored.KeepUntil, m.prunedAt) {
		return nil, err
	}
	return m.hot.rosters.insert(stored.Roster, stored.KeepUntil), nil
}

// loaded makes a message that came from the store ready, under mu, with the
// roster that other messages have.
func (m *messages) loaded(message *projections.Message, ref projections.RosterRef) (*entry, error) {
	var c *cell
	if message.Crowd == nil {
		var err error
		if c, err = m.cell(ref); err == nil && c == nil {
			err = fmt.Errorf("%w: message %q: its roster %016x is missing", ErrCorrupt, message.ID, uint64(ref))
		}
		if err != nil {
			return nil, err
		}
		message.Roster = c.roster
	}
	if err := message.Rebuild(); err != nil {
		if c != nil {
			m.hot.rosters.tidy(c)
		}
		return nil, fmt.Errorf("%w: message %q: %w", ErrCorrupt, message.ID, err)
	}
	e := m.hot.load(message, c)
	m.settle(e)
	return e, nil
}

// settle settles a message in memory.
func (m *messages) settle(e *entry) {
	if m.fold.Settled(e.message) {
		return
	}
	if m.fold.Settle(e.message) {
		m.hot.changed(e.message)
	}
}
