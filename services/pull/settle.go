package pull

import (
	"fmt"
	"time"
)

// backOffs are the pauses after failures in a row; the last one repeats.
var backOffs = []time.Duration{2 * time.Second, 4 * time.Second, 8 * time.Second}

// item is what a request for a message presents.
type item struct {
	id, version string
	// positions are presented to the first page; presented says that others were
	// by earlier pulls.
	positions []string
	presented bool
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

// answer is what came of an item.
type answer struct {
	verdict verdict
	err     error

	// unchanged: the version is still the current one. Else message and readers
	// are the answer, all pages of it.
	unchanged bool
	message   wireMessage
	readers   []Reader

	// spent is how many of the item's positions need not be presented again;
	// presented says that the server took them into account.
	spent     int
	presented bool
	// afresh: the server does not know the version that was presented.
	afresh bool

	poll   poll
	polled bool
	lag    time.Duration
	wait   time.Duration
	bytes  int64
}

// notBefore is when the trip's request may go out: an interval after the last
// one for its message. A tick looks at when pulls began; the requests of a batch
// follow one another, and one that was late in the last batch may be early in
// this one.
func (s *schedule) notBefore(t *trip) time.Duration {
	if m := t.message; m.pulled {
		return m.requestedAt + s.interval
	}
	return 0
}

// wanted says whether a request for the trip may go out now.
func (s *schedule) wanted(t *trip, now time.Duration) bool {
	m := t.message
	return m.trip == t && m.look != nil && now >= s.quiet && now <= m.look.start+s.window
}

// board begins the trip's part of the flight. It returns what to request, or
// false if nothing is to be.
func (s *schedule) board(t *trip, now time.Duration) (item, bool) {
	m := t.message
	if !s.wanted(t, now) {
		return item{}, false
	}
	m.pulled, m.pulledAt, m.requestedAt = true, s.flight.start, now
	m.pulls++
	s.change(m)
	it := item{id: m.id, presented: m.presented}
	if !m.afresh {
		it.version = m.set.message.Version
	}
	it.positions = append(it.positions, m.positions[:min(len(m.positions), maxPositions)]...)
	return it, true
}

// settle takes the answer to a trip.
func (s *schedule) settle(t *trip, a *answer, now time.Duration) {
	s.pace(a, now)
	m := t.message
	if m.trip == t {
		m.bytes += a.bytes
		m.positions = m.positions[a.spent:]
		m.presented = m.presented || a.presented
		s.change(m)
		s.judge(m, a)
		m.trip = nil
	}
}

// pace takes what an answer says to the client as a whole, whoever waits for it.
func (s *schedule) pace(a *answer, now time.Duration) {
	switch a.verdict {
	case dropped:
		return
	case delayed:
		s.quiet = max(s.quiet, now+stretched(a.wait, s.random()))
		return
	case broken:
		s.quiet = max(s.quiet, now+backOffs[min(s.failures, len(backOffs)-1)])
		s.failures++
		return
	case unauthorized:
		s.endAll(Failed, a.err)
	}
	s.failures = 0
	if a.polled {
		s.adopt(a.poll)
	}
}

// adopt takes a new interval and window. Of the answers to one batch, the most
// sparing counts: a server that is under load is one of several.
func (s *schedule) adopt(p poll) {
	more := s.flight.polled
	if p.interval > 0 && (!more || p.interval > s.interval) {
		s.interval = p.interval
	}
	if p.window > 0 && (!more || p.window < s.window) {
		s.window = p.window
	}
	s.flight.polled = true
}

// judge takes what an answer says of its message.
func (s *schedule) judge(m *watched, a *answer) {
	switch a.verdict {
	case answered:
		s.show(m, a)
	case refused:
		m.afresh = m.afresh || a.afresh
		s.end(m.look, Failed, a.err)
	case absent, delayed, broken:
		m.err = a.err
	}
}

func (s *schedule) show(m *watched, a *answer) {
	m.err, m.lag, m.afresh = nil, a.lag, false
	if a.unchanged {
		m.notModified++
	} else {
		m.set.apply(a.message, a.readers)
	}
	final := a.poll.stop
	if !a.polled {
		// Without word from the server, what it would have gone by.
		final = m.set.message.Complete || m.set.message.State == Recalled
	}
	if final {
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
	v.Pulls, v.NotModified, v.Bytes = m.pulls, m.notModified, m.bytes
	return v
}
