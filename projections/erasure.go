package projections

// Erasure is one UserErased: the person is taken out of all that precedes it in
// its partition. The fold keeps it for as long as there may be bytes of rosters
// and messages that still name the person; until then whoever reads them takes
// the person out.
type Erasure struct {
	UserID string
	// Offset and Timestamp are the record's.
	Offset    int64
	Timestamp int64
}

// Next is the version that the erasure gives to what it changes.
func (e Erasure) Next() int64 { return e.Offset + 1 }

// Erasures are those whose people may still be named somewhere, in log order.
// They are a view into the fold, to be read until the next Apply.
func (f *Fold) Erasures() []Erasure { return f.erasures }

// LastErasure is the Next of the partition's last erasure so far, or 0.
func (f *Fold) LastErasure() int64 { return f.lastErasure }

// Settle has a message, and its roster, lose whom the erasures since it was last
// settled name. Whoever keeps messages calls it before a message is handed to the
// fold or shown. It reports whether the message itself was changed, so that it has
// to be stored again: only a count-only message ever is.
func (f *Fold) Settle(m *Message) (changed bool) {
	if m.settled >= f.lastErasure && (m.Roster == nil || m.gone == m.Roster.gone) {
		return false
	}
	if m.Roster != nil {
		f.SettleRoster(m.Roster)
		m.lose(m.Roster.gone)
	} else {
		for _, e := range f.erasures {
			if e.Next() > m.settled && e.Offset >= m.Sent {
				changed = m.takeOut(e) || changed
			}
		}
		m.Crowd.Settled = f.lastErasure
	}
	m.settled = f.lastErasure
	return changed
}

// Settled says whether Settle has nothing to do.
func (f *Fold) Settled(m *Message) bool {
	return m.settled >= f.lastErasure && (m.Roster == nil || m.gone == m.Roster.gone)
}

// SettleRoster is Settle for a roster alone; it reports whether somebody was
// taken out.
func (f *Fold) SettleRoster(r *Roster) bool {
	if r.settled >= f.lastErasure {
		return false
	}
	return r.settle(f.erasures, f.lastErasure)
}

// Forget drops the erasures up to the one whose Next this is: nothing that is
// stored names their people any more.
func (f *Fold) Forget(upTo int64) {
	kept := 0
	for kept < len(f.erasures) && f.erasures[kept].Next() <= upTo {
		f.digests.forget(f.erasures[kept])
		kept++
	}
	f.erasures = append([]Erasure(nil), f.erasures[kept:]...)
}
