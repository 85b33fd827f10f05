package pull

import (
	"errors"
	"slices"
	"time"
	"unicode/utf8"
)

// maxBatch is how many looks one pull is for: the newest.
const maxBatch = 200

var errNotUTF8 = errors.New("the message ID is not UTF-8, so that it is none")

// schedule decides what is pulled when. It knows neither clock nor network: each
// method is told the time. It is not safe for concurrent use.
//
// What holds between calls:
//   - A message has a look only while it is being read, and one at most.
//   - At most one flight exists. A message's trip is its part in that flight.
//   - If there are looks that are not newcomers, there is a tick.
type schedule struct {
	interval, window time.Duration
	// random returns numbers from 0 to below 1.
	random func() float64
	// keep is how many messages that are not being read are remembered.
	keep int

	messages map[string]*watched
	looks    []*look // oldest first
	left     uint64  // how many times a message was left

	// tick is nil while there is no look.
	tick *tick
	// quiet is the time before which nothing is requested.
	quiet time.Duration
	// failures counts the back-offs in a row.
	failures int
	flight   *flight
	totals   Totals

	// changed are the messages whose views have changed since it was last taken.
	changed map[string]struct{}
}

// watched is a message that is or was being read.
type watched struct {
	id        string
	beingRead bool
	leftAt    uint64
	look      *look
	trip      *trip

	// pulled says that pulledAt is set: when the last pull that the message was part
	// of was requested.
	pulled   bool
	pulledAt time.Duration

	// positions are those that no pull has presented with success, oldest first;
	// presented says that others were.
	positions []string
	presented bool

	// afresh: the set is to be asked for in full, as its version was refused.
	afresh bool

	set   set
	lag   time.Duration
	ended Ended
	err   error

	pulls, unchanged, bytes int64
}

// look is one stretch of being read.
type look struct {
	message *watched
	start   time.Duration
	// newcomer: it is not pulled yet, and need not wait for the tick. stretch is
	// for the interval that it may have to wait.
	newcomer bool
	stretch  float64
}

// tick is when the next batch may be pulled: a stretched interval after from.
type tick struct {
	from    time.Duration
	stretch float64
}

// flight is the pull that is under way.
type flight struct {
	trips []*trip
	// cancel ends its request, if it has come to that.
	cancel func()
}

// trip is a message's part in a flight. It is void once the message's trip is
// another or none.
type trip struct {
	message *watched
	// cancel ends the request for its pages, if it has come to that.
	cancel func()
}

// stretched adds a random part of a tenth: stretch is from 0 to below 1.
func stretched(d time.Duration, stretch float64) time.Duration {
	return d + time.Duration(stretch*float64(d)/10)
}

func (s *schedule) change(m *watched) { s.changed[m.id] = struct{}{} }

// message returns the message of that ID, which is remembered from now on.
func (s *schedule) message(id string) *watched {
	m := s.messages[id]
	if m == nil {
		m = &watched{id: id}
		s.messages[id] = m
	}
	return m
}

// enter notes that a message is being read. Staring on begins no look.
func (s *schedule) enter(id string, positions []string, now time.Duration) {
	m := s.message(id)
	for _, p := range positions {
		if p != "" && !slices.Contains(m.positions, p) {
			m.positions = append(m.positions, p)
		}
	}
	if m.beingRead {
		return
	}
	m.beingRead = true
	s.begin(m, now)
	if !utf8.ValidString(id) {
		// It cannot be asked for, and would be another in the batch.
		s.end(m.look, Failed, errNotUTF8)
	}
}

// refresh begins another look at a message that is being read. A pull that is
// under way goes on, for the new look.
func (s *schedule) refresh(id string, now time.Duration) {
	if m := s.messages[id]; m != nil && m.beingRead && utf8.ValidString(id) {
		s.begin(m, now)
	}
}

func (s *schedule) begin(m *watched, now time.Duration) {
	if m.look != nil {
		s.remove(m.look)
	}
	m.look = &look{message: m, start: now, newcomer: true, stretch: s.random()}
	m.ended, m.err = NotEnded, nil
	s.looks = append(s.looks, m.look)
	s.change(m)
}

// leave notes that a message is no longer being read, which ends its look and
// its request.
func (s *schedule) leave(id string, now time.Duration) {
	m := s.messages[id]
	if m == nil || !m.beingRead {
		return
	}
	m.beingRead = false
	s.left++
	m.leftAt = s.left
	if m.look != nil {
		s.end(m.look, Left, nil)
	}
	s.forget(now)
}

// end ends a look, and its trip. An error of nil leaves the last one standing.
func (s *schedule) end(l *look, why Ended, err error) {
	m := l.message
	s.remove(l)
	m.look, m.ended = nil, why
	if err != nil {
		m.err = err
	}
	if m.trip != nil {
		if m.trip.cancel != nil {
			m.trip.cancel()
		}
		m.trip = nil
		if !s.awaited() && s.flight.cancel != nil {
			s.flight.cancel()
		}
	}
	s.change(m)
	if len(s.looks) == 0 {
		s.tick = nil
	}
}

func (s *schedule) remove(l *look) {
	s.looks = slices.DeleteFunc(s.looks, func(other *look) bool { return other == l })
}

func (s *schedule) endAll(why Ended, err error) {
	for len(s.looks) > 0 {
		s.end(s.looks[0], why, err)
	}
}

// forget drops the message that was left first, if there are more than keep. One
// whose last pull is not an interval ago stays: it could be pulled too soon.
func (s *schedule) forget(now time.Duration) {
	var oldest *watched
	n := 0
	for _, m := range s.messages {
		if m.beingRead {
			continue
		}
		n++
		if (oldest == nil || m.leftAt < oldest.leftAt) && s.rested(m, now) {
			oldest = m
		}
	}
	if n > s.keep && oldest != nil {
		delete(s.messages, oldest.id)
	}
}

func (s *schedule) rested(m *watched, now time.Duration) bool {
	return !m.pulled || now >= m.pulledAt+s.interval
}

// step does what the time calls for. It returns the flight that is to be made now,
// or nil.
func (s *schedule) step(now time.Duration) *flight {
	due := s.due(now)
	if len(due) > 0 {
		s.depart(due, now)
	}
	for i := len(s.looks) - 1; i >= 0; i-- {
		l := s.looks[i]
		// A pull that began within the window may end after it.
		if now >= l.start+s.window && l.message.trip == nil {
			s.end(l, WindowOver, nil)
		}
	}
	if len(due) == 0 {
		return nil
	}
	return s.flight
}

// due returns the looks to pull now, the newest first, maxBatch at most.
func (s *schedule) due(now time.Duration) []*look {
	ticks := s.tick != nil && now >= s.nextTick()
	if ticks {
		// Skipped or not, the next one is an interval later.
		s.tick = &tick{from: now, stretch: s.random()}
	}
	if s.flight != nil {
		s.missed(now)
		return nil
	}
	if now < s.quiet {
		return nil
	}
	var due []*look
	for _, l := range slices.Backward(s.looks) {
		m := l.message
		switch {
		case now > l.start+s.window:
		case l.newcomer && now >= s.newcomerAt(l), ticks && (!m.pulled || now >= m.pulledAt+s.interval):
			due = append(due, l)
		}
	}
	for _, l := range due {
		l.newcomer = false
	}
	return due[:min(len(due), maxBatch)]
}

// missed makes newcomers whose time has come while a pull is in flight wait for
// the next tick. A flight that nobody waits for any more is about to end, and
// delays nobody.
func (s *schedule) missed(now time.Duration) {
	if !s.awaited() {
		return
	}
	for _, l := range s.looks {
		if l.newcomer && now >= s.newcomerAt(l) {
			l.newcomer = false
		}
	}
}

// awaited says whether a look still waits for the flight.
func (s *schedule) awaited() bool {
	return s.flight != nil && slices.ContainsFunc(s.flight.trips, func(t *trip) bool { return t.message.trip == t })
}

// newcomerAt is when a newcomer may be pulled: no sooner than an interval after
// its message's last pull, and not while nothing is requested.
func (s *schedule) newcomerAt(l *look) time.Duration {
	at := max(l.start, s.quiet)
	if m := l.message; m.pulled {
		at = max(at, m.pulledAt+stretched(s.interval, l.stretch))
	}
	return at
}

func (s *schedule) nextTick() time.Duration {
	return s.tick.from + stretched(s.interval, s.tick.stretch)
}

func (s *schedule) depart(due []*look, now time.Duration) {
	s.flight = new(flight)
	for _, l := range due {
		t := &trip{message: l.message}
		l.message.trip = t
		s.flight.trips = append(s.flight.trips, t)
	}
	// A pull of every look sets the tick, as it puts no other look off.
	if s.tick == nil || s.tick.from < now && len(due) == len(s.looks) {
		s.tick = &tick{from: now, stretch: s.random()}
	}
}

// wake returns when step is to be called next, if there is a time for it.
// Whatever else changes the schedule is to be followed by a step anyway.
func (s *schedule) wake() (at time.Duration, ok bool) {
	sooner := func(t time.Duration) {
		if !ok || t < at {
			at, ok = t, true
		}
	}
	if s.tick != nil {
		sooner(s.nextTick())
	}
	for _, l := range s.looks {
		if l.newcomer && (s.flight == nil || s.awaited()) {
			sooner(s.newcomerAt(l))
		}
		if l.message.trip == nil {
			sooner(l.start + s.window)
		}
	}
	return at, ok
}
