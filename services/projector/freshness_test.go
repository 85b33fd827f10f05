package projector

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/seenby/seenby/services/projector/protocol"
)

func TestFreshness(t *testing.T) {
	begin := time.Now()
	at := func(ms int) time.Time { return begin.Add(time.Duration(ms) * time.Millisecond) }
	type step struct {
		offset   int64 // of the newest end; -1: none is known
		asOf     int   // ms
		position int64
		want     int // ms; -1: never caught up
	}
	for name, steps := range map[string][]step{
		"nothing is known":            {{-1, 0, 0, -1}, {-1, 0, 100, -1}},
		"an empty log":                {{0, 5, 0, 5}, {0, 205, 0, 205}},
		"not before the end":          {{10, 5, 9, -1}, {10, 5, 10, 5}},
		"the older end counts":        {{10, 5, 0, -1}, {20, 205, 10, 5}, {30, 405, 19, 5}, {30, 405, 29, 205}, {30, 405, 30, 405}},
		"one offset, asked again":     {{10, 5, 0, -1}, {10, 205, 0, -1}, {10, 205, 10, 205}},
		"idle, and asked again":       {{10, 5, 10, 5}, {10, 205, 10, 205}},
		"nothing new is known":        {{10, 5, 10, 5}, {10, 5, 15, 5}},
		"several are passed at once":  {{10, 5, 0, -1}, {20, 205, 0, -1}, {30, 405, 25, 205}},
		"an end that went back waits": {{10, 5, 0, -1}, {8, 205, 9, -1}, {8, 205, 10, 205}},
	} {
		t.Run(name, func(t *testing.T) {
			var f freshness
			for i, s := range steps {
				got := f.note(end{s.offset, at(s.asOf)}, s.offset >= 0, s.position)
				if s.want < 0 && !got.IsZero() || s.want >= 0 && !got.Equal(at(s.want)) {
					t.Fatalf("step %d: as of %v, want %d ms", i, got.Sub(begin), s.want)
				}
			}
		})
	}
}

// TestFreshnessIsTrue: whatever the order of ends and positions, and however
// many ends come before one is reached, an end at which everything is said to be
// applied was reached.
func TestFreshnessIsTrue(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		var f freshness
		begin := time.Now()
		ends := map[time.Time]int64{}
		offset, position := int64(0), int64(0)
		for i := range 500 {
			offset += rnd.Int64N(20)
			asOf := begin.Add(time.Duration(i) * time.Millisecond)
			ends[asOf] = offset
			if rnd.IntN(10) == 0 {
				position += rnd.Int64N(offset - position + 1)
			}
			caughtUp := f.note(end{offset, asOf}, true, position)
			if !caughtUp.IsZero() && ends[caughtUp] > position {
				t.Fatalf("as of %v the log ended at %d; the position is %d", caughtUp, ends[caughtUp], position)
			}
			if len(f.pending) > maxPending {
				t.Fatalf("%d ends are kept", len(f.pending))
			}
		}
		if got := f.note(end{}, false, offset); ends[got] != offset {
			t.Fatalf("at the end it is as of %v", got)
		}
	}
}

func TestStateOf(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		caughtUp time.Time
		want     protocol.State
	}{
		{time.Time{}, protocol.Starting},
		{now, protocol.Ready},
		{now.Add(time.Second), protocol.Ready}, // clocks apart
		{now.Add(-time.Second), protocol.Ready},
		{now.Add(-time.Second - 1), protocol.Behind},
		{now.Add(-time.Second - 1).Round(0), protocol.Behind}, // without a monotonic reading
	} {
		if got := stateOf(c.caughtUp, now); got != c.want {
			t.Errorf("caught up %v ago: %s, want %s", now.Sub(c.caughtUp), got, c.want)
		}
	}
}
