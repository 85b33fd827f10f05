package events

import (
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

var (
	// ErrNotEvent is wrapped by what Decode returns for a record that is no
	// Event: a bad value or a bad key. Such a record is skipped by every build
	// alike.
	ErrNotEvent = errors.New("not an Event")
	// ErrUnknownKind is wrapped by what Decode returns for a well-formed Event
	// of a kind that this build does not know. Skipping it could change what
	// pulls answer, so its partition must stop.
	ErrUnknownKind = errors.New("an Event of a kind that this build does not know")
)

// Decoder decodes records. It allocates nothing per receipt: the event that
// Decode returns, and all its byte slices, are valid only until the next Decode
// and as long as the record's bytes are. It holds on to no record but the last,
// and to no more memory of its own than the largest roster takes. The zero
// Decoder is ready; one goroutine at a time may use it.
type Decoder struct {
	sent     MessageSent
	read     MessageRead
	recalled MessageRecalled
	erased   UserErased
}

// Decode decodes and checks one record. The error wraps [ErrUnknownKind] or
// [ErrNotEvent]; the former is told whatever the key, so that a build that is
// too old never takes a new event for garbage.
func (d *Decoder) Decode(key, value []byte) (Event, error) {
	d.forget()
	if d.receipt(key, value) {
		return &d.read, nil
	}
	return d.decode(key, value)
}

// decode is Decode for whatever receipt does not take.
func (d *Decoder) decode(key, value []byte) (Event, error) {
	kind, body, err := split(value)
	if err != nil {
		return nil, fmt.Errorf("%w: value: %w", ErrNotEvent, err)
	}
	var e Event
	switch kind {
	case KindMessageSent:
		d.sent.MessageID, d.sent.SentAt = key, Unclaimed
		e, err = &d.sent, d.sent.decode(body)
	case KindMessageRead:
		d.read = MessageRead{MessageID: key, ReadAt: Unclaimed}
		e, err = &d.read, d.read.decode(body)
	case KindMessageRecalled:
		d.recalled.MessageID = key
		e, err = &d.recalled, eachField(body, func(field) error { return nil })
	case KindUserErased:
		e, err = &d.erased, d.erased.decode(body)
	default:
		if err := eachField(body, func(field) error { return nil }); err != nil {
			return nil, fmt.Errorf("%w: value: %w", ErrNotEvent, err)
		}
		return nil, fmt.Errorf("%w: number %d", ErrUnknownKind, kind)
	}
	if err == nil {
		err = checkBody(e)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotEvent, err)
	}
	if kind == KindUserErased {
		if len(key) != 0 {
			return nil, fmt.Errorf("%w: key: UserErased has none", ErrNotEvent)
		}
	} else if err := CheckID(key); err != nil {
		return nil, fmt.Errorf("%w: key: %w", ErrNotEvent, err)
	}
	return e, nil
}

// receipt decodes a receipt that is written as nearly all are: the fields in their
// order, each once and of its type, in their shortest form, and nothing else. It
// reports whether it was one, and valid. A rebuild decodes millions a second.
func (d *Decoder) receipt(key, value []byte) bool {
	const (
		kind0, kind1 = byte(KindMessageRead<<3&0x7f | 2 | 0x80), byte(KindMessageRead >> 4)
		reader       = byte(readReaderID<<3 | 2)
		at           = byte(readReadAt << 3)
	)
	if len(value) < 6 || value[0] != kind0 || value[1] != kind1 || int(value[2]) != len(value)-3 || value[2] > 0x7f ||
		value[3] != reader || value[4] > 0x7f || int(value[4]) > len(value)-5 {
		return false
	}
	id, rest := value[5:5+value[4]], value[5+value[4]:]
	claimed := int64(Unclaimed)
	if len(rest) > 0 {
		v, n := protowire.ConsumeVarint(rest[1:])
		if rest[0] != at || n != len(rest)-1 {
			return false
		}
		claimed = int64(v)
	}
	if CheckID(id) != nil || CheckID(key) != nil {
		return false
	}
	d.read = MessageRead{MessageID: key, ReaderID: id, ReadAt: claimed}
	return true
}

// forget drops what the last event points to: a slice of a record's bytes keeps
// all that was fetched together with it in memory, and the next event of that
// kind may be long in coming.
func (d *Decoder) forget() {
	d.sent = MessageSent{Recipients: emptied(d.sent.Recipients), OptedOut: emptied(d.sent.OptedOut)}
	d.read, d.recalled, d.erased = MessageRead{}, MessageRecalled{}, UserErased{}
}

// emptied returns ids without its elements, to append to, or nil if it is larger
// than rosters without repeats need.
func emptied(ids [][]byte) [][]byte {
	if cap(ids) > 2*MaxRecipients {
		return nil
	}
	clear(ids)
	return ids[:0]
}

// split finds the one kind in an Event. Fields of other numbers are passed
// over, as a later events.proto may add some beside the oneof.
func split(value []byte) (kind Kind, body []byte, err error) {
	if len(value) > MaxEventSize {
		return 0, nil, fmt.Errorf("%d bytes, at most %d", len(value), MaxEventSize)
	}
	err = eachField(value, func(f field) error {
		if f.number < protowire.Number(FirstKind) || f.number > protowire.Number(LastKind) {
			return nil
		}
		if f.wire != protowire.BytesType {
			return errors.New("a kind of event that is not a message")
		}
		if kind != 0 {
			return errors.New("more than one kind of event")
		}
		kind, body = Kind(f.number), f.bytes
		return nil
	})
	if err == nil && kind == 0 {
		err = errors.New("no kind of event")
	}
	return kind, body, err
}

func (e *MessageSent) decode(body []byte) error {
	return eachField(body, func(f field) error {
		switch f.number {
		case sentConversationID:
			return f.intoBytes(&e.ConversationID)
		case sentSenderID:
			return f.intoBytes(&e.SenderID)
		case sentSentAt:
			return f.intoInt64(&e.SentAt)
		case sentRecipients:
			return f.appendTo(&e.Recipients)
		case sentOptedOut:
			return f.appendTo(&e.OptedOut)
		case sentRecipientCount:
			e.CountOnly = true
			return f.intoUint32(&e.RecipientCount)
		}
		return nil
	})
}

func (e *MessageRead) decode(body []byte) error {
	return eachField(body, func(f field) error {
		switch f.number {
		case readReaderID:
			return f.intoBytes(&e.ReaderID)
		case readReadAt:
			return f.intoInt64(&e.ReadAt)
		}
		return nil
	})
}

func (e *UserErased) decode(body []byte) error {
	return eachField(body, func(f field) error {
		if f.number == erasedUserID {
			return f.intoBytes(&e.UserID)
		}
		return nil
	})
}

// field is one field on the wire: its varint, or its bytes.
type field struct {
	number protowire.Number
	wire   protowire.Type
	varint uint64
	bytes  []byte
}

// eachField calls f for each field of b, and checks that b is whole.
func eachField(b []byte, f func(field) error) error {
	for len(b) > 0 {
		number, wire, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		if number > protowire.MaxValidNumber { // which ConsumeTag lets pass
			return errFieldNumber
		}
		b = b[n:]
		fd := field{number: number, wire: wire}
		switch wire {
		case protowire.VarintType:
			fd.varint, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			fd.bytes, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(number, wire, b)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		if err := f(fd); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

var errFieldNumber = errors.New("an invalid field number")

var errWireType = errors.New("a field of the wrong wire type")

func (f field) intoBytes(to *[]byte) error {
	if f.wire != protowire.BytesType {
		return errWireType
	}
	*to = f.bytes
	return nil
}

func (f field) appendTo(to *[][]byte) error {
	if f.wire != protowire.BytesType {
		return errWireType
	}
	*to = append(*to, f.bytes)
	return nil
}

func (f field) intoInt64(to *int64) error {
	if f.wire != protowire.VarintType {
		return errWireType
	}
	*to = int64(f.varint)
	return nil
}

// intoUint32 refuses what does not fit, where protobuf would cut it off: a
// count that was cut off would be a wrong count.
func (f field) intoUint32(to *uint32) error {
	if f.wire != protowire.VarintType {
		return errWireType
	}
	if f.varint > math.MaxUint32 {
		return errors.New("a count over 32 bits")
	}
	*to = uint32(f.varint)
	return nil
}
