package bench

import "testing"

// TestDelayResult leaves out what came while it was warming up, and counts what
// was fetched before its acknowledgement as 0.
func TestDelayResult(t *testing.T) {
	d := delaying{task: &delayTask{Rate: 200, Batch: 100, Warm: 1}, watched: make([]watched, 4)}
	for i, at := range [][3]int64{{0, 500, 900}, {0, 500, 900}, {100, 130, 150}, {200, 290, 280}} {
		d.watched[i].produced.Store(at[0] * 1e6)
		d.watched[i].acked.Store(at[1] * 1e6)
		d.watched[i].fetched.Store(at[2] * 1e6)
	}
	got := d.result(7)
	want := RawDelay{Fetch: Latency{Samples: 2, P50: 50, P99: 80, Max: 80}, AckToFetch: Latency{Samples: 2, P50: 0, P99: 20, Max: 20}, Rate: 7}
	if got != want {
		t.Errorf("%+v, not %+v", got, want)
	}
}
