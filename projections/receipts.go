package projections

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// Receipts are a message's receipts in log order: a few bytes each, in chunks, of
// which the last one is open. They are only ever appended to, so that a shallow
// copy stays as it is while the original grows. A chunk's bytes, here and in
// stores, are
//
//	first receipt   | person | v offset + 1 - sent | v read_at - sent_at |
//	each after it   | person | uv offset - the one before | v read_at - the one before |
//	person          | uv number |                     of a roster
//	                | uv length: 1 to 128 | name |    listed, in a count-only message
//	                | 0 | 16 bytes |                  not listed: their hash
//	                | uv 129 |                        was listed, and scrubbed since
//
// where uv is a varint and v a zigzag varint, as package encoding/binary has them,
// and sent the offset + 1 of the message's sending. In a group of 2,000 whose
// members read within minutes that is 5 or 6 bytes a receipt.
type Receipts struct {
	chunks []Chunk
	open   []byte
	// what the next receipt is told from
	offset, readAt int64
	// rewritten are sealed chunks that lost a name since TakeRewritten; hardly any
	// message has some.
	rewritten *[]int
	// dropped are leading chunks that are not in memory, with lost receipts.
	dropped, lost int32
	opened        int32 // receipts in open
	size          int32 // bytes of chunks
}

// Chunk is some receipts that follow on each other, encoded. It is immutable.
type Chunk struct {
	Bytes []byte
	// Len is how many receipts there are, and Last the offset of the last of them.
	Len  int
	Last int64
}

const (
	// MaxChunk is how many receipts a chunk may have.
	MaxChunk = 1024
	// MaxChunkBytes is from how many bytes on a chunk gets no more receipts.
	MaxChunkBytes = 16 << 10

	scrubbedName = 129
	// firstRoom is for what a small group's receipts take.
	firstRoom = 48
)

// Len is how many receipts there are.
func (r *Receipts) Len() int {
	n := int(r.lost + r.opened)
	for _, c := range r.chunks {
		n += c.Len
	}
	return n
}

// Sealed is how many chunks there are, without the open one.
func (r *Receipts) Sealed() int { return int(r.dropped) + len(r.chunks) }

// Chunk returns the sealed chunk at an index, which must be in memory.
func (r *Receipts) Chunk(i int) Chunk { return r.chunks[i-int(r.dropped)] }

// Open is the open chunk.
func (r *Receipts) Open() Chunk { return Chunk{r.open, int(r.opened), r.offset} }

// Whole says that all chunks are in memory.
func (r *Receipts) Whole() bool { return r.dropped == 0 }

// Seal ends the open chunk, if there is one.
func (r *Receipts) Seal() {
	if r.opened > 0 {
		// What the open chunk had room to grow by would stay with the sealed one.
		r.chunks = append(r.chunks, Chunk{bytes.Clone(r.open), int(r.opened), r.offset})
		r.size += int32(len(r.open))
		r.open, r.opened = nil, 0
	}
}

// Drop lets go of the first n sealed chunks' bytes, and returns how many they were.
func (r *Receipts) Drop(n int) (bytes int) {
	if n <= int(r.dropped) {
		return 0
	}
	for _, c := range r.chunks[:n-int(r.dropped)] {
		bytes += len(c.Bytes)
		r.lost += int32(c.Len)
	}
	// What is left has memory of its own, so that the dropped chunks' goes.
	r.chunks = append([]Chunk(nil), r.chunks[n-int(r.dropped):]...)
	r.dropped = int32(n)
	r.size -= int32(bytes)
	return bytes
}

// Restore puts dropped chunks back, all that are before the ones in memory.
func (r *Receipts) Restore(chunks []Chunk) {
	r.chunks = append(append(make([]Chunk, 0, len(chunks)+len(r.chunks)+1), chunks...), r.chunks...)
	for _, c := range chunks {
		r.size += int32(len(c.Bytes))
	}
	r.dropped, r.lost = 0, 0
}

// RestoreReceipts returns receipts as a store kept them. How many each chunk has
// shows when they are read: see [Message.Rebuild].
func RestoreReceipts(sealed [][]byte, open []byte) Receipts {
	r := Receipts{open: open[:len(open):len(open)]}
	for _, b := range sealed {
		r.chunks = append(r.chunks, Chunk{Bytes: b})
		r.size += int32(len(b))
	}
	return r
}

// Dropped is how many leading chunks are not in memory.
func (r *Receipts) Dropped() int { return int(r.dropped) }

// Unsealed is how many bytes there are from the sealed chunk at an index on.
func (r *Receipts) Unsealed(from int) int {
	n := len(r.open)
	for i := max(from, int(r.dropped)); i < r.Sealed(); i++ {
		n += len(r.Chunk(i).Bytes)
	}
	return n
}

// CountChunks returns the message's first chunks, as they came from a store, with
// how many receipts each has. It fails for bytes that no fold wrote.
func (m *Message) CountChunks(stored [][]byte) ([]Chunk, error) {
	chunks, index := make([]Chunk, len(stored)), 0
	for i, b := range stored {
		n, last, err := m.decode(b, index, func(Receipt) bool { return true })
		if err != nil {
			return nil, fmt.Errorf("chunk %d: %w", i, err)
		}
		chunks[i] = Chunk{b, n, last.Offset}
		index += n
	}
	return chunks, nil
}

// Bytes is the memory of the chunks.
func (r *Receipts) Bytes() int { return int(r.size) + cap(r.open) + 32*cap(r.chunks) }

// begin makes room in the open chunk for one more.
func (r *Receipts) begin() []byte {
	if r.opened >= MaxChunk || len(r.open) >= MaxChunkBytes {
		// One that follows on a full one is not grown from nothing.
		room := len(r.open) / 2
		r.Seal()
		r.open = make([]byte, 0, room)
	}
	if r.open == nil {
		r.open = make([]byte, 0, firstRoom)
	}
	return r.open
}

// end completes a receipt whose person was appended to b.
func (r *Receipts) end(b []byte, m *Message, at Receipt) {
	if r.opened == 0 {
		b = binary.AppendVarint(b, at.Offset+1-m.Sent)
		b = binary.AppendVarint(b, at.ReadAt-m.SentAt)
	} else {
		b = binary.AppendUvarint(b, uint64(at.Offset-r.offset))
		b = binary.AppendVarint(b, at.ReadAt-r.readAt)
	}
	r.open, r.offset, r.readAt = b, at.Offset, at.ReadAt
	r.opened++
}

func (r *Receipts) append(m *Message, at Receipt) {
	r.end(binary.AppendUvarint(r.begin(), uint64(at.Person)), m, at)
}

func (r *Receipts) appendListed(m *Message, name []byte, at Receipt) {
	b := binary.AppendUvarint(r.begin(), uint64(len(name)))
	r.end(append(b, name...), m, at)
}

func (r *Receipts) appendUnlisted(m *Message, hash ReaderHash, at Receipt) {
	r.end(append(append(r.begin(), 0), hash[:]...), m, at)
}

var (
	errChunkShort = errors.New("a chunk of receipts ends early")
	errChunkRange = errors.New("a chunk of receipts has a number out of range")
)

// decode calls f with each receipt of a chunk, whose first has the index from, and
// returns how many there were. What is after the last call is the position of the
// chunk's end in terms of offset and read_at.
func (m *Message) decode(b []byte, from int, f func(Receipt) bool) (n int, last Receipt, err error) {
	for len(b) > 0 {
		r := Receipt{Index: from + n}
		if b, err = m.decodePerson(b, &r); err != nil {
			return n, last, err
		}
		var offset, readAt int64
		var k int
		if n == 0 {
			offset, k = binary.Varint(b)
			offset += m.Sent - 1
			readAt = m.SentAt
		} else {
			var delta uint64
			delta, k = binary.Uvarint(b)
			offset = last.Offset + int64(delta)
			readAt = last.ReadAt
		}
		if k <= 0 {
			return n, last, errChunkShort
		}
		b = b[k:]
		delta, k := binary.Varint(b)
		if k <= 0 {
			return n, last, errChunkShort
		}
		b = b[k:]
		r.Offset, r.ReadAt = offset, readAt+delta
		last = r
		n++
		if !f(r) {
			return n, last, nil
		}
	}
	return n, last, nil
}

func (m *Message) decodePerson(b []byte, r *Receipt) ([]byte, error) {
	v, k := binary.Uvarint(b)
	if k <= 0 {
		return nil, errChunkShort
	}
	b = b[k:]
	if m.Roster != nil {
		if v >= uint64(m.Roster.Names.Len()) {
			return nil, errChunkRange
		}
		r.Person = uint32(v)
		return b, nil
	}
	switch {
	case v == scrubbedName:
	case v > scrubbedName:
		return nil, errChunkRange
	case v == 0:
		const size = len(ReaderHash{})
		if len(b) < size {
			return nil, errChunkShort
		}
		r.unlisted, r.reader, b = true, b[:size], b[size:]
	default:
		if uint64(len(b)) < v {
			return nil, errChunkShort
		}
		r.reader, b = b[:v], b[v:]
	}
	return b, nil
}

// FirstSince returns an index at or before that of the first receipt whose offset is
// at least next: whoever wants those need not decode the chunks before it.
func (r *Receipts) FirstSince(next int64) (index int) {
	if r.dropped > 0 {
		return 0
	}
	for _, c := range r.chunks {
		if c.Last >= next {
			break
		}
		index += c.Len
	}
	return index
}

// EachReceipt calls f with the receipts from the index from on, in log order,
// until f returns false. The chunks must be whole. It fails only for bytes that
// no fold wrote.
func (m *Message) EachReceipt(from int, f func(Receipt) bool) error {
	index, going := 0, true
	each := func(r Receipt) bool {
		if r.Index >= from {
			going = f(r)
		}
		return going
	}
	if !m.Receipts.Whole() {
		return errors.New("receipts are not in memory")
	}
	for _, c := range append(m.Receipts.chunks[:len(m.Receipts.chunks):len(m.Receipts.chunks)], m.Receipts.Open()) {
		if index+c.Len > from {
			if _, _, err := m.decode(c.Bytes, index, each); err != nil {
				return fmt.Errorf("receipt %d and on: %w", index, err)
			}
		}
		index += c.Len
		if !going {
			return nil
		}
	}
	return nil
}

// scrub takes the reader out of a receipt of a count-only message. The chunk gets
// new bytes: whoever has a copy of the message goes on with the old ones.
func (m *Message) scrub(index int) {
	r := &m.Receipts
	first := 0
	for i, c := range r.chunks {
		if index < first+c.Len {
			r.chunks = slices.Clone(r.chunks)
			r.chunks[i].Bytes = m.without(c.Bytes, first, index)
			r.size += int32(len(r.chunks[i].Bytes) - len(c.Bytes))
			r.rewrite(int(r.dropped) + i)
			return
		}
		first += c.Len
	}
	r.open = m.without(r.open, first, index)
}

// without returns a chunk's bytes without the reader of one receipt.
func (m *Message) without(b []byte, first, index int) []byte {
	var out Receipts
	_, _, _ = m.decode(b, first, func(r Receipt) bool {
		switch {
		case r.Index == index, r.reader == nil:
			out.end(binary.AppendUvarint(out.open, scrubbedName), m, r)
		case r.unlisted:
			out.end(append(append(out.open, 0), r.reader...), m, r)
		default:
			out.end(append(binary.AppendUvarint(out.open, uint64(len(r.reader))), r.reader...), m, r)
		}
		return true
	})
	return out.open
}

func (r *Receipts) rewrite(chunk int) {
	if r.rewritten == nil {
		r.rewritten = new([]int)
	}
	*r.rewritten = append(*r.rewritten, chunk)
}

// TakeRewritten returns the sealed chunks that a store has to write again because
// they lost a name since it was last called.
func (r *Receipts) TakeRewritten() []int {
	if r.rewritten == nil {
		return nil
	}
	taken := *r.rewritten
	r.rewritten = nil
	return taken
}
