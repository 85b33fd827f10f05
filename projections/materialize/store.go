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
// and the others by any number, also meanwhile. What a store returns is the
// caller's: it shares no memory with the store that either may change.
type Store interface {
	// Restore returns what the last Commit of the partition left beside its
	// messages and rosters. A partition that was never committed returns found
	// false.
	Restore(partition int32) (saved Saved, found bool, err error)
	// Message returns a message with all its receipts, or nil if there is none. A
	// message with a roster has its ref in place of the roster; it is ready for the
	// fold when it was given the roster and rebuilt (projections.Message.Rebuild).
	Message(partition int32, id []byte) (m *projections.Message, ref projections.RosterRef, err error)
	// Chunks returns the first n sealed chunks of a message's receipts. They may be
	// those of another state of the message than the caller has in mind; it is for
	// the caller to know. A message that has not so many returns fewer.
	Chunks(partition int32, id []byte, n int) ([][]byte, error)
	// Roster returns a roster, or nil if there is none.
	Roster(partition int32, ref projections.RosterRef) (*StoredRoster, error)
	// Rosters returns up to limit rosters, ascending by ref, from the first whose
	// ref is from or more; and Crowds up to limit IDs of count-only messages,
	// ascending bytewise as the store orders them, after the one given (nil: from
	// the first). An ID may be of a message that is there no more.
	Rosters(partition int32, from projections.RosterRef, limit int) ([]*StoredRoster, error)
	Crowds(partition int32, after []byte, limit int) ([][]byte, error)
	// Commit makes a batch durable: all of it, in one transaction, or nothing.
	// After an error other than [ErrTooLarge] it is not known which, until the
	// store was opened again. Commit does not keep b or what it points to.
	Commit(partition int32, b *Batch) error
	// MaxBatch is the largest Batch.Size that is sure to fit one transaction.
	MaxBatch() int
	// Prune removes some of what belongs to the hours that ended at or before
	// before (Unix milliseconds): messages by their sent_at, digests, and rosters by
	// their KeepUntil. It takes a bounded time and any number of transactions,
	// returns how many messages it removed, and is done when nothing is left. What a
	// replaced message left behind goes with the replaced one's hour.
	Prune(partition int32, before int64) (removed int, done bool, err error)
	// Undecodable returns the kept undecodable and misplaced records of a
	// partition, by offset.
	Undecodable(partition int32) ([]Undecodable, error)
	// Close releases the store. What was committed stays.
	Close() error
}

// Saved is a partition's state beside its messages and rosters.
type Saved struct {
	projections.Restored
	// Undecodable is how many undecodable and misplaced records there were in
	// all, of which the store keeps the latest [MaxUndecodable].
	Undecodable int64
}

// StoredRoster is a roster and how long it is kept.
type StoredRoster struct {
	Roster *projections.Roster
	// KeepUntil is an hour of sent_at: no message of a later one uses the roster.
	KeepUntil int64
}
