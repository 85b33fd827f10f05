package layouts_test

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/dgraph-io/badger/v4"
)

// form is one way to keep receipts in Badger.
type form interface {
	name() string
	// flush writes what is new of a message, which is m.added.
	flush(b *batch, m *message)
	// read returns a message's receipts in log order.
	read(txn *badger.Txn, m *message) ([]receipt, error)
	// kept is how many bytes of receipts have to stay in memory for the next flush.
	kept(m *message) int
	// shared says that rosters are stored once for each partition and content, and
	// text that IDs are stored as text.
	shared() bool
	text() bool
}

// state is what a form keeps of a message between flushes.
type state struct {
	bytes   []byte // encoded
	count   int    // how many there are in bytes
	last    receipt
	sealed  int
	entries []receipt
	stored  int
}

// batch is one flush of a partition.
type batch struct {
	partition int
	writes    []write
}

type write struct{ key, value []byte }

func (b *batch) set(key, value []byte) { b.writes = append(b.writes, write{key, value}) }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal sets a value with a checksum, as badgerstore does.
func (b *batch) seal(key, value []byte) {
	sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
	b.set(key, binary.BigEndian.AppendUint32(value, sum))
}

func unseal(key, value []byte) ([]byte, error) {
	n := len(value) - 4
	if n < 0 || binary.BigEndian.Uint32(value[n:]) != crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value[:n]) {
		return nil, errors.New("wrong checksum")
	}
	return value[:n], nil
}

func appendNumber(b []byte, n int64) []byte { return binary.BigEndian.AppendUint64(b, uint64(n)) }

func newKey(partition int, kind byte) []byte {
	return append(binary.BigEndian.AppendUint32(make([]byte, 0, 88), uint32(partition)), kind)
}

func packedKey(m *message, part byte) []byte {
	return append(append(newKey(m.partition, 'm'), m.id[:]...), part)
}

func textKey(m *message, part byte) []byte {
	return append(append(newKey(m.partition, 'm'), m.id.text()...), 0, part)
}

func indexed(key []byte, i int) []byte { return binary.BigEndian.AppendUint32(key, uint32(i)) }

const (
	partHead     = 1
	partBirth    = 2
	partReceipts = 3
)

// head is what is known of a message beside its receipts.
func head(m *message) []byte {
	b := binary.AppendVarint([]byte{0}, m.sentAt)
	b = binary.AppendUvarint(b, uint64(m.sent))
	b = append(append(b, 0), m.conversation[:]...)
	b = binary.AppendUvarint(b, uint64(m.sender))
	b = binary.BigEndian.AppendUint64(b, rosterRef(m.group))
	return binary.AppendUvarint(b, uint64(m.state.last.offset+1))
}

// afterHead passes over what head wrote.
func afterHead(b []byte) []byte {
	b = b[1:]
	for range 2 {
		b = afterVarint(b)
	}
	return afterVarint(afterVarint(b[1+len(userID{}):])[8:])
}

func afterVarint(b []byte) []byte {
	_, n := binary.Uvarint(b)
	return b[n:]
}

// rosterRef stands for the first bytes of a hash of the content.
func rosterRef(group int) uint64 { return uint64(group+1) * 0x9e3779b97f4a7c15 }

// appendReceipt is the encoding of projections.Receipts: deltas in log order.
func appendReceipt(b []byte, m *message, r, last receipt, first bool) []byte {
	b = binary.AppendUvarint(b, uint64(r.person))
	if first {
		b = binary.AppendVarint(b, r.offset+1-m.sent)
		return binary.AppendVarint(b, r.readAt-m.sentAt)
	}
	b = binary.AppendUvarint(b, uint64(r.offset-last.offset))
	return binary.AppendVarint(b, r.readAt-last.readAt)
}

func decodeReceipts(all []receipt, b []byte, m *message) []receipt {
	var last receipt
	for first := true; len(b) > 0; first = false {
		person, n := binary.Uvarint(b)
		b = b[n:]
		r := receipt{person: uint32(person)}
		if first {
			offset, k := binary.Varint(b)
			b = b[k:]
			r.offset, last.readAt = offset+m.sent-1, m.sentAt
		} else {
			offset, k := binary.Uvarint(b)
			b = b[k:]
			r.offset = last.offset + int64(offset)
		}
		delta, k := binary.Varint(b)
		b = b[k:]
		r.readAt = last.readAt + delta
		last = r
		all = append(all, r)
	}
	return all
}

// get returns a sealed value; it is the transaction's.
func get(txn *badger.Txn, key []byte) (value []byte, err error) {
	item, err := txn.Get(key)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", key, err)
	}
	err = item.Value(func(v []byte) error {
		value, err = unseal(key, v)
		return err
	})
	return value, err
}

// each calls f with what lies under a prefix.
func each(txn *badger.Txn, prefix []byte, f func(key, value []byte) error) error {
	o := badger.DefaultIteratorOptions
	o.Prefix = prefix
	it := txn.NewIterator(o)
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		item := it.Item()
		if err := item.Value(func(v []byte) error { return f(item.Key(), v) }); err != nil {
			return err
		}
	}
	return nil
}

func byOffset(all []receipt) []receipt {
	slices.SortFunc(all, func(a, b receipt) int { return cmp.Compare(a.offset, b.offset) })
	return all
}

// keyed has a key a receipt. Its values have no checksum, and its heads are
// written once, without the message's version: it is shown at its best.
type keyed struct {
	packed  bool
	rosters [][]userID
}

func (f keyed) name() string {
	if f.packed {
		return "key-packed"
	}
	return "key-text"
}

func (keyed) shared() bool      { return true }
func (f keyed) text() bool      { return !f.packed }
func (keyed) kept(*message) int { return 0 }

func (f keyed) key(m *message, part byte) []byte {
	if f.packed {
		return packedKey(m, part)
	}
	return textKey(m, part)
}

func (f keyed) flush(b *batch, m *message) {
	if !m.stored {
		b.seal(f.key(m, partHead), head(m))
	}
	for _, r := range m.added {
		k := f.key(m, partReceipts)
		if f.packed {
			k = binary.BigEndian.AppendUint16(k, uint16(r.person))
		} else {
			k = append(k, f.rosters[m.group][r.person].text()...)
		}
		b.set(k, binary.AppendUvarint(binary.AppendUvarint(nil, uint64(r.offset-m.sent)), uint64(r.readAt-m.sentAt)))
	}
}

func (f keyed) read(txn *badger.Txn, m *message) (all []receipt, err error) {
	if _, err := get(txn, f.key(m, partHead)); err != nil {
		return nil, err
	}
	numbers := map[string]uint32{}
	if !f.packed {
		// So that the answer can be compared; a pull would not need it.
		for i, id := range f.rosters[m.group] {
			numbers[id.text()] = uint32(i)
		}
	}
	prefix := f.key(m, partReceipts)
	err = each(txn, prefix, func(k, v []byte) error {
		var r receipt
		if f.packed {
			r.person = uint32(binary.BigEndian.Uint16(k[len(prefix):]))
		} else {
			r.person = numbers[string(k[len(prefix):])]
		}
		offset, n := binary.Uvarint(v)
		readAt, _ := binary.Uvarint(v[n:])
		r.offset, r.readAt = m.sent+int64(offset), m.sentAt+int64(readAt)
		all = append(all, r)
		return nil
	})
	return byOffset(all), err
}

// aggregate has one record a message, which each flush writes again.
type aggregate struct{}

func (aggregate) name() string        { return "aggregate" }
func (aggregate) shared() bool        { return true }
func (aggregate) text() bool          { return false }
func (aggregate) kept(m *message) int { return len(m.state.bytes) }

func (aggregate) flush(b *batch, m *message) {
	s := &m.state
	for _, r := range m.added {
		s.bytes = appendReceipt(s.bytes, m, r, s.last, s.count == 0)
		s.last = r
		s.count++
	}
	b.seal(packedKey(m, partHead), append(head(m), s.bytes...))
}

func (aggregate) read(txn *badger.Txn, m *message) ([]receipt, error) {
	v, err := get(txn, packedKey(m, partHead))
	if err != nil {
		return nil, err
	}
	return decodeReceipts(nil, afterHead(v), m), nil
}

// fixed has chunks of so many receipts by index, the last of which is written
// again, and a head beside them. As it was before, IDs are text, each message has
// its roster, and its place in the list of its hour.
type fixed struct {
	before bool
}

const fixedLen = 128

func (f fixed) name() string {
	if f.before {
		return "fixed-128-before"
	}
	return "fixed-128"
}

func (f fixed) shared() bool { return !f.before }
func (f fixed) text() bool   { return f.before }

func (fixed) kept(m *message) int {
	const entry = 24
	return entry * len(m.state.entries)
}

func (f fixed) key(m *message, part byte) []byte {
	if f.before {
		return textKey(m, part)
	}
	return packedKey(m, part)
}

func (f fixed) flush(b *batch, m *message) {
	s := &m.state
	s.entries = append(s.entries, m.added...)
	if len(m.added) > 0 {
		s.last = m.added[len(m.added)-1]
	}
	b.seal(f.key(m, partHead), binary.AppendUvarint(head(m), uint64(s.stored+len(s.entries))))
	if f.before && !m.stored {
		hour := appendNumber(newKey(m.partition, 'h'), m.sentAt/3_600_000)
		b.seal(append(hour, m.id.text()...), nil)
	}
	for len(s.entries) > 0 {
		chunk := s.entries[:min(fixedLen, len(s.entries))]
		var v []byte
		for i, r := range chunk {
			var last receipt
			if i > 0 {
				last = chunk[i-1]
			}
			v = appendReceipt(v, m, r, last, i == 0)
		}
		b.seal(indexed(f.key(m, partReceipts), s.stored/fixedLen), v)
		if len(chunk) < fixedLen {
			return
		}
		s.entries = slices.Clone(s.entries[fixedLen:])
		s.stored += fixedLen
	}
}

func (f fixed) read(txn *badger.Txn, m *message) (all []receipt, err error) {
	v, err := get(txn, f.key(m, partHead))
	if err != nil {
		return nil, err
	}
	count, _ := binary.Uvarint(afterHead(v))
	for i := 0; len(all) < int(count); i++ {
		v, err := get(txn, indexed(f.key(m, partReceipts), i))
		if err != nil {
			return nil, err
		}
		all = decodeReceipts(all, v, m)
	}
	return all, nil
}

// sealing has one record a message, of its head and the open chunk, which each
// flush writes again; from so many receipts on the chunk is sealed: it becomes a
// record of its own that is never written again.
type sealing struct {
	from int
}

const maxChunk = 1024

func (f sealing) name() string      { return fmt.Sprintf("sealed-%d", f.from) }
func (sealing) shared() bool        { return true }
func (sealing) text() bool          { return false }
func (sealing) kept(m *message) int { return len(m.state.bytes) }

func (f sealing) flush(b *batch, m *message) {
	s := &m.state
	for _, r := range m.added {
		if s.count == maxChunk {
			f.seal(b, m)
		}
		s.bytes = appendReceipt(s.bytes, m, r, s.last, s.count == 0)
		s.last = r
		s.count++
	}
	if s.count >= f.from {
		f.seal(b, m)
	}
	b.seal(packedKey(m, partHead), append(binary.AppendUvarint(head(m), uint64(s.sealed)), s.bytes...))
}

func (sealing) seal(b *batch, m *message) {
	s := &m.state
	b.seal(indexed(packedKey(m, partReceipts), s.sealed), s.bytes)
	s.bytes, s.count = nil, 0
	s.sealed++
}

func (sealing) read(txn *badger.Txn, m *message) (all []receipt, err error) {
	v, err := get(txn, packedKey(m, partHead))
	if err != nil {
		return nil, err
	}
	v = bytes.Clone(afterHead(v))
	sealed, n := binary.Uvarint(v)
	next := 0
	if sealed > 0 {
		prefix := packedKey(m, partReceipts)
		err = each(txn, prefix, func(k, value []byte) error {
			if i := int(binary.BigEndian.Uint32(k[len(prefix):])); i != next {
				return fmt.Errorf("chunk %d is missing", next)
			}
			chunk, err := unseal(k, value)
			next++
			all = decodeReceipts(all, chunk, m)
			return err
		})
	}
	if err == nil && next != int(sealed) {
		err = fmt.Errorf("%d chunks of %d", next, sealed)
	}
	return decodeReceipts(all, v[n:], m), err
}
