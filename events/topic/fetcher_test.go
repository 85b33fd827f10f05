package topic

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// ledByOne is a topic on kfake whose partitions one node leads.
func ledByOne(t *testing.T, partitions int32) (*cluster, Connection) {
	t.Helper()
	c := fakeCluster(t)
	conn := c.topic(t, partitions)
	for p := range partitions {
		if err := c.fake.MoveTopicPartition(conn.Topic, p, 0); err != nil {
			t.Fatal(err)
		}
	}
	return c, conn
}

// While what one fetcher brought waits to be polled, the node's other one
// fetches what the first had no room for.
func TestFetchersTakeTurns(t *testing.T) {
	_, conn := ledByOne(t, 2)
	write(t, conn, 0, "a")
	write(t, conn, 1, "a")
	r := newReader(t, ReaderConfig{Connection: conn, Start: fromStart(0, 1), FetchBytes: 1, PartitionBytes: 1})
	eventually(t, "both wait to be polled", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.partitions[0].position == 1 && r.partitions[1].position == 1
	})
	f := follow(t, r)
	f.untilPosition(0, 1)
	f.untilPosition(1, 1)
}

// A partition is left to the other fetcher only if nothing of it waits to be
// polled, a record that stands for the log's start included.
func TestFetcherKeepsWhatItHandsOut(t *testing.T) {
	c, conn := ledByOne(t, 3)
	write(t, conn, 0, "a")
	write(t, conn, 1, "a", "b")
	c.deleteRecords(t, conn, 1, 2)
	r := newReader(t, ReaderConfig{Connection: conn, Start: fromStart(0, 1, 2)})
	eventually(t, "something waits to be polled", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.partitions[0].position == 1 && r.partitions[1].announced == 2
	})
	r.mu.Lock()
	by := [...]*fetcher{r.partitions[0].claimedBy, r.partitions[1].claimedBy, r.partitions[2].claimedBy}
	r.mu.Unlock()
	if by[0] == nil || by[1] == nil || by[2] == by[0] {
		t.Errorf("claimed by %p, %p and %p", by[0], by[1], by[2])
	}
	f := follow(t, r)
	f.untilPosition(0, 1)
	f.untilPosition(1, 2)
}

// While a node's other fetcher is at work, claim is for reading on, not for
// waiting: what that one asks for next would wait behind it.
func TestClaim(t *testing.T) {
	r := &Reader{partitions: make(map[int32]*partition), fetchers: make(map[int32]fetchers)}
	a, b := &fetcher{r: r, node: 1}, &fetcher{r: r, node: 1}
	elsewhere := &fetcher{r: r, node: 2}
	for id := range int32(4) {
		r.partitions[id] = newPartition(id, Start{})
		r.partitions[id].leader = leadership{node: 1}
	}
	r.partitions[3].leader.node = 2
	claimed := func(f *fetcher) string {
		claims, alone, _ := f.claim()
		return fmt.Sprint(len(claims), " ", alone)
	}
	if got := claimed(elsewhere); got != "1 true" {
		t.Errorf("another node's: %s", got)
	}
	if got := claimed(a); got != "3 true" {
		t.Errorf("the first: %s", got)
	}
	if got := claimed(b); got != "0 false" {
		t.Errorf("nothing is left: %s", got)
	}
	for id := range int32(2) {
		a.release([]claim{{r.partitions[id], 0}})
	}
	if got := claimed(b); got != "0 false" {
		t.Errorf("nothing more is known to be there: %s", got)
	}
	r.partitions[1].end.Offset = 1
	if got := claimed(b); got != "2 false" {
		t.Errorf("there is more: %s", got)
	}
	b.release([]claim{{r.partitions[2], 0}})
	if r.partitions[2].claimedBy != a {
		t.Error("one released what the other has")
	}
}

// However many partitions, answers and leader changes, each partition comes in
// its order, from memory that is used again and again.
func TestManyPartitions(t *testing.T) {
	onEach(t, func(t *testing.T, c *cluster) {
		const partitions, records = 8, 400
		conn := c.topic(t, partitions)
		cl := c.client(t, kgo.DefaultProduceTopic(conn.Topic), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MaxBufferedRecords(64),
			kgo.ProducerBatchCompression(kgo.ZstdCompression()))
		all := make(map[int32]Start)
		for p := range int32(partitions) {
			all[p] = Start{Position: LogStart, LeaderEpoch: -1}
		}
		ctx := testContext(t)
		for i := range records {
			for p := range int32(partitions) {
				cl.Produce(ctx, &kgo.Record{Partition: p, Key: fmt.Append(nil, p), Value: fmt.Appendf(nil, "%d of %d", i, p)}, func(_ *kgo.Record, err error) {
					if err != nil {
						t.Error(err)
					}
				})
			}
		}
		if err := cl.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		f := follow(t, newReader(t, ReaderConfig{Connection: conn, Start: all, FetchBytes: 4 << 10, PartitionBytes: 1 << 10}))
		for p := range int32(partitions) {
			if c.fake != nil {
				f.untilPosition(p, records/2)
				c.move(t, conn, p)
			}
		}
		for p := range int32(partitions) {
			f.untilPosition(p, records)
			for i, r := range f.tail(p).records {
				if want := fmt.Sprintf("%d of %d", i, p); r.Offset != int64(i) || string(r.Value) != want || string(r.Key) != fmt.Sprint(p) {
					t.Fatalf("partition %d, record %d: %d %s %s", p, i, r.Offset, r.Key, r.Value)
				}
			}
		}
	})
}
