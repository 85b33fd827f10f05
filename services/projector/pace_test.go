package projector

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/seenby/seenby/services/contract"
)

func TestPace(t *testing.T) {
	p := newPollPace(contract.Poll{Interval: 2 * time.Second, Window: 20 * time.Second}, 8*time.Second)
	is := func(want string) {
		t.Helper()
		if got := p.now().text; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	repeat := func(n int, busy float64) {
		for range n {
			p.sample(busy)
		}
	}
	is("interval=2000, window=20000")
	repeat(100, 0.7)
	is("interval=2000, window=20000")
	p.sample(0.9)
	is("interval=2500, window=20000")
	p.sample(1)
	is("interval=3100, window=20000")
	repeat(100, 1.01)
	is("interval=8000, window=20000")
	repeat(100, 0.7) // between the two it stays
	is("interval=8000, window=20000")
	p.sample(0.1)
	is("interval=7300, window=20000")
	repeat(100, 0)
	is("interval=2000, window=20000")
}

// TestPaceOfOddInterval: an interval that is not a multiple of the steps is the least
// all the same.
func TestPaceOfOddInterval(t *testing.T) {
	p := newPollPace(contract.Poll{Interval: 110 * time.Millisecond, Window: 20 * time.Second}, 250*time.Millisecond)
	for range 100 {
		p.sample(1)
		if i := p.now().Interval; i < p.least || i > p.most {
			t.Errorf("grew to %v", i)
		}
	}
	for range 100 {
		p.sample(0)
		if i := p.now().Interval; i < p.least || i > p.most {
			t.Errorf("shrank to %v", i)
		}
	}
}

func TestCPUMeter(t *testing.T) {
	var m cpuMeter
	begun := time.Now()
	if busy := m.busy(begun); busy != 0 {
		t.Errorf("busy at first: %v", busy)
	}
	for sum := 0; time.Since(begun) < 50*time.Millisecond; sum++ {
		_ = sum
	}
	if busy := m.busy(time.Now()); cpuTime() > 0 && busy <= 0 {
		t.Errorf("busy after a loop: %v", busy)
	}
}

// TestCrowdedWaits: one too many who present what is not there are told at once.
func TestCrowdedWaits(t *testing.T) {
	c := newChat(t)
	c.send("m1", "bob")
	c.answers.wait = time.Hour
	c.answers.waits.n.Add(maxWaits)
	p := c.answers.patience(context.Background())
	defer p.end()
	if err := p.wait(c, c.next+1); !errors.Is(err, errCrowded) {
		t.Errorf("got %v", err)
	}
	if _, problem := c.answers.fresh(&p, c, c.next+1); problem == nil || problem.Code != contract.NotFresh {
		t.Errorf("got %v", problem)
	}
	if n := c.answers.waits.n.Load(); n != maxWaits {
		t.Errorf("%d wait", n-maxWaits)
	}
}
