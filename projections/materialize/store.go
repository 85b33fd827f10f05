package materialize

import (
	"errors"

	"github.com/seenby/seenby/projections"
)

var (
	// ErrFormat is wrapped by what opening a store returns when its format
	// version is not one that this build knows. The error names both.
	ErrFormat = errors.New("unknown store format")
	// ErrLineage is wrapped by what opening a store returns when it holds the
	// state of another lineage. The error names what differs.
	ErrLineage = errors.New("the store is of another lineage")
	// ErrCorrupt is wrapped by what reading a store returns when its bytes are
	// not what was written.
	ErrCorrupt = errors.New("the store is corrupt")
	// ErrTooLarge is wrapped by what Commit returns for a batch that does not
	// fit one transaction; nothing was written.
	ErrTooLarge = errors.New("the batch does not fit one transaction")
)

// Store keeps the state of a node's partitions. Package badgerstore is the one
// on disk, package memstore the one in memory; package storetest is what every
// store has to pass.
//
// Partitions are independent: calls for different partitions may be concurrent.
// For one partition, Commit and Prune are called by one goroutine at a time,
// and the others by any number, also meanwhile. A message that a store returns
// is the caller's: it shares no memory with the store that either may change.
type Store interface {
	// Restore returns what the last Commit of the partition left beside its
	// messages. A partition that was never committed returns found false.
	Restore(partition int32) (saved Saved, found bool, err error)
	// Message returns a message, ready for the fold, or nil if there is none.
	Message(partition int32, id []byte) (*projections.Message, error)
	// Commit makes a batch durable: all of it, in one transaction, or nothing.
	Commit(partition int32, b *Batch) error
	// MaxBatch is the largest Batch.Size that is sure to fit one transaction.
	MaxBatch() int
	// Prune removes the messages whose hour of sent_at ended at or before
	// before (Unix milliseconds), in any number of transactions, and returns how
	// many. It may be interrupted between them and called again.
	Prune(partition int32, before int64) (removed int, err error)
	// Undecodable returns the kept undecodable and misplaced records of a
	// partition, by offset.
	Undecodable(partition int32) ([]Undecodable, error)
	// Close releases the store. What was committed stays.
	Close() error
}

// Saved is a partition's state beside its messages.
type Saved struct {
	Checkpoint projections.Checkpoint
	Waiting    []projections.WaitingEvent
	// Undecodable is how many undecodable and misplaced records there were in
	// all, of which the store keeps the latest [MaxUndecodable].
	Undecodable int64
}

// Batch is one flush of a partition: everything that changed since the last
// one, and the checkpoint that it belongs to.
type Batch struct {
	Checkpoint projections.Checkpoint
	Messages   []Change
	// WaitingAdded is in log order; WaitingRemoved names offsets.
	WaitingAdded   []projections.WaitingEvent
	WaitingRemoved []int64
	// Undecodable are those since the last flush, in log order.
	Undecodable []Undecodable
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
