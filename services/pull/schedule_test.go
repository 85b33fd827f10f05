package pull

import (
	"testing"
	"time"
)

func newSchedule() *schedule {
	return &schedule{
		interval: DefaultInterval, window: DefaultWindow, keep: DefaultKeep, random: func() float64 { return 0 },
		messages: make(map[string]*watched), changed: make(map[string]struct{}),
	}
}

// TestAbandonedFlight: a flight that nobody waits for takes its time to end, as
// transports do. What begins meanwhile is pulled as soon as it has ended, not at
// a tick.
func TestAbandonedFlight(t *testing.T) {
	s := newSchedule()
	s.enter("m1", nil, 0)
	f := s.step(0)
	cancelled := false
	f.cancel = func() { cancelled = true }
	if _, ok := s.board(f, 0); !ok {
		t.Fatal("the first pull is not made")
	}
	const at = 300 * time.Millisecond
	s.leave("m1", at)
	s.enter("m2", nil, at)
	if next := s.step(at); !cancelled || next != nil {
		t.Fatalf("cancelled: %t; two flights: %v", cancelled, next)
	}
	if wake, _ := s.wake(); wake <= at {
		t.Fatal("the schedule asks to be stepped at once, over and over")
	}
	// Its answer came all the same, and is for nobody.
	s.settleBatch(f, &batchAnswer{outcome: outcome{verdict: refused}}, at)
	s.land()
	if f := s.step(at + time.Millisecond); f == nil || len(f.trips) != 1 || f.trips[0].message.id != "m2" {
		t.Errorf("after the flight has landed, %v departs", f)
	}
}

// TestLateAnswer: an answer to a request that leaving has ended is not one to the
// look that has begun since, however close they are.
func TestLateAnswer(t *testing.T) {
	s := newSchedule()
	s.enter("m1", []string{"p1"}, 0)
	f := s.step(0)
	if _, ok := s.board(f, 0); !ok {
		t.Fatal("the first pull is not made")
	}
	s.leave("m1", 1)
	s.enter("m1", nil, 2)
	s.settleBatch(f, &batchAnswer{answers: []*answer{{message: wireMessage{Version: "v1", Complete: true}}}, presented: []string{"p1"}}, 3)
	s.land()
	if v := s.view("m1"); !v.Looking || v.Version != "" {
		t.Errorf("the view is %+v", v)
	}
	if positions := s.messages["m1"].positions; len(positions) != 1 {
		t.Errorf("the positions to present are %q", positions)
	}
}

// TestNothingToDo: without a look there is nothing to wake up for.
func TestNothingToDo(t *testing.T) {
	s := newSchedule()
	if at, ok := s.wake(); ok {
		t.Errorf("a new schedule wakes at %s", at)
	}
	s.enter("m1", nil, 0)
	f := s.step(0)
	s.board(f, 0)
	s.settleBatch(f, &batchAnswer{answers: []*answer{{message: wireMessage{Version: "v1", Complete: true}}}}, 0)
	s.land()
	if f := s.step(0); f != nil {
		t.Errorf("after stop, %v departs", f)
	}
	if at, ok := s.wake(); ok {
		t.Errorf("after stop, the schedule wakes at %s", at)
	}
}

// TestWokenLate: no flight is made for looks whose windows are over, as it would
// be in the way of those that begin.
func TestWokenLate(t *testing.T) {
	s := newSchedule()
	s.enter("m1", nil, 0)
	f := s.step(0)
	s.board(f, 0)
	s.settleBatch(f, &batchAnswer{answers: []*answer{{}}}, 0)
	s.land()
	if f := s.step(time.Hour); f != nil {
		t.Errorf("an hour later %v departs", f)
	}
	if v := s.view("m1"); v.Looking || v.Ended != WindowOver {
		t.Errorf("an hour later the view is %+v", v)
	}
}
