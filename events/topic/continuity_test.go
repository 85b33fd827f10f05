package topic

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func (c *cluster) move(t *testing.T, conn Connection, partition int32) {
	t.Helper()
	to := (c.fake.LeaderFor(conn.Topic, partition) + 1) % 3
	if err := c.fake.MoveTopicPartition(conn.Topic, partition, to); err != nil {
		t.Fatal(err)
	}
}

// Leaders change, with and without records in between, and nothing is lost,
// repeated or ended.
func TestLeadersChange(t *testing.T) {
	c := fakeCluster(t)
	conn := c.topic(t, 2)
	f := follow(t, newReader(t, ReaderConfig{Connection: conn, Start: fromStart(0, 1), Watch: 10 * time.Millisecond}))
	var want []string
	for i := range 12 {
		if i%3 != 2 {
			write(t, conn, 0, fmt.Sprint(i))
			want = append(want, fmt.Sprint(i))
		}
		if i%2 == 1 {
			f.untilPosition(0, int64(len(want)))
		}
		c.move(t, conn, 0)
		c.move(t, conn, 1)
	}
	f.untilPosition(0, int64(len(want)))
	if got := f.tail(0).values(); got != strings.Join(want, " ") {
		t.Errorf("read %q", got)
	}
	// Each checkpoint on the way is one to go on from.
	for _, r := range f.tail(0).records[:len(want)-1] {
		again := follow(t, newReader(t, ReaderConfig{Connection: conn, Start: map[int32]Start{0: {Position: r.Offset + 1, LeaderEpoch: r.LeaderEpoch}}}))
		again.untilPosition(0, int64(len(want)))
		again.r.Close()
	}
}

// answerEpochEnd has all brokers answer OffsetForLeaderEpoch with this end, once
// the partition's leader epoch is from or later.
func (c *cluster) answerEpochEnd(from int32, epoch int32, end int64) {
	c.fake.ControlKey(kmsg.OffsetForLeaderEpoch.Int16(), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.fake.KeepControl()
		req := kreq.(*kmsg.OffsetForLeaderEpochRequest)
		resp := req.ResponseKind().(*kmsg.OffsetForLeaderEpochResponse)
		for _, rt := range req.Topics {
			t := kmsg.NewOffsetForLeaderEpochResponseTopic()
			t.Topic = rt.Topic
			for _, rp := range rt.Partitions {
				if rp.CurrentLeaderEpoch < from {
					return nil, nil, false
				}
				p := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
				p.Partition, p.LeaderEpoch, p.EndOffset = rp.Partition, epoch, end
				t.Partitions = append(t.Partitions, p)
			}
			resp.Topics = append(resp.Topics, t)
		}
		return resp, nil, true
	})
}

// A new leader has lost records that were read, and has as many new ones.
func TestLossAtLeaderChange(t *testing.T) {
	c := fakeCluster(t)
	conn := c.topic(t, 2)
	write(t, conn, 0, "a", "b", "c", "d", "e")
	write(t, conn, 1, "x")
	c.answerEpochEnd(1, 0, 3)
	f := follow(t, newReader(t, ReaderConfig{Connection: conn, Start: fromStart(0, 1)}))
	f.untilPosition(0, 5)
	c.move(t, conn, 0)
	write(t, conn, 0, "f", "g")
	d := f.untilEnded(0)
	if d.Reason != Lost || d.Position != 5 || d.Epoch != 0 || d.LeaderEpoch != 1 || d.EpochEnd != 3 || d.LastEpoch != 0 {
		t.Errorf("%+v", d)
	}
	for _, want := range []string{"partition 0, position 5", "leader epoch 0", "ends at 3", "epoch 1"} {
		if !strings.Contains(d.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, d)
		}
	}
	if got := f.tail(0).values(); got != "a b c d e" {
		t.Errorf("records of the leader that has lost some were handed out: %q", got)
	}
	write(t, conn, 1, "y")
	f.untilPosition(1, 2) // the others go on
}

// The leader that fails its check is deposed before anything is concluded from
// that: its successor is asked instead.
func TestVerdictOfADeposedLeader(t *testing.T) {
	c := fakeCluster(t)
	conn := c.topic(t, 1)
	write(t, conn, 0, "a", "b", "c")
	f := follow(t, newReader(t, ReaderConfig{Connection: conn, Start: fromStart(0)}))
	f.untilPosition(0, 3)
	var asked atomic.Int32
	c.fake.ControlKey(kmsg.OffsetForLeaderEpoch.Int16(), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.fake.KeepControl()
		req := kreq.(*kmsg.OffsetForLeaderEpochRequest)
		if req.Topics[0].Partitions[0].CurrentLeaderEpoch != 1 {
			return nil, nil, false
		}
		asked.Add(1)
		c.fake.SleepControl(func() { c.move(t, conn, 0) })
		resp := req.ResponseKind().(*kmsg.OffsetForLeaderEpochResponse)
		rt := kmsg.NewOffsetForLeaderEpochResponseTopic()
		rt.Topic = conn.Topic
		rp := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
		rp.LeaderEpoch, rp.EndOffset = 0, 1
		rt.Partitions = append(rt.Partitions, rp)
		resp.Topics = append(resp.Topics, rt)
		return resp, nil, true
	})
	c.move(t, conn, 0)
	eventually(t, "the first leader is asked", func() bool { return asked.Load() > 0 })
	write(t, conn, 0, "d")
	f.untilPosition(0, 4)
}

// However a leader change, a fetch and the check interleave, no record of a
// leader that fails its check is ever handed out.
func TestNoRecordBeforeItsCheck(t *testing.T) {
	const bad = 6
	c := fakeCluster(t)
	conn := c.topic(t, 1)
	c.answerEpochEnd(bad, 0, 1)
	f := follow(t, newReader(t, ReaderConfig{Connection: conn, Start: fromStart(0), Watch: time.Millisecond}))
	var wg sync.WaitGroup
	wg.Go(func() {
		a := newAppender(t, AppenderConfig{Connection: conn})
		for i := range bad + 2 {
			for range 20 {
				if _, err := a.Append(testContext(t), []Entry{{Key: []byte("k"), Value: []byte("v")}}); err != nil {
					t.Error(err)
					return
				}
			}
			if i%2 == 0 {
				c.move(t, conn, 0)
			} else {
				// The same broker leads again: only the epoch tells.
				if err := c.fake.MoveTopicPartition(conn.Topic, 0, c.fake.LeaderFor(conn.Topic, 0)); err != nil {
					t.Error(err)
				}
			}
		}
	})
	d := f.untilEnded(0)
	wg.Wait()
	if d.Reason != Lost || d.LeaderEpoch < bad {
		t.Errorf("%+v", d)
	}
	for i, r := range f.tail(0).records {
		if r.LeaderEpoch >= bad || r.Offset != int64(i) {
			t.Fatalf("record %d: offset %d of epoch %d", i, r.Offset, r.LeaderEpoch)
		}
	}
}

// The checkpoint's epoch is one that the log never had, or had elsewhere.
func TestDivergedAtStart(t *testing.T) {
	c := fakeCluster(t)
	read := func(conn Connection, start Start) (*Discontinued, *follower) {
		f := follow(t, newReader(t, ReaderConfig{Connection: conn, Start: map[int32]Start{0: start}}))
		return f.untilEnded(0), f
	}
	t.Run("nothing of that epoch or later", func(t *testing.T) {
		conn := c.topic(t, 1)
		write(t, conn, 0, "a", "b", "c")
		for range 4 {
			c.move(t, conn, 0)
		}
		d, _ := read(conn, Start{Position: 3, LeaderEpoch: 3})
		if d.Reason != Lost || d.EpochEnd != -1 || d.LeaderEpoch != 4 || !strings.Contains(d.Error(), "knows nothing of that epoch") {
			t.Errorf("%v %+v", d, d)
		}
	})
	t.Run("another epoch at that offset", func(t *testing.T) {
		conn := c.topic(t, 1)
		write(t, conn, 0, "a", "b", "c")
		for range 4 {
			c.move(t, conn, 0)
		}
		write(t, conn, 0, "d")
		d, f := read(conn, Start{Position: 3, LeaderEpoch: 2})
		if d.Reason != Lost || d.EpochEnd != 3 || d.LastEpoch != 0 || !strings.Contains(d.Error(), "has nothing of that epoch; epoch 0 ends at 3") {
			t.Errorf("%v %+v", d, d)
		}
		if f.tail(0).values() != "" {
			t.Errorf("read %q", f.tail(0).values())
		}
	})
	t.Run("the epoch ended before", func(t *testing.T) {
		conn := c.topic(t, 1)
		write(t, conn, 0, "a", "b", "c")
		c.move(t, conn, 0)
		write(t, conn, 0, "d", "e", "f")
		d, _ := read(conn, Start{Position: 5, LeaderEpoch: 0})
		if d.Reason != Lost || d.EpochEnd != 3 || d.LastEpoch != 0 || d.LeaderEpoch != 1 {
			t.Errorf("%v %+v", d, d)
		}
	})
}

// Metadata that names a leader of an earlier epoch than what was read is old
// news; nothing is read, and nothing ends, until there is better.
func TestDeposedLeaderIsNotAsked(t *testing.T) {
	c := fakeCluster(t)
	conn := c.topic(t, 1)
	write(t, conn, 0, "a", "b")
	for range 2 {
		c.move(t, conn, 0)
	}
	write(t, conn, 0, "c")
	r := newReader(t, ReaderConfig{Connection: conn, Start: map[int32]Start{0: {Position: 3, LeaderEpoch: 3}}})
	f := follow(t, r)
	eventually(t, "the reader finds fault with the metadata", func() bool { return r.Trouble() != nil })
	if err := r.Trouble(); !strings.Contains(err.Error(), "leader of epoch 2") || !strings.Contains(err.Error(), "epoch 3") {
		t.Errorf("trouble: %v", err)
	}
	for range 2 {
		c.move(t, conn, 0)
	}
	if d := f.untilEnded(0); d.Reason != Lost || d.LeaderEpoch != 4 {
		t.Errorf("%v", d)
	}
}

// A leader changes while what its predecessor sent waits to be polled: the new
// leader's fetcher finds the partition claimed, and must hear of its release.
func TestLeaderChangesDuringDelivery(t *testing.T) {
	c := fakeCluster(t)
	conn := c.topic(t, 1)
	write(t, conn, 0, "a")
	r := newReader(t, ReaderConfig{Connection: conn, Start: fromStart(0)})
	eventually(t, "something waits to be polled", func() bool { end, _ := r.End(0); return end.Offset == 1 })
	c.move(t, conn, 0)
	eventually(t, "the new leader's fetcher has looked", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		lead := r.partitions[0].leader
		if lead.epoch != 1 {
			return false
		}
		for _, f := range r.fetchers[lead.node] {
			if len(f.wake) > 0 {
				return false
			}
		}
		return true
	})
	write(t, conn, 0, "b")
	f := follow(t, r)
	f.untilPosition(0, 2)
	if got := f.tail(0).values(); got != "a b" {
		t.Errorf("read %q", got)
	}
}

// A leader that does not answer is not waited for once there is another.
func TestLeaderHangs(t *testing.T) {
	c := fakeCluster(t)
	conn := c.topic(t, 1)
	patient := conn
	patient.Options = []kgo.Opt{kgo.RequestTimeoutOverhead(2 * patience)}
	f := follow(t, newReader(t, ReaderConfig{Connection: patient, Identity: identityOf(t, conn), Start: fromStart(0)}))
	write(t, conn, 0, "a")
	f.untilPosition(0, 1)
	old := c.fake.LeaderFor(conn.Topic, 0)
	hangs := make(chan struct{})
	var once sync.Once
	c.fake.ControlKey(kmsg.Fetch.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.fake.KeepControl()
		if c.fake.CurrentNode() != old {
			return nil, nil, false
		}
		once.Do(func() { close(hangs) })
		return nil, nil, true // no answer
	})
	<-hangs
	c.move(t, conn, 0)
	write(t, conn, 0, "b")
	f.untilPosition(0, 2)
}

// Nothing that was fetched before a partition's end is handed out after it.
func TestNothingAfterTheEnd(t *testing.T) {
	c := fakeCluster(t)
	conn := c.topic(t, 1)
	write(t, conn, 0, "a")
	id := identityOf(t, conn)
	for range 20 { // either may come first
		r := newReader(t, ReaderConfig{Connection: conn, Identity: id, Start: fromStart(0)})
		eventually(t, "something waits to be polled", func() bool { end, _ := r.End(0); return end.Offset == 1 })
		r.mu.Lock()
		r.conclude(r.partitions[0], &Discontinued{Reason: Lost})
		r.mu.Unlock()
		f := follow(t, r)
		if d := f.untilEnded(0); d.Reason != Lost {
			t.Errorf("%v", d)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		batches, err := r.Poll(ctx)
		cancel()
		if err == nil {
			t.Fatalf("%+v came after the end", batches)
		}
		r.Close()
	}
}

// A leader epoch once known is not given up for a lower one.
func TestLeaderEpochsOnlyRise(t *testing.T) {
	c := fakeCluster(t)
	conn := c.topic(t, 1)
	r := newReader(t, ReaderConfig{Connection: conn, Start: fromStart(0)})
	eventually(t, "the end is known", func() bool { _, ok := r.End(0); return ok })
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.partitions[0]
	for _, step := range []struct{ told, want leadership }{
		{leadership{1, 5}, leadership{1, 5}},
		{leadership{2, 4}, leadership{1, 5}},
		{leadership{2, noEpoch}, leadership{1, 5}},
		{leadership{noLeader, 6}, leadership{1, 5}},
		{leadership{2, 7}, leadership{2, 7}},
	} {
		if r.follow(ctx, p, step.told); p.leader != step.want {
			t.Errorf("told %+v: follows %+v, not %+v", step.told, p.leader, step.want)
		}
	}
}

// A broker that knows fewer partitions is behind; that ends nothing.
func TestFewerPartitions(t *testing.T) {
	c := fakeCluster(t)
	conn := c.topic(t, 2)
	id := identityOf(t, conn)
	id.Partitions = 3
	r := newReader(t, ReaderConfig{Connection: conn, Identity: id, Start: fromStart(0)})
	eventually(t, "the reader has trouble", func() bool { return r.Trouble() != nil })
	if err := r.Trouble(); !strings.Contains(err.Error(), "a broker knows only 2") {
		t.Errorf("trouble: %v", err)
	}
	if r.partitions[0].ended {
		t.Error("the partition has ended")
	}
}

// Errors that pass are tried again, as often as it takes, whatever request they
// come to.
func TestTransientErrors(t *testing.T) {
	for _, key := range []kmsg.Key{kmsg.Fetch, kmsg.ListOffsets, kmsg.OffsetForLeaderEpoch} {
		for _, kind := range []*kerr.Error{
			kerr.NotLeaderForPartition, kerr.LeaderNotAvailable, kerr.FencedLeaderEpoch, kerr.UnknownLeaderEpoch,
			kerr.UnknownTopicOrPartition, kerr.UnknownTopicID, kerr.KafkaStorageError, kerr.OffsetNotAvailable,
			kerr.OffsetOutOfRange, kerr.TopicAuthorizationFailed, kerr.UnknownServerError, kerr.RequestTimedOut,
		} {
			t.Run(key.Name()+" "+kind.Message, func(t *testing.T) {
				t.Parallel()
				c := fakeCluster(t)
				conn := c.topic(t, 2)
				write(t, conn, 0, "a")
				write(t, conn, 1, "a")
				r := newReader(t, ReaderConfig{Connection: conn, Start: map[int32]Start{0: {Position: 1, LeaderEpoch: 0}, 1: {Position: 1, LeaderEpoch: 0}}, Watch: 10 * time.Millisecond})
				f := follow(t, r)
				eventually(t, "the end is known", func() bool { _, ok := r.End(0); return ok })
				fault := c.fake.Fault(kfake.Fault{Keys: []kmsg.Key{key}, Topic: conn.Topic, Partitions: []int32{0}, Err: kind, Count: -1})
				byID := c.fake.Fault(kfake.Fault{Keys: []kmsg.Key{key}, TopicID: identityOf(t, conn).ID, Partitions: []int32{0}, Err: kind, Count: -1})
				if key != kmsg.Fetch {
					c.move(t, conn, 0) // so that it is checked again
				}
				write(t, conn, 0, "b")
				eventually(t, "the fault is met", func() bool { return fault.Hits()+byID.Hits() >= 3 })
				eventually(t, "it shows", func() bool { return r.Trouble() != nil })
				write(t, conn, 1, "b")
				f.untilPosition(1, 2) // meanwhile the others go on
				if f.tail(0).position != 0 {
					t.Errorf("read in spite of the fault: %+v", f.tail(0))
				}
				fault.Remove()
				byID.Remove()
				f.untilPosition(0, 2)
				eventually(t, "the trouble is over", func() bool { return r.Trouble() == nil })
			})
		}
	}
}

// unreachable has all brokers close connections instead of answering, while on.
func (c *cluster) unreachable(on *atomic.Bool, keys ...kmsg.Key) {
	for _, key := range keys {
		c.fake.ControlKey(key.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
			c.fake.KeepControl()
			if on.Load() {
				return nil, errors.New("unreachable"), true
			}
			return nil, nil, false
		})
	}
}

// Kafka is out of reach for a while: AsOf stands still, Trouble says why, and
// the reading goes on where it was.
func TestKafkaOutOfReach(t *testing.T) {
	c := fakeCluster(t)
	conn := c.topic(t, 2)
	var away atomic.Bool
	c.unreachable(&away, kmsg.Fetch, kmsg.ListOffsets, kmsg.Metadata, kmsg.OffsetForLeaderEpoch)
	write(t, conn, 0, "a", "b")
	r := newReader(t, ReaderConfig{Connection: conn, Start: fromStart(0, 1), Watch: 10 * time.Millisecond})
	f := follow(t, r)
	f.untilPosition(0, 2)
	eventually(t, "the ends are known", func() bool {
		_, zero := r.End(0)
		_, one := r.End(1)
		return zero && one
	})
	away.Store(true)
	eventually(t, "it shows", func() bool { return r.Trouble() != nil })
	end, _ := r.End(0)
	if !strings.Contains(r.Trouble().Error(), "broker") {
		t.Errorf("trouble: %v", r.Trouble())
	}
	wentAway := time.Now()
	if end.AsOf.After(wentAway) {
		t.Errorf("the end is as of %v, when Kafka was away", end.AsOf)
	}
	away.Store(false)
	write(t, conn, 0, "c")
	f.untilPosition(0, 3)
	eventually(t, "the trouble is over", func() bool {
		now, _ := r.End(0)
		return r.Trouble() == nil && now.AsOf.After(wentAway) && now.Offset == 3
	})
	if got := f.tail(0).values(); got != "a b c" {
		t.Errorf("read %q", got)
	}
}

// A reader may be made before Kafka can be reached.
func TestReaderStartsWithoutKafka(t *testing.T) {
	c := fakeCluster(t)
	conn := c.topic(t, 1)
	write(t, conn, 0, "a")
	id := identityOf(t, conn)
	var away atomic.Bool
	away.Store(true)
	c.unreachable(&away, kmsg.Metadata)
	r := newReader(t, ReaderConfig{Connection: conn, Identity: id, Start: fromStart(0)})
	if _, ok := r.End(0); ok {
		t.Error("the end is known")
	}
	eventually(t, "it shows", func() bool { return r.Trouble() != nil })
	away.Store(false)
	follow(t, r).untilPosition(0, 1)
}
