package broker_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/seenby/seenby/services/standalone/broker"
)

// everything is an applied position past any record.
const everything = 1 << 40

func TestRetain(t *testing.T) {
	second := func(s int) time.Time { return time.Unix(int64(s), 0) }
	for _, c := range []struct {
		name    string
		times   []int // of the records, in seconds
		before  int
		applied int64
		start   int64
	}{
		{name: "nothing is old", times: []int{10, 11, 12}, before: 10, applied: everything, start: 0},
		{name: "the older go", times: []int{10, 11, 12, 13}, before: 12, applied: everything, start: 2},
		{name: "an old one after a newer stays", times: []int{10, 15, 11, 16}, before: 12, applied: everything, start: 1},
		{name: "the last record stays", times: []int{10, 11, 12}, before: 100, applied: everything, start: 2},
		{name: "what is not applied stays", times: []int{10, 11, 12, 13}, before: 100, applied: 1, start: 1},
		{name: "an empty partition", before: 100, applied: everything, start: 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := start(t, t.TempDir())
			cl := client(t, b)
			create(t, cl, 1)
			for i, s := range c.times {
				produce(t, cl, i, second(s))
			}
			r := broker.Retention{Topic: topic, Before: second(c.before), Applied: map[int32]int64{0: c.applied}}
			deleted, err := b.Retain(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			if got := startOf(t, cl); deleted != c.start || got != c.start {
				t.Errorf("%d deleted, the log starts at %d, want %d", deleted, got, c.start)
			}
			if deleted, err = b.Retain(t.Context(), r); deleted != 0 || err != nil {
				t.Errorf("again: %d, %v", deleted, err)
			}
		})
	}
}

func TestRetainLeavesOtherPartitions(t *testing.T) {
	b := start(t, t.TempDir())
	cl := client(t, b, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	create(t, cl, 2)
	for i := range 4 {
		produce(t, cl, i, time.Unix(1, 0))
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Partition: 1, Timestamp: time.Unix(1, 0)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	r := broker.Retention{Topic: topic, Before: time.Unix(9, 0), Applied: map[int32]int64{1: everything}}
	if deleted, err := b.Retain(t.Context(), r); deleted != 3 || err != nil {
		t.Errorf("%d, %v", deleted, err)
	}
	if got := startOf(t, cl); got != 0 {
		t.Errorf("partition 0 starts at %d", got)
	}
	r.Applied[7] = 1
	if _, err := b.Retain(t.Context(), r); err == nil {
		t.Error("retained a partition that does not exist")
	}
}

// TestOffsetsGoOnAfterRetention deletes all that may be deleted and restarts, in
// order and by kill: the next record still gets the next offset, and what was
// left is still read.
func TestOffsetsGoOnAfterRetention(t *testing.T) {
	for _, clean := range []bool{true, false} {
		t.Run(fmt.Sprintf("clean=%t", clean), func(t *testing.T) {
			dir := t.TempDir()
			b := start(t, dir)
			create(t, client(t, b), 1)
			for round := range 5 {
				cl := client(t, b, kgo.RecordPartitioner(kgo.ManualPartitioner()))
				for i := range 3 {
					produce(t, cl, round*3+i, time.Unix(int64(round), 0))
				}
				r := broker.Retention{Topic: topic, Before: time.Unix(1000, 0), Applied: map[int32]int64{0: everything}}
				if _, err := b.Retain(t.Context(), r); err != nil {
					t.Fatal(err)
				}
				if got, want := startOf(t, cl), int64(round*3+2); got != want {
					t.Fatalf("round %d: the log starts at %d, want %d", round, got, want)
				}
				cl.Close()
				if clean {
					b.Close()
				} else {
					// As after a kill: what is on disk now, without what Close writes.
					dir = copyOf(t, dir)
				}
				b = start(t, dir)
			}
		})
	}
}

// produce writes one record to partition 0 and holds it to its offset.
func produce(t *testing.T, cl *kgo.Client, offset int, at time.Time) {
	t.Helper()
	r := &kgo.Record{Value: fmt.Append(nil, offset), Timestamp: at}
	if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if r.Offset != int64(offset) {
		t.Fatalf("record %d got offset %d", offset, r.Offset)
	}
}

func startOf(t *testing.T, cl *kgo.Client) int64 {
	t.Helper()
	starts, err := kadm.NewClient(cl).ListStartOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	o, _ := starts.Lookup(topic, 0)
	return o.Offset
}

func copyOf(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}
