package topic

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/seenby/seenby/events"
)

// codecs are by the attributes that they are named by.
var codecs = map[int16]kgo.CompressionCodec{
	packedNot: kgo.NoCompression(), packedGzip: kgo.GzipCompression(), packedSnappy: kgo.SnappyCompression(),
	packedLZ4: kgo.Lz4Compression(), packedZstd: kgo.ZstdCompression(),
}

// compressors, and a decompressor, are made once: each takes much memory.
var (
	compressors = func() map[int16]kgo.Compressor {
		all := make(map[int16]kgo.Compressor)
		for attributes, codec := range codecs {
			all[attributes], _ = kgo.DefaultCompressor(codec)
		}
		return all
	}()
	decompressor = kgo.DefaultDecompressor()
)

// testBatch is a record batch to be.
type testBatch struct {
	first      int64
	lastDelta  int32
	epoch      int32
	attributes int16
	producer   int64
	timestamp  int64
	records    []testRecord
	xerial     bool // packed as Java does, if with Snappy
}

type testRecord struct {
	delta      int32
	age        int64
	key, value []byte
	headers    int
}

func pack(tb testing.TB, t testBatch) []byte {
	tb.Helper()
	var raw []byte
	for _, r := range t.records {
		b := kbin.AppendVarint(kbin.AppendVarlong([]byte{0}, r.age), r.delta)
		b = kbin.AppendVarintBytes(kbin.AppendVarintBytes(b, r.key), r.value)
		b = kbin.AppendVarint(b, int32(r.headers))
		for i := range r.headers {
			b = kbin.AppendVarintBytes(kbin.AppendVarintString(b, fmt.Sprint("header ", i)), r.value)
		}
		raw = append(kbin.AppendVarint(raw, int32(len(b))), b...)
	}
	b := kmsg.NewRecordBatch()
	b.FirstOffset, b.LastOffsetDelta, b.PartitionLeaderEpoch, b.Magic = t.first, t.lastDelta, t.epoch, 2
	b.Attributes, b.ProducerID, b.NumRecords = t.attributes, t.producer, int32(len(t.records))
	b.FirstTimestamp, b.MaxTimestamp = t.timestamp, t.timestamp+1000
	b.Records = compress(tb, t.attributes&codecMask, raw)
	if t.xerial && len(raw) > 0 && t.attributes&codecMask == packedSnappy {
		b.Records = append(bytes.Clone(xerial), 0, 0, 0, 1, 0, 0, 0, 1)
		for at := 0; at < len(raw); at += 100 {
			block := compress(tb, packedSnappy, raw[at:min(at+100, len(raw))])
			b.Records = append(kbin.AppendInt32(b.Records, int32(len(block))), block...)
		}
	}
	b.Length = int32(len(b.AppendTo(nil)) - 12)
	return repair(b.AppendTo(nil))
}

func compress(tb testing.TB, codec int16, raw []byte) []byte {
	tb.Helper()
	c := compressors[codec]
	if c == nil {
		return raw
	}
	packed, used := c.Compress(new(bytes.Buffer), raw)
	if int16(used) != codec {
		tb.Fatalf("packed with codec %d, not %d", used, codec)
	}
	return bytes.Clone(packed)
}

// generated is a log with all that a log may have, and its aborted transactions.
func generated(tb testing.TB, r *rand.Rand) (log []testBatch, aborted []kmsg.FetchResponseTopicPartitionAbortedTransaction) {
	offset, epoch, timestamp := r.Int64N(1000), int32(r.IntN(3)), int64(1_700_000_000_000)
	began := make(map[int64]int64) // producers' open transactions
	for range 1 + r.IntN(30) {
		b := testBatch{first: offset, epoch: epoch, timestamp: timestamp, producer: -1, attributes: int16(r.IntN(5)), xerial: r.IntN(2) == 0}
		if r.IntN(2) == 0 {
			b.attributes |= logAppendTime
		}
		producer := int64(1 + r.IntN(2))
		first, open := began[producer]
		switch r.IntN(3) {
		case 0:
			b.producer = producer
			b.attributes |= transactional
			if !open {
				began[producer] = offset
			}
		case 1:
			if !open {
				break
			}
			delete(began, producer)
			b.producer = producer
			b.attributes = transactional | control
			kind := byte(1)
			if r.IntN(2) == 0 {
				kind = 0
				aborted = append(aborted, kmsg.FetchResponseTopicPartitionAbortedTransaction{ProducerID: producer, FirstOffset: first})
			}
			b.records = []testRecord{{key: []byte{0, 0, 0, kind}, value: []byte{0, 0, 0, 0, 0, 0}}}
		}
		if b.attributes&control == 0 {
			for range r.IntN(30) {
				b.records = append(b.records, generatedRecord(r, b.lastDelta))
				b.lastDelta += 1 + int32(r.IntN(2)*r.IntN(100)) // the rest was compacted away
			}
		}
		log = append(log, b)
		offset += int64(b.lastDelta) + 1 + int64(r.IntN(2)*r.IntN(5))
		epoch += int32(r.IntN(2))
		timestamp += r.Int64N(5000)
	}
	r.Shuffle(len(aborted), func(i, j int) { aborted[i], aborted[j] = aborted[j], aborted[i] })
	return log, aborted
}

func generatedRecord(r *rand.Rand, delta int32) testRecord {
	t := testRecord{delta: delta, age: r.Int64N(1000) - 100, headers: max(0, r.IntN(8)-5)}
	for _, b := range []*[]byte{&t.key, &t.value} {
		switch r.IntN(8) {
		case 0: // none
		case 1:
			*b = []byte{}
		default:
			*b = bytes.Repeat([]byte{byte(r.Uint32()), byte(r.Uint32())}, r.IntN(100))
		}
	}
	return t
}

// byKgo is what franz-go's consumer makes of an answer.
func byKgo(tb testing.TB, position int64, answer *kmsg.FetchResponseTopicPartition) (records []events.Record, next int64) {
	fp, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
		KeepControlRecords: true, Offset: position, IsolationLevel: kgo.ReadCommitted(),
	}, answer, decompressor, nil)
	if fp.Err != nil {
		tb.Fatal(fp.Err)
	}
	last := position
	for _, r := range fp.Records {
		records = append(records, events.Record{Offset: r.Offset, Timestamp: r.Timestamp.UnixMilli(), LeaderEpoch: r.LeaderEpoch,
			Control: r.Attrs.IsControl(), Key: r.Key, Value: r.Value})
		last = r.Offset + 1
	}
	if next > last {
		records = append(records, standIn(answer.RecordBatches, next))
	}
	return records, next
}

// TestDecodeAsKgo holds decode to franz-go's consumer, on logs with all codecs,
// gaps, transactions, and answers that begin and end anywhere.
func TestDecodeAsKgo(t *testing.T) {
	d := newDecoder(1 << 20)
	for seed := range uint64(1000) {
		r := rand.New(rand.NewPCG(seed, 0))
		log, aborted := generated(t, r)
		var batches []byte
		for _, b := range log {
			batches = append(batches, pack(t, b)...)
		}
		if r.IntN(2) == 0 {
			batches = batches[:r.IntN(len(batches)+1)]
		}
		first, last := log[0].first, log[len(log)-1].first
		position := max(0, first-3+r.Int64N(last-first+10))
		answer := &kmsg.FetchResponseTopicPartition{RecordBatches: batches, AbortedTransactions: aborted}
		want, wantNext := byKgo(t, position, answer)
		m, next, err := d.decode(position, answer)
		if (err != nil) != (wantNext == position && len(batches) > 0) {
			t.Fatalf("seed %d, position %d: %v", seed, position, err)
		}
		if next != wantNext {
			t.Fatalf("seed %d, position %d: the next position is %d, not %d", seed, position, next, wantNext)
		}
		if len(m.records) != len(want) {
			t.Fatalf("seed %d, position %d: %d records, not %d", seed, position, len(m.records), len(want))
		}
		for i, w := range want {
			g := m.records[i]
			if g.Offset != w.Offset || g.Timestamp != w.Timestamp || g.LeaderEpoch != w.LeaderEpoch || g.Control != w.Control ||
				!same(g.Key, w.Key) || !same(g.Value, w.Value) {
				t.Fatalf("seed %d, position %d: record %d:\n%+v, not\n%+v", seed, position, i, g, w)
			}
		}
		m.free()
	}
}

func same(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }

// bomb is a small batch that unpacks to a large one.
func bomb(tb testing.TB, codec int16, size int) []byte {
	return pack(tb, testBatch{attributes: codec, records: []testRecord{{value: make([]byte, size)}}})
}

func TestUnpackingIsBounded(t *testing.T) {
	const limit = 1 << 20
	for codec := range codecs {
		for size, fits := range map[int]bool{limit - 1<<10: true, limit + 1: false, 8 * limit: false} {
			d := &decoder{newUnpacker(limit), limit}
			m, next, err := d.decode(0, &kmsg.FetchResponseTopicPartition{RecordBatches: bomb(t, codec, size)})
			if fits && (err != nil || next != 1) || !fits && (!errors.Is(err, errUnpacked) || next != 0) {
				t.Errorf("codec %d, %d bytes: next %d, %v", codec, size, next, err)
			}
			if held := m.size(); held > 4*limit {
				t.Errorf("codec %d, %d bytes: %d are held", codec, size, held)
			}
		}
	}
	// The records of many tiny ones take more than their bytes.
	var many []testRecord
	for i := range limit / 70 {
		many = append(many, testRecord{delta: int32(i)})
	}
	d := &decoder{newUnpacker(limit), limit}
	b := pack(t, testBatch{attributes: packedZstd, lastDelta: int32(len(many)), records: many})
	if _, _, err := d.decode(0, &kmsg.FetchResponseTopicPartition{RecordBatches: b}); !errors.Is(err, errUnpacked) {
		t.Errorf("%d records without bytes: %v", len(many), err)
	}
	// Java's Snappy stream may have no blocks.
	if out, err := newUnpacker(limit).unpack(packedSnappy, append(bytes.Clone(xerial), 0, 0, 0, 1, 0, 0, 0, 1), new(memory), 0); err != nil || len(out) > 0 {
		t.Errorf("of no blocks: %d bytes, %v", len(out), err)
	}
	// What claims to be large is not believed.
	claim := []byte{0xff, 0xff, 0xff, 0xff, 0x07, 0}
	if _, err := newUnpacker(limit).unpack(packedSnappy, claim, new(memory), 0); !errors.Is(err, errUnpacked) {
		t.Errorf("a claim of gigabytes: %v", err)
	}
}

// An answer that unpacks to much more than was asked for is handed out in parts.
func TestDecodeInParts(t *testing.T) {
	var batches []byte
	for i := range int64(10) {
		batches = append(batches, pack(t, testBatch{first: i, attributes: packedZstd, records: []testRecord{{value: make([]byte, 100_000)}}})...)
	}
	d := newDecoder(10_000) // times 32: four batches
	var parts []int
	for position := int64(0); position < 10; {
		m, next, err := d.decode(position, &kmsg.FetchResponseTopicPartition{RecordBatches: batches})
		if err != nil || m.records[0].Offset != position || next != position+int64(len(m.records)) {
			t.Fatalf("at %d: next %d, %v", position, next, err)
		}
		parts = append(parts, len(m.records))
		position = next
	}
	if fmt.Sprint(parts) != "[4 4 2]" {
		t.Errorf("in parts of %v", parts)
	}
}

// Memory goes back once, however often it is released, and what is read next
// shares nothing with what was not.
func TestRelease(t *testing.T) {
	d := newDecoder(1 << 20)
	answer := func(s string) *kmsg.FetchResponseTopicPartition {
		return &kmsg.FetchResponseTopicPartition{RecordBatches: pack(t, testBatch{lastDelta: 1, attributes: packedZstd,
			records: []testRecord{{key: []byte(s)}, {delta: 1, value: []byte(s)}}})}
	}
	m, _, err := d.decode(0, answer("first"))
	if err != nil {
		t.Fatal(err)
	}
	b := Batch{Records: m.records, memory: m}
	b.Release()
	if b.Records[0].Key != nil {
		t.Error("released records keep others' memory alive")
	}
	b.Release()
	var kept []Batch
	for i := range 8 {
		m, _, err := d.decode(0, answer(fmt.Sprint("number ", i)))
		if err != nil {
			t.Fatal(err)
		}
		b.Release()
		kept = append(kept, Batch{Records: m.records, memory: m})
	}
	for i, b := range kept {
		if want := fmt.Sprint("number ", i); string(b.Records[0].Key) != want || string(b.Records[1].Value) != want {
			t.Errorf("%s became %s and %s", want, b.Records[0].Key, b.Records[1].Value)
		}
	}
	Batch{}.Release() // a batch that ends a partition has nothing to give back
}

// receipts is an answer as a rebuild gets them: receipts of some messages, read
// by people of one group, in packed batches of a producer's.
func receipts(tb testing.TB, batches, perBatch int) *kmsg.FetchResponseTopicPartition {
	tb.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	id := func() []byte {
		return fmt.Appendf(nil, "%08x-%04x-4%03x-8%03x-%012x", r.Uint32(), r.Uint32N(1<<16), r.Uint32N(1<<12), r.Uint32N(1<<12), r.Uint64N(1<<48))
	}
	var messages, people [][]byte
	for range 50 {
		messages = append(messages, id())
	}
	for range 2000 {
		people = append(people, id())
	}
	answer := new(kmsg.FetchResponseTopicPartition)
	for i := range batches {
		b := testBatch{first: int64(i * perBatch), lastDelta: int32(perBatch - 1), attributes: packedZstd | logAppendTime, timestamp: 1_700_000_000_000}
		for j := range perBatch {
			value, err := events.AppendEncode(nil, &events.MessageRead{MessageID: messages[r.IntN(len(messages))], ReaderID: people[r.IntN(len(people))], ReadAt: 1_700_000_000_000 + int64(j)})
			if err != nil {
				tb.Fatal(err)
			}
			b.records = append(b.records, testRecord{delta: int32(j), age: int64(j), key: messages[r.IntN(len(messages))], value: value})
		}
		answer.RecordBatches = append(answer.RecordBatches, pack(tb, b)...)
	}
	return answer
}

// TestDecodeAllocations: some for each answer, next to none for each record.
func TestDecodeAllocations(t *testing.T) {
	const records = 20 * 500
	answer := receipts(t, 20, 500)
	d := newDecoder(1 << 20)
	per := testing.AllocsPerRun(50, func() {
		m, next, err := d.decode(0, answer)
		if err != nil || next != records {
			t.Fatal(next, err)
		}
		m.free()
	})
	if per > records/100 {
		t.Errorf("%v allocations for %d records", per, records)
	}
}

// BenchmarkDecode is of one record, by decode and by franz-go's consumer.
func BenchmarkDecode(b *testing.B) {
	const perBatch, batches = 500, 40
	answer := receipts(b, batches, perBatch)
	b.Run("seenby", func(b *testing.B) {
		d := newDecoder(1 << 20)
		b.ReportAllocs()
		for n := 0; n < b.N; n += perBatch * batches {
			m, _, err := d.decode(0, answer)
			if err != nil {
				b.Fatal(err)
			}
			m.free()
		}
	})
	b.Run("kgo", func(b *testing.B) {
		b.ReportAllocs()
		for n := 0; n < b.N; n += perBatch * batches {
			fp, _ := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{IsolationLevel: kgo.ReadCommitted()}, answer, decompressor, nil)
			if fp.Err != nil || len(fp.Records) != perBatch*batches {
				b.Fatal(len(fp.Records), fp.Err)
			}
		}
	})
}

// What cannot be decoded is told with the offset, and what to do where that is
// known.
func TestDecodeErrors(t *testing.T) {
	d := &decoder{newUnpacker(1 << 10), 1 << 10}
	_, _, err := d.decode(0, &kmsg.FetchResponseTopicPartition{RecordBatches: bomb(t, packedZstd, 1<<20)})
	for _, want := range []string{"at offset 0", "1024 bytes", "make smaller ones"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
}
