// Package events knows what happened to messages and how it is written in the
// topic: the kinds of event, their validity, their bytes (events.proto), and
// the partition that a key belongs to. It imports nothing of seenby and touches
// nothing outside memory; package topic does the Kafka side.
package events

import "math"

const (
	// MaxRecipients is how many distinct recipients, without the sender, a
	// MessageSent may list.
	MaxRecipients = 10_000
	// MaxRecipientCount is the largest recipient_count.
	MaxRecipientCount = math.MaxInt32
	// MaxEventSize is the largest encoded event, in bytes. The topic must allow
	// records of this size.
	MaxEventSize = 2 << 20
	// Unclaimed is the SentAt or ReadAt of an event that claims no time. It is
	// later than any clock, so that min(claimed, record timestamp), which is
	// what the projection uses, is the record's timestamp.
	Unclaimed = math.MaxInt64
)

// Event is one immutable fact: *[MessageSent], *[MessageRead],
// *[MessageRecalled] or *[UserErased].
type Event interface {
	// Kind is the event's field number in the oneof of events.proto.
	Kind() Kind
	// Key is the record key: the message ID, or nil for UserErased.
	Key() []byte
}

// Kind is the number of an event's kind in the oneof of events.proto.
type Kind int32

// The kinds of event that this build knows. Numbers from FirstKind to LastKind
// are reserved for kinds of event; see events.proto for why they are so high.
const (
	KindMessageSent     Kind = 1001
	KindMessageRead     Kind = 1002
	KindMessageRecalled Kind = 1003
	KindUserErased      Kind = 1004

	FirstKind Kind = 1001
	LastKind  Kind = 1999
)

// MessageSent says who should read a message. It lists either Recipients and
// OptedOut, or gives RecipientCount.
type MessageSent struct {
	MessageID      []byte
	ConversationID []byte
	SenderID       []byte
	// SentAt is in Unix milliseconds, or Unclaimed.
	SentAt int64
	// Recipients may repeat people and name the sender; both are ignored.
	Recipients [][]byte
	// OptedOut may name people who are not recipients; they are ignored.
	OptedOut [][]byte
	// CountOnly says that RecipientCount stands for the recipients, which are
	// not listed.
	CountOnly      bool
	RecipientCount uint32
}

// MessageRead is one receipt.
type MessageRead struct {
	MessageID []byte
	ReaderID  []byte
	// ReadAt is in Unix milliseconds, or Unclaimed.
	ReadAt int64
}

// MessageRecalled says that a message was recalled or deleted.
type MessageRecalled struct {
	MessageID []byte
}

// UserErased says that a person is to be forgotten. It has no key; one record
// goes to every partition.
type UserErased struct {
	UserID []byte
}

func (*MessageSent) Kind() Kind     { return KindMessageSent }
func (*MessageRead) Kind() Kind     { return KindMessageRead }
func (*MessageRecalled) Kind() Kind { return KindMessageRecalled }
func (*UserErased) Kind() Kind      { return KindUserErased }

func (e *MessageSent) Key() []byte     { return e.MessageID }
func (e *MessageRead) Key() []byte     { return e.MessageID }
func (e *MessageRecalled) Key() []byte { return e.MessageID }
func (*UserErased) Key() []byte        { return nil }
