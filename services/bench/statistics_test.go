package bench

import "testing"

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		of   []float64
		want float64
	}{
		{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 2, 3}, 2.5},
	} {
		if got := median(c.of); got != c.want {
			t.Errorf("%v: %v", c.of, got)
		}
	}
}

func TestPercentile(t *testing.T) {
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(i + 1)
	}
	for _, c := range []struct {
		of      []float64
		p, want float64
	}{
		{nil, 50, 0}, {[]float64{7}, 99, 7}, {[]float64{7}, 0, 7},
		{hundred, 50, 50}, {hundred, 99, 99}, {hundred, 99.5, 100}, {hundred, 100, 100},
		{[]float64{1, 2, 3}, 50, 2},
	} {
		if got := percentile(c.of, c.p); got != c.want {
			t.Errorf("%v of %d: %v, not %v", c.p, len(c.of), got, c.want)
		}
	}
}

func TestLatency(t *testing.T) {
	if got, want := latencyOf([]float64{3, 1, 2}), (Latency{Samples: 3, P50: 2, P99: 3, Max: 3}); got != want {
		t.Errorf("%+v", got)
	}
	got := medianLatency([]Latency{{1, 1, 10, 100}, {3, 3, 30, 300}, {2, 2, 20, 200}})
	if want := (Latency{2, 2, 20, 200}); got != want {
		t.Errorf("%+v", got)
	}
}
