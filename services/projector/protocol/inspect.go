package protocol

import (
	"github.com/seenby/seenby/projections/verify"
)

// Digests are those of a partition's hours.
type Digests struct {
	Partition int32 `json:"partition"`
	// Position is what they are as of: the one asked for, or a later one if that was
	// behind, or if it was not Reached in time, the current one, and there are none.
	Position int64 `json:"position"`
	Reached  bool  `json:"reached"`
	// Timestamp is the latest of the records so far, in Unix milliseconds, and
	// RetentionMS how long after their sent_at messages expire.
	Timestamp   int64 `json:"timestamp"`
	RetentionMS int64 `json:"retention_ms"`
	// Evicted counts the waiting events that had to give way.
	Evicted int64        `json:"evicted"`
	Hours   []HourDigest `json:"hours"`
}

// HourDigest is the digest of one hour, counted from the Unix epoch.
type HourDigest struct {
	Hour   int64  `json:"hour"`
	Digest string `json:"digest"`
}

// MessageDigests are the digests of some messages of one hour as they are on disk,
// in an order that all nodes have.
type MessageDigests struct {
	Partition int32 `json:"partition"`
	// Position is that of what is on disk.
	Position int64           `json:"position"`
	Messages []MessageDigest `json:"messages"`
	// Next is where to go on, or null at the end.
	Next []byte `json:"next"`
}

// MessageDigest is one message's.
type MessageDigest struct {
	// Key orders messages.
	Key     []byte `json:"key"`
	ID      string `json:"id"`
	Sent    int64  `json:"sent"`
	Version int64  `json:"version"`
	// Digest is of the message's parts, Shown of what a pull can show.
	Digest string `json:"digest"`
	Shown  string `json:"shown"`
	// Error says why it cannot be read.
	Error string `json:"error,omitempty"`
}

// Check is how far a partition is held to itself, and what was found.
type Check struct {
	Partition int32 `json:"partition"`
	// State is none, waiting, running or done.
	State    CheckState `json:"state"`
	Messages int64      `json:"messages"`
	// What follows is there when it is done.
	Checked *verify.Checked `json:"checked"`
	// Damaged are the damaged files of the node, whichever partition they are of.
	Damaged []verify.Damage `json:"damaged"`
	Error   string          `json:"error,omitempty"`
}

// CheckState is how far a check is.
type CheckState string

// The states of a check.
const (
	CheckNone    CheckState = "none"
	CheckWaiting CheckState = "waiting"
	CheckRunning CheckState = "running"
	CheckDone    CheckState = "done"
)

// Message is all that a projector, or its store, keeps of a message.
type Message struct {
	ID        string `json:"id"`
	Partition int32  `json:"partition"`
	// Node is which node of the copy owns it.
	Node     int   `json:"node"`
	Position int64 `json:"position"`
	// Hot says that it is in a running projector's memory; null for a store.
	Hot *bool `json:"hot"`
	// Message is null if there is none.
	Message *verify.State `json:"message"`
	// Waiting are the receipts and recalls that wait for it.
	Waiting []WaitingEvent `json:"waiting"`
}

// WaitingEvent is a receipt or a recall of a message that was not sent yet.
type WaitingEvent struct {
	Recall    bool   `json:"recall"`
	ReaderID  string `json:"reader_id,omitempty"`
	ReadAt    int64  `json:"read_at"`
	Offset    int64  `json:"offset"`
	Timestamp int64  `json:"timestamp"`
}

// Partition is how a partition of a projector, or of its store, is.
type Partition struct {
	Partition int32  `json:"partition"`
	Copy      string `json:"copy"`
	Nodes     int    `json:"nodes"`
	Node      int    `json:"node"`
	TopicID   string `json:"topic_id"`
	// Lineage is in hexadecimal.
	Lineage string `json:"lineage"`
	// Status is that of a running projector's; null for a store.
	Status *PartitionStatus `json:"status"`
	// Checkpoint is what is applied, of a store what is saved.
	Checkpoint Checkpoint `json:"checkpoint"`
	// Hot are the messages in memory.
	Hot         int   `json:"hot"`
	Waiting     int   `json:"waiting"`
	Erasures    int   `json:"erasures_to_scrub"`
	Undecodable int64 `json:"undecodable"`
	// Stored are the records on disk by kind, counted in a store that does not run.
	Stored   []StoredKind `json:"stored"`
	Messages int64        `json:"messages"`
	Receipts int64        `json:"receipts"`
	Hours    []HourDigest `json:"hours"`
}

// Checkpoint is of which prefix of the log something is the fold.
type Checkpoint struct {
	Position    int64 `json:"position"`
	LeaderEpoch int32 `json:"leader_epoch"`
	Timestamp   int64 `json:"timestamp"`
	Evicted     int64 `json:"waiting_evicted"`
	LastErasure int64 `json:"last_erasure"`
}

// StoredKind is how many records of a kind there are, and their bytes before they
// are compressed.
type StoredKind struct {
	Kind    string `json:"kind"`
	Records int64  `json:"records"`
	Bytes   int64  `json:"bytes"`
}
