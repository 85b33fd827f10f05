package badgerstore

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/dgraph-io/badger/v4"

	"github.com/seenby/seenby/projections"
)

const (
	flagRecalled = 1 << iota
	flagCrowd
	flagTaken        // in a count-only message: somebody was taken out of it
	flagConversation // its ID is a UUID
	flagOpen         // no chunk is sealed
	flagUnchanged    // since it was sent
	messageFlags     = 1<<iota - 1
)

// messageBound bounds what a message's record takes, with its key.
func messageBound(m *projections.Message) int {
	n := 160 + len(m.ID) + len(m.ConversationID) + len(m.Receipts.Open().Bytes)
	if m.Crowd != nil {
		n += len(m.Crowd.Sender) + 5*len(m.Crowd.Taken)
	}
	return n
}

// appendMessage appends a message's record.
func appendMessage(b []byte, m *projections.Message) []byte {
	flags := byte(0)
	if m.Recalled {
		flags |= flagRecalled
	}
	if m.Crowd != nil {
		flags |= flagCrowd
		if m.Crowd.TakenAt > 0 {
			flags |= flagTaken
		}
	}
	conversation, packed := packUUID(m.ConversationID)
	if packed {
		flags |= flagConversation
	}
	sealed := m.Receipts.Sealed()
	if sealed == 0 {
		flags |= flagOpen
	}
	if m.Changed == m.Sent {
		flags |= flagUnchanged
	}
	b = append(b, flags)
	b = binary.AppendVarint(b, m.SentAt)
	b = binary.AppendUvarint(b, uint64(m.Sent))
	if m.Changed != m.Sent {
		b = binary.AppendUvarint(b, uint64(m.Changed-m.Sent))
	}
	if packed {
		b = append(b, conversation[:]...)
	} else {
		b = appendID(b, m.ConversationID)
	}
	if m.Crowd == nil {
		b = binary.BigEndian.AppendUint64(b, uint64(m.Roster.Ref))
		b = binary.AppendUvarint(b, uint64(m.Sender))
	} else {
		b = appendCrowd(b, m.Crowd)
	}
	if sealed > 0 {
		b = binary.AppendUvarint(b, uint64(sealed))
	}
	return append(b, m.Receipts.Open().Bytes...)
}

func appendCrowd(b []byte, c *projections.Crowd) []byte {
	b = appendID(b, c.Sender)
	b = binary.AppendUvarint(b, uint64(c.Given))
	b = binary.AppendUvarint(b, uint64(c.Settled))
	if c.TakenAt == 0 {
		return b
	}
	b = binary.AppendUvarint(b, uint64(c.TakenAt))
	b = binary.AppendUvarint(b, uint64(c.TakenCount))
	lost := c.Lost.Bytes()
	b = append(b, lost[:]...)
	b = binary.AppendUvarint(b, uint64(len(c.Taken)))
	before := uint32(0)
	for _, index := range c.Taken {
		b = binary.AppendUvarint(b, uint64(index-before))
		before = index
	}
	return b
}

// head is a message's record, decoded.
type head struct {
	message *projections.Message // without its receipts
	ref     projections.RosterRef
	sealed  int
	open    []byte
}

// decodeMessage decodes a message's record, whose open chunk shares memory with b.
func decodeMessage(b, id []byte) (h head, err error) {
	d := decoder{b: b}
	flags := d.number(messageFlags)
	m := &projections.Message{ID: string(id), Recalled: flags&flagRecalled != 0}
	m.SentAt = d.varint()
	m.Sent = d.int64()
	if m.Changed = m.Sent; flags&flagUnchanged == 0 {
		m.Changed += int64(d.number(uint64(math.MaxInt64 - m.Sent)))
	}
	if flags&flagConversation != 0 {
		m.ConversationID = d.uuid()
	} else {
		m.ConversationID = d.id()
	}
	if flags&flagCrowd == 0 {
		h.ref = d.ref()
		m.Sender = d.uint32()
	} else {
		m.Crowd = d.crowd(flags&flagTaken != 0)
	}
	if flags&flagOpen == 0 {
		h.sealed = int(d.number(math.MaxInt32))
	}
	h.message = m
	h.open, d.b = d.b, nil
	return h, d.end()
}

func (d *decoder) ref() projections.RosterRef {
	b := d.take(8)
	if b == nil {
		return 0
	}
	return projections.RosterRef(binary.BigEndian.Uint64(b))
}

func (d *decoder) crowd(taken bool) *projections.Crowd {
	c := &projections.Crowd{Sender: d.id()}
	c.Given = d.uint32()
	c.Settled = d.int64()
	if !taken {
		return c
	}
	c.TakenAt = d.int64()
	c.TakenCount = d.uint32()
	c.Lost = d.digest()
	before := uint64(0)
	for range d.count() {
		before += d.number(math.MaxUint32 - before)
		c.Taken = append(c.Taken, uint32(before))
	}
	return c
}

func readHead(txn *badger.Txn, partition int32, id []byte) (h head, found bool, err error) {
	found, err = read(txn, messageKey(partition, id), func(value []byte) (err error) {
		h, err = decodeMessage(slices.Clone(value), id)
		return err
	})
	return h, found, err
}

// readMessage reads the records that the head says there are. They are read one
// by one, by their keys: most messages have very few, and an iterator would open
// every table first.
func readMessage(txn *badger.Txn, partition int32, id []byte) (*projections.Message, projections.RosterRef, error) {
	h, found, err := readHead(txn, partition, id)
	if err != nil || !found {
		return nil, 0, err
	}
	chunks, err := readChunks(txn, partition, id, h.sealed)
	if err != nil {
		return nil, 0, err
	}
	h.message.Receipts = projections.RestoreReceipts(chunks, h.open)
	return h.message, h.ref, nil
}

// readChunks reads chunks that must be there.
func readChunks(txn *badger.Txn, partition int32, id []byte, n int) (chunks [][]byte, err error) {
	for i := range n {
		key := chunkKey(partition, id, i)
		found, err := read(txn, key, func(value []byte) error {
			chunks = append(chunks, slices.Clone(value))
			return nil
		})
		if err == nil && !found {
			err = corrupt(key, errMissing)
		}
		if err != nil {
			return nil, err
		}
	}
	return chunks, nil
}

// eachMessage calls f with all messages, in the order of their keys: each message's
// chunks follow on its head.
func eachMessage(txn *badger.Txn, partition int32, f func(*projections.Message, projections.RosterRef) error) error {
	var h head
	var chunks [][]byte
	end := func() error {
		if h.message == nil {
			return nil
		}
		if n := len(chunks); n < h.sealed {
			return corrupt(chunkKey(partition, h.message.ID, n), errMissing)
		}
		h.message.Receipts = projections.RestoreReceipts(chunks, h.open)
		return f(h.message, h.ref)
	}
	err := scan(txn, key(partition, kindMessage), func(key, value []byte) error {
		id, chunk, ok := parseMessageKey(key)
		switch {
		case !ok:
			return corrupt(key, errLong)
		case chunk < 0:
			if err := end(); err != nil {
				return err
			}
			var err error
			if h, err = decodeMessage(slices.Clone(value), id); err != nil {
				return corrupt(key, err)
			}
			chunks = nil
		case h.message == nil || h.message.ID != string(id) || chunk >= h.sealed:
			// It is left of a message that was recalled, or replaced, or of which the
			// rest was pruned.
		case chunk != len(chunks):
			return corrupt(chunkKey(partition, id, len(chunks)), errMissing)
		default:
			chunks = append(chunks, slices.Clone(value))
		}
		return nil
	})
	if err != nil {
		return err
	}
	return end()
}
