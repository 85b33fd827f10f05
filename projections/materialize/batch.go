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
	Rosters    []RosterChange
	// Digests are the hours' whose digest changed.
	Digests []projections.HourDigest
	// ErasuresAdded are new, in log order; those up to the Next ErasuresForgotten
	// are to be dropped (0: none).
	ErasuresAdded     []projections.Erasure
	ErasuresForgotten int64
	// WaitingAdded is in log order; WaitingRemoved names offsets.
	WaitingAdded   []projections.WaitingEvent
	WaitingRemoved []int64
	// Undecodable are the latest of those since the last flush, in log order;
	// UndecodableTotal is how many there were since the log's start.
	Undecodable      []Undecodable
	UndecodableTotal int64
}

// Change is one message that changed. The store writes what is new of it, not
// the whole message: its head, with the open chunk of its receipts, and the
// sealed chunks from Sealed on.
type Change struct {
	Message *projections.Message
	// Stored says that the store has the message, with its first Sealed chunks. If
	// not, the message is new, and whatever the store has under its ID (an expired
	// message) is replaced.
	Stored bool
	Sealed int
	// Rewritten are chunks before Sealed that are to be written again.
	Rewritten []int
}

// RosterChange is one roster that is new or changed.
type RosterChange struct {
	StoredRoster
	// Extended says that KeepUntil is later than the store's; it is if the roster is
	// new.
	Extended bool
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
	// MaxDeletes is how many records a store may delete one by one for a recall,
	// and for all the waiting events that left.
	MaxDeletes = 512
	// MaxPiece is the size from which a store may write a roster, or a list, in
	// pieces.
	MaxPiece = 128 << 10

	headSize       = 64
	offsetSize     = 10 // a varint
	goneSize       = 5 + offsetSize
	offsetsInPiece = MaxPiece / offsetSize
	checkpointSize = RecordSize + 64
	digestSize     = RecordSize + 64
	// listSize is what the list of an hour costs, beside the IDs of its new messages
	// and the refs of its rosters.
	listSize = RecordSize + 32
	refSize  = 8
	// receiptSize bounds a receipt without a name.
	receiptSize = 16 + 2*offsetSize
)

// Size bounds the cost of the batch from above, in any store.
func (b *Batch) Size() int {
	n := checkpointSize + len(b.Digests)*digestSize
	hours := make(map[int64]struct{})
	for _, c := range b.Messages {
		n += c.Size()
		if !c.Stored {
			hours[projections.Hour(c.Message.SentAt)] = struct{}{}
		}
	}
	for _, r := range b.Rosters {
		n += rosterSize(r.Roster)
		if r.Extended {
			hours[r.KeepUntil] = struct{}{}
		}
	}
	n += len(hours) * listSize
	for _, e := range b.ErasuresAdded {
		n += erasureSize(e)
	}
	if b.ErasuresForgotten > 0 {
		n += RecordSize
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

// Size bounds the cost of the change from above, in any store, but for the list of
// the hour of a new message.
func (c Change) Size() int {
	m := c.Message
	n := headCost(m) + len(m.Receipts.Open().Bytes)
	if !c.Stored {
		n += birthCost(m)
	}
	if m.Recalled {
		return n + recallCost(m.ID, c.Sealed)
	}
	for i := c.Sealed; i < m.Receipts.Sealed(); i++ {
		n += chunkCost(m, m.Receipts.Chunk(i))
	}
	for _, i := range c.Rewritten {
		n += chunkCost(m, m.Receipts.Chunk(i))
	}
	return n
}

// headCost bounds a message's record, but for its open chunk.
func headCost(m *projections.Message) int {
	n := RecordSize + headSize + len(m.ID) + len(m.ConversationID)
	if m.Crowd != nil {
		n += 64 + len(m.Crowd.Sender) + 5*len(m.Crowd.Taken)
	}
	return n
}

// birthCost bounds what is written once, when a message is new.
func birthCost(m *projections.Message) int {
	n := len(m.ID) + 2
	if m.Crowd != nil {
		n += RecordSize + len(m.ID)
	}
	return n
}

func chunkCost(m *projections.Message, c projections.Chunk) int {
	return RecordSize + len(m.ID) + 8 + len(c.Bytes)
}

func recallCost(id string, sealed int) int {
	return min(MaxDeletes, sealed) * (RecordSize + len(id) + 8)
}

// rosterSize bounds a roster's records, with the removal of the pieces that it had
// while it still had the names of those who are gone.
func rosterSize(r *projections.Roster) int {
	people := r.Names.Len()
	n := 64 + r.Names.TextLen() + 2*people + people/8 + 1
	if gone := r.Gone(); gone != nil {
		n += len(gone.People) * goneSize
	}
	pieces := (64+people*(events.MaxIDLen+2)+people/8)/MaxPiece + 1
	return n + pieces*(RecordSize+16) + refSize
}

func erasureSize(e projections.Erasure) int { return RecordSize + 40 + len(e.UserID) }

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

// smallValue is how long a record's value is that changes no more than smallRecord,
// unless events wait for its message: no roster with more than a few names.
const smallValue = 4 << 10

// smallRecord bounds the cost of what such a record can change, where so many events
// may wait: it may have all of them be given up.
func smallRecord(waiting int) int {
	const record = RecordSize + events.MaxIDLen
	return removedSize(waiting) + MaxDeletes*record + 4*smallValue + 8*record + 2*(listSize+digestSize) + headSize +
		RecordSize + 48 + maxReasonBytes + 2*MaxUndecodableBytes
}

// LargestRecord bounds the cost of what one record can change, where so many
// events may wait: a MessageSent with the largest roster, or with the longest
// names of its readers, that takes all of them.
func LargestRecord(waiting int) int {
	const record = RecordSize + events.MaxIDLen
	roster := 64 + (events.MaxRecipients+1)*(events.MaxIDLen+2) + events.MaxRecipients/8 + 1
	roster += (roster/MaxPiece+1)*(RecordSize+16) + refSize
	inRoster := roster + min(waiting, events.MaxRecipients)*receiptSize
	listed := min(waiting, projections.MaxListedReaders)
	inCrowd := listed*(receiptSize+events.MaxIDLen) + (waiting-listed)*receiptSize + 2*record
	// The chunks that these lie in, by the fewest that one may have.
	chunks := waiting/projections.MaxChunk + 1 + waiting*(receiptSize+events.MaxIDLen)/projections.MaxChunkBytes
	n := max(inRoster, inCrowd) + chunks*record
	n += removedSize(waiting)
	n += 2*listSize + headSize + 8*record
	n += MaxDeletes * record
	n += 2*digestSize + RecordSize + 48 + maxReasonBytes + 2*MaxUndecodableBytes
	return n
}
