package topic

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/seenby/seenby/events"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what has to happen.
const patience = 30 * time.Second

// cluster is what a test of the suite runs on.
type cluster struct {
	brokers []string
	fake    *kfake.Cluster // nil on real Kafka
	replica int16
}

// onEach runs a test on kfake, and on the real Kafka that SEENBY_TEST_BROKERS
// names.
func onEach(t *testing.T, test func(*testing.T, *cluster)) {
	t.Run("kfake", func(t *testing.T) { test(t, fakeCluster(t)) })
	t.Run("kafka", func(t *testing.T) { test(t, realCluster(t)) })
}

func fakeCluster(t *testing.T) *cluster {
	t.Helper()
	fake, err := kfake.NewCluster(kfake.NumBrokers(3))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	return &cluster{brokers: fake.ListenAddrs(), fake: fake, replica: 3}
}

func realCluster(t *testing.T) *cluster {
	t.Helper()
	brokers := os.Getenv("SEENBY_TEST_BROKERS")
	if brokers == "" {
		t.Skip("requires kafka: set SEENBY_TEST_BROKERS=host:port,... to brokers of a cluster")
	}
	return &cluster{brokers: strings.Split(brokers, ","), replica: 3}
}

// topic makes a topic that the test's end deletes.
func (c *cluster) topic(t *testing.T, partitions int32, configs ...string) Connection {
	t.Helper()
	conn := Connection{Brokers: c.brokers, Topic: fmt.Sprintf("seenby-test-%x", rand.Uint64())}
	c.create(t, conn, partitions, configs...)
	t.Cleanup(func() {
		_, _ = c.admin(t).DeleteTopics(context.Background(), conn.Topic)
	})
	return conn
}

func (c *cluster) create(t *testing.T, conn Connection, partitions int32, configs ...string) Identity {
	t.Helper()
	ctx := testContext(t)
	set := make(map[string]*string)
	for _, pair := range configs {
		k, v, _ := strings.Cut(pair, "=")
		set[k] = &v
	}
	admin := c.admin(t)
	var made kadm.CreateTopicResponse
	eventually(t, conn.Topic+" is created", func() bool {
		var err error
		made, err = admin.CreateTopic(ctx, partitions, c.replica, set, conn.Topic)
		var kafka *kerr.Error
		if errors.As(err, &kafka) {
			t.Fatalf("creating %s: %v %s", conn.Topic, err, made.ErrMessage)
		}
		return err == nil // anything else is a broker out of reach
	})
	cl := c.client(t)
	id, err := awaitLeaders(ctx, cl, conn.Topic, made.ID)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (c *cluster) delete(t *testing.T, conn Connection) {
	t.Helper()
	if r, err := c.admin(t).DeleteTopic(testContext(t), conn.Topic); err != nil {
		t.Fatalf("deleting %s: %v %s", conn.Topic, err, r.ErrMessage)
	}
}

func (c *cluster) admin(t *testing.T) *kadm.Client { return kadm.NewClient(c.client(t)) }

func (c *cluster) client(t *testing.T, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(c.brokers...), kgo.MetadataMinAge(50 * time.Millisecond)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func (c *cluster) deleteRecords(t *testing.T, conn Connection, partition int32, before int64) {
	t.Helper()
	offsets := make(kadm.Offsets)
	offsets.AddOffset(conn.Topic, partition, before, -1)
	r, err := c.admin(t).DeleteRecords(testContext(t), offsets)
	if err == nil {
		err = r.Error()
	}
	if err != nil {
		t.Fatalf("deleting records: %v", err)
	}
}

// testContext ends well before the test binary is killed.
func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func identityOf(t *testing.T, conn Connection) Identity {
	t.Helper()
	id, err := Identify(testContext(t), conn)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func newAppender(t *testing.T, config AppenderConfig) *Appender {
	t.Helper()
	a, err := NewAppender(testContext(t), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = a.Close(ctx) // what a test leaves unacknowledged is its affair
	})
	return a
}

// write appends values to one partition, each acknowledged before the next, so
// that each is a batch of its own, and returns their offsets.
func write(t *testing.T, conn Connection, partition int32, values ...string) []int64 {
	t.Helper()
	a := newAppender(t, AppenderConfig{Connection: conn})
	var offsets []int64
	for _, v := range values {
		at, err := a.Append(testContext(t), []Entry{{Key: []byte("k"), Value: []byte(v), Partition: partition}})
		if err != nil {
			t.Fatal(err)
		}
		offsets = append(offsets, at[0].Offset)
	}
	return offsets
}

func newReader(t *testing.T, config ReaderConfig) *Reader {
	t.Helper()
	if config.Identity == (Identity{}) {
		config.Identity = identityOf(t, config.Connection)
	}
	r, err := NewReader(testContext(t), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func fromStart(partitions ...int32) map[int32]Start {
	starts := make(map[int32]Start)
	for _, p := range partitions {
		starts[p] = Start{Position: LogStart, LeaderEpoch: -1}
	}
	return starts
}

// tail is what came of the reading of one partition so far.
type tail struct {
	records  []events.Record
	position int64
	epoch    int32
	err      error
}

func (l *tail) values() string {
	var vs []string
	for _, r := range l.records {
		if r.Control {
			vs = append(vs, "|")
		} else {
			vs = append(vs, string(r.Value))
		}
	}
	return strings.Join(vs, " ")
}

func (l *tail) start() Start { return Start{Position: l.position, LeaderEpoch: l.epoch} }

// follower polls a reader and holds it to what it promises of every batch.
type follower struct {
	t     *testing.T
	r     *Reader
	tails map[int32]*tail
}

func follow(t *testing.T, r *Reader) *follower {
	return &follower{t, r, make(map[int32]*tail)}
}

func (f *follower) tail(partition int32) *tail {
	l := f.tails[partition]
	if l == nil {
		l = &tail{epoch: -1}
		f.tails[partition] = l
	}
	return l
}

// until polls until done.
func (f *follower) until(what string, done func() bool) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for !done() {
		batches, err := f.r.Poll(ctx)
		if err != nil {
			f.t.Fatalf("waiting until %s: %v; trouble: %v; %s", what, err, f.r.Trouble(), f.describe())
		}
		for _, b := range batches {
			f.take(b)
		}
	}
}

func (f *follower) describe() string {
	var b strings.Builder
	for id, l := range f.tails {
		fmt.Fprintf(&b, "partition %d at %d, epoch %d, %q, err %v; ", id, l.position, l.epoch, l.values(), l.err)
	}
	return b.String()
}

func (f *follower) take(b Batch) {
	f.t.Helper()
	l := f.tail(b.Partition)
	if l.err != nil {
		f.t.Fatalf("partition %d: something came after its end", b.Partition)
	}
	if b.Err == nil && len(b.Records) == 0 {
		f.t.Fatalf("partition %d: an empty batch", b.Partition)
	}
	l.err = b.Err
	for _, r := range b.Records {
		if r.Offset < l.position {
			f.t.Fatalf("partition %d: offset %d after position %d", b.Partition, r.Offset, l.position)
		}
		l.position, l.epoch = r.Offset+1, r.LeaderEpoch
		r.Key, r.Value = bytes.Clone(r.Key), bytes.Clone(r.Value)
		l.records = append(l.records, r)
	}
	b.Release()
}

// untilPosition polls until the partition's position is position.
func (f *follower) untilPosition(partition int32, position int64) {
	f.t.Helper()
	f.until(fmt.Sprintf("partition %d is at %d", partition, position), func() bool {
		l := f.tail(partition)
		if l.err != nil {
			f.t.Fatalf("partition %d ended at %d: %v", partition, l.position, l.err)
		}
		return l.position >= position
	})
}

// untilEnded polls until the partition ends, and returns why.
func (f *follower) untilEnded(partition int32) *Discontinued {
	f.t.Helper()
	f.until(fmt.Sprintf("partition %d ends", partition), func() bool { return f.tail(partition).err != nil })
	return discontinued(f.t, f.tail(partition).err)
}

// eventually polls a condition.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for !done() {
		if !pause(ctx, 5*time.Millisecond) {
			t.Fatalf("timed out waiting until %s", what)
		}
	}
}
