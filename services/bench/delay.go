package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/events/topic"
)

// delayTask has a child produce receipts at a rate, raw, and fetch them.
type delayTask struct {
	Settings    ProduceSettings
	Rate, Batch int
	// Warm seconds come before Seconds, and do not count.
	Seconds, Warm int
	Seed          uint64
	Turn          int
}

// RawDelay is what came of it.
type RawDelay struct {
	// Fetch is from the call that produces a record to its being fetched; AckToFetch
	// from its acknowledgement, and 0 where it was fetched before.
	Fetch      Latency `json:"fetch"`
	AckToFetch Latency `json:"ack_to_fetch"`
	Rate       float64 `json:"receipts_per_second"`
}

// watched is a record whose way is followed; times are nanoseconds since the
// start.
type watched struct {
	produced, acked, fetched atomic.Int64
}

// fetchTimeout is how long the last record may take.
const fetchTimeout = 30 * time.Second

func (t *delayTask) run(ctx context.Context, at topic.Connection, partitions int32) (RawDelay, error) {
	n := t.Rate / t.Batch * (t.Warm + t.Seconds)
	reads, err := receipts(traffic(t.Seed^0x5eed, t.Turn, n*t.Batch), func() int64 { return time.Now().UnixMilli() }, n*t.Batch)
	if err != nil {
		return RawDelay{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d := delaying{task: t, begun: time.Now(), partitions: partitions, watched: make([]watched, n), byKey: make(map[string]int, n), all: make(chan struct{})}
	for i := range n {
		r := &reads[i*t.Batch+int(mix(uint64(i))%uint64(t.Batch))]
		d.byKey[string(r.MessageID)+string(r.ReaderID)] = i
	}
	consumer, err := fromEnd(ctx, at, partitions)
	if err != nil {
		return RawDelay{}, err
	}
	defer consumer.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { d.fetch(ctx, consumer) })
	rate, err := d.produce(ctx, at, reads)
	if err != nil {
		return RawDelay{}, err
	}
	select {
	case <-d.all:
	case <-ctx.Done():
		return RawDelay{}, ctx.Err()
	case <-time.After(fetchTimeout):
		return RawDelay{}, errors.New("raw fetch: not all records came")
	}
	return d.result(rate), nil
}

// fromEnd returns a consumer of what is written from now on.
func fromEnd(ctx context.Context, at topic.Connection, partitions int32) (*kgo.Client, error) {
	probe, err := topic.RawClient(at)
	if err != nil {
		return nil, err
	}
	defer probe.Close()
	ends, err := endsOf(ctx, probe, at.Topic)
	if err != nil {
		return nil, err
	}
	offsets := make(map[int32]kgo.Offset)
	for p := range partitions {
		offsets[p] = kgo.NewOffset().At(ends[p])
	}
	return topic.RawClient(at, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{at.Topic: offsets}),
		kgo.FetchMinBytes(1), kgo.FetchMaxWait(500*time.Millisecond))
}

type delaying struct {
	task       *delayTask
	begun      time.Time
	partitions int32
	watched    []watched
	byKey      map[string]int
	all        chan struct{}
}

func (d *delaying) now() int64 { return int64(time.Since(d.begun)) }

// fetch notes when the watched records come, until all have.
func (d *delaying) fetch(ctx context.Context, client *kgo.Client) {
	left := len(d.watched)
	decoder := new(events.Decoder)
	for left > 0 && ctx.Err() == nil {
		fetches := client.PollFetches(ctx)
		now := d.now()
		fetches.EachRecord(func(r *kgo.Record) {
			e, err := decoder.Decode(r.Key, r.Value)
			read, ok := e.(*events.MessageRead)
			if err != nil || !ok {
				return
			}
			if i, found := d.byKey[string(read.MessageID)+string(read.ReaderID)]; found && d.watched[i].fetched.CompareAndSwap(0, now) {
				left--
			}
		})
	}
	if left == 0 {
		close(d.all)
	}
}

// produce writes a batch whenever one is due, and returns the rate that came of it.
func (d *delaying) produce(ctx context.Context, at topic.Connection, reads []events.MessageRead) (float64, error) {
	p, err := newProducer(at, d.partitions, d.task.Settings)
	if err != nil {
		return 0, err
	}
	defer p.client.Close()
	interval := time.Duration(float64(time.Second) * float64(d.task.Batch) / float64(d.task.Rate))
	begun := time.Now()
	for i := range d.watched {
		if !sleepUntil(ctx, begun.Add(time.Duration(i)*interval)) {
			return 0, ctx.Err()
		}
		batch := reads[i*d.task.Batch : (i+1)*d.task.Batch]
		d.watched[i].produced.Store(d.now())
		for j := range batch {
			if j == int(mix(uint64(i))%uint64(d.task.Batch)) {
				err = p.appendWatched(ctx, &batch[j], func() { d.watched[i].acked.Store(d.now()) })
			} else {
				err = p.append(ctx, &batch[j])
			}
			if err != nil {
				return 0, err
			}
		}
	}
	if err := p.flush(ctx); err != nil {
		return 0, err
	}
	return float64(len(reads)) / time.Since(begun).Seconds(), nil
}

func (d *delaying) result(rate float64) RawDelay {
	var fetch, ack []float64
	for i := d.task.Rate / d.task.Batch * d.task.Warm; i < len(d.watched); i++ {
		w := &d.watched[i]
		fetch = append(fetch, milliseconds(time.Duration(w.fetched.Load()-w.produced.Load())))
		ack = append(ack, milliseconds(time.Duration(max(0, w.fetched.Load()-w.acked.Load()))))
	}
	return RawDelay{Fetch: latencyOf(fetch), AckToFetch: latencyOf(ack), Rate: rate}
}

// appendWatched appends an event and tells when it is acknowledged.
func (p *producer) appendWatched(ctx context.Context, e events.Event, acked func()) error {
	value, err := events.AppendEncode(nil, e)
	if err != nil {
		return err
	}
	p.client.Produce(ctx, &kgo.Record{Key: e.Key(), Value: value, Partition: events.Partition(e.Key(), p.partitions)}, func(r *kgo.Record, err error) {
		acked()
		p.promise(r, err)
	})
	if failed := p.failed.Load(); failed != nil {
		return fmt.Errorf("raw produce: %w", *failed)
	}
	return nil
}
