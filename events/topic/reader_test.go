package topic

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/seenby/seenby/events"
)

func discontinued(t *testing.T, err error) *Discontinued {
	t.Helper()
	var d *Discontinued
	if !errors.As(err, &d) || !errors.Is(err, ErrDiscontinued) {
		t.Fatalf("want a Discontinued, got %v", err)
	}
	if !strings.Contains(err.Error(), "build new copies under a higher --generation, given to ingest too") {
		t.Errorf("the error does not name the way out: %v", err)
	}
	return d
}

// A reader goes on exactly where another stopped, whatever the offset.
func TestReadFromExactPositions(t *testing.T) {
	onEach(t, func(t *testing.T, c *cluster) {
		conn := c.topic(t, 2)
		a := newAppender(t, AppenderConfig{Connection: conn})
		var entries []Entry
		for i := range 10 { // several to a batch, so that positions fall within
			entries = append(entries, Entry{Key: []byte("k"), Value: fmt.Append(nil, i), Partition: 1})
		}
		for range 2 {
			if _, err := a.Append(testContext(t), entries); err != nil {
				t.Fatal(err)
			}
		}
		first := follow(t, newReader(t, ReaderConfig{Connection: conn, Start: fromStart(0, 1)}))
		first.untilPosition(1, 20)
		all := first.tail(1).records
		for i, r := range all {
			if r.Offset != int64(i) || string(r.Value) != fmt.Sprint(i%10) || string(r.Key) != "k" || r.Control || r.Timestamp == 0 || r.LeaderEpoch < 0 {
				t.Errorf("record %d: %+v", i, r)
			}
		}
		if l := first.tails[0]; l != nil {
			t.Errorf("an empty partition that starts at 0 has nothing to tell: %+v", l)
		}
		for position := int64(0); position <= 20; position++ {
			start := Start{Position: position, LeaderEpoch: -1}
			if position > 0 {
				start.LeaderEpoch = all[position-1].LeaderEpoch
			}
			r := newReader(t, ReaderConfig{Connection: conn, Start: map[int32]Start{1: start}})
			f := follow(t, r)
			if position < 20 {
				f.untilPosition(1, 20)
				if got := f.tail(1).records[0].Offset; got != position {
					t.Errorf("from %d the first offset is %d", position, got)
				}
			} else {
				eventually(t, "the end is known", func() bool { _, ok := r.End(1); return ok })
			}
			r.Close()
		}
	})
}

func TestReadOnAsItIsWritten(t *testing.T) {
	onEach(t, func(t *testing.T, c *cluster) {
		conn := c.topic(t, 3)
		f := follow(t, newReader(t, ReaderConfig{Connection: conn, Start: fromStart(0, 1, 2)}))
		for i := range 5 {
			for p := range int32(3) {
				write(t, conn, p, fmt.Sprint(i))
				f.untilPosition(p, int64(i+1))
			}
		}
		for p := range int32(3) {
			if got := f.tail(p).values(); got != "0 1 2 3 4" {
				t.Errorf("partition %d: %s", p, got)
			}
		}
	})
}

// Whatever was acknowledged before AsOf is below Offset, and the end becomes
// known again and again while nothing is written.
func TestEnd(t *testing.T) {
	onEach(t, func(t *testing.T, c *cluster) {
		conn := c.topic(t, 2)
		r := newReader(t, ReaderConfig{Connection: conn, Start: fromStart(0, 1), Watch: 10 * time.Millisecond})
		f := follow(t, r)
		if _, ok := r.End(7); ok {
			t.Error("the end of a partition that is not read is known")
		}
		for i := range int64(5) {
			write(t, conn, 1, "x")
			acknowledged := time.Now()
			f.untilPosition(1, i+1)
			eventually(t, "the end is newer than the acknowledgement", func() bool {
				end, ok := r.End(1)
				return ok && end.AsOf.After(acknowledged)
			})
			if end, _ := r.End(1); end.Offset != i+1 {
				t.Errorf("acknowledged up to %d, end %d", i+1, end.Offset)
			}
		}
		eventually(t, "the end of the empty partition is known", func() bool {
			end, ok := r.End(0)
			return ok && end.Offset == 0
		})
	})
}

func TestReadTransactions(t *testing.T) {
	onEach(t, func(t *testing.T, c *cluster) {
		conn := c.topic(t, 1)
		transact := func(id string, end kgo.TransactionEndTry, values ...string) {
			t.Helper()
			begin(t, c, conn, id, values...)(end)
		}
		write(t, conn, 0, "a")
		transact("1", kgo.TryCommit, "b", "c")
		transact("2", kgo.TryAbort, "d", "e")
		write(t, conn, 0, "f")
		transact("3", kgo.TryAbort, "g")

		var fetches atomic.Int64 // the clock is read once for each
		now := func() time.Time { fetches.Add(1); return time.Now() }
		r := newReader(t, ReaderConfig{Connection: conn, Start: fromStart(0), Watch: 10 * time.Millisecond, Now: now})
		f := follow(t, r)
		// a b c commit (d e) abort f (g) abort: ten offsets.
		f.untilPosition(0, 10)
		if got := f.tail(0).values(); got != "a b c | | f |" {
			t.Errorf("read %q", got)
		}

		// An aborted record below the last stable offset whose marker is above:
		// no record is left to hand out, but the position must get there.
		abort := begin(t, c, conn, "4", "h")
		commit := begin(t, c, conn, "5", "i")
		abort(kgo.TryAbort)
		f.untilPosition(0, 11)
		if got := f.tail(0).values(); got != "a b c | | f | |" {
			t.Errorf("read %q", got)
		}
		last := f.tail(0).records[len(f.tail(0).records)-1]
		if last.Offset != 10 || !last.Control || last.LeaderEpoch < 0 || last.Timestamp == 0 {
			t.Errorf("the record that stands for the aborted one: %+v", last)
		}
		if stable, _ := r.End(0); stable.Offset != 11 {
			t.Errorf("the last stable offset is 11, not %d", stable.Offset)
		}
		// From here the log is held to the epoch of a record that nobody saw.
		again := follow(t, newReader(t, ReaderConfig{Connection: conn, Start: map[int32]Start{0: f.tail(0).start()}}))

		// While a transaction is open, nothing later is known to have been read:
		// what is acknowledged meanwhile is above the end, so the end must not be
		// as of then. A few fetches later that can be told.
		at := write(t, conn, 0, "j")[0]
		acknowledged := time.Now()
		for range 3 {
			before := fetches.Load()
			eventually(t, "another fetch has begun", func() bool { return fetches.Load() > before })
			if end, _ := r.End(0); end.AsOf.After(acknowledged) || end.Offset > at {
				t.Fatalf("offset %d was acknowledged, and later the end was %+v", at, end)
			}
		}
		commit(kgo.TryCommit)
		for _, f := range []*follower{f, again} {
			f.untilPosition(0, 15)
		}
		eventually(t, "the end is known to be the latest again", func() bool {
			end, _ := r.End(0)
			return end.AsOf.After(acknowledged) && end.Offset == 15
		})
		if got := again.tail(0).values(); got != "i | j |" && got != "| i | j |" {
			t.Errorf("from the stable offset: %q", got)
		}
	})
}

// begin writes values in a transaction and leaves it open; the function that it
// returns ends it.
func begin(t *testing.T, c *cluster, conn Connection, id string, values ...string) func(kgo.TransactionEndTry) {
	t.Helper()
	ctx := testContext(t)
	cl := c.client(t, kgo.TransactionalID(conn.Topic+id), kgo.DefaultProduceTopic(conn.Topic), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	for _, v := range values {
		if err := cl.ProduceSync(ctx, &kgo.Record{Value: []byte(v)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	return func(end kgo.TransactionEndTry) {
		t.Helper()
		if err := cl.EndTransaction(ctx, end); err != nil {
			t.Fatal(err)
		}
	}
}

// A log that does not start at 0 tells its reader where it starts, even if
// there is nothing to read.
func TestReadFromLogStart(t *testing.T) {
	onEach(t, func(t *testing.T, c *cluster) {
		conn := c.topic(t, 2)
		write(t, conn, 0, "a", "b", "c", "d", "e")
		write(t, conn, 1, "a", "b", "c")
		c.deleteRecords(t, conn, 0, 3)
		c.deleteRecords(t, conn, 1, 3)
		f := follow(t, newReader(t, ReaderConfig{Connection: conn, Start: fromStart(0, 1)}))
		f.untilPosition(0, 5)
		if got := f.tail(0).values(); got != "d e" {
			t.Errorf("read %q", got)
		}
		f.untilPosition(1, 3)
		if got := f.tail(1); got.values() != "|" || got.epoch != -1 {
			t.Errorf("read %+v", got)
		}
		// Nothing of partition 1 was read yet, so its start may still move.
		write(t, conn, 1, "d")
		f.untilPosition(1, 4)
		if got := f.tail(1).values(); got != "| d" {
			t.Errorf("read %q", got)
		}
	})
}

func TestLogStartPassedThePosition(t *testing.T) {
	onEach(t, func(t *testing.T, c *cluster) {
		conn := c.topic(t, 2)
		write(t, conn, 0, "a", "b", "c", "d")
		write(t, conn, 1, "a")
		one := follow(t, newReader(t, ReaderConfig{Connection: conn, Start: fromStart(0)}))
		one.untilPosition(0, 4)
		epoch := one.tail(0).epoch
		c.deleteRecords(t, conn, 0, 3)

		f := follow(t, newReader(t, ReaderConfig{Connection: conn, Start: map[int32]Start{0: {Position: 2, LeaderEpoch: epoch}, 1: {LeaderEpoch: -1}}}))
		d := f.untilEnded(0)
		if d.Reason != Expired || d.Position != 2 || d.LogStart != 3 || d.Epoch != epoch || d.Partition != 0 {
			t.Errorf("%+v", d)
		}
		if !strings.Contains(d.Error(), "it is at 3, so that 1 offsets") {
			t.Errorf("the error does not name the offsets: %v", d)
		}
		f.untilPosition(1, 1) // the others go on

		// At the start itself there is no loss, though the record before is gone.
		at := follow(t, newReader(t, ReaderConfig{Connection: conn, Start: map[int32]Start{0: {Position: 3, LeaderEpoch: epoch}}}))
		at.untilPosition(0, 4)
	})
}

// The log's start passes a reader that is behind while it reads.
func TestLogStartPassesTheReader(t *testing.T) {
	c := fakeCluster(t)
	conn := c.topic(t, 1)
	write(t, conn, 0, "a", "b", "c")
	r := newReader(t, ReaderConfig{Connection: conn, Start: fromStart(0), FetchBytes: 1, PartitionBytes: 1})
	f := follow(t, r)
	f.untilPosition(0, 1)
	c.deleteRecords(t, conn, 0, 3)
	// One answer may have been under way, and one more ready; no more.
	d := f.untilEnded(0)
	if d.Reason != Expired || d.LogStart != 3 || d.Position != f.tail(0).position {
		t.Errorf("at %d: %+v", f.tail(0).position, d)
	}
}

func TestPositionBeyondTheEnd(t *testing.T) {
	onEach(t, func(t *testing.T, c *cluster) {
		conn := c.topic(t, 3)
		write(t, conn, 0, "a", "b")
		write(t, conn, 1, "a", "b")
		f := follow(t, newReader(t, ReaderConfig{Connection: conn, Start: map[int32]Start{
			0: {Position: 3, LeaderEpoch: 0},
			1: {Position: 3, LeaderEpoch: -1},
			2: {Position: 1, LeaderEpoch: -1},
		}}))
		if d := f.untilEnded(0); d.Reason != Lost || d.Position != 3 || d.EpochEnd != 2 || d.Epoch != 0 || !strings.Contains(d.Error(), "ends at 2") {
			t.Errorf("%v %+v", d, d)
		}
		if d := f.untilEnded(1); d.Reason != Lost || d.End != 2 || !strings.Contains(d.Error(), "ends at 2") {
			t.Errorf("%v %+v", d, d)
		}
		if d := f.untilEnded(2); d.Reason != Lost || d.End != 0 {
			t.Errorf("%v %+v", d, d)
		}
	})
}

func TestTopicRecreatedBetweenRuns(t *testing.T) {
	onEach(t, func(t *testing.T, c *cluster) {
		conn := c.topic(t, 2)
		was := identityOf(t, conn)
		write(t, conn, 0, "a")
		c.delete(t, conn)
		is := recreate(t, c, conn, 2)
		// The new log would do for the old position, by its offsets.
		write(t, conn, 0, "x", "y")
		f := follow(t, newReader(t, ReaderConfig{Connection: conn, Identity: was, Start: map[int32]Start{0: {Position: 1, LeaderEpoch: 0}, 1: {LeaderEpoch: -1}}}))
		for p := range int32(2) {
			d := f.untilEnded(p)
			if d.Reason != Recreated || d.Was != was || d.Is != is || !strings.Contains(d.Error(), fmt.Sprintf("%x", is.ID)) {
				t.Errorf("%v", d)
			}
			if f.tail(p).values() != "" {
				t.Errorf("read %q of another topic", f.tail(p).values())
			}
		}
	})
}

func TestTopicRecreatedWhileReading(t *testing.T) {
	onEach(t, func(t *testing.T, c *cluster) {
		conn := c.topic(t, 1)
		was := identityOf(t, conn)
		write(t, conn, 0, "a")
		r := newReader(t, ReaderConfig{Connection: conn, Start: fromStart(0)})
		f := follow(t, r)
		f.untilPosition(0, 1)
		c.delete(t, conn)
		eventually(t, "the reader notices", func() bool { return r.Trouble() != nil })
		is := recreate(t, c, conn, 1)
		write(t, conn, 0, "x", "y")
		if d := f.untilEnded(0); d.Reason != Recreated || d.Was != was || d.Is != is || d.Position != 1 {
			t.Errorf("%v", d)
		}
		if f.tail(0).values() != "a" {
			t.Errorf("read %q", f.tail(0).values())
		}
	})
}

// recreate creates a topic whose name may not be free yet.
func recreate(t *testing.T, c *cluster, conn Connection, partitions int32) Identity {
	t.Helper()
	eventually(t, "the name is free", func() bool {
		_, err := describe(testContext(t), c.client(t), conn.Topic)
		return errors.Is(err, ErrNoTopic)
	})
	return c.create(t, conn, partitions)
}

func TestPartitionsAdded(t *testing.T) {
	onEach(t, func(t *testing.T, c *cluster) {
		conn := c.topic(t, 2)
		write(t, conn, 0, "a")
		f := follow(t, newReader(t, ReaderConfig{Connection: conn, Start: fromStart(0, 1)}))
		f.untilPosition(0, 1)
		if _, err := c.admin(t).CreatePartitions(testContext(t), 1, conn.Topic); err != nil {
			t.Fatal(err)
		}
		for p := range int32(2) {
			if d := f.untilEnded(p); d.Reason != Repartitioned || d.Was.Partitions != 2 || d.Is.Partitions != 3 {
				t.Errorf("%v", d)
			}
		}
	})
}

func TestReadLargeEvents(t *testing.T) {
	onEach(t, func(t *testing.T, c *cluster) {
		conn := c.topic(t, 1, fmt.Sprintf("max.message.bytes=%d", MinMessageBytes))
		a := newAppender(t, AppenderConfig{Connection: conn})
		value := []byte(strings.Repeat("0123456789abcdef", events.MaxEventSize/16))
		key := []byte(strings.Repeat("k", events.MaxIDLen))
		var entries []Entry
		for range 5 {
			entries = append(entries, Entry{Key: key, Value: value, Partition: 0})
		}
		if _, err := a.Append(testContext(t), entries); err != nil {
			t.Fatal(err)
		}
		f := follow(t, newReader(t, ReaderConfig{Connection: conn, Start: fromStart(0), FetchBytes: 1 << 20, PartitionBytes: 1 << 20}))
		f.untilPosition(0, 5)
		for _, r := range f.tail(0).records {
			if string(r.Value) != string(value) || string(r.Key) != string(key) {
				t.Error("a value came back changed")
			}
		}
	})
}

func TestPollEnds(t *testing.T) {
	c := fakeCluster(t)
	conn := c.topic(t, 1)
	r := newReader(t, ReaderConfig{Connection: conn, Start: fromStart(0)})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := r.Poll(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
	r.Close()
	if _, err := r.Poll(context.Background()); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	r.Close() // again is no harm
}

func TestReaderConfig(t *testing.T) {
	good := ReaderConfig{
		Connection: Connection{Brokers: []string{"127.0.0.1:1"}, Topic: "t"},
		Identity:   Identity{ID: [16]byte{1}, Partitions: 2},
	}
	for name, test := range map[string]struct {
		change func(*ReaderConfig)
		want   string
	}{
		"good":              {func(*ReaderConfig) {}, ""},
		"no identity":       {func(c *ReaderConfig) { c.Identity = Identity{} }, "Identity"},
		"no such partition": {func(c *ReaderConfig) { c.Start = fromStart(2) }, "no partition 2 of 2"},
		"no such position":  {func(c *ReaderConfig) { c.Start = map[int32]Start{1: {Position: -1}} }, "no position -1"},
		"negative":          {func(c *ReaderConfig) { c.Watch = -1 }, "Watch"},
		"connection":        {func(c *ReaderConfig) { c.Topic = "" }, "topic"},
	} {
		t.Run(name, func(t *testing.T) {
			config := good
			test.change(&config)
			r, err := NewReader(context.Background(), config)
			if err == nil {
				r.Close()
			}
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("want an error with %q, got %v", test.want, err)
			}
		})
	}
}
