package badgerstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"math/bits"

	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/materialize"
)

// Every value but meta ends with a CRC-32C over its key and the rest of it, big
// endian: Badger does not check what it reads back. uv is a varint, v a zigzag
// varint, s a uv and so many bytes.
//
//	checkpoint   | v position | v leader epoch | v timestamp | uv evicted | uv undecodable |
//	head         | flags: 1 recalled | v sent_at | v version | uv receipts | uv hashes | uv pieces |
//	birth        | 0 | s conversation | uv sender | uv n | n times s name | n bits opted out |
//	 (listed)      cut into pieces of pieceSize bytes
//	birth        | 1 | s conversation | s sender | uv recipients |
//	 (count-only)
//	receipts     | v first offset | then, chunkLen times at most:
//	              | uv person, or s name if count-only | uv read_at - sent_at | uv offset - the one before |
//	hashes       | 16 bytes | ... chunkLen times at most
//	waiting      | flags: 1 recall | s message | s reader | v read_at | v timestamp |
//	undecodable  | uv outcome | v offset | v timestamp | s reason | flags: 1 has key | s key | uv its size | s value | uv its size |
//	removed      | uv n | v first offset | n-1 times v difference |
//
// Receipts and hashes lie in chunks by index: chunk i has those from i*chunkLen.
// So a set that grows writes its last chunk again, of a few hundred bytes, and
// what is full never; and which records a message has follows from its head.
const (
	pieceSize = materialize.MaxPiece
	chunkLen  = materialize.MaxRewrite
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
	c.Evicted = int64(d.number(math.MaxInt64))
	undecodable = int64(d.number(math.MaxInt64))
	return c, undecodable, d.end()
}

// head is what of a message changes, and where the rest of it is.
type head struct {
	recalled                   bool
	sentAt, version            int64
	receipts, unlisted, pieces int
}

func (h head) encode() []byte {
	b := appendFlag(nil, h.recalled)
	b = binary.AppendVarint(b, h.sentAt)
	b = binary.AppendVarint(b, h.version)
	b = binary.AppendUvarint(b, uint64(h.receipts))
	b = binary.AppendUvarint(b, uint64(h.unlisted))
	return binary.AppendUvarint(b, uint64(h.pieces))
}

func decodeHead(b []byte) (h head, err error) {
	d := decoder{b: b}
	h.recalled = d.flag()
	h.sentAt = d.varint()
	h.version = d.varint()
	h.receipts = int(d.number(math.MaxInt32))
	h.unlisted = int(d.number(math.MaxInt32))
	h.pieces = int(d.number(math.MaxInt32))
	return h, d.end()
}

// has says whether a part of a message belongs to it.
func (h head) has(part byte, index int) bool {
	switch part {
	case partHead:
		return true
	case partBirth:
		return index < h.pieces
	case partReceipts:
		return index < chunks(h.receipts)
	case partUnlisted:
		return index < chunks(h.unlisted)
	}
	return false
}

// chunks is how many chunks n things take.
func chunks(n int) int { return (n + chunkLen - 1) / chunkLen }

// pieces is how many pieces n bytes of a birth take.
func pieces(n int) int { return (n + pieceSize - 1) / pieceSize }

// birthLen is the length of what encodeBirth returns. A message that only grew
// needs no more than this of it.
func birthLen(m *projections.Message) int {
	n := 1 + stringLen(m.ConversationID)
	if m.CountOnly() {
		return n + stringLen(m.SenderName) + uvarintLen(uint64(m.RecipientsGiven))
	}
	n += uvarintLen(uint64(m.Sender)) + uvarintLen(uint64(len(m.Roster.Names)))
	for _, name := range m.Roster.Names {
		n += stringLen(name)
	}
	return n + (len(m.Roster.OptedOut)+7)/8
}

func stringLen(s string) int { return uvarintLen(uint64(len(s))) + len(s) }

func uvarintLen(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

func encodeBirth(m *projections.Message) []byte {
	b := appendFlag(nil, m.CountOnly())
	b = appendString(b, m.ConversationID)
	if m.CountOnly() {
		b = appendString(b, m.SenderName)
		return binary.AppendUvarint(b, uint64(m.RecipientsGiven))
	}
	b = binary.AppendUvarint(b, uint64(m.Sender))
	b = binary.AppendUvarint(b, uint64(len(m.Roster.Names)))
	for _, name := range m.Roster.Names {
		b = appendString(b, name)
	}
	optedOut := make([]byte, (len(m.Roster.OptedOut)+7)/8)
	for i, out := range m.Roster.OptedOut {
		if out {
			optedOut[i/8] |= 1 << (i % 8)
		}
	}
	return append(b, optedOut...)
}

func decodeBirth(b []byte, m *projections.Message) error {
	d := decoder{b: b}
	countOnly := d.flag()
	m.ConversationID = d.string()
	if countOnly {
		m.SenderName = d.string()
		m.RecipientsGiven = uint32(d.number(math.MaxUint32))
		return d.end()
	}
	m.Sender = uint32(d.number(math.MaxUint32))
	n := d.count()
	r := &projections.Roster{Names: make([]string, n), OptedOut: make([]bool, n)}
	for i := range r.Names {
		r.Names[i] = d.string()
	}
	for i, eight := range d.take((n + 7) / 8) {
		for j := 8 * i; j < min(8*i+8, n); j++ {
			r.OptedOut[j] = eight>>(j%8)&1 == 1
		}
	}
	if d.err == nil && int64(m.Sender) >= int64(n) {
		d.fail(errRange)
	}
	m.Roster = r
	return d.end()
}

// encodeReceipts encodes the receipts of one chunk.
func encodeReceipts(m *projections.Message, from, to int) []byte {
	offset := m.Receipts[from].Offset
	b := binary.AppendVarint(nil, offset)
	for _, r := range m.Receipts[from:to] {
		if m.CountOnly() {
			b = appendString(b, m.Readers[r.Person])
		} else {
			b = binary.AppendUvarint(b, uint64(r.Person))
		}
		b = binary.AppendUvarint(b, uint64(r.ReadAt-m.SentAt))
		b = binary.AppendUvarint(b, uint64(r.Offset-offset))
		offset = r.Offset
	}
	return b
}

// decodeReceipts appends a chunk of n receipts to m, which has its roster.
func decodeReceipts(b []byte, m *projections.Message, n int) error {
	d := decoder{b: b}
	offset := d.varint()
	for range n {
		if d.err != nil {
			return d.err
		}
		var r projections.Receipt
		if m.CountOnly() {
			r.Person = uint32(len(m.Readers))
			m.Readers = append(m.Readers, d.string())
		} else {
			r.Person = uint32(d.number(uint64(len(m.Roster.Names)) - 1))
		}
		r.ReadAt = m.SentAt + int64(d.uvarint())
		offset += int64(d.uvarint())
		r.Offset = offset
		m.Receipts = append(m.Receipts, r)
	}
	return d.end()
}

func encodeUnlisted(hashes []projections.ReaderHash) []byte {
	b := make([]byte, 0, len(hashes)*len(projections.ReaderHash{})+4)
	for _, h := range hashes {
		b = append(b, h[:]...)
	}
	return b
}

func decodeUnlisted(b []byte, m *projections.Message, n int) error {
	const size = len(projections.ReaderHash{})
	if len(b) != n*size {
		return fmt.Errorf("%d bytes of hashes, not %d", len(b), n*size)
	}
	for ; len(b) > 0; b = b[size:] {
		m.Unlisted = append(m.Unlisted, projections.ReaderHash(b[:size]))
	}
	return nil
}

func encodeWaiting(w projections.WaitingEvent) []byte {
	b := appendFlag(nil, w.Recall)
	b = appendString(b, w.MessageID)
	b = appendString(b, w.ReaderID)
	b = binary.AppendVarint(b, w.ReadAt)
	return binary.AppendVarint(b, w.Timestamp)
}

func decodeWaiting(b []byte, offset int64) (projections.WaitingEvent, error) {
	d := decoder{b: b}
	w := projections.WaitingEvent{Offset: offset}
	w.Recall = d.flag()
	w.MessageID = d.string()
	w.ReaderID = d.string()
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
