package bench

import (
	"math"
	"slices"
)

// median is the middle of some figures, or the mean of the two in the middle; 0 of
// none.
func median(figures []float64) float64 {
	if len(figures) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(figures))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// percentile is the least of some sorted figures that p of a hundred of them do
// not exceed; 0 of none.
func percentile(sorted []float64, p float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(0, int(math.Ceil(p/100*float64(len(sorted))))-1)]
}

// Latency is how long something took, in milliseconds.
type Latency struct {
	Samples int     `json:"samples"`
	P50     float64 `json:"p50_ms"`
	P99     float64 `json:"p99_ms"`
	Max     float64 `json:"max_ms"`
}

func latencyOf(milliseconds []float64) Latency {
	sorted := slices.Sorted(slices.Values(milliseconds))
	return Latency{Samples: len(sorted), P50: percentile(sorted, 50), P99: percentile(sorted, 99), Max: percentile(sorted, 100)}
}

// medianLatency takes the median of each figure over some runs.
func medianLatency(runs []Latency) Latency {
	of := func(figure func(Latency) float64) float64 {
		figures := make([]float64, len(runs))
		for i, l := range runs {
			figures[i] = figure(l)
		}
		return median(figures)
	}
	return Latency{
		Samples: int(of(func(l Latency) float64 { return float64(l.Samples) })),
		P50:     of(func(l Latency) float64 { return l.P50 }),
		P99:     of(func(l Latency) float64 { return l.P99 }),
		Max:     of(func(l Latency) float64 { return l.Max }),
	}
}
