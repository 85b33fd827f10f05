package pull

import (
	"fmt"
	"slices"
	"time"
)

// backOffs are the pauses after failures in a row; the last one repeats.
var backOffs = []time.Duration{2 * time.Second, 4 * time.Second, 8 * time.Second}

// item is what is presented for a message.
type item struct {
	id, version string
}

// ask is what a batch asks for.
type ask struct {
	items []item
	// positions are presented for all of them, maxPositions at most.
	positions []string
}

// verdict is what an answer means to the looks.
type verdict int

const (
	// answered: by a set, or by the news that there is none.
	answered verdict = iota
	// dropped: no longer waited for; nothing follows from it.
	dropped
	// absent: the message may not be there yet.
	absent
	// failed: the message is not answered this time.
	failed
	// refused: the look ends.
	refused
	// unauthorized: every look ends, as they share the token.
	unauthorized
	// delayed: nothing is requested for as long as the server says.
	delayed
	// broken: no answer, or none that the contract knows; nothing is requested
	// for a while.
	broken
)

// outcome is what a request came to, for all that it was for.
type outcome struct {
	verdict verdict
	err     error
	wait    time.Duration
}

// batchAnswer is what came of a batch.
type batchAnswer struct {
	outcome
	// answers are those of the items, in their order, if it was answered at all, or
	// refused because of some of them.
	answers []*answer
	// presented are the positions that the server took into account, and gone says
	// that it refused them, so that they need not be presented again.
	presented []string
	gone      bool
	poll      poll
	polled    bool
	lag       time.Duration
}

// answer is what came of one message.
type answer struct {
	outcome
	// unchanged: the version is still the current one. Else message and readers
	// are the answer; next is where it goes on, or empty.
	unchanged bool
	message   wireMessage
	readers   []Reader
	next      string
	// afresh: the server does not know the version that was presented.
	afresh bool
	bytes  int64
}

// continued is a message whose set goes on with further pages.
type continued struct {
	trip  *trip
	item  item
	first *answer
}

// wanted says whether a request for the trip may go out now.
func (s *schedule) wanted(t *trip, now time.Duration) bool {
	m := t.message
	return m.trip == t && m.look != nil && now >= s.quiet && now <= m.look.start+s.window
}

// board begins a flight. It returns what to ask for, or false if nothing is to be.
func (s *schedule) board(f *flight, now time.Duration) (ask, bool) {
	a, ok := s.manifest(f, now)
	for _, t := range f.trips {
		m := t.message
		m.pulled, m.pulledAt = true, now
		m.pulls++
		s.change(m)
	}
	return a, ok
}

// manifest leaves a flight the trips that are still wanted, and returns what to ask
// for, or false if there are none.
func (s *schedule) manifest(f *flight, now time.Duration) (ask, bool) {
	f.trips = slices.DeleteFunc(f.trips, func(t *trip) bool {
		void := !s.wanted(t, now)
		if void && t.message.trip == t {
			t.message.trip = nil
		}
		return void
	})
	var a ask
	for _, t := range f.trips {
		m := t.message
		it := item{id: m.id}
		if !m.afresh {
			it.version = m.set.message.Version
		}
		a.items = append(a.items, it)
		for _, p := range m.positions {
			if len(a.positions) < maxPositions && !slices.Contains(a.positions, p) {
				a.positions = append(a.positions, p)
			}
		}
	}
	return a, len(a.items) > 0
}

// settleBatch takes the answer to a flight's batch. It returns the messages whose
// sets go on; the others' trips are over.
func (s *schedule) settleBatch(f *flight, b *batchAnswer, now time.Duration) (more []*continued) {
	s.pace(b.outcome, now)
	if b.polled {
		s.adopt(b.poll)
	}
	for i, t := range f.trips {
		m := t.message
		if m.trip != t {
			continue
		}
		a := &answer{outcome: b.outcome}
		if b.answers != nil {
			a = b.answers[i]
		}
		m.lag = b.lag
		s.present(m, b, a)
		if a.verdict == answered && a.next != "" {
			m.bytes += a.bytes
			more = append(more, &continued{trip: t, item: item{m.id, m.set.message.Version}, first: a})
			continue
		}
		s.conclude(t, a)
	}
	return more
}

// present notes which of a message's positions need not be presented again. A
// message that is not there although a position of its own was presented will not
// come.
func (s *schedule) present(m *watched, b *batchAnswer, a *answer) {
	if a.verdict != answered && a.verdict != absent && !b.gone {
		return
	}
	before := len(m.positions)
	m.positions = slices.DeleteFunc(m.positions, func(p string) bool { return slices.Contains(b.presented, p) })
	m.presented = m.presented || len(m.positions) < before && !b.gone
	if a.verdict == absent && m.presented {
		a.verdict = refused
	}
}

// settle takes the answer to a trip that went on after the batch.
func (s *schedule) settle(t *trip, a *answer, now time.Duration) {
	s.pace(a.outcome, now)
	if t.message.trip == t {
		s.conclude(t, a)
	}
}

// conclude ends a trip that is still waited for.
func (s *schedule) conclude(t *trip, a *answer) {
	m := t.message
	m.bytes += a.bytes
	s.change(m)
	s.judge(m, a)
	m.trip = nil
}

// pace takes what an answer says to the client as a whole, whoever waits for it.
func (s *schedule) pace(o outcome, now time.Duration) {
	switch o.verdict {
	case dropped:
		return
	case delayed:
		s.quiet = max(s.quiet, now+stretched(o.wait, s.random()))
		return
	case broken:
		s.quiet = max(s.quiet, now+backOffs[min(s.failures, len(backOffs)-1)])
		s.failures++
		return
	case unauthorized:
		s.endAll(Failed, o.err)
	case answered, absent, failed, refused:
	}
	s.failures = 0
}

// adopt takes a new interval and window, which apply to running looks too.
func (s *schedule) adopt(p poll) {
	if p.interval > 0 {
		s.interval = p.interval
	}
	if p.window > 0 {
		s.window = p.window
	}
}

// judge takes what an answer says of its message.
func (s *schedule) judge(m *watched, a *answer) {
	switch a.verdict {
	case answered:
		s.show(m, a)
	case refused:
		m.afresh = m.afresh || a.afresh
		s.end(m.look, Failed, a.err)
	case absent, failed, delayed, broken:
		m.err = a.err
	case dropped, unauthorized:
	}
}

func (s *schedule) show(m *watched, a *answer) {
	m.err, m.afresh = nil, false
	if a.unchanged {
		m.unchanged++
	} else {
		m.set.apply(a.message, a.readers)
	}
	if m.set.message.Complete || m.set.message.State == Recalled {
		s.end(m.look, Stopped, nil)
	}
}

// land ends the flight. Trips that were not made are void.
func (s *schedule) land() {
	for _, t := range s.flight.trips {
		if t.message.trip == t {
			t.message.trip = nil
		}
	}
	s.flight = nil
}

// view returns the view of the message of that ID.
func (s *schedule) view(id string) View {
	m := s.messages[id]
	if m == nil {
		return View{MessageID: id}
	}
	v := m.set.view(id)
	v.Lag, v.Looking, v.Ended = m.lag, m.look != nil, m.ended
	if m.err != nil {
		v.Err = fmt.Errorf("pull of message %q: %w", id, m.err)
	}
	v.Pulls, v.Unchanged, v.Bytes = m.pulls, m.unchanged, m.bytes
	return v
}
