package materialize

import (
	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/projections"
)

// Batch is one flush of a partition: everything that changed since the last
// one, and the checkpoint that it belongs to.
type Batch struct {
	Checkpoint projections.Checkpoint
	Messages   []Change
	// WaitingAdded is in log order; WaitingRemoved names offsets.
	WaitingAdded   []projections.WaitingEvent
	WaitingRemoved []int64
	// Undecodable are the latest of those since the last flush, in log order;
	// UndecodableTotal is how many there were since the log's start.
	Undecodable      []Undecodable
	UndecodableTotal int64
}

// Change is one message that changed. The store writes what is new of it, not
// the whole message.
type Change struct {
	Message *projections.Message
	// Stored says that the store has the message, with its first Receipts and
	// Unlisted. If not, the message is new, and whatever the store has under its
	// ID (an expired message) is replaced.
	Stored bool
	// Receipts and Unlisted are how many of the message's the store has. After a
	// recall both the message and the store end up with none.
	Receipts int
	Unlisted int
}

const (
	// MaxUndecodable is how many undecodable and misplaced records a store keeps
	// for a partition; an older one gives way to a newer.
	MaxUndecodable = 1000
	// MaxUndecodableBytes is how much of such a record's key, and of its value,
	// is kept.
	MaxUndecodableBytes = 1024
	// maxReasonBytes is how much of its reason is kept.
	maxReasonBytes = 256
)

// Undecodable is a record that was skipped because it is no Event, or lies in
// the wrong partition, kept for an operator to read.
type Undecodable struct {
	Offset    int64
	Timestamp int64
	// Outcome is projections.Undecodable or projections.Misplaced.
	Outcome projections.Outcome
	// Reason says what is wrong with it.
	Reason string
	// Key and Value are cut off after MaxUndecodableBytes; KeySize and ValueSize
	// are the record's. A nil key is null.
	Key, Value         []byte
	KeySize, ValueSize int
}

// What a store may write for a batch. The sizes are what a transaction costs,
// not bytes on disk: a small record costs as much as its place in an index.
const (
	// RecordSize is the cost of one key and value, beside the message ID in the
	// key and the value's bytes.
	RecordSize = 96
	// MaxRewrite is how many receipts, and how many hashes, before the new ones
	// a store may write again with them.
	MaxRewrite = 128
	// MaxDeletes is how many records a store may delete one by one for a recall,
	// and for all the waiting events that left.
	MaxDeletes = 512
	// MaxPiece is the size from which a store may write a message in pieces.
	MaxPiece = 128 << 10

	headSize       = 64
	receiptSize    = 30 // a number of a person, two differences, and a share of their record
	hashSize       = len(projections.ReaderHash{}) + 4
	offsetSize     = 10 // a varint
	offsetsInPiece = MaxPiece / offsetSize
	checkpointSize = RecordSize + 64
)

// Size bounds the cost of the batch from above, in any store.
func (b *Batch) Size() int {
	n := checkpointSize
	for _, c := range b.Messages {
		n += c.Size()
	}
	for _, w := range b.WaitingAdded {
		n += waitingSize(w)
	}
	n += removedSize(len(b.WaitingRemoved))
	for _, u := range b.Undecodable {
		n += u.size()
	}
	return n
}

// Size bounds the cost of the change from above, in any store.
func (c Change) Size() int {
	m := c.Message
	record := RecordSize + len(m.ID)
	n := record + headSize
	if !c.Stored {
		birth := birthSize(m)
		n += record + birth + (birth/MaxPiece+1)*record
	}
	if m.Recalled {
		if c.Stored {
			n += recallSize(m.ID, c.Receipts, c.Unlisted)
		}
		return n
	}
	if len(m.Receipts) > c.Receipts {
		n += 2*record + receiptsSize(m, max(0, c.Receipts-MaxRewrite))
	}
	if len(m.Unlisted) > c.Unlisted {
		n += 2*record + (len(m.Unlisted)-max(0, c.Unlisted-MaxRewrite))*hashSize
	}
	return n
}

// birthSize bounds what of a message never changes.
func birthSize(m *projections.Message) int {
	n := 32 + len(m.ConversationID) + len(m.SenderName)
	if m.Roster != nil {
		for _, name := range m.Roster.Names {
			n += 2 + len(name)
		}
		n += len(m.Roster.Names)/8 + 1
	}
	return n
}

// receiptsSize bounds the receipts from the one at index from.
func receiptsSize(m *projections.Message, from int) int {
	n := (len(m.Receipts) - from) * receiptSize
	if m.Roster == nil {
		for _, name := range m.Readers[from:] {
			n += 2 + len(name)
		}
	}
	return n
}

func recallSize(id string, receipts, unlisted int) int {
	return min(MaxDeletes, receipts+unlisted) * (RecordSize + len(id))
}

func waitingSize(w projections.WaitingEvent) int {
	return RecordSize + 40 + len(w.MessageID) + len(w.ReaderID)
}

// removedSize bounds the removal of n waiting events: a few are deleted, many
// are written down as one list of offsets first.
func removedSize(n int) int {
	if n == 0 {
		return 0
	}
	return min(n, MaxDeletes)*RecordSize + (n/offsetsInPiece+1)*RecordSize + n*offsetSize
}

func (u Undecodable) size() int {
	return RecordSize + 48 + len(u.Reason) + len(u.Key) + len(u.Value)
}

// LargestRecord bounds the cost of what one record can change, where so many
// events may wait: a MessageSent with the largest roster, or with the longest
// names of its readers, that takes all of them.
func LargestRecord(waiting int) int {
	const record = RecordSize + events.MaxIDLen
	birth := (events.MaxRecipients+1)*(events.MaxIDLen+2) + events.MaxRecipients/8 + 2*events.MaxIDLen + 64
	birth += (birth/MaxPiece + 1) * record
	listed := min(waiting, projections.MaxListedReaders)*(receiptSize+2+events.MaxIDLen) + (waiting-min(waiting, projections.MaxListedReaders))*hashSize
	n := max(birth+min(waiting, events.MaxRecipients)*receiptSize, listed)
	n += removedSize(waiting)
	n += MaxRewrite*(receiptSize+2+events.MaxIDLen+hashSize) + 8*record + headSize
	n += MaxDeletes * record
	n += RecordSize + 48 + maxReasonBytes + 2*MaxUndecodableBytes
	return n
}
