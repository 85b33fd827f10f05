package history

import (
	"fmt"
	"math"
	"slices"
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
	groups []group
	// mentioned are the people that the last events are about; erased are those
	// who were.
	mentioned, erased [][]byte
	// planned are the next steps, most of the time.
	planned []step
	// due are moments that a rule makes special.
	due []moment
	// firstSentAt is the earliest sent_at of each message sent so far.
	firstSentAt map[string]int64
}

// step appends a record of a time.
type step func(timestamp int64) error

// group is the content of a roster that many messages have.
type group struct {
	members, optedOut [][]byte
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
	for range 1 + src.IntN(3) {
		g.groups = append(g.groups, g.group())
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

// group draws half of the people, or all.
func (g *generator) group() (drawn group) {
	for _, person := range g.people {
		switch g.src.IntN(8) {
		case 0, 1:
			drawn.members, drawn.optedOut = append(drawn.members, person), append(drawn.optedOut, person)
		case 2, 3, 4:
			drawn.members = append(drawn.members, person)
		}
	}
	if len(drawn.members) == 0 || g.src.IntN(4) == 0 {
		drawn.members = g.people
	}
	return drawn
}

// step appends one record.
func (g *generator) step() error {
	if len(g.planned) > 0 && g.src.IntN(5) > 0 {
		planned := g.planned[0]
		g.planned = g.planned[1:]
		timestamp, _, _ := g.next()
		return planned(timestamp)
	}
	if g.src.IntN(20) == 0 {
		g.active[g.src.IntN(len(g.active))] = g.messageID(g.belongs)
	}
	timestamp, message, kind := g.next()
	sending := 25
	if _, sent := g.firstSentAt[string(message)]; sent {
		sending = 8
	}
	if kind == events.KindUserErased || kind == 0 && g.src.IntN(100) < g.spec.Erasures {
		return g.erase(timestamp)
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

// erase appends the erasure of somebody, or plans it together with what may meet
// it.
func (g *generator) erase(timestamp int64) error {
	person := pick(g.src, g.people...)
	switch n := g.src.IntN(10); {
	case n < 5 && len(g.mentioned) > 0:
		person = pick(g.src, g.mentioned...)
	case n == 5 && len(g.erased) > 0:
		person = pick(g.src, g.erased...)
	}
	meeting := g.meeting(person)
	erased := func(timestamp int64) error { return g.appendAt(timestamp, &events.UserErased{UserID: person}) }
	if g.src.IntN(2) == 0 {
		g.planned = append(g.planned, meeting...)
		return erased(timestamp)
	}
	g.planned = append(append(append(g.planned, meeting...), erased), g.meeting(person)...)
	return nil
}

// meeting is what a person and their groups do right before they are erased, or
// right after.
func (g *generator) meeting(person []byte) (steps []step) {
	message := pick(g.src, g.active...)
	if g.src.IntN(2) == 0 {
		at := g.src.IntN(len(g.active))
		g.active[at] = g.messageID(g.belongs)
		message = g.active[at]
	}
	all := pick(g.src, g.groups...)
	for _, other := range g.groups {
		if slices.ContainsFunc(other.members, func(member []byte) bool { return string(member) == string(person) }) {
			all = other
		}
	}
	sent := func(timestamp int64) error {
		e := g.sent(message, timestamp)
		if g.src.IntN(4) == 0 {
			e.SenderID = person
		} else if !e.CountOnly {
			g.sentTo(e, all)
		}
		return g.appendAt(timestamp, e)
	}
	read := func(timestamp int64) error {
		e := g.read(message, timestamp)
		if g.src.IntN(4) > 0 {
			e.ReaderID = person
		}
		return g.appendAt(timestamp, e)
	}
	recalled := func(timestamp int64) error {
		return g.appendAt(timestamp, &events.MessageRecalled{MessageID: message})
	}
	for _, one := range []step{sent, read, read} {
		if g.src.IntN(3) > 0 {
			steps = append(steps, one)
		}
	}
	if g.src.IntN(12) == 0 {
		steps = append(steps, recalled)
	}
	if g.src.IntN(6) == 0 {
		slices.Reverse(steps)
	}
	return steps
}

func (g *generator) sent(message []byte, timestamp int64) *events.MessageSent {
	e := &events.MessageSent{MessageID: message, SenderID: pick(g.src, g.people...), SentAt: g.sentAt(message, timestamp)}
	e.ConversationID = []byte("c" + strconv.Itoa(g.src.IntN(3)))
	if g.src.IntN(5) == 0 {
		e.CountOnly, e.RecipientCount = true, uint32(g.src.IntN(len(g.people)+2))
		return e
	}
	if g.src.IntN(5) > 1 {
		g.sentTo(e, pick(g.src, g.groups...))
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

// sentTo has one of the group send to the others: whoever it is, and however it
// is put, the roster is one.
func (g *generator) sentTo(e *events.MessageSent, to group) {
	e.SenderID = pick(g.src, to.members...)
	e.Recipients, e.OptedOut = slices.Clone(to.members), slices.Clone(to.optedOut)
	switch g.src.IntN(4) {
	case 0:
		e.Recipients = append(e.Recipients, pick(g.src, to.members...))
	case 1:
		slices.Reverse(e.Recipients)
	case 2:
		e.Recipients = slices.DeleteFunc(e.Recipients, func(id []byte) bool { return string(id) == string(e.SenderID) })
	}
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
			moment{sentAt + retention, message, pick(g.src, events.KindMessageSent, events.KindMessageRecalled, events.KindUserErased)})
		g.mention(e.SenderID)
		g.mention(e.OptedOut...)
		if len(e.Recipients) > 0 {
			g.mention(pick(g.src, e.Recipients...))
		}
	case *events.UserErased:
		g.erased = append(g.erased, slices.Clone(e.UserID))
		if g.src.IntN(2) == 0 {
			message = []byte{} // as good as null
		}
	case *events.MessageRead, *events.MessageRecalled:
		if read, is := e.(*events.MessageRead); is {
			g.mention(read.ReaderID)
		}
		g.due = append(g.due,
			moment{timestamp + day, message, events.KindMessageSent},
			moment{timestamp + day + Slack.Milliseconds(), pick(g.src, g.active...), events.KindMessageRead})
	}
	g.appendRecord(timestamp, false, message, value)
	return nil
}

// mention remembers whom the last events are about.
func (g *generator) mention(people ...[]byte) {
	for _, person := range people {
		g.mentioned = append(g.mentioned, slices.Clone(person))
	}
	g.mentioned = g.mentioned[max(0, len(g.mentioned)-6):]
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
