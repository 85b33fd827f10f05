package history

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/projections"
)

// generator is where the generation of a history is.
type generator struct {
	src  Source
	spec Spec
	h    History

	latest int64 // the latest timestamp so far
	offset int64
	epoch  int32
	ids    int // how many IDs were tried for messages
	active [][]byte
	people [][]byte
	// due are moments that a rule makes special.
	due []moment
	// firstSentAt is the earliest sent_at of each message sent so far.
	firstSentAt map[string]int64
}

// moment is a time at which something should happen to a message, because it is
// exactly so late that a rule tells it from a millisecond later.
type moment struct {
	at      int64
	message []byte
	kind    events.Kind
}

func newGenerator(src Source, spec Spec) *generator {
	g := &generator{src: src, spec: spec, latest: Epoch, offset: int64(src.IntN(3)), firstSentAt: make(map[string]int64)}
	g.h.Partition = spec.Partition
	g.h.Lineage = projections.Lineage{
		TopicID:     [16]byte{1},
		Partitions:  spec.Partitions,
		FoldVersion: projections.FoldVersion,
		Limits:      projections.Limits{Waiting: spec.Waiting},
		Retention:   spec.Retention,
	}
	for range spec.Active {
		g.active = append(g.active, g.messageID(g.belongs))
	}
	for i := range spec.People {
		g.people = append(g.people, personID(i))
	}
	return g
}

func (g *generator) belongs(id string) bool {
	return events.Partition(id, g.spec.Partitions) == g.spec.Partition
}

// messageID finds a fresh ID that where says yes to.
func (g *generator) messageID(where func(string) bool) []byte {
	for {
		g.ids++
		if id := "m" + strconv.Itoa(g.ids); where(id) {
			return []byte(id)
		}
	}
}

// personID returns IDs whose bytewise order is not that of their numbers; some
// are prefixes of others, some are long, some are not ASCII.
func personID(i int) []byte {
	switch i % 5 {
	case 3:
		return []byte("ö" + strconv.Itoa(i))
	case 4:
		return []byte("p" + strings.Repeat("-", 60) + strconv.Itoa(i))
	}
	return []byte("p" + strconv.Itoa(i))
}

// step appends one record.
func (g *generator) step() error {
	if g.src.IntN(20) == 0 {
		g.active[g.src.IntN(len(g.active))] = g.messageID(g.belongs)
	}
	timestamp, message, kind := g.next()
	sending := 25
	if _, sent := g.firstSentAt[string(message)]; sent {
		sending = 8
	}
	switch n := g.src.IntN(100); {
	case kind == events.KindMessageSent || kind == 0 && n < sending:
		return g.appendAt(timestamp, g.sent(message, timestamp))
	case kind == events.KindMessageRecalled || kind == 0 && n < sending+2:
		return g.appendAt(timestamp, &events.MessageRecalled{MessageID: message})
	case kind == events.KindMessageRead || n < 75:
		return g.appendAt(timestamp, g.read(message, timestamp))
	case n < 85 && len(g.h.Records) > 0:
		return g.repeat(timestamp)
	case n < 90:
		key, value := g.garbage()
		g.appendRecord(timestamp, false, key, value)
		return nil
	case n < 94:
		return g.misplaced(timestamp)
	case n < 97:
		g.appendRecord(timestamp, true, []byte{0, 0, 0, 1}, nil)
		return nil
	default:
		return g.skipped(message, timestamp)
	}
}

// next draws when the next record is, of which message and, unless it does not
// matter, what.
func (g *generator) next() (timestamp int64, message []byte, kind events.Kind) {
	message = pick(g.src, g.active...)
	timestamp = g.latest
	switch n := g.src.IntN(100); {
	case n < 35:
		timestamp += int64(g.src.IntN(3))
	case n < 65:
		timestamp += int64(g.src.IntN(5000))
	case n < 75:
		timestamp -= int64(g.src.IntN(int(Slack.Milliseconds()) + 1))
	case n < 77:
		timestamp -= Slack.Milliseconds()
	case n < 80:
		timestamp += int64(g.src.IntN(int((3 * time.Hour).Milliseconds())))
	case n < 89:
		if m, found := g.upcoming(); found {
			timestamp = m.at + int64(g.src.IntN(3)) - 1
			if g.src.IntN(4) > 0 {
				message, kind = m.message, m.kind
			}
		}
	}
	return max(timestamp, g.latest-Slack.Milliseconds()), message, kind
}

// upcoming draws one of the moments that are still possible.
func (g *generator) upcoming() (moment, bool) {
	possible := g.due[:0]
	for _, m := range g.due {
		if m.at > g.latest-Slack.Milliseconds() {
			possible = append(possible, m)
		}
	}
	g.due = possible
	if len(possible) == 0 {
		return moment{}, false
	}
	return pick(g.src, possible...), true
}

func (g *generator) sent(message []byte, timestamp int64) *events.MessageSent {
	e := &events.MessageSent{MessageID: message, SenderID: pick(g.src, g.people...), SentAt: g.sentAt(message, timestamp)}
	e.ConversationID = []byte("c" + strconv.Itoa(g.src.IntN(3)))
	if g.src.IntN(5) == 0 {
		e.CountOnly, e.RecipientCount = true, uint32(g.src.IntN(len(g.people)+2))
		return e
	}
	if g.src.IntN(2) == 0 {
		e.Recipients = append(e.Recipients, g.people...)
	}
	for range g.src.IntN(len(g.people) + 1) {
		e.Recipients = append(e.Recipients, pick(g.src, g.people...))
	}
	if g.src.IntN(3) == 0 {
		for range 1 + g.src.IntN(2) {
			e.OptedOut = append(e.OptedOut, pick(g.src, g.people...))
		}
	}
	return e
}

// sentAt draws the time that a MessageSent claims.
func (g *generator) sentAt(message []byte, timestamp int64) int64 {
	retention := g.spec.Retention.Milliseconds()
	at := int64(events.Unclaimed)
	switch n := g.src.IntN(100); {
	case n < 20:
		at = timestamp
	case n < 45:
		at = timestamp - int64(g.src.IntN(10_000))
	case n < 60:
		at = timestamp - int64(g.src.IntN(int(retention)))
	case n < 68:
		at = timestamp + 1 + int64(g.src.IntN(600_000))
	case n < 76:
		at = timestamp - retention + int64(g.src.IntN(3)) - 1
	}
	if latest := g.latestSentAt(message); min(at, timestamp) > latest {
		at = latest - int64(g.src.IntN(2))
	}
	return at
}

// latestSentAt is the latest sent_at that one more MessageSent may come to.
func (g *generator) latestSentAt(message []byte) int64 {
	first, again := g.firstSentAt[string(message)]
	if !again || g.spec.IDs == UsedAgain {
		return math.MaxInt64
	}
	return first + projections.WaitingTime.Milliseconds()
}

// repeat appends an earlier record once more.
func (g *generator) repeat(timestamp int64) error {
	again := pick(g.src, g.h.Records...)
	if g.h.Lineage.Skipped(g.h.Partition, again.Offset) {
		return nil // It is skipped at that offset only.
	}
	e, err := new(events.Decoder).Decode(again.Key, again.Value)
	if again.Control || err != nil {
		g.appendRecord(timestamp, again.Control, again.Key, again.Value)
		return nil
	}
	if sent, is := e.(*events.MessageSent); is && min(sent.SentAt, timestamp) > g.latestSentAt(again.Key) {
		return nil
	}
	return g.appendAt(timestamp, e)
}

func (g *generator) read(message []byte, timestamp int64) *events.MessageRead {
	e := &events.MessageRead{MessageID: message, ReaderID: pick(g.src, g.people...), ReadAt: events.Unclaimed}
	switch n := g.src.IntN(100); {
	case n < 15:
		e.ReadAt = timestamp
	case n < 35:
		e.ReadAt = timestamp - int64(g.src.IntN(10_000))
	case n < 50:
		if sentAt, sent := g.firstSentAt[string(message)]; sent {
			e.ReadAt = sentAt + int64(g.src.IntN(3)) - 1
		}
	case n < 60:
		e.ReadAt = timestamp + 1 + int64(g.src.IntN(600_000))
	case n < 63:
		e.ReadAt = int64(g.src.IntN(3)) - 1
	}
	return e
}

// garbage draws a record that is no Event.
func (g *generator) garbage() (key, value []byte) {
	key = pick(g.src, g.active...)
	read := protowire.AppendBytes(protowire.AppendTag(nil, 1002, protowire.BytesType), []byte("\n\x02p1"))
	switch g.src.IntN(8) {
	case 0:
		return key, []byte("hi")
	case 1:
		return key, []byte{}
	case 2:
		return key, nil
	case 3:
		return key, read[:len(read)-1]
	case 4:
		return nil, read
	case 5:
		return []byte("a\x00b"), read
	case 6:
		return key, append(read, read...)
	default: // UserErased with a key
		return key, protowire.AppendBytes(protowire.AppendTag(nil, 1004, protowire.BytesType), []byte("\n\x02p1"))
	}
}

func (g *generator) misplaced(timestamp int64) error {
	if g.spec.Partitions == 1 {
		return nil
	}
	message := g.messageID(func(id string) bool { return !g.belongs(id) })
	if g.src.IntN(2) == 0 {
		return g.appendAt(timestamp, g.read(message, timestamp))
	}
	return g.appendAt(timestamp, g.sent(message, timestamp))
}

// skipped appends a record that the lineage skips.
func (g *generator) skipped(message []byte, timestamp int64) error {
	g.h.Lineage.Skips = append(g.h.Lineage.Skips, projections.Skip{Partition: g.h.Partition, Offset: g.offset})
	switch g.src.IntN(3) {
	case 0:
		return g.appendAt(timestamp, g.read(message, timestamp))
	case 1:
		return g.appendAt(timestamp, &events.UserErased{UserID: pick(g.src, g.people...)})
	}
	g.appendRecord(timestamp, false, message, Unknown())
	return nil
}

// Unknown is the value of an Event of a kind that no build knows yet.
func Unknown() []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, protowire.Number(events.LastKind), protowire.BytesType), nil)
}

func (g *generator) append(e events.Event) error { return g.appendAt(g.latest, e) }

// appendAt appends an event, and notes what moments it makes special.
func (g *generator) appendAt(timestamp int64, e events.Event) error {
	value, err := events.AppendEncode(nil, e)
	if err != nil {
		return fmt.Errorf("history: %w", err)
	}
	day, retention := projections.WaitingTime.Milliseconds(), g.spec.Retention.Milliseconds()
	message := e.Key()
	switch e := e.(type) {
	case *events.MessageSent:
		sentAt := min(e.SentAt, timestamp)
		if first, again := g.firstSentAt[string(message)]; !again || sentAt < first {
			g.firstSentAt[string(message)] = sentAt
		}
		g.due = append(g.due,
			moment{sentAt + retention, message, events.KindMessageRead},
			moment{sentAt + retention, message, pick(g.src, events.KindMessageSent, events.KindMessageRecalled)})
	case *events.MessageRead, *events.MessageRecalled:
		g.due = append(g.due,
			moment{timestamp + day, message, events.KindMessageSent},
			moment{timestamp + day + Slack.Milliseconds(), pick(g.src, g.active...), events.KindMessageRead})
	}
	g.appendRecord(timestamp, false, message, value)
	return nil
}

func (g *generator) appendRecord(timestamp int64, control bool, key, value []byte) {
	if g.src.IntN(40) == 0 {
		g.epoch++
	}
	g.h.Records = append(g.h.Records, events.Record{Offset: g.offset, Timestamp: timestamp, LeaderEpoch: g.epoch,
		Control: control, Key: key, Value: value})
	g.latest = max(g.latest, timestamp)
	g.offset++
	if g.src.IntN(12) == 0 {
		g.offset += int64(g.src.IntN(4))
	}
}
