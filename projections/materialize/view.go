package materialize

import (
	"fmt"
	"slices"

	"github.com/seenby/seenby/projections"
)

// View is a message as of a position.
type View struct {
	// Message stays as it is for good; it may be expired. It is the zero Message
	// unless Found. Its receipts are whole if they were asked for.
	Message  projections.Message
	Found    bool
	Position int64
}

// View returns a message as of the partition's position, from the store if it is
// not hot; with its receipts if these are wanted.
func (p *Partition) View(id []byte, receipts bool) (View, error) {
	// What is loaded without mu may be changed, flushed and evicted meanwhile: then
	// it is old, and loaded again.
	for range 3 {
		v, done, forgotten := p.viewHot(id, receipts)
		if done {
			return v, nil
		}
		var ok bool
		var err error
		if v.Found {
			v, ok, err = p.viewChunks(id, v)
		} else {
			v, ok, err = p.viewLoaded(id, receipts, forgotten)
		}
		if err != nil {
			return View{}, fmt.Errorf("partition %d: %w", p.number, err)
		}
		if ok {
			p.memory.shrink()
			return v, nil
		}
	}
	return p.viewLocked(id, receipts)
}

// viewHot looks in memory. It is not done if the message is not hot, and then says
// how often such a message was forgotten so far; if it has to be settled; or if
// its receipts are wanted and not whole: then v is what there is.
func (p *Partition) viewHot(id []byte, receipts bool) (v View, done bool, forgotten uint32) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.fold == nil {
		return View{Position: Nowhere}, true, 0
	}
	e := p.hot.find(id)
	if e == nil {
		return View{}, false, *p.hot.forgottenOf(string(id))
	}
	if !p.fold.Settled(e.message) {
		return View{}, false, 0
	}
	v = p.viewOf(e)
	return v, !receipts || v.Message.Receipts.Whole(), 0
}

// viewChunks adds the chunks that a hot message's receipts lack, unless the
// message became another meanwhile.
func (p *Partition) viewChunks(id []byte, v View) (View, bool, error) {
	missing := v.Message.Receipts.Dropped()
	stored, err := p.store.Chunks(p.number, id, missing)
	if err != nil {
		return View{}, false, err
	}
	if len(stored) != missing {
		return View{}, false, nil
	}
	chunks, err := v.Message.CountChunks(stored)
	if err != nil {
		return View{}, false, fmt.Errorf("%w: message %q: %w", ErrCorrupt, id, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stats.Loads++
	e := p.hot.entries[string(id)]
	if e == nil || e.message.Sent != v.Message.Sent || e.message.Recalled || !p.fold.Settled(e.message) {
		return View{}, false, nil
	}
	switch e.message.Receipts.Dropped() {
	case missing:
		e.message.Receipts.Restore(chunks)
		p.hot.resize(e)
		p.hot.count()
	case 0:
	default:
		return View{}, false, nil
	}
	e.whole = true
	return p.viewOf(e), true, nil
}

// viewLoaded takes what the store returns, unless it may be old.
func (p *Partition) viewLoaded(id []byte, receipts bool, forgotten uint32) (View, bool, error) {
	m, ref, err := p.store.Message(p.number, id)
	if err != nil {
		return View{}, false, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stats.Loads++
	if e := p.hot.find(id); e != nil {
		(*messages)(p).settle(e)
		v := p.viewOf(e)
		return v, !receipts || v.Message.Receipts.Whole(), nil
	}
	if *p.hot.forgottenOf(string(id)) != forgotten {
		return View{}, false, nil
	}
	if m == nil || projections.HourEnded(projections.Hour(m.SentAt), p.prunedAt) {
		return p.viewOf(nil), true, nil
	}
	return p.viewFresh(m, ref)
}

// viewFresh takes a message that was just loaded, with all its receipts.
func (p *Partition) viewFresh(m *projections.Message, ref projections.RosterRef) (View, bool, error) {
	e, err := (*messages)(p).loaded(m, ref)
	if err != nil {
		return View{}, false, err
	}
	e.whole = true
	p.hot.count()
	return p.viewOf(e), true, nil
}

// viewLocked is for a message that is forgotten again and again: it keeps
// Apply out while it reads the store.
func (p *Partition) viewLocked(id []byte, receipts bool) (View, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, err := (*messages)(p).entry(id)
	if err == nil && e != nil && receipts {
		err = (*messages)(p).whole(e)
	}
	if err != nil {
		return View{}, fmt.Errorf("partition %d: %w", p.number, err)
	}
	return p.viewOf(e), nil
}

// whole reads, under mu, the chunks that a hot message lacks.
func (m *messages) whole(e *entry) error {
	missing := e.message.Receipts.Dropped()
	if missing == 0 {
		return nil
	}
	stored, err := m.store.Chunks(m.number, []byte(e.message.ID), missing)
	if err == nil && len(stored) != missing {
		err = fmt.Errorf("%w: message %q: chunks are missing", ErrCorrupt, e.message.ID)
	}
	if err != nil {
		return err
	}
	chunks, err := e.message.CountChunks(stored)
	if err != nil {
		return fmt.Errorf("%w: message %q: %w", ErrCorrupt, e.message.ID, err)
	}
	e.message.Receipts.Restore(chunks)
	m.hot.resize(e)
	e.whole = true
	return nil
}

func (p *Partition) viewOf(e *entry) View {
	v := View{Position: p.fold.Checkpoint().Position}
	if e != nil {
		v.Message, v.Found = e.message.Snapshot(), true
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
