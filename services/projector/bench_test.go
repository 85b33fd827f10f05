package projector

import (
	"context"
	"fmt"
	"testing"

	"github.com/seenby/seenby/services/contract"
)

// pullOf is a parsed pull of a message with so many readers.
func pullOf(tb testing.TB, readers int, params string, tagged bool) (*chat, *contract.Pull) {
	c := newChat(tb)
	var people []string
	for i := range readers + 1 {
		people = append(people, fmt.Sprintf("reader-%06d", i))
	}
	c.send("m1", people...)
	c.read("m1", people[:readers]...)
	pull, problem := contract.ParsePull("m1", params, nil, c.keys)
	if problem != nil {
		tb.Fatal(problem)
	}
	if tagged {
		pull.IfNoneMatch = []string{c.version("m1", c.next)}
	}
	return c, pull
}

// TestPullAllocations holds what a pull costs in this process: it must not grow
// with the readers that it lists.
func TestPullAllocations(t *testing.T) {
	for _, k := range []struct {
		name    string
		readers int
		tagged  bool
		most    float64
	}{{"not modified", 100, true, 10}, {"few readers", 3, false, 12}, {"many readers", 2000, false, 12}} {
		c, pull := pullOf(t, k.readers, "limit=2000", k.tagged)
		got := testing.AllocsPerRun(100, func() {
			if _, _, problem := c.answers.receipts(context.Background(), c, pull, alice); problem != nil {
				t.Fatal(problem)
			}
		})
		if got > k.most {
			t.Errorf("%s: %v allocations, at most %v", k.name, got, k.most)
		}
	}
}

func BenchmarkPull(b *testing.B) {
	for _, k := range []struct {
		name    string
		readers int
		tagged  bool
	}{{"not-modified", 100, true}, {"3-readers", 3, false}, {"200-readers", 200, false}, {"2000-readers", 2000, false}} {
		b.Run(k.name, func(b *testing.B) {
			c, pull := pullOf(b, k.readers, "limit=2000", k.tagged)
			b.ReportAllocs()
			for b.Loop() {
				if _, _, problem := c.answers.receipts(context.Background(), c, pull, alice); problem != nil {
					b.Fatal(problem)
				}
			}
		})
	}
}
