// Package verify holds what a store has on disk to what it must be: a partition to
// itself, by working out from the bytes what its digests sum up, and to another
// one that claims to be the fold of the same prefix of the log. It keeps no more in
// memory than one message, some rosters, and a few words an hour.
package verify

import (
	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/materialize"
)

// Snapshot is a partition as it lies in a store at one moment.
type Snapshot interface {
	// Restore, Message and Roster are as in materialize.Store.
	Restore() (saved materialize.Saved, found bool, err error)
	Message(id []byte) (*projections.Message, projections.RosterRef, error)
	Roster(projections.RosterRef) (*materialize.StoredRoster, error)
	// Has says whether there is a message.
	Has(id []byte) (bool, error)
	// Messages calls f with the messages after a key (nil: with all), in order of
	// their keys, until f returns false. One that cannot be read has an Err, and the
	// others go on.
	Messages(after []byte, f func(Stored) (more bool, err error)) error
	// Listed calls f with the messages that the store means to remove with an hour;
	// each stored message was listed in the hour of its sent_at.
	Listed(f func(hour int64, id []byte) error) error
	// Marked says whether the store knows to visit a message when somebody is erased:
	// it has to, if the message is count-only.
	Marked(id []byte) (bool, error)
	// Records calls f with each record of the partition.
	Records(f func(Record) error) error
}

// Stored is a message that is there.
type Stored struct {
	// Key orders messages, in all stores of one format alike.
	Key, ID []byte
	SentAt  int64
	Err     error
}

// Record is one key and its value.
type Record struct {
	// What names it, Kind is its kind; Bytes is its size.
	What, Kind string
	Bytes      int64
	// Err says that it is not what was written.
	Err error
}

// Damage is a file that is not what was written.
type Damage struct {
	File string `json:"file"`
	What string `json:"what"`
	// After and Before are the records next to what cannot be read, which is all
	// between them; empty: from the file's beginning, or to its end.
	After  string `json:"after,omitempty"`
	Before string `json:"before,omitempty"`
}

// String says it in a line.
func (d Damage) String() string {
	s := d.File + ": " + d.What
	switch {
	case d.After != "" && d.Before != "":
		s += ": what is between " + d.After + " and " + d.Before
	case d.After != "":
		s += ": what comes after " + d.After
	case d.Before != "":
		s += ": what comes before " + d.Before
	}
	return s
}
