package topic

import (
	"bytes"
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
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/seenby/seenby/events"
)

func byKey(key, value string) Entry {
	return Entry{Key: []byte(key), Value: []byte(value), Partition: AnyPartition}
}

// Every acknowledged entry is where Append said, once.
func TestAppend(t *testing.T) {
	onEach(t, func(t *testing.T, c *cluster) {
		conn := c.topic(t, 4)
		a := newAppender(t, AppenderConfig{Connection: conn})
		if got, want := a.Identity(), identityOf(t, conn); got != want {
			t.Errorf("identity %x, not %x", got, want)
		}
		if at, err := a.Append(testContext(t), nil); err != nil || len(at) != 0 {
			t.Errorf("nothing to append: %v %v", at, err)
		}
		var mu sync.Mutex
		where := make(map[Appended]string)
		var wg sync.WaitGroup
		for g := range 20 {
			wg.Go(func() {
				for i := range 20 {
					entries := []Entry{
						byKey(fmt.Sprintf("k%d", i), fmt.Sprintf("%d/%d", g, i)),
						{Value: fmt.Appendf(nil, "%d/%d everywhere", g, i), Partition: int32(i % 4)},
					}
					at, err := a.Append(testContext(t), entries)
					if err != nil {
						t.Error(err)
						return
					}
					if want := events.Partition(entries[0].Key, 4); at[0].Partition != want {
						t.Errorf("key %s is in %d, not %d", entries[0].Key, at[0].Partition, want)
					}
					if at[1].Partition != entries[1].Partition {
						t.Errorf("in %d, not %d", at[1].Partition, entries[1].Partition)
					}
					mu.Lock()
					for j := range entries {
						where[at[j]] = string(entries[j].Value)
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if len(where) != 800 {
			t.Errorf("%d places for 800 entries", len(where))
		}
		f := follow(t, newReader(t, ReaderConfig{Connection: conn, Start: fromStart(0, 1, 2, 3)}))
		read := func() (n int) {
			for _, l := range f.tails {
				n += len(l.records)
			}
			return n
		}
		f.until("all is read", func() bool { return read() >= 800 })
		for p, l := range f.tails {
			for _, r := range l.records {
				if want := where[Appended{p, r.Offset}]; want != string(r.Value) {
					t.Errorf("%d@%d holds %q, not %q", p, r.Offset, r.Value, want)
				}
			}
		}
	})
}

func TestAppendRefuses(t *testing.T) {
	c := fakeCluster(t)
	a := newAppender(t, AppenderConfig{Connection: c.topic(t, 2)})
	good := byKey("k", "v")
	for name, test := range map[string]struct {
		entry Entry
		want  string
	}{
		"no key":                 {byKey("", "v"), "entry 1: without a key"},
		"no such partition":      {Entry{Key: []byte("k"), Partition: 2}, "entry 1: there is no partition 2 of 2"},
		"no such partition, low": {Entry{Key: []byte("k"), Partition: -2}, "entry 1: there is no partition -2 of 2"},
		"too large":              {Entry{Key: []byte("k"), Value: make([]byte, events.MaxEventSize+1)}, "entry 1: too large"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := a.Append(testContext(t), []Entry{good, test.entry}); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("want an error with %q, got %v", test.want, err)
			}
		})
	}
	at, err := a.Append(testContext(t), []Entry{good})
	if err != nil || at[0].Offset != 0 {
		t.Errorf("part of a refused call was written: %v %v", at, err)
	}
}

func TestNoTopic(t *testing.T) {
	onEach(t, func(t *testing.T, c *cluster) {
		conn := Connection{Brokers: c.brokers, Topic: "seenby-test-none"}
		_, err := NewAppender(testContext(t), AppenderConfig{Connection: conn})
		if !errors.Is(err, ErrNoTopic) || !strings.Contains(err.Error(), "`seenby topic create`") {
			t.Errorf("appender: %v", err)
		}
		if _, err := Identify(testContext(t), conn); !errors.Is(err, ErrNoTopic) {
			t.Errorf("identify: %v", err)
		}
		if _, err := Check(testContext(t), conn, Spec{Retention: time.Hour}); !errors.Is(err, ErrNoTopic) {
			t.Errorf("check: %v", err)
		}
	})
}

// Identify waits for Kafka, as long as it may.
func TestIdentifyWaits(t *testing.T) {
	c := fakeCluster(t)
	conn := c.topic(t, 5)
	var away atomic.Bool
	away.Store(true)
	c.unreachable(&away, kmsg.Metadata)
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if id, err := Identify(ctx, conn); err == nil {
		t.Errorf("identified %+v without Kafka", id)
	}
	failed := c.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Count: 2})
	away.Store(false)
	if id := identityOf(t, conn); id.Partitions != 5 {
		t.Errorf("%+v", id)
	}
	if failed.Hits() != 2 {
		t.Errorf("%d failures were met, not 2", failed.Hits())
	}
}

// Without Kafka an Append ends with its context, says that it may be tried
// again, and needs nothing but Kafka to work again.
func TestAppendWithoutKafka(t *testing.T) {
	c := fakeCluster(t)
	conn := c.topic(t, 2)
	a := newAppender(t, AppenderConfig{Connection: conn})
	if _, err := a.Append(testContext(t), []Entry{byKey("k", "before")}); err != nil {
		t.Fatal(err)
	}
	var away atomic.Bool
	c.unreachable(&away, kmsg.Produce, kmsg.Metadata)
	away.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	_, err := a.Append(ctx, []Entry{byKey("k", "meanwhile")})
	if !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "append the same again") {
		t.Errorf("without Kafka: %v", err)
	}
	eventually(t, "Ready says so", func() bool { return a.Ready() != nil })
	if err := a.Ready(); !errors.Is(err, ErrUnavailable) {
		t.Errorf("ready: %v", err)
	}
	away.Store(false)
	if _, err := a.Append(testContext(t), []Entry{byKey("k", "after")}); err != nil {
		t.Errorf("with Kafka again: %v", err)
	}
	eventually(t, "Ready says so", func() bool { return a.Ready() == nil })
}

// Where the buffer is full, Append waits, no longer than its context, and what
// was let in before is not lost.
func TestAppendBackPressure(t *testing.T) {
	c := fakeCluster(t)
	conn := c.topic(t, 1)
	a := newAppender(t, AppenderConfig{Connection: conn, MaxBufferedRecords: 3})
	var away atomic.Bool
	c.unreachable(&away, kmsg.Produce)
	away.Store(true)
	results := make(chan error, 3)
	for i := range 3 {
		go func() {
			_, err := a.Append(testContext(t), []Entry{byKey("k", fmt.Sprint(i))})
			results <- err
		}()
	}
	eventually(t, "the buffer is full", func() bool { return a.client.BufferedProduceRecords() == 3 })
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if _, err := a.Append(ctx, []Entry{byKey("k", "no room")}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("with a full buffer: %v", err)
	}
	if n := a.client.BufferedProduceRecords(); n != 3 {
		t.Errorf("%d records are buffered, at most 3 should be", n)
	}
	away.Store(false)
	for range 3 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if _, err := a.Append(testContext(t), []Entry{byKey("k", "room")}); err != nil {
		t.Error(err)
	}
	f := follow(t, newReader(t, ReaderConfig{Connection: conn, Start: fromStart(0)}))
	f.untilPosition(0, 4)
	if got := f.tail(0).values(); strings.Contains(got, "no room") || !strings.HasSuffix(got, " room") {
		t.Errorf("the log holds %q", got)
	}
}

// An Append that was not answered is finished by the client, without a
// duplicate: brokers tell repeated batches by their sequence.
func TestAppendUnanswered(t *testing.T) {
	c := fakeCluster(t)
	conn := c.topic(t, 1)
	a := newAppender(t, AppenderConfig{Connection: conn})
	c.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: conn.Topic, Err: kerr.RequestTimedOut, Count: 2})
	c.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, TopicID: a.Identity().ID, Err: kerr.RequestTimedOut, Count: 2})
	for i := range 3 {
		at, err := a.Append(testContext(t), []Entry{byKey("k", fmt.Sprint(i))})
		if err != nil || at[0].Offset != int64(i) {
			t.Errorf("entry %d: %v %v", i, at, err)
		}
	}
	f := follow(t, newReader(t, ReaderConfig{Connection: conn, Start: fromStart(0)}))
	f.untilPosition(0, 3)
	if got := f.tail(0).values(); got != "0 1 2" {
		t.Errorf("the log holds %q", got)
	}
}

func TestAppendToRecreatedTopic(t *testing.T) {
	onEach(t, func(t *testing.T, c *cluster) {
		conn := c.topic(t, 2)
		a := newAppender(t, AppenderConfig{Connection: conn})
		if _, err := a.Append(testContext(t), []Entry{byKey("k", "v")}); err != nil {
			t.Fatal(err)
		}
		c.delete(t, conn)
		is := recreate(t, c, conn, 2)
		eventually(t, "Ready says so", func() bool { return errors.Is(a.Ready(), ErrTopicChanged) })
		if err := a.Ready(); !strings.Contains(err.Error(), fmt.Sprintf("%x", a.Identity().ID)) && !strings.Contains(err.Error(), "recreated") {
			t.Errorf("ready: %v", err)
		}
		if _, err := a.Append(testContext(t), []Entry{byKey("k", "v")}); !errors.Is(err, ErrTopicChanged) {
			t.Errorf("append: %v", err)
		}
		if got := newAppender(t, AppenderConfig{Connection: conn}).Identity(); got != is {
			t.Errorf("a new appender takes it for %+v, not %+v", got, is)
		}
	})
}

// The topic is recreated after the appender has learnt its identity, and before
// its first entry, so that the client binds itself to the wrong one.
func TestAppendBoundToTheWrongTopic(t *testing.T) {
	c := fakeCluster(t)
	conn := c.topic(t, 2)
	a := newAppender(t, AppenderConfig{Connection: conn})
	c.delete(t, conn)
	c.create(t, conn, 2)
	if at, err := a.Append(testContext(t), []Entry{byKey("k", "v")}); !errors.Is(err, ErrTopicChanged) {
		t.Errorf("appended at %v, error %v", at, err)
	}
}

func TestAppendAfterPartitionsWereAdded(t *testing.T) {
	onEach(t, func(t *testing.T, c *cluster) {
		conn := c.topic(t, 2)
		a := newAppender(t, AppenderConfig{Connection: conn})
		if _, err := c.admin(t).CreatePartitions(testContext(t), 1, conn.Topic); err != nil {
			t.Fatal(err)
		}
		eventually(t, "Ready says so", func() bool { return errors.Is(a.Ready(), ErrTopicChanged) })
		if _, err := a.Append(testContext(t), []Entry{byKey("k", "v")}); !errors.Is(err, ErrTopicChanged) || !strings.Contains(err.Error(), "had 2 partitions and has 3") {
			t.Errorf("append: %v", err)
		}
	})
}

func TestAppendOverTheTopicsLimit(t *testing.T) {
	onEach(t, func(t *testing.T, c *cluster) {
		conn := c.topic(t, 1, "max.message.bytes=1000")
		a := newAppender(t, AppenderConfig{Connection: conn})
		incompressible := bytes.NewBuffer(nil)
		for i := range uint64(2000) {
			incompressible.WriteByte(byte(i * 0x9E3779B97F4A7C15 >> 56))
		}
		_, err := a.Append(testContext(t), []Entry{{Key: []byte("k"), Value: incompressible.Bytes()}})
		if !errors.Is(err, events.ErrTooLarge) || !strings.Contains(err.Error(), "max.message.bytes") {
			t.Errorf("append: %v", err)
		}
	})
}

// Close waits for what was accepted.
func TestCloseFlushes(t *testing.T) {
	c := fakeCluster(t)
	conn := c.topic(t, 1)
	a := newAppender(t, AppenderConfig{Connection: conn})
	var away atomic.Bool
	c.unreachable(&away, kmsg.Produce)
	away.Store(true)
	result := make(chan error, 1)
	go func() {
		_, err := a.Append(testContext(t), []Entry{byKey("k", "v")})
		result <- err
	}()
	eventually(t, "the entry is buffered", func() bool { return a.client.BufferedProduceRecords() == 1 })
	short, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	flushed := make(chan error, 1)
	go func() { flushed <- a.Close(testContext(t)) }()
	<-short.Done()
	select {
	case err := <-flushed:
		t.Fatalf("closed with an entry in the buffer: %v", err)
	default:
	}
	away.Store(false)
	if err := <-result; err != nil {
		t.Errorf("the entry: %v", err)
	}
	if err := <-flushed; err != nil {
		t.Errorf("closing: %v", err)
	}
	if _, err := a.Append(testContext(t), []Entry{byKey("k", "v")}); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestCloseGivesUp(t *testing.T) {
	c := fakeCluster(t)
	a := newAppender(t, AppenderConfig{Connection: c.topic(t, 1)})
	var away atomic.Bool
	c.unreachable(&away, kmsg.Produce)
	away.Store(true)
	result := make(chan error, 1)
	go func() {
		_, err := a.Append(testContext(t), []Entry{byKey("k", "v")})
		result <- err
	}()
	eventually(t, "the entry is buffered", func() bool { return a.client.BufferedProduceRecords() == 1 })
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := a.Close(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "1 entries") {
		t.Errorf("closing: %v", err)
	}
	if err := <-result; !errors.Is(err, ErrClosed) {
		t.Errorf("the entry: %v", err)
	}
}

func TestAppenderConfig(t *testing.T) {
	conn := Connection{Brokers: []string{"127.0.0.1:1"}, Topic: "t"}
	for name, config := range map[string]AppenderConfig{
		"a buffer for no event":     {Connection: conn, MaxBufferedBytes: 1000},
		"a negative record buffer":  {Connection: conn, MaxBufferedRecords: -1},
		"a connection with nothing": {},
	} {
		t.Run(name, func(t *testing.T) {
			if a, err := NewAppender(context.Background(), config); err == nil {
				t.Errorf("made %v", a)
			}
		})
	}
}
