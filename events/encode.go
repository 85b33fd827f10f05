package events

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers of events.proto. The codec is written with protowire's
// primitives rather than generated, because a rebuild decodes millions of
// records a second and must not allocate for each; a test holds it to
// events.proto by way of protobuf's own reflection.
const (
	sentConversationID protowire.Number = 1
	sentSenderID       protowire.Number = 2
	sentSentAt         protowire.Number = 3
	sentRecipients     protowire.Number = 4
	sentOptedOut       protowire.Number = 5
	sentRecipientCount protowire.Number = 6

	readReaderID protowire.Number = 1
	readReadAt   protowire.Number = 2

	erasedUserID protowire.Number = 1
)

// AppendEncode appends the record value of e to b. It fails with an error that
// names the field if e is not valid, and with [ErrTooLarge] if the value would
// exceed [MaxEventSize]; b is then returned unchanged.
func AppendEncode(b []byte, e Event) ([]byte, error) {
	if err := Check(e); err != nil {
		return b, err
	}
	var body []byte
	switch e := e.(type) {
	case *MessageSent:
		body = appendSent(nil, e)
	case *MessageRead:
		// The hot one: its length is known without building it apart.
		return appendRead(b, e), nil
	case *MessageRecalled:
	case *UserErased:
		body = appendString(nil, erasedUserID, e.UserID)
	}
	number := protowire.Number(e.Kind())
	if n := protowire.SizeTag(number) + protowire.SizeBytes(len(body)); n > MaxEventSize {
		return b, fmt.Errorf("%w: %d bytes", ErrTooLarge, n)
	}
	b = protowire.AppendTag(b, number, protowire.BytesType)
	return protowire.AppendBytes(b, body), nil
}

func appendSent(b []byte, e *MessageSent) []byte {
	b = appendString(b, sentConversationID, e.ConversationID)
	b = appendString(b, sentSenderID, e.SenderID)
	if e.SentAt != Unclaimed {
		b = protowire.AppendTag(b, sentSentAt, protowire.VarintType)
		b = protowire.AppendVarint(b, uint64(e.SentAt))
	}
	for _, id := range e.Recipients {
		b = appendString(b, sentRecipients, id)
	}
	for _, id := range e.OptedOut {
		b = appendString(b, sentOptedOut, id)
	}
	if e.CountOnly {
		b = protowire.AppendTag(b, sentRecipientCount, protowire.VarintType)
		b = protowire.AppendVarint(b, uint64(e.RecipientCount))
	}
	return b
}

func appendRead(b []byte, e *MessageRead) []byte {
	size := protowire.SizeTag(readReaderID) + protowire.SizeBytes(len(e.ReaderID))
	if e.ReadAt != Unclaimed {
		size += protowire.SizeTag(readReadAt) + protowire.SizeVarint(uint64(e.ReadAt))
	}
	b = protowire.AppendTag(b, protowire.Number(KindMessageRead), protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(size))
	b = appendString(b, readReaderID, e.ReaderID)
	if e.ReadAt != Unclaimed {
		b = protowire.AppendTag(b, readReadAt, protowire.VarintType)
		b = protowire.AppendVarint(b, uint64(e.ReadAt))
	}
	return b
}

func appendString(b []byte, number protowire.Number, s []byte) []byte {
	b = protowire.AppendTag(b, number, protowire.BytesType)
	return protowire.AppendBytes(b, s)
}
