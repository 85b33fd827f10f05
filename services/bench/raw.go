package bench

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/events/topic"
)

// ConsumeSettings are those of franz-go's consumer that make a difference.
type ConsumeSettings struct {
	// Clients share the partitions.
	Clients int `json:"clients"`
	// PartitionBytes and FetchBytes bound an answer of a broker.
	PartitionBytes int32 `json:"partition_bytes"`
	FetchBytes     int32 `json:"fetch_bytes"`
	// Pooled has the client use buffers and records again.
	Pooled bool `json:"pooled"`
}

func (s ConsumeSettings) String() string {
	words := []string{fmt.Sprintf("clients=%d", s.Clients), "max.partition.fetch.bytes=" + size(int64(s.PartitionBytes)), "fetch.max.bytes=" + size(int64(s.FetchBytes))}
	if s.Pooled {
		words = append(words, "pooled")
	}
	return strings.Join(words, " ")
}

// consumeCandidates are what the best consumer is chosen from; the first is
// franz-go's defaults.
var consumeCandidates = []ConsumeSettings{
	{Clients: 1, PartitionBytes: 1 << 20, FetchBytes: 50 << 20},
	{Clients: 1, PartitionBytes: 1 << 20, FetchBytes: 16 << 20},
	{Clients: 1, PartitionBytes: 256 << 10, FetchBytes: 4 << 20},
	{Clients: 1, PartitionBytes: 256 << 10, FetchBytes: 4 << 20, Pooled: true},
	{Clients: 2, PartitionBytes: 512 << 10, FetchBytes: 4 << 20, Pooled: true},
	{Clients: 2, PartitionBytes: 1 << 20, FetchBytes: 8 << 20},
	{Clients: 2, PartitionBytes: 256 << 10, FetchBytes: 4 << 20},
	{Clients: 2, PartitionBytes: 256 << 10, FetchBytes: 4 << 20, Pooled: true},
	{Clients: 4, PartitionBytes: 256 << 10, FetchBytes: 4 << 20},
}

// RawConsumed is what a raw consumer did.
type RawConsumed struct {
	Records int64   `json:"records"`
	Seconds float64 `json:"seconds"`
}

// consume reads the topic from its start until it has so many records, and does
// nothing with them.
func consume(ctx context.Context, c topic.Connection, partitions int32, records int64, s ConsumeSettings) (RawConsumed, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	begun := time.Now()
	var seen atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, s.Clients)
	for i := range s.Clients {
		wg.Go(func() {
			if errs[i] = consumeShare(ctx, c, s, share(c.Topic, partitions, i, s.Clients), &seen, records); errs[i] != nil || seen.Load() >= records {
				cancel()
			}
		})
	}
	wg.Wait()
	done := RawConsumed{Records: seen.Load(), Seconds: time.Since(begun).Seconds()}
	if done.Records >= records {
		return done, nil
	}
	return done, errors.Join(fmt.Errorf("raw consume: %d of %d records came", done.Records, records), errors.Join(errs...), context.Cause(ctx))
}

// share is what one of some clients reads.
func share(topic string, partitions int32, client, clients int) map[string]map[int32]kgo.Offset {
	offsets := make(map[int32]kgo.Offset)
	for p := int32(client); p < partitions; p += int32(clients) {
		offsets[p] = kgo.NewOffset().AtStart()
	}
	return map[string]map[int32]kgo.Offset{topic: offsets}
}

func consumeShare(ctx context.Context, c topic.Connection, s ConsumeSettings, share map[string]map[int32]kgo.Offset, seen *atomic.Int64, records int64) error {
	options := []kgo.Opt{
		kgo.ConsumePartitions(share), kgo.FetchMaxPartitionBytes(s.PartitionBytes), kgo.FetchMaxBytes(s.FetchBytes),
		kgo.BrokerMaxReadBytes(max(100<<20, 2*s.FetchBytes)),
	}
	if s.Pooled {
		options = append(options, kgo.WithPools(new(pools)))
	}
	client, err := topic.RawClient(c, options...)
	if err != nil {
		return err
	}
	defer client.Close()
	for seen.Load() < records {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("raw consume: %w", err)
		}
		var n int64
		fetches.EachPartition(func(p kgo.FetchTopicPartition) { n += int64(len(p.Records)) })
		seen.Add(n)
		if s.Pooled {
			fetches.EachRecord(func(r *kgo.Record) { r.Recycle() })
		}
	}
	return nil
}

// pools has franz-go's buffers used again.
type pools struct{ bytes, records sync.Pool }

var (
	_ kgo.PoolDecompressBytes = (*pools)(nil)
	_ kgo.PoolRecords         = (*pools)(nil)
)

func (p *pools) GetDecompressBytes(compressed []byte, _ kgo.CompressionCodecType) []byte {
	if b, _ := p.bytes.Get().(*[]byte); b != nil {
		return *b
	}
	return make([]byte, 0, 4*len(compressed))
}

func (p *pools) PutDecompressBytes(b []byte) { p.bytes.Put(&b) }

func (p *pools) GetRecords(n int) []kgo.Record {
	if b, _ := p.records.Get().(*[]kgo.Record); b != nil && cap(*b) >= n {
		return (*b)[:0]
	}
	return make([]kgo.Record, 0, n)
}

func (p *pools) PutRecords(b []kgo.Record) { p.records.Put(&b) }

// ProduceSettings are those of franz-go's producer that make a difference. It
// always waits for all in-sync replicas, and writes no record twice.
type ProduceSettings struct {
	Codec        string `json:"codec"`
	LingerMillis int    `json:"linger_ms"`
	BatchBytes   int32  `json:"batch_bytes"`
}

func (s ProduceSettings) String() string {
	return fmt.Sprintf("acks=all compression=%s linger=%dms batch=%s", s.Codec, s.LingerMillis, size(int64(s.BatchBytes)))
}

// fillSettings write the topics that are rebuilt from.
var fillSettings = ProduceSettings{Codec: "zstd", LingerMillis: 50, BatchBytes: 1 << 20}

// produceCandidates are what the best producer is chosen from.
var produceCandidates = []ProduceSettings{
	{Codec: "none", LingerMillis: 10, BatchBytes: 1 << 20},
	{Codec: "snappy", LingerMillis: 10, BatchBytes: 1 << 20},
	{Codec: "lz4", LingerMillis: 10, BatchBytes: 1 << 20},
	{Codec: "zstd", LingerMillis: 10, BatchBytes: 1 << 20},
	{Codec: "snappy", LingerMillis: 50, BatchBytes: 1 << 20},
	{Codec: "none", LingerMillis: 50, BatchBytes: 1 << 20},
}

func (s ProduceSettings) options() ([]kgo.Opt, error) {
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	codec, known := codecs[s.Codec]
	if !known {
		return nil, fmt.Errorf("raw produce: there is no codec %q", s.Codec)
	}
	return []kgo.Opt{
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerBatchCompression(codec), kgo.ProducerLinger(time.Duration(s.LingerMillis) * time.Millisecond),
		kgo.ProducerBatchMaxBytes(s.BatchBytes), kgo.MaxBufferedRecords(200_000), kgo.MaxBufferedBytes(128 << 20),
		// As the default does, but without hashing into an allocated buffer.
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
	}, nil
}

// producer appends events to a topic as fast as it can.
type producer struct {
	client     *kgo.Client
	partitions int32
	failed     atomic.Pointer[error]
	bytes      int64
	// Records and values are cut from slabs, which are let go whole.
	records []kgo.Record
	values  []byte
}

func newProducer(c topic.Connection, partitions int32, s ProduceSettings) (*producer, error) {
	options, err := s.options()
	if err != nil {
		return nil, err
	}
	client, err := topic.RawClient(c, append(options, kgo.DefaultProduceTopic(c.Topic))...)
	if err != nil {
		return nil, err
	}
	return &producer{client: client, partitions: partitions}, nil
}

const (
	recordSlab = 1_024
	valueSlab  = 256 << 10
	// valueRoom is more than a receipt takes.
	valueRoom = 512
)

// append appends an event. Its key must stay as it is.
func (p *producer) append(ctx context.Context, e events.Event) error {
	var value []byte
	var err error
	if e.Kind() == events.KindMessageRead {
		if cap(p.values)-len(p.values) < valueRoom {
			p.values = make([]byte, 0, valueSlab)
		}
		begin := len(p.values)
		p.values, err = events.AppendEncode(p.values, e)
		value = p.values[begin:len(p.values):len(p.values)]
	} else {
		value, err = events.AppendEncode(nil, e)
	}
	if err != nil {
		return err
	}
	return p.write(ctx, e.Key(), value)
}

func (p *producer) write(ctx context.Context, key, value []byte) error {
	if len(p.records) == 0 {
		p.records = make([]kgo.Record, recordSlab)
	}
	r := &p.records[0]
	p.records = p.records[1:]
	r.Key, r.Value, r.Partition = key, value, events.Partition(key, p.partitions)
	p.bytes += int64(len(key) + len(value))
	p.client.Produce(ctx, r, p.promise)
	if failed := p.failed.Load(); failed != nil {
		return fmt.Errorf("raw produce: %w", *failed)
	}
	return nil
}

func (p *producer) promise(_ *kgo.Record, err error) {
	if err != nil {
		p.failed.CompareAndSwap(nil, &err)
	}
}

// flush waits until all is acknowledged.
func (p *producer) flush(ctx context.Context) error {
	if err := p.client.Flush(ctx); err != nil {
		return fmt.Errorf("raw produce: %w", err)
	}
	if failed := p.failed.Load(); failed != nil {
		return fmt.Errorf("raw produce: %w", *failed)
	}
	return nil
}

// Filled is what a topic was filled with.
type Filled struct {
	Settings string  `json:"settings"`
	Records  int64   `json:"records"`
	Seconds  float64 `json:"seconds"`
	// Bytes are those of keys and values, LogBytes what the log takes on a broker's
	// disk, compressed.
	Bytes    int64 `json:"bytes"`
	LogBytes int64 `json:"log_bytes"`
}

// fill appends a workload to a topic.
func fill(ctx context.Context, c topic.Connection, partitions int32, w Workload, now func() int64) (Filled, error) {
	p, err := newProducer(c, partitions, fillSettings)
	if err != nil {
		return Filled{}, err
	}
	defer p.client.Close()
	begun := time.Now()
	if err := w.Each(now, func(e events.Event) error { return p.append(ctx, e) }); err != nil {
		return Filled{}, err
	}
	if err := p.flush(ctx); err != nil {
		return Filled{}, err
	}
	filled := Filled{Settings: fillSettings.String(), Records: w.Events(), Seconds: time.Since(begun).Seconds(), Bytes: p.bytes}
	filled.LogBytes, err = logBytes(ctx, p.client, c.Topic)
	return filled, err
}

// logBytes is what the leaders' logs of a topic take.
func logBytes(ctx context.Context, client *kgo.Client, topic string) (int64, error) {
	dirs, err := kadm.NewClient(client).DescribeAllLogDirs(ctx, nil)
	if err != nil {
		return 0, fmt.Errorf("asking Kafka for the size of topic %q: %w", topic, err)
	}
	largest := make(map[int32]int64)
	dirs.Each(func(d kadm.DescribedLogDir) {
		for p, log := range d.Topics[topic] {
			largest[p] = max(largest[p], log.Size)
		}
	})
	var sum int64
	for _, n := range largest {
		sum += n
	}
	return sum, nil
}

// kafkaVersion is what the brokers are, as far as they tell.
func kafkaVersion(ctx context.Context, c topic.Connection) string {
	client, err := topic.RawClient(c)
	if err != nil {
		return ""
	}
	defer client.Close()
	versions, err := kadm.NewClient(client).ApiVersions(ctx)
	if err != nil {
		return ""
	}
	for _, v := range versions.Sorted() {
		if v.Err == nil {
			return v.VersionGuess()
		}
	}
	return ""
}

// size writes a number of bytes for people.
func size(n int64) string { return humanize.IBytes(uint64(max(0, n))) }

// endsOf is where the partitions of a topic end.
func endsOf(ctx context.Context, client *kgo.Client, topic string) (map[int32]int64, error) {
	listed, err := kadm.NewClient(client).ListEndOffsets(ctx, topic)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("asking Kafka where topic %q ends: %w", topic, err)
	}
	ends := make(map[int32]int64)
	listed.Each(func(o kadm.ListedOffset) { ends[o.Partition] = o.Offset })
	return ends, nil
}
