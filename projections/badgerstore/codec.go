package badgerstore

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"

	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/materialize"
)

// Every value but meta ends with a CRC-32C over its key and the rest of it, big
// endian: it tells what is at its place from what was moved there. uv is a varint,
// v a zigzag varint, id an ID as ids.go says, s a uv and so many bytes.
//
//	checkpoint   | v position | v leader epoch | v timestamp | uv evicted | uv last erasure | uv undecodable |
//	digest       | 16 bytes |  then, if erasures were forgotten, | 16 bytes theirs | uv up to |
//	erasure      | v timestamp | id |
//	hour's list  | uv 2n | n times id |  or, if all are UUIDs  | uv 2n + 1 | n times 16 bytes |
//	               rosters' refs, 8 bytes each, big-endian, to the end |
//	message      | flags | v sent_at | uv sent | uv changed - sent, without flag 32 | id, with flag 8 16 bytes, conversation |
//	 (listed)      8 bytes ref | uv sender |
//	 (count-only)  id sender | uv given | uv settled |  then, with flag 4,
//	               uv taken at | uv taken ever | 16 bytes lost | uv n | n times uv difference of indexes |
//	 (both)        uv sealed chunks, without flag 16 | the open chunk, to the end |
//	               flags: 1 recalled, 2 count-only, 4 somebody was taken out, 8 the conversation is a UUID, 16 nothing is sealed, 32 unchanged
//	chunk        | as package projections has it |
//	mark         | |
//	roster       | flags: 1 all names are UUIDs, 2 somebody is gone, 4 somebody opted out, 8 cut into pieces |
//	               uv pieces, with flag 8 | v keep until | uv settled | uv n | n times 16 bytes, with flag 1, or id |
//	               n bits opted out, with flag 4 | with flag 2: uv gone | gone times: uv number's difference, uv next | 32 bytes hash |
//	waiting      | flags: 1 recall | id message | id reader | v read_at | v timestamp |
//	undecodable  | uv outcome | v offset | v timestamp | s reason | flags: 1 has key | s key | uv its size | s value | uv its size |
//	removed      | uv n | v first offset | n-1 times v difference |
//
// Receipts lie in chunks: those that are sealed have records of their own and are
// not written again; the open one, which is short, lies in the message's record. So
// a small message is one record, and a set that grows writes one record again, of
// some hundred bytes.
const (
	pieceSize = materialize.MaxPiece
	flag      = 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(key, value []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
}

// seal appends the checksum.
func seal(key, value []byte) []byte {
	return binary.BigEndian.AppendUint32(value, checksum(key, value))
}

var (
	errChecksum = errors.New("wrong checksum")
	errShort    = errors.New("too short")
	errLong     = errors.New("too long")
	errRange    = errors.New("a number out of range")
	errMissing  = errors.New("a record is missing")
)

// unseal checks and removes the checksum.
func unseal(key, value []byte) ([]byte, error) {
	n := len(value) - 4
	if n < 0 {
		return nil, errShort
	}
	if binary.BigEndian.Uint32(value[n:]) != checksum(key, value[:n]) {
		return nil, errChecksum
	}
	return value[:n:n], nil
}

// decoder reads values. After an error everything is zero and err stays.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.b = nil
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail(errShort)
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail(errShort)
		return 0
	}
	d.b = d.b[n:]
	return v
}

// number is a uvarint up to a limit.
func (d *decoder) number(limit uint64) uint64 {
	v := d.uvarint()
	if v > limit {
		d.fail(errRange)
		return 0
	}
	return v
}

func (d *decoder) uint32() uint32 { return uint32(d.number(math.MaxUint32)) }
func (d *decoder) int64() int64   { return int64(d.number(math.MaxInt64)) }

// count is a number of things that take a byte or more each.
func (d *decoder) count() int { return int(d.number(uint64(len(d.b)))) }

func (d *decoder) flag() bool { return d.number(flag) == flag }

func (d *decoder) take(n int) []byte {
	if n > len(d.b) {
		d.fail(errShort)
		return nil
	}
	taken := d.b[:n]
	d.b = d.b[n:]
	return taken
}

func (d *decoder) bytes() []byte  { return d.take(d.count()) }
func (d *decoder) string() string { return string(d.bytes()) }

// end returns the error, which there is too if anything is left.
func (d *decoder) end() error {
	if d.err == nil && len(d.b) > 0 {
		d.err = errLong
	}
	return d.err
}

func appendString[T ~string | ~[]byte](b []byte, s T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendFlag(b []byte, set bool) []byte {
	if set {
		return append(b, flag)
	}
	return append(b, 0)
}

func encodeCheckpoint(c projections.Checkpoint, undecodable int64) []byte {
	b := binary.AppendVarint(nil, c.Position)
	b = binary.AppendVarint(b, int64(c.LeaderEpoch))
	b = binary.AppendVarint(b, c.Timestamp)
	b = binary.AppendUvarint(b, uint64(c.Evicted))
	b = binary.AppendUvarint(b, uint64(c.LastErasure))
	return binary.AppendUvarint(b, uint64(undecodable))
}

func decodeCheckpoint(b []byte) (c projections.Checkpoint, undecodable int64, err error) {
	d := decoder{b: b}
	c.Position = d.varint()
	epoch := d.varint()
	if epoch != int64(int32(epoch)) {
		d.fail(errRange)
	}
	c.LeaderEpoch = int32(epoch)
	c.Timestamp = d.varint()
	c.Evicted = d.int64()
	c.LastErasure = d.int64()
	undecodable = d.int64()
	return c, undecodable, d.end()
}

func encodeDigest(h projections.HourDigest) []byte {
	digest := h.Digest.Bytes()
	b := append(make([]byte, 0, 48), digest[:]...)
	if h.ForgottenTo == 0 {
		return b
	}
	forgotten := h.Forgotten.Bytes()
	return binary.AppendUvarint(append(b, forgotten[:]...), uint64(h.ForgottenTo))
}

func decodeDigest(b []byte, hour int64) (projections.HourDigest, error) {
	d := decoder{b: b}
	h := projections.HourDigest{Hour: hour, Digest: d.digest()}
	if len(d.b) > 0 {
		h.Forgotten, h.ForgottenTo = d.digest(), d.int64()
	}
	return h, d.end()
}

func (d *decoder) digest() projections.Digest {
	if b := d.take(16); b != nil {
		return projections.DigestOf([16]byte(b))
	}
	return projections.Digest{}
}

func encodeErasure(e projections.Erasure) []byte {
	return appendID(binary.AppendVarint(nil, e.Timestamp), e.UserID)
}

func decodeErasure(b []byte, offset int64) (projections.Erasure, error) {
	d := decoder{b: b}
	e := projections.Erasure{Offset: offset, Timestamp: d.varint()}
	e.UserID = d.id()
	return e, d.end()
}

func encodeWaiting(w projections.WaitingEvent) []byte {
	b := appendFlag(nil, w.Recall)
	b = appendID(b, w.MessageID)
	b = appendID(b, w.ReaderID)
	b = binary.AppendVarint(b, w.ReadAt)
	return binary.AppendVarint(b, w.Timestamp)
}

func decodeWaiting(b []byte, offset int64) (projections.WaitingEvent, error) {
	d := decoder{b: b}
	w := projections.WaitingEvent{Offset: offset}
	w.Recall = d.flag()
	w.MessageID = d.id()
	w.ReaderID = d.id()
	w.ReadAt = d.varint()
	w.Timestamp = d.varint()
	return w, d.end()
}

func encodeUndecodable(u materialize.Undecodable) []byte {
	b := binary.AppendUvarint(nil, uint64(u.Outcome))
	b = binary.AppendVarint(b, u.Offset)
	b = binary.AppendVarint(b, u.Timestamp)
	b = appendString(b, u.Reason)
	b = appendFlag(b, u.Key != nil)
	b = appendString(b, u.Key)
	b = binary.AppendUvarint(b, uint64(u.KeySize))
	b = appendString(b, u.Value)
	return binary.AppendUvarint(b, uint64(u.ValueSize))
}

func decodeUndecodable(b []byte) (u materialize.Undecodable, err error) {
	d := decoder{b: b}
	u.Outcome = projections.Outcome(d.number(uint64(len(projections.Outcomes()) - 1)))
	u.Offset = d.varint()
	u.Timestamp = d.varint()
	u.Reason = d.string()
	hasKey := d.flag()
	if key := d.bytes(); hasKey {
		u.Key = append([]byte{}, key...)
	}
	u.KeySize = int(d.number(math.MaxInt32))
	u.Value = append([]byte{}, d.bytes()...)
	u.ValueSize = int(d.number(math.MaxInt32))
	return u, d.end()
}

func encodeRemoved(offsets []int64) []byte {
	b := binary.AppendUvarint(nil, uint64(len(offsets)))
	var before int64
	for _, offset := range offsets {
		b = binary.AppendVarint(b, offset-before)
		before = offset
	}
	return b
}

func decodeRemoved(b []byte) ([]int64, error) {
	d := decoder{b: b}
	offsets := make([]int64, d.count())
	var before int64
	for i := range offsets {
		before += d.varint()
		offsets[i] = before
	}
	return offsets, d.end()
}
