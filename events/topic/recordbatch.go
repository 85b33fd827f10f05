package topic

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/seenby/seenby/events"
)

// recordBatch is a record batch as the log holds it, of format 2, the only one
// since Kafka 0.11. Its header, big-endian:
//
//	first offset 8 | length 4 | leader epoch 4 | magic 1 | CRC 4 | attributes 2 |
//	last offset delta 4 | first timestamp 8 | max timestamp 8 | producer 14 | records 4
//
// The length counts from after itself, the CRC is of what comes after it. The
// attributes' bits are: 0-2 the codec, 3 LogAppendTime (the max timestamp is
// every record's then), 4 transactional, 5 control.
type recordBatch []byte

// batchHeader is the size of a record batch before its records.
const batchHeader = 61

const (
	codecMask     = 0x07
	logAppendTime = 0x08
	transactional = 0x10
	control       = 0x20
)

// nextBatch splits the first record batch off. Brokers cut answers off where
// they are long enough, so that what is not whole says nothing: ok is false.
func nextBatch(batches []byte) (b recordBatch, rest []byte, ok bool, err error) {
	if len(batches) < 17 {
		return nil, nil, false, nil
	}
	length := int64(int32(binary.BigEndian.Uint32(batches[8:]))) + 12
	if length < 12 || length > int64(len(batches)) {
		return nil, nil, false, nil
	}
	switch magic := batches[16]; {
	case magic != 2:
		return nil, nil, false, fmt.Errorf("a record batch of format %d; only 2 is known, which brokers of Kafka 3.1 or later answer with", magic)
	case length < batchHeader:
		return nil, nil, false, fmt.Errorf("a record batch of %d bytes", length)
	}
	return batches[:length], batches[length:], true, nil
}

func (b recordBatch) first() int64          { return int64(binary.BigEndian.Uint64(b)) }
func (b recordBatch) epoch() int32          { return int32(binary.BigEndian.Uint32(b[12:])) }
func (b recordBatch) crc() uint32           { return binary.BigEndian.Uint32(b[17:]) }
func (b recordBatch) attributes() uint16    { return binary.BigEndian.Uint16(b[21:]) }
func (b recordBatch) is(attribute int) bool { return b.attributes()&uint16(attribute) != 0 }
func (b recordBatch) codec() int            { return int(b.attributes() & codecMask) }
func (b recordBatch) last() int64           { return b.first() + int64(int32(binary.BigEndian.Uint32(b[23:]))) }
func (b recordBatch) firstTimestamp() int64 { return int64(binary.BigEndian.Uint64(b[27:])) }
func (b recordBatch) maxTimestamp() int64   { return int64(binary.BigEndian.Uint64(b[35:])) }
func (b recordBatch) producer() int64       { return int64(binary.BigEndian.Uint64(b[43:])) }
func (b recordBatch) count() int            { return int(int32(binary.BigEndian.Uint32(b[57:]))) }
func (b recordBatch) packed() []byte        { return b[batchHeader:] }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// check says what is wrong with the header, or with the bytes as a whole.
func (b recordBatch) check() error {
	if sum := crc32.Checksum(b[21:], castagnoli); sum != b.crc() {
		return fmt.Errorf("a record batch is corrupt: its CRC is %08x, not %08x", sum, b.crc())
	}
	if b.first() < 0 || b.last() < b.first() || b.last() == math.MaxInt64 || b.count() < 0 {
		return fmt.Errorf("a record batch is corrupt: %d records from offset %d to %d", b.count(), b.first(), b.last())
	}
	return nil
}

// minRecord is the least size of a record: seven numbers of one byte.
const minRecord = 7

var errRecord = errors.New("a record batch is corrupt: a record is not as its length says")

// appendRecords appends the batch's records from position on, of which there is
// room for all. raw are the unpacked records:
//
//	length | attributes 1 | timestamp delta | offset delta |
//	key length | key | value length | value | headers (key, value)*
//
// All numbers but the attributes are zigzag varints; no key is of length -1.
func (b recordBatch) appendRecords(to []events.Record, raw []byte, position int64) ([]events.Record, error) {
	first, lastDelta, epoch, isControl := b.first(), b.last()-b.first(), b.epoch(), b.is(control)
	timestamp, timestamps := b.firstTimestamp(), int64(-1) // a mask
	if b.is(logAppendTime) {
		timestamp, timestamps = b.maxTimestamp(), 0
	}
	before := int64(-1) // the offset delta of the last record
	for range b.count() {
		length, i := varint(raw, 0)
		if i < 0 || length < 1 || length > int64(len(raw)-i) {
			return to, errRecord
		}
		r := raw[i : i+int(length)]
		raw = raw[i+int(length):]
		age, i := varint(r, 1)
		delta, i := varint(r, i)
		key, i := field(r, i)
		value, i := field(r, i)
		if i = skipHeaders(r, i); i != len(r) {
			return to, errRecord
		}
		if delta <= before || delta > lastDelta {
			return to, fmt.Errorf("a record batch is corrupt: offset %d follows %d, in a batch from %d to %d", first+delta, first+before, first, first+lastDelta)
		}
		before = delta
		if first+delta < position {
			continue
		}
		to = to[:len(to)+1]
		x := &to[len(to)-1]
		x.Offset, x.Timestamp, x.LeaderEpoch, x.Control = first+delta, timestamp+age&timestamps, epoch, isControl
		x.Key, x.Value = key, value
	}
	if len(raw) > 0 {
		return to, fmt.Errorf("a record batch is corrupt: %d bytes follow its %d records", len(raw), b.count())
	}
	return to, nil
}

// varint reads a number of b from i on and returns where the next one begins, or
// -1 if there is none, or i is negative.
func varint(b []byte, i int) (v int64, next int) {
	if uint(i) < uint(len(b)) && b[i] < 0x80 {
		return int64(b[i]>>1) ^ -int64(b[i]&1), i + 1
	}
	return longVarint(b, i)
}

func longVarint(b []byte, i int) (v int64, next int) {
	if i < 0 || i >= len(b) {
		return 0, -1
	}
	if i+1 < len(b) && b[i+1] < 0x80 {
		u := uint64(b[i]&0x7f) | uint64(b[i+1])<<7
		return int64(u>>1) ^ -int64(u&1), i + 2
	}
	v, n := binary.Varint(b[i:])
	if n <= 0 {
		return 0, -1
	}
	return v, i + n
}

// field reads a key or a value, nil if there is none.
func field(b []byte, i int) ([]byte, int) {
	n, i := varint(b, i)
	switch {
	case i < 0 || n > int64(len(b)-i):
		return nil, -1
	case n < 0:
		return nil, i
	}
	end := i + int(n)
	return b[i:end:end], end
}

func skipHeaders(b []byte, i int) int {
	n, i := varint(b, i)
	for ; n > 0 && i >= 0; n-- {
		_, i = field(b, i)
		_, i = field(b, i)
	}
	return i
}
