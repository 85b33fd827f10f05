package badgerstore

import (
	"encoding/binary"
	"slices"

	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/materialize"
)

// write is one record to set, or to delete if its value is nil.
type write struct {
	key, value []byte
}

func set(key, value []byte) write { return write{key, seal(key, value)} }
func remove(key []byte) write     { return write{key: key} }

// encoder makes a transaction's records. Most are small and there are very many in
// a rebuild, so that keys and values lie in slabs of memory that they share. Badger
// has them until the commit returns.
type encoder struct {
	partition int32
	writes    []write
	slab      []byte
	scratch   []byte
	created   [][]byte // keys of new messages, and of rosters
}

const slabSize = 64 << 10

// room makes sure that n more bytes fit the slab.
func (e *encoder) room(n int) {
	if cap(e.slab)-len(e.slab) < n {
		e.slab = make([]byte, 0, max(slabSize, n))
	}
}

// took returns what was appended to the slab since it had a length.
func (e *encoder) took(from int) []byte { return e.slab[from:len(e.slab):len(e.slab)] }

// put writes a record whose value was appended to the slab from there on.
func (e *encoder) put(key []byte, from int) {
	sum := checksum(key, e.slab[from:])
	e.slab = binary.BigEndian.AppendUint32(e.slab, sum)
	e.writes = append(e.writes, write{key, e.took(from)})
}

func (e *encoder) set(key, value []byte) { e.writes = append(e.writes, set(key, value)) }
func (e *encoder) remove(key []byte)     { e.writes = append(e.writes, remove(key)) }

// batch encodes all of a batch, and returns how many lists of removed offsets are
// in it, which are to be worked off afterwards.
func (e *encoder) batch(b *materialize.Batch) (lists int) {
	e.writes = make([]write, 0, 16+len(b.Messages)+len(b.Messages)/4+len(b.Rosters))
	for _, c := range b.Messages {
		e.change(c)
	}
	for i := range b.Rosters {
		e.roster(&b.Rosters[i].StoredRoster)
	}
	for _, l := range hourLists(b) {
		e.hour(l, b.Checkpoint.Position)
	}
	for _, h := range b.Digests {
		e.set(hourKey(e.partition, kindDigest, h.Hour), encodeDigest(h))
	}
	for _, one := range b.ErasuresAdded {
		e.set(numberKey(e.partition, kindErasure, one.Offset), encodeErasure(one))
	}
	for _, w := range b.WaitingAdded {
		e.set(numberKey(e.partition, kindWaiting, w.Offset), encodeWaiting(w))
	}
	lists = e.removed(b.WaitingRemoved)
	n := b.UndecodableTotal - int64(len(b.Undecodable))
	for i, u := range b.Undecodable {
		e.set(slotKey(e.partition, n+int64(i)), encodeUndecodable(u))
	}
	e.set(key(e.partition, kindCheckpoint), encodeCheckpoint(b.Checkpoint, b.UndecodableTotal))
	return lists
}

// change encodes what is new of a message.
func (e *encoder) change(c materialize.Change) {
	m := c.Message
	e.room(messageBound(m))
	from := len(e.slab)
	e.slab = appendMessageKey(e.slab, e.partition, m.ID)
	key := e.took(from)
	from = len(e.slab)
	e.slab = appendMessage(e.slab, m)
	e.put(key, from)
	if !c.Stored {
		e.created = append(e.created, key)
		if m.Crowd != nil {
			e.set(crowdKey(e.partition, m.ID), nil)
		}
	}
	if m.Recalled {
		// What one transaction should not delete is out of reach, and goes when the
		// message is pruned.
		for i := range min(c.Sealed, materialize.MaxDeletes) {
			e.remove(chunkKey(e.partition, m.ID, i))
		}
		return
	}
	for i := c.Sealed; i < m.Receipts.Sealed(); i++ {
		e.chunk(m, i)
	}
	for _, i := range c.Rewritten {
		e.chunk(m, i)
	}
}

func (e *encoder) chunk(m *projections.Message, i int) {
	b := m.Receipts.Chunk(i).Bytes
	e.room(32 + len(m.ID) + len(b))
	from := len(e.slab)
	e.slab = binary.BigEndian.AppendUint32(appendMessageKey(e.slab, e.partition, m.ID), uint32(i))
	key := e.took(from)
	from = len(e.slab)
	e.slab = append(e.slab, b...)
	e.put(key, from)
}

func (e *encoder) roster(s *materialize.StoredRoster) {
	ref := s.Roster.Ref
	e.scratch = encodeRoster(e.scratch, s)
	pieces := 0
	for piece := range slices.Chunk(e.scratch, pieceSize) {
		e.room(32 + len(piece))
		from := len(e.slab)
		e.slab = appendRosterKey(e.slab, e.partition, ref, pieces)
		key := e.took(from)
		from = len(e.slab)
		e.slab = append(e.slab, piece...)
		e.put(key, from)
		if pieces == 0 {
			e.created = append(e.created, key)
		}
		pieces++
	}
	if s.Roster.Gone() == nil {
		return
	}
	// Without the names of those who are gone it may have fewer pieces than before.
	for ; pieces < piecesBound(s.Roster.Names.Len()); pieces++ {
		e.remove(rosterKey(e.partition, ref, pieces))
	}
}

// hour writes down what is to be pruned with an hour.
func (e *encoder) hour(l *hourList, position int64) {
	for piece := 0; !l.empty(); piece++ {
		part := l.cut()
		e.room(64 + part.bound())
		from := len(e.slab)
		e.slab = appendListKey(e.slab, e.partition, l.hour, position, piece)
		key := e.took(from)
		from = len(e.slab)
		e.slab = part.append(e.slab)
		e.put(key, from)
	}
}

// removed removes waiting events. One record can take very many; then the
// transaction has only a list of them, and they are deleted later: a waiting
// event that is in a list is gone.
func (e *encoder) removed(offsets []int64) (lists int) {
	if len(offsets) <= materialize.MaxDeletes {
		for _, offset := range offsets {
			e.remove(numberKey(e.partition, kindWaiting, offset))
		}
		return 0
	}
	// A list may be as long as a piece.
	for list := range slices.Chunk(offsets, pieceSize/binary.MaxVarintLen64) {
		e.set(numberKey(e.partition, kindRemoved, list[0]), encodeRemoved(list))
		lists++
	}
	return lists
}
