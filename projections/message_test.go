package projections_test

import (
	"slices"
	"testing"

	"github.com/seenby/seenby/projections"
)

// A copy that a pull was given stays as it is while the fold goes on, also when
// the fold appends to the same memory or takes everything away.
func TestACopyOfAMessageStaysAsItIs(t *testing.T) {
	for name, group := range groups {
		t.Run(name, func(t *testing.T) {
			p, receipts := crowdOf(t, group)
			type snapshot struct {
				copy     projections.Message
				receipts []projections.Receipt
				readers  []string
			}
			var taken []snapshot
			for i, rec := range receipts[:100] {
				if _, err := p.apply(receipts[i : i+1]); err != nil {
					t.Fatal(err)
				}
				m := p.messages[string(rec.Key)]
				taken = append(taken, snapshot{*m, slices.Clone(m.Receipts), slices.Clone(m.Readers)})
			}
			log := &story{p: p}
			if out, err := log.log("1h recall " + string(receipts[0].Key)); err != nil || out != "101 recalled\n" {
				t.Fatal(out, err)
			}
			for i, s := range taken {
				if s.copy.Recalled || s.copy.Version != int64(i)+2 || s.copy.ReadCount() != i+1 ||
					!slices.Equal(s.copy.Receipts, s.receipts) || !slices.Equal(s.copy.Readers, s.readers) {
					t.Fatalf("the copy after %d receipts changed", i+1)
				}
				for j, r := range s.copy.Receipts {
					if s.copy.Reader(r) != longID("reader", j) {
						t.Fatalf("receipt %d of the copy is of %s", j, s.copy.Reader(r))
					}
				}
			}
		})
	}
}

func TestSizeGrowsWithWhatAMessageHolds(t *testing.T) {
	for name, group := range groups {
		t.Run(name, func(t *testing.T) {
			p, receipts := crowdOf(t, group)
			m := p.messages[string(receipts[0].Key)]
			before := m.Size()
			if _, err := p.apply(receipts); err != nil {
				t.Fatal(err)
			}
			if grown := m.Size() - before; grown < len(receipts)*24 {
				t.Errorf("%d receipts grew the message by %d bytes", len(receipts), grown)
			}
		})
	}
}
