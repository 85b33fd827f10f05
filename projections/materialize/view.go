package materialize

import (
	"fmt"
	"slices"

	"github.com/seenby/seenby/projections"
)

// View is a message as of a position.
type View struct {
	// Message stays as it is for good; it may be expired. It is the zero Message
	// unless Found.
	Message  projections.Message
	Found    bool
	Position int64
}

// View returns a message as of the partition's position, from the store if it is
// not hot.
func (p *Partition) View(id []byte) (View, error) {
	// A message that is loaded without mu may be changed, flushed and evicted
	// meanwhile: then what was loaded is old, and it is loaded again.
	for range 3 {
		v, hot, forgotten := p.viewHot(id)
		if hot {
			return v, nil
		}
		m, err := p.store.Message(p.number, id)
		if err != nil {
			return View{}, fmt.Errorf("partition %d: %w", p.number, err)
		}
		if v, ok := p.viewLoaded(id, m, forgotten); ok {
			p.memory.shrink()
			return v, nil
		}
	}
	return p.viewLocked(id)
}

// viewHot looks in memory. Where the message is not hot, it says how often such
// a message was forgotten so far.
func (p *Partition) viewHot(id []byte) (v View, hot bool, forgotten uint32) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.fold == nil {
		return View{Position: Nowhere}, true, 0
	}
	if e := p.hot.find(id); e != nil {
		return p.viewOf(e.message), true, 0
	}
	return View{}, false, *p.hot.forgottenOf(string(id))
}

// viewLoaded takes what the store returned, unless it may be old.
func (p *Partition) viewLoaded(id []byte, m *projections.Message, forgotten uint32) (View, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stats.Loads++
	if e := p.hot.find(id); e != nil {
		return p.viewOf(e.message), true
	}
	if *p.hot.forgottenOf(string(id)) != forgotten {
		return View{}, false
	}
	if m == nil || HourEnded(Hour(m.SentAt), p.prunedAt) {
		return p.viewOf(nil), true
	}
	return p.viewOf(p.hot.load(m).message), true
}

// viewLocked is for a message that is forgotten again and again: it keeps
// Apply out while it reads the store.
func (p *Partition) viewLocked(id []byte) (View, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m, err := (*messages)(p).Message(id)
	if err != nil {
		return View{}, fmt.Errorf("partition %d: %w", p.number, err)
	}
	return p.viewOf(m), nil
}

func (p *Partition) viewOf(m *projections.Message) View {
	v := View{Position: p.fold.Checkpoint().Position}
	if m != nil {
		v.Message, v.Found = *m, true
	}
	return v
}

// Undecodable returns the latest undecodable and misplaced records, by offset,
// and how many there were since the log's start.
func (p *Partition) Undecodable() ([]Undecodable, int64, error) {
	for {
		total, recent, flushes := p.recentUndecodable()
		kept, err := p.store.Undecodable(p.number)
		if err != nil {
			return nil, 0, fmt.Errorf("partition %d: %w", p.number, err)
		}
		if p.Stats().Flushes != flushes {
			continue // some may be both in recent and in kept
		}
		// A commit that is not settled yet may have stored the recent ones.
		if len(recent) > 0 {
			kept = slices.DeleteFunc(kept, func(u Undecodable) bool { return u.Offset >= recent[0].Offset })
		}
		all := append(kept, recent...)
		return all[max(0, len(all)-MaxUndecodable):], total, nil
	}
}

func (p *Partition) recentUndecodable() (total int64, recent []Undecodable, flushes int64) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.total, slices.Clone(p.undecodable), p.stats.Flushes
}
