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
	// state of another lineage, or was made for another node. The error names
	// what differs.
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
	// After an error other than [ErrTooLarge] it is not known which, until the
	// store was opened again. Commit does not keep b or what it points to.
	Commit(partition int32, b *Batch) error
	// MaxBatch is the largest Batch.Size that is sure to fit one transaction.
	MaxBatch() int
	// Prune removes the messages whose hour of sent_at ended at or before
	// before (Unix milliseconds), in any number of transactions, and returns how
	// many. It may be interrupted between them and called again. What a replaced
	// message left behind goes with the replaced one's hour.
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
	// Waiting is in log order.
	Waiting []projections.WaitingEvent
	// Undecodable is how many undecodable and misplaced records there were in
	// all, of which the store keeps the latest [MaxUndecodable].
	Undecodable int64
}

// Hour is the hour of sent_at, counted from the Unix epoch, that a message is
// pruned with.
func Hour(sentAt int64) int64 {
	hour := sentAt / hourMillis
	if sentAt%hourMillis < 0 {
		hour--
	}
	return hour
}

// HourEnded says whether an hour was over at a time in Unix milliseconds.
func HourEnded(hour, at int64) bool { return hour < Hour(at) }

const hourMillis = 3_600_000
