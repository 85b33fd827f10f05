package topic

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/seenby/seenby/events"
)

// decoder turns brokers' answers into records, one answer at a time. It does what
// franz-go's consumer does with them, but into records that are ours and memory
// that is used again: reading a log from its start costs little else.
type decoder struct {
	unpacker *unpacker
	// enough is how many bytes of memory end an answer: the batches after that are
	// left for the next. What is asked for is bounded as it lies in the log, what
	// it is unpacked to is not.
	enough int64
}

// enoughFor is how much larger than it was asked for an answer may become.
const enoughFor = 32

func newDecoder(partitionBytes int32) *decoder {
	return &decoder{newUnpacker(unpackLimit), min(enoughFor*int64(partitionBytes), unpackLimit)}
}

// decode returns the memory with the records of a partition's answer that are to
// be handed out, from position on, and the position after them. If it fails, the
// records of the batches before the one that cannot be decoded are returned with
// the error.
func (d *decoder) decode(position int64, answer *kmsg.FetchResponseTopicPartition) (m *memory, next int64, err error) {
	m, next = new(memory), position
	aborted := abortedBy(answer.AbortedTransactions)
	expected := expectedRecords(answer.RecordBatches)
	for rest := answer.RecordBatches; m.used() < d.enough; {
		var b recordBatch
		var ok bool
		if b, rest, ok, err = nextBatch(rest); err == nil && !ok {
			break
		}
		if err == nil {
			err = b.check()
		}
		if err != nil {
			break
		}
		expected = max(expected-b.count(), 0)
		if b.last() < next {
			continue
		}
		if aborted.includes(b) && !b.is(control) {
			next = b.last() + 1
			continue
		}
		from := len(m.records)
		if err = d.batch(m, b, next, len(rest), expected); err != nil {
			clear(m.records[from:])
			m.records = m.records[:from]
			break
		}
		if b.is(control) {
			aborted.end(b, m.records[from:])
		}
		next = b.last() + 1
	}
	if err != nil {
		err = fmt.Errorf("decoding at offset %d: %w", next, err)
	} else if next == position && len(answer.RecordBatches) > 0 {
		err = fmt.Errorf("the broker's answer for offset %d holds %d bytes, but nothing from there on", next, len(answer.RecordBatches))
	}
	leftOut := next > position
	if n := len(m.records); n > 0 {
		leftOut = next > m.records[n-1].Offset+1
	}
	if leftOut {
		m.room(1, 0)
		m.records = append(m.records, standIn(answer.RecordBatches, next))
	}
	return m, next, err
}

// batch adds a batch's records from position on to m. rest and expected are how
// many bytes, and records, of the answer follow.
func (d *decoder) batch(m *memory, b recordBatch, position int64, rest, expected int) error {
	raw, err := d.unpacker.unpack(b.codec(), b.packed(), m, d.unpacker.expect(rest))
	if err != nil {
		return fmt.Errorf("unpacking a record batch from offset %d to %d: %w", b.first(), b.last(), err)
	}
	n := b.count()
	if n > len(raw)/minRecord {
		return fmt.Errorf("a record batch is corrupt: it is to have %d records, in %d bytes", n, len(raw))
	}
	if int64(n)*recordSize+int64(len(raw)) > int64(d.unpacker.limit) {
		return tooLarge(d.unpacker.limit)
	}
	m.room(n, expected)
	m.records, err = b.appendRecords(m.records, raw, position)
	return err
}

// expectedRecords is how many records batches say that they have. It is a hint,
// and bounded, as nothing of them has been checked.
func expectedRecords(batches []byte) (n int) {
	const most = 1 << 16
	for n < most {
		b, rest, ok, err := nextBatch(batches)
		if err != nil || !ok || b.count() < 0 {
			break
		}
		n, batches = n+b.count(), rest
	}
	return min(n, most)
}

// aborted are the aborted transactions that an answer has batches of: for each
// producer where they begin, in order. What a producer writes from there to the
// marker that ends the transaction has been aborted.
type aborted map[int64][]int64

func abortedBy(transactions []kmsg.FetchResponseTopicPartitionAbortedTransaction) aborted {
	if len(transactions) == 0 {
		return nil
	}
	a := make(aborted)
	for _, t := range transactions {
		a[t.ProducerID] = append(a[t.ProducerID], t.FirstOffset)
	}
	for _, firsts := range a {
		slices.Sort(firsts) // not every broker does that
	}
	return a
}

// includes says whether the batch is part of an aborted transaction.
func (a aborted) includes(b recordBatch) bool {
	if len(a) == 0 || !b.is(transactional) {
		return false
	}
	firsts := a[b.producer()]
	return len(firsts) > 0 && b.first() >= firsts[0]
}

// end is told of a control batch: its record is a marker, whose key says, after
// a version, how the transaction ended: 0 for aborted.
func (a aborted) end(b recordBatch, markers []events.Record) {
	if !a.includes(b) {
		return
	}
	for _, r := range markers {
		if len(r.Key) >= 4 && r.Key[2] == 0 && r.Key[3] == 0 {
			a[b.producer()] = a[b.producer()][1:]
			return
		}
	}
}

// standIn is the record that stands for those that were left out before next.
// Its epoch has to be that of the batch that they were in, not of the last
// record before: that is what the log is held to from here on.
func standIn(batches []byte, next int64) events.Record {
	r := events.Record{Offset: next - 1, LeaderEpoch: noEpoch, Control: true}
	for len(batches) >= batchHeader {
		b := recordBatch(batches[:batchHeader])
		if b.first() >= next {
			break
		}
		r.LeaderEpoch, r.Timestamp = b.epoch(), b.maxTimestamp()
		length := int64(int32(binary.BigEndian.Uint32(b[8:]))) + 12
		if length < batchHeader || length > int64(len(batches)) {
			break
		}
		batches = batches[length:]
	}
	return r
}

// epochAt returns the leader epoch of the batch that offset is in, if batches
// hold it.
func epochAt(batches []byte, offset int64) (epoch int32, found bool) {
	if len(batches) < batchHeader {
		return 0, false
	}
	b := recordBatch(batches[:batchHeader])
	if offset < b.first() || offset > b.last() {
		return 0, false
	}
	return b.epoch(), true
}
