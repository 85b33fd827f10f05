package projector

import (
	"strconv"

	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/services/contract"
)

// appendBody appends a pull's JSON. It is written by hand because it is nearly
// all that a pull costs; what it reads is immutable, so no lock is held.
func appendBody(b []byte, m *projections.Message, pg *page) []byte {
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
		if i > 0 {
			b = append(b, ',')
		}
		b = appendMember(b, `{"reader_id":`, m.Reader(r))
		b = append(b, `,"read_at":"`...)
		b = contract.AppendTime(b, r.ReadAt)
		b = append(b, `"}`...)
	}
	b = append(b, `],"next":`...)
	if pg.next == "" {
		return append(b, "null}"...)
	}
	b = append(b, '"')
	b = append(b, pg.next...)
	return append(b, `"}`...)
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
	return appendString(b, value)
}

const hexDigits = "0123456789abcdef"

// appendString appends s, which is valid UTF-8, as a JSON string. It escapes
// what JSON requires, and U+2028 and U+2029, at which JavaScript of old ends a
// line.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			b = append(b, s[from:i]...)
			b = append(b, '\\', c)
			from = i + 1
		case c < ' ':
			b = append(b, s[from:i]...)
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			from = i + 1
		case c == 0xe2 && i+2 < len(s) && s[i+1] == 0x80 && s[i+2]&^1 == 0xa8:
			b = append(b, s[from:i]...)
			b = append(b, '\\', 'u', '2', '0', '2', hexDigits[s[i+2]&15])
			i += 2
			from = i + 1
		}
	}
	b = append(b, s[from:]...)
	return append(b, '"')
}
