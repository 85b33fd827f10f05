package topic

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/seenby/seenby/events"
)

var (
	// ErrUnavailable is wrapped by what Append returns when Kafka did not
	// acknowledge all entries in time, or refused some. They may be in the log all
	// the same; appending them again does no harm, as events are facts.
	ErrUnavailable = errors.New("not taken by Kafka")
	// ErrTopicChanged is wrapped by what Append and Ready return once the topic is
	// not the one that the Appender was made for. It stays so.
	ErrTopicChanged = errors.New("the topic is not the same any more")
)

// AnyPartition as an Entry's Partition has the key decide.
const AnyPartition int32 = -1

// AppenderConfig says where to append.
type AppenderConfig struct {
	Connection
	// MaxBufferedBytes and MaxBufferedRecords bound what waits for Kafka, over
	// all calls of Append: 64 MiB and 100,000 if 0. Where either is reached,
	// Append waits for room.
	MaxBufferedBytes   int
	MaxBufferedRecords int
	// Logger is told of troubles that begin and end; nil for none.
	Logger *slog.Logger
}

// Entry is one record to append.
type Entry struct {
	// Key decides the partition ([events.Partition]) if Partition is
	// AnyPartition, and must not be empty then.
	Key, Value []byte
	Partition  int32
}

// Appended is where an Entry is in the log.
type Appended struct {
	Partition int32
	Offset    int64
}

// Appender appends to the topic, acknowledged by all in-sync replicas and
// without duplicates of its own making (idempotent). Any number of goroutines
// may use it; their entries share batches.
type Appender struct {
	client   *kgo.Client
	topic    string
	identity Identity
	logger   *slog.Logger

	stop context.CancelFunc
	wg   sync.WaitGroup
	// calls is held for reading by each Append, and closing says that there are
	// to be no more.
	calls   sync.RWMutex
	closing atomic.Bool
	// same says that the client has bound itself to the topic of identity.
	same atomic.Bool

	mu      sync.Mutex
	unready error // what the last look came to
	refusal error // wraps ErrTopicChanged; stays once it is set
}

const (
	// maxBatchBytes holds the largest event with its key and whatever is around
	// them; the topic has to allow it (max.message.bytes).
	maxBatchBytes = events.MaxEventSize + 64<<10
	// linger is what a receipt waits for company. Without it a broker gets up to
	// five small requests at a time from each process; with it, some 200 a
	// second, each with what came meanwhile for all of its partitions. People do
	// not notice 5 ms.
	linger = 5 * time.Millisecond
	// deliveryTimeout bounds what may pile up for a caller that waits without a
	// deadline while Kafka is down.
	deliveryTimeout = 30 * time.Second
)

// NewAppender learns the topic's identity, for which it waits until ctx ends,
// and returns an Appender for that topic and no other of its name.
func NewAppender(ctx context.Context, config AppenderConfig) (*Appender, error) {
	if config.MaxBufferedBytes == 0 {
		config.MaxBufferedBytes = 64 << 20
	}
	if config.MaxBufferedRecords == 0 {
		config.MaxBufferedRecords = 100_000
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if config.MaxBufferedBytes < maxBatchBytes || config.MaxBufferedRecords < 1 {
		return nil, fmt.Errorf("appender: MaxBufferedBytes is at least %d, the largest event, and MaxBufferedRecords at least 1", maxBatchBytes)
	}
	client, err := config.client(
		kgo.DefaultProduceTopicAlways(), kgo.DefaultProduceTopic(config.Topic),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchMaxBytes(maxBatchBytes),
		kgo.MaxBufferedBytes(config.MaxBufferedBytes),
		kgo.MaxBufferedRecords(config.MaxBufferedRecords),
		kgo.ProducerLinger(linger),
		kgo.ProduceRequestTimeout(5*time.Second),
		kgo.RecordDeliveryTimeout(deliveryTimeout),
		// Snappy: most of a receipt is random IDs, of which zstd saves little more
		// for several times the work, and every rebuild of every copy unpacks it.
		kgo.ProducerBatchCompression(kgo.SnappyCompression(), kgo.NoCompression()),
	)
	if err != nil {
		return nil, err
	}
	identity, err := identify(ctx, client, config.Topic)
	if err != nil {
		client.Close()
		return nil, err
	}
	a := &Appender{client: client, topic: config.Topic, identity: identity, logger: config.Logger}
	ctx, a.stop = context.WithCancel(context.WithoutCancel(ctx))
	a.wg.Go(func() { a.watch(ctx) })
	return a, nil
}

// Identity is the topic that the entries go to.
func (a *Appender) Identity() Identity { return a.identity }

// Append appends entries, and returns when all are acknowledged, in their
// order. Entries for one partition are appended in their order, though not next
// to each other. When ctx ends, so does the wait; part of the entries may be
// written, then or later. An error wraps [ErrUnavailable], [ErrTopicChanged] or
// [events.ErrTooLarge], or says which entry is not one.
func (a *Appender) Append(ctx context.Context, entries []Entry) ([]Appended, error) {
	records := make([]kgo.Record, len(entries))
	for i, e := range entries {
		var err error
		if records[i], err = a.record(e); err != nil {
			return nil, fmt.Errorf("appending entry %d: %w", i, err)
		}
	}
	a.calls.RLock()
	defer a.calls.RUnlock()
	if a.closing.Load() {
		return nil, fmt.Errorf("appending to topic %q: %w", a.topic, ErrClosed)
	}
	if err := a.refused(); err != nil {
		return nil, err
	}
	if err := a.produce(ctx, records); err != nil {
		return nil, a.explain(err)
	}
	if err := a.bound(ctx); err != nil {
		return nil, err
	}
	appended := make([]Appended, len(records))
	for i := range records {
		appended[i] = Appended{Partition: records[i].Partition, Offset: records[i].Offset}
	}
	return appended, nil
}

func (a *Appender) record(e Entry) (kgo.Record, error) {
	switch {
	case e.Partition == AnyPartition && len(e.Key) == 0:
		return kgo.Record{}, errors.New("without a key it needs a partition")
	case e.Partition == AnyPartition:
		e.Partition = events.Partition(e.Key, a.identity.Partitions)
	case e.Partition < 0 || e.Partition >= a.identity.Partitions:
		return kgo.Record{}, fmt.Errorf("there is no partition %d of %d", e.Partition, a.identity.Partitions)
	}
	if n := len(e.Value); n > events.MaxEventSize {
		return kgo.Record{}, fmt.Errorf("%w: %d bytes", events.ErrTooLarge, n)
	}
	return kgo.Record{Key: e.Key, Value: e.Value, Partition: e.Partition}, nil
}

// produce returns when all records are acknowledged or have failed, or when ctx
// ends. In the last case the client may still write to the records, so they must
// not be read.
func (a *Appender) produce(ctx context.Context, records []kgo.Record) error {
	if len(records) == 0 {
		return nil
	}
	var (
		mu    sync.Mutex
		first error
		left  = len(records)
		done  = make(chan struct{})
	)
	acknowledged := func(_ *kgo.Record, err error) {
		mu.Lock()
		defer mu.Unlock()
		if first == nil {
			first = err
		}
		if left--; left == 0 {
			close(done)
		}
	}
	for i := range records {
		// Produce waits while the buffer is full, no longer than ctx.
		a.client.Produce(ctx, &records[i], acknowledged)
	}
	select {
	case <-done:
		return first
	case <-ctx.Done():
		// A record that was sent but not answered cannot be taken back: its
		// number in the partition's sequence is used. The client sees to it; the
		// caller does not wait for that.
		return fmt.Errorf("waiting for the acknowledgement: %w", context.Cause(ctx))
	}
}

// bound makes sure, once, that what was acknowledged went to the topic of the
// Appender's identity. The client binds itself to the ID that it finds at its
// first record, which may be that of a topic recreated since identify; IDs do
// not come back, so if the topic has ours now, it had then.
func (a *Appender) bound(ctx context.Context) error {
	if a.same.Load() {
		return nil
	}
	if err := a.look(ctx); err != nil {
		return err
	}
	a.same.Store(true)
	return nil
}

// explain says what came of the entries, in the terms of Append.
func (a *Appender) explain(err error) error {
	switch {
	case errors.Is(err, kerr.UnknownTopicID):
		// The client never goes over to a topic of another ID.
		return a.refuse(fmt.Errorf("topic %q: %w: it was recreated: restart with a higher --generation, and build new copies", a.topic, ErrTopicChanged))
	case errors.Is(err, kerr.MessageTooLarge):
		return fmt.Errorf("appending to topic %q: %w: raise its max.message.bytes; `seenby topic check` says to what: %w", a.topic, events.ErrTooLarge, err)
	case errors.Is(err, kgo.ErrClientClosed):
		return fmt.Errorf("appending to topic %q: %w", a.topic, ErrClosed)
	}
	if refused := a.refused(); refused != nil {
		return refused
	}
	return fmt.Errorf("appending to topic %q: %w, all or in part; append the same again: %w", a.topic, ErrUnavailable, err)
}

// Close refuses new entries, waits for the calls of Append that are under way,
// no longer than ctx, and releases the Appender. Its error says how much was
// given up.
func (a *Appender) Close(ctx context.Context) error {
	a.closing.Store(true)
	idle := make(chan struct{})
	go func() {
		a.calls.Lock()
		defer a.calls.Unlock()
		close(idle)
	}()
	// Flushing sends at once what lingers, and waits too for what a caller who
	// went away has left.
	err := a.client.Flush(ctx)
	select {
	case <-idle:
	case <-ctx.Done():
	}
	if n := a.client.BufferedProduceRecords(); err != nil {
		err = fmt.Errorf("closing the appender: %d entries may not be written: %w", n, err)
	}
	a.stop()
	a.wg.Wait()
	a.client.Close() // ends what is still under way
	<-idle
	return err
}
