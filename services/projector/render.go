package projector

import (
	"strconv"

	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/services/contract"
)

// appendBody appends a pull's JSON. It is written by hand because it is nearly
// all that a pull costs; what it reads is immutable, so no lock is held.
func appendBody(b []byte, m *projections.Message, pg *page) []byte {
	return append(appendMembers(b, m, pg), '}')
}

// appendMembers appends the JSON without its end.
func appendMembers(b []byte, m *projections.Message, pg *page) []byte {
	b = appendMember(b, `{"message_id":`, m.ID)
	b = appendMember(b, `,"conversation_id":`, m.ConversationID)
	if sender, known := m.SenderID(); known {
		b = appendMember(b, `,"sender_id":`, sender)
	} else {
		b = append(b, `,"sender_id":null`...)
	}
	b = append(b, `,"sent_at":"`...)
	b = contract.AppendTime(b, m.SentAt)
	if m.Recalled {
		b = append(b, `","state":"recalled","version":"`...)
	} else {
		b = append(b, `","state":"active","version":"`...)
	}
	b = append(b, pg.version...)
	b = append(b, `","read_count":`...)
	b = strconv.AppendInt(b, int64(pg.readCount), 10)
	b = append(b, `,"recipient_count":`...)
	b = strconv.AppendInt(b, int64(m.RecipientCount()), 10)
	b = append(b, `,"opted_out_count":`...)
	if m.CountOnly() {
		b = append(b, "null"...)
	} else {
		b = strconv.AppendInt(b, int64(m.OptedOutCount()), 10)
	}
	b = append(b, `,"complete":`...)
	b = strconv.AppendBool(b, pg.complete)
	b = append(b, `,"truncated":`...)
	b = strconv.AppendBool(b, pg.truncated)
	b = append(b, `,"delta":`...)
	b = strconv.AppendBool(b, pg.delta)
	b = append(b, `,"readers":[`...)
	for i, r := range pg.receipts {
		b = appendReader(b, i, m.Reader(r), r.ReadAt)
	}
	return appendNext(append(b, ']'), pg.next)
}

// appendReader appends the item at index i of a list of readers.
func appendReader(b []byte, i int, id string, readAt int64) []byte {
	if i > 0 {
		b = append(b, ',')
	}
	b = appendMember(b, `{"reader_id":`, id)
	b = append(b, `,"read_at":"`...)
	b = contract.AppendTime(b, readAt)
	return append(b, `"}`...)
}

// appendNext appends where the next page is, or null.
func appendNext(b []byte, next string) []byte {
	if next == "" {
		return append(b, `,"next":null`...)
	}
	b = append(b, `,"next":"`...)
	b = append(b, next...)
	return append(b, '"')
}

// bodySize is about how many bytes appendBody appends, so that it need not grow
// its buffer.
func bodySize(m *projections.Message, pg *page) int {
	const frame, receipt = 320, len(`{"reader_id":"","read_at":"2006-01-02T15:04:05.000Z"},`)
	sender, _ := m.SenderID()
	n := frame + len(m.ID) + len(m.ConversationID) + len(sender) + len(pg.version) + len(pg.next)
	for _, r := range pg.receipts {
		n += receipt + len(m.Reader(r))
	}
	return n
}

func appendMember(b []byte, name, value string) []byte {
	b = append(b, name...)
	return contract.AppendString(b, value)
}
