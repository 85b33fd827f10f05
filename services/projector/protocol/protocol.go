// Package protocol is what query and projector say to each other: the paths, the
// headers and the status of a node. It is internal to one deployment: the two
// sides are of one version of this package, or refuse each other by name.
package protocol

import (
	"encoding/hex"
	"errors"
	"net/url"

	"github.com/seenby/seenby/services/auth"
)

// Version is the protocol's. Either side refuses a peer of another one.
const Version = auth.Protocol

// The routes of a projector's internal port.
const (
	StatusPath      = "/internal/v1/status"
	UndecodablePath = "/internal/v1/undecodable"
	// DigestsPath and MessageDigestsPath tell what a partition adds up to, and what
	// its messages do; CheckPath has a partition held to itself.
	DigestsPath        = "/internal/v1/digests"
	MessageDigestsPath = "/internal/v1/message-digests"
	CheckPath          = "/internal/v1/check"
	// MessagePath and PartitionPath show all that is kept of a message, and of a
	// partition.
	MessagePath   = "/internal/v1/message"
	PartitionPath = "/internal/v1/partition"
	// ReceiptsRoute is the pull's route; its query string and If-None-Match are
	// those of the client.
	ReceiptsRoute = "/internal/v1/messages/{message_id}/receipts"
	// UnreadRoute is that of a pull of who has not read.
	UnreadRoute = "/internal/v1/messages/{message_id}/unread"
)

// AnswerHeader marks an answer that is meant for the client, byte for byte.
// What lacks it comes from the projector's HTTP side, or from whoever else
// listens at its address, and is never passed on.
const AnswerHeader = "Seenby-Answer"

// ReceiptsPath is the escaped path of the pull of a message.
func ReceiptsPath(messageID string) string {
	return "/internal/v1/messages/" + url.PathEscape(messageID) + "/receipts"
}

// UnreadPath is the escaped path of the pull of who has not read a message.
func UnreadPath(messageID string) string {
	return "/internal/v1/messages/" + url.PathEscape(messageID) + "/unread"
}

// State is how a partition, and what serves it, is.
type State string

// The states of a partition.
const (
	// Starting: it has not yet applied all that was in the log since its node
	// started. Pulls are refused.
	Starting State = "starting"
	// Ready: a second ago, or less, it had applied everything.
	Ready State = "ready"
	// Behind: it was ready once, and is not now. Pulls are answered, with the lag
	// stated.
	Behind State = "behind"
	// Stopped: it cannot go on. Pulls are refused.
	Stopped State = "stopped"
)

// Answers says whether pulls are answered in this state.
func (s State) Answers() bool { return s == Ready || s == Behind }

// Status is how a projector node is.
type Status struct {
	Protocol int `json:"protocol"`
	// Copy, Nodes and Node say which node of which copy it is.
	Copy  string `json:"copy"`
	Nodes int    `json:"nodes"`
	Node  int    `json:"node"`
	// Detail says what the node is waiting for. While it is not empty the log is
	// not known yet, and the fields below are zero.
	Detail     string  `json:"detail,omitempty"`
	Topic      string  `json:"topic"`
	TopicID    TopicID `json:"topic_id"`
	Partitions int32   `json:"partitions"`
	Generation uint32  `json:"generation"`
	// Lineage is projections.Lineage's ID.
	Lineage  uint32            `json:"lineage"`
	Progress Progress          `json:"progress"`
	Owned    []PartitionStatus `json:"owned"`
}

// Progress is how far a node is on its way to the end of the log.
type Progress struct {
	// Applied are the records applied since the node's start, and Remaining those
	// that were in the log, when it was last asked, and are not applied yet.
	Applied   int64 `json:"applied"`
	Remaining int64 `json:"remaining"`
	// PerSecond is the rate of the last seconds, and SecondsLeft how long Remaining
	// takes at that rate; 0 while it is not known.
	PerSecond   float64 `json:"per_second"`
	SecondsLeft float64 `json:"seconds_left"`
}

// TopicID is Kafka's ID of the topic, in hexadecimal where it is text.
type TopicID [16]byte

func (id TopicID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText never fails.
func (id TopicID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText takes 32 hexadecimal digits.
func (id *TopicID) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil || len(b) != len(id) {
		return errors.New("a topic ID must be 32 hexadecimal digits")
	}
	copy(id[:], b)
	return nil
}

// PartitionStatus is how one owned partition is.
type PartitionStatus struct {
	Partition int32 `json:"partition"`
	State     State `json:"state"`
	// Position is the next offset to apply, and End the last known end of the
	// log, or -1.
	Position int64 `json:"position"`
	End      int64 `json:"end"`
	// Saved is the position that is on disk, or -1: what is below it is read from
	// the log no more.
	Saved int64 `json:"saved"`
	// LagMS is how many milliseconds ago everything was applied, as far as is
	// known, or -1 if it never was since the node started.
	LagMS int64 `json:"lag_ms"`
	// Error says why it is stopped, and the way out.
	Error string `json:"error,omitempty"`
}

// Undecodable are the records that one partition skipped because they are no
// events, or lie in the wrong partition.
type Undecodable struct {
	Partition int32 `json:"partition"`
	// Total counts all of them; only the latest are kept.
	Total   int64               `json:"total"`
	Records []UndecodableRecord `json:"records"`
}

// UndecodableRecord is one kept record. Key and Value, in base64 in JSON, may be
// cut off; KeySize and ValueSize are the record's own.
type UndecodableRecord struct {
	Offset int64 `json:"offset"`
	// Timestamp is the record's, in Unix milliseconds.
	Timestamp int64 `json:"timestamp"`
	// Outcome is undecodable or misplaced, and Reason says what is wrong.
	Outcome   string `json:"outcome"`
	Reason    string `json:"reason"`
	Key       []byte `json:"key"`
	Value     []byte `json:"value"`
	KeySize   int    `json:"key_size"`
	ValueSize int    `json:"value_size"`
}
