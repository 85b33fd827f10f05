package projections_test

import (
	"testing"
	"time"

	"github.com/seenby/seenby/projections"
)

func someLineage() projections.Lineage {
	return projections.Lineage{
		TopicID:     [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
		Partitions:  64,
		Generation:  2,
		FoldVersion: 1,
		Limits:      projections.Limits{Waiting: 100_000},
		Retention:   30 * 24 * time.Hour,
		Skips:       []projections.Skip{{Partition: 3, Offset: 17}, {Partition: 1, Offset: 5}},
	}
}

// Versions that clients hold carry these numbers: they must not change from one
// release to the next.
func TestTheNumbersOfALineageStay(t *testing.T) {
	const wantLogID, wantLineageID = 0x7c8b303a, 0xfcf7e242
	l := someLineage()
	if l.LogID() != wantLogID || l.ID() != wantLineageID {
		t.Errorf("log %#08x, lineage %#08x; they were %#08x and %#08x", l.LogID(), l.ID(), wantLogID, wantLineageID)
	}
}

func TestEverythingInALineageCounts(t *testing.T) {
	for name, change := range map[string]struct {
		change     func(*projections.Lineage)
		anotherLog bool
	}{
		"topic":        {func(l *projections.Lineage) { l.TopicID[15]++ }, true},
		"generation":   {func(l *projections.Lineage) { l.Generation++ }, true},
		"partitions":   {func(l *projections.Lineage) { l.Partitions++ }, false},
		"fold version": {func(l *projections.Lineage) { l.FoldVersion++ }, false},
		"waiting":      {func(l *projections.Lineage) { l.Limits.Waiting++ }, false},
		"retention":    {func(l *projections.Lineage) { l.Retention += time.Millisecond }, false},
		"no skips":     {func(l *projections.Lineage) { l.Skips = nil }, false},
		"another skip": {func(l *projections.Lineage) { l.Skips[0].Offset++ }, false},
		"elsewhere":    {func(l *projections.Lineage) { l.Skips[0].Partition++ }, false},
	} {
		l := someLineage()
		change.change(&l)
		if l.ID() == someLineage().ID() {
			t.Errorf("%s: the same lineage", name)
		}
		if another := l.LogID() != someLineage().LogID(); another != change.anotherLog {
			t.Errorf("%s: another log is %v", name, another)
		}
	}
}

func TestTheOrderOfSkipsDoesNotCount(t *testing.T) {
	l := someLineage()
	l.Skips = []projections.Skip{{Partition: 1, Offset: 5}, {Partition: 3, Offset: 17}, {Partition: 1, Offset: 5}}
	if l.ID() != someLineage().ID() {
		t.Error("another lineage")
	}
	if s := l.SortedSkips(); len(s) != 2 || s[0].String() != "1@5" || s[1].String() != "3@17" {
		t.Errorf("sorted: %v", s)
	}
}

func TestASkipIsOfOnePartition(t *testing.T) {
	l := someLineage()
	for _, skip := range l.Skips {
		if !l.Skipped(skip.Partition, skip.Offset) {
			t.Errorf("%s is not skipped", skip)
		}
	}
	if l.Skipped(1, 17) || l.Skipped(3, 5) || l.Skipped(1, 6) {
		t.Error("skipped what nobody asked for")
	}
}

func TestOutcomesHaveNamesOfTheirOwn(t *testing.T) {
	seen := make(map[string]bool)
	for _, o := range projections.Outcomes() {
		if name := o.String(); name == "" || seen[name] {
			t.Errorf("outcome %d is called %q", o, name)
		} else {
			seen[name] = true
		}
	}
	if len(seen) != int(projections.Erased)+1 {
		t.Errorf("%d outcomes", len(seen))
	}
}
