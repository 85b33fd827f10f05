package contract

import (
	"slices"

	"github.com/seenby/seenby/events"
)

// The limits of what ingest takes.
const (
	// MaxReceipts is how many receipts one request may bring.
	MaxReceipts = 500
	// MaxPutBody and MaxBody are the largest bodies, in bytes, of a PUT of a
	// message and of anything else.
	MaxPutBody = 2 << 20
	MaxBody    = 256 << 10
)

// DecodePut decodes the body of PUT /v1/messages/{message_id}. In the result,
// Recipients are distinct and without the sender; SentAt is events.Unclaimed
// where the body has none. It is left to the caller to hold SentAt to a clock.
func DecodePut(messageID string, b []byte) (*events.MessageSent, *Problem) {
	e := &events.MessageSent{MessageID: []byte(messageID), SentAt: events.Unclaimed}
	d, problem := readBody(b, func(d *body, name string) error {
		switch name {
		case "conversation_id":
			return d.id(-1, name, &e.ConversationID)
		case "sender_id":
			return d.id(-1, name, &e.SenderID)
		case "sent_at":
			return d.time(-1, name, &e.SentAt)
		case "recipients":
			return d.ids(name, &e.Recipients)
		case "opted_out":
			return d.ids(name, &e.OptedOut)
		case "recipient_count":
			e.CountOnly = true
			return d.count(name, events.MaxRecipientCount, &e.RecipientCount)
		}
		return d.unknown(-1, name)
	})
	if problem != nil {
		return nil, problem
	}
	e.Recipients = distinct(e.Recipients, e.SenderID)
	e.OptedOut = distinct(e.OptedOut, nil)
	if n := len(e.Recipients); n > events.MaxRecipients {
		return nil, NewProblem(RosterTooLarge, "%d recipients, at most %d: give recipient_count instead", n, events.MaxRecipients)
	}
	d.require("conversation_id", "sender_id")
	switch {
	case !d.has("recipients") && !d.has("recipient_count"):
		d.bad(-1, "recipients", Required, "recipients or recipient_count is required")
	case d.has("recipients") && d.has("recipient_count"):
		d.bad(-1, "recipient_count", Conflicting, "recipient_count excludes recipients")
	case d.has("recipient_count") && len(e.OptedOut) > 0:
		d.bad(-1, "opted_out", Conflicting, "recipient_count excludes opted_out: count without the opted out")
	}
	if problem := d.problem(); problem != nil {
		return nil, problem
	}
	return e, nil
}

// ids reads a list of IDs.
func (d *body) ids(name string, to *[][]byte) error {
	return d.array(name, func(d *body, i int) error {
		var id []byte
		err := d.id(i, name, &id)
		if id != nil {
			*to = append(*to, id)
		}
		return err
	})
}

// distinct returns ids without repeats and without one, in their order.
func distinct(ids [][]byte, without []byte) [][]byte {
	seen := map[string]struct{}{string(without): {}}
	return slices.DeleteFunc(ids, func(id []byte) bool {
		_, found := seen[string(id)]
		seen[string(id)] = struct{}{}
		return found
	})
}

// DecodeReceipts decodes the body of POST /v1/receipts. A user's items are read
// by the user. It comes to foreign_reader only where nothing else is wrong.
func DecodeReceipts(c Caller, b []byte) ([]events.MessageRead, *Problem) {
	// An item takes 40 bytes or more; what is shorter is hardly one.
	reads := make([]events.MessageRead, 0, min(MaxReceipts, len(b)/40+1))
	foreign, n := false, 0
	d, problem := readBody(b, func(d *body, name string) error {
		if name != "receipts" {
			return d.unknown(-1, name)
		}
		return d.array(name, func(d *body, i int) error {
			if n++; n > MaxReceipts {
				return d.skip()
			}
			read := events.MessageRead{ReadAt: events.Unclaimed}
			if err := d.receipt(i, c, &read); err != nil {
				return err
			}
			foreign = foreign || !c.Backend && string(read.ReaderID) != c.Subject
			reads = append(reads, read)
			return nil
		})
	})
	if problem != nil {
		return nil, problem
	}
	d.require("receipts")
	switch {
	case n > MaxReceipts:
		d.bad(-1, "receipts", TooMany, "%d receipts, at most %d in one request", n, MaxReceipts)
	case n == 0 && len(d.errors) == 0:
		d.bad(-1, "receipts", OutOfRange, "receipts must have at least one item")
	}
	if problem := d.problem(); problem != nil {
		return nil, problem
	}
	if foreign {
		return nil, NewProblem(ForeignReader, "reader_id may only be the token's own subject")
	}
	return reads, nil
}

// receipt reads one item of receipts.
func (d *body) receipt(i int, c Caller, read *events.MessageRead) error {
	var hasMessage, hasReader bool
	before := len(d.errors)
	err := d.object(i, "receipts", func(d *body, name string) error {
		switch name {
		case "message_id":
			hasMessage = true
			return d.id(i, name, &read.MessageID)
		case "reader_id":
			hasReader = true
			return d.id(i, name, &read.ReaderID)
		case "read_at":
			return d.time(i, name, &read.ReadAt)
		}
		return d.unknown(i, name)
	})
	if err != nil || len(d.errors) > before {
		return err
	}
	if !hasMessage {
		d.bad(i, "message_id", Required, "message_id is required")
	}
	switch {
	case hasReader:
	case c.Backend:
		d.bad(i, "reader_id", ReaderRequired, "a backend must name the reader")
	default:
		read.ReaderID = []byte(c.Subject)
	}
	return nil
}
