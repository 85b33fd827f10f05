package history

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/seenby/seenby/events"
)

// Format writes a record as one line that a person can read, and that [Parse]
// reads back:
//
//	OFFSET@TIME[/LEADER_EPOCH] EVENT
//
// TIME is since [Epoch], as time.Duration writes it. EVENT is one of
//
//	sent MESSAGE in CONVERSATION by SENDER [at TIME] [to ID,...] [out ID,...] [count N]
//	read MESSAGE by READER [at TIME]
//	recall MESSAGE
//	erase USER [key ""]
//	control
//	raw KEY VALUE
//
// where KEY and VALUE are quoted as in Go, or null. What is no Event, or cannot
// be written otherwise, is raw. An erasure's key is null, or empty if it says so.
func Format(rec events.Record) string {
	head := fmt.Sprintf("%d@%s", rec.Offset, formatTime(rec.Timestamp))
	if rec.LeaderEpoch != 0 {
		head += "/" + strconv.Itoa(int(rec.LeaderEpoch))
	}
	if rec.Control {
		return head + " control"
	}
	e, err := new(events.Decoder).Decode(rec.Key, rec.Value)
	if err == nil {
		line := head + " " + formatEvent(e)
		if e.Key() == nil && rec.Key != nil {
			line += emptyKey
		}
		if back, err := Parse(line, 0); err == nil && string(back.Key) == string(rec.Key) && string(back.Value) == string(rec.Value) {
			return line
		}
	}
	return head + " raw " + formatBytes(rec.Key) + " " + formatBytes(rec.Value)
}

const emptyKey = ` key ""`

func formatTime(t int64) string {
	return (time.Duration(t-Epoch) * time.Millisecond).String()
}

func formatBytes(b []byte) string {
	if b == nil {
		return "null"
	}
	return strings.ReplaceAll(strconv.Quote(string(b)), " ", `\x20`)
}

func formatEvent(e events.Event) string {
	var b strings.Builder
	at := func(t int64) {
		if t != events.Unclaimed {
			b.WriteString(" at " + formatTime(t))
		}
	}
	switch e := e.(type) {
	case *events.MessageSent:
		fmt.Fprintf(&b, "sent %s in %s by %s", e.MessageID, e.ConversationID, e.SenderID)
		at(e.SentAt)
		if len(e.Recipients) > 0 {
			b.WriteString(" to " + joinIDs(e.Recipients))
		}
		if len(e.OptedOut) > 0 {
			b.WriteString(" out " + joinIDs(e.OptedOut))
		}
		if e.CountOnly {
			fmt.Fprintf(&b, " count %d", e.RecipientCount)
		}
	case *events.MessageRead:
		fmt.Fprintf(&b, "read %s by %s", e.MessageID, e.ReaderID)
		at(e.ReadAt)
	case *events.MessageRecalled:
		fmt.Fprintf(&b, "recall %s", e.MessageID)
	case *events.UserErased:
		fmt.Fprintf(&b, "erase %s", e.UserID)
	}
	return b.String()
}

func joinIDs(ids [][]byte) string {
	s := make([]string, len(ids))
	for i, id := range ids {
		s[i] = string(id)
	}
	return strings.Join(s, ",")
}

var errLine = errors.New("not a line of a history")

// Parse reads what [Format] writes. OFFSET@ may be left out: next is the offset
// then.
func Parse(line string, next int64) (events.Record, error) {
	rec, err := parse(strings.Fields(line), next)
	if err != nil {
		return events.Record{}, fmt.Errorf("%w: %q: %w", errLine, line, err)
	}
	return rec, nil
}

func parse(words []string, next int64) (rec events.Record, err error) {
	if len(words) < 2 {
		return rec, errors.New("want [OFFSET@]TIME EVENT")
	}
	head, kind, rest := words[0], words[1], words[2:]
	rec.Offset = next
	if offset, after, found := strings.Cut(head, "@"); found {
		if rec.Offset, err = strconv.ParseInt(offset, 10, 64); err != nil {
			return rec, err
		}
		head = after
	}
	head, epoch, found := strings.Cut(head, "/")
	if found {
		n, err := strconv.ParseInt(epoch, 10, 32)
		if err != nil {
			return rec, err
		}
		rec.LeaderEpoch = int32(n)
	}
	if rec.Timestamp, err = parseTime(head); err != nil {
		return rec, err
	}
	switch {
	case kind == "control" && len(rest) == 0:
		rec.Control = true
		return rec, nil
	case kind == "raw" && len(rest) == 2:
		if rec.Key, err = parseBytes(rest[0]); err == nil {
			rec.Value, err = parseBytes(rest[1])
		}
		return rec, err
	}
	e, err := parseEvent(kind, rest)
	if err != nil {
		return rec, err
	}
	if rec.Key = e.Key(); rec.Key == nil && len(rest) > 1 {
		rec.Key = []byte{}
	}
	rec.Value, err = events.AppendEncode(nil, e)
	return rec, err
}

func parseTime(s string) (int64, error) {
	d, err := time.ParseDuration(s)
	return Epoch + d.Milliseconds(), err
}

func parseBytes(s string) ([]byte, error) {
	if s == "null" {
		return nil, nil
	}
	u, err := strconv.Unquote(s)
	return []byte(u), err
}

func parseEvent(kind string, words []string) (events.Event, error) {
	if len(words)%2 != 1 {
		return nil, errors.New("want an ID and pairs of words")
	}
	id := []byte(words[0])
	switch kind {
	case "sent":
		e := &events.MessageSent{MessageID: id, SentAt: events.Unclaimed}
		return e, eachPair(words[1:], func(name, value string) (err error) {
			switch name {
			case "in":
				e.ConversationID = []byte(value)
			case "by":
				e.SenderID = []byte(value)
			case "at":
				e.SentAt, err = parseTime(value)
			case "to":
				e.Recipients = splitIDs(value)
			case "out":
				e.OptedOut = splitIDs(value)
			case "count":
				var n uint64
				n, err = strconv.ParseUint(value, 10, 32)
				e.CountOnly, e.RecipientCount = true, uint32(n)
			default:
				err = fmt.Errorf("unknown word %q", name)
			}
			return err
		})
	case "read":
		e := &events.MessageRead{MessageID: id, ReadAt: events.Unclaimed}
		return e, eachPair(words[1:], func(name, value string) (err error) {
			switch name {
			case "by":
				e.ReaderID = []byte(value)
			case "at":
				e.ReadAt, err = parseTime(value)
			default:
				err = fmt.Errorf("unknown word %q", name)
			}
			return err
		})
	case "recall":
		return &events.MessageRecalled{MessageID: id}, nil
	case "erase":
		return &events.UserErased{UserID: id}, eachPair(words[1:], func(name, value string) error {
			if name != "key" || value != `""` {
				return fmt.Errorf("unknown words %q %q", name, value)
			}
			return nil
		})
	}
	return nil, fmt.Errorf("unknown event %q", kind)
}

func splitIDs(s string) (ids [][]byte) {
	for id := range strings.SplitSeq(s, ",") {
		ids = append(ids, []byte(id))
	}
	return ids
}

func eachPair(words []string, f func(name, value string) error) error {
	for i := 0; i < len(words); i += 2 {
		if err := f(words[i], words[i+1]); err != nil {
			return err
		}
	}
	return nil
}
