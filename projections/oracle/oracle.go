// Package oracle says what a partition's reader sets must be: slowly, and as
// obviously as the rules can be put, from all the records each time. It judges
// package projections, with which it shares types and not one line of logic.
package oracle

import (
	"errors"
	"math"
	"slices"
	"time"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/projections"
)

// Verdict is what records come to.
type Verdict struct {
	Outcomes []projections.Outcome // of the records, in their order
	Messages map[string]View       // by ID, the expired ones included
	Waiting  []int64               // the offsets of what waits, ascending
	Evicted  int64                 // how many had to give way to the limit
	Position int64                 // the next offset to apply
	Stopped  bool                  // the next record cannot be passed
}

// View is everything of a message that a pull can show.
type View struct {
	Conversation, Sender                     string // an erased sender is ""
	SentAt, Version, TakenAway               int64  // TakenAway: the version of the last recall or erasure
	Recalled, Truncated                      bool
	Readers, Unlisted                        []Reader // all who count, each in log order
	ReadCount, RecipientCount, OptedOutCount int
}

// Reader is one who has read. Times are in Unix milliseconds.
type Reader struct {
	ID             string
	ReadAt, Offset int64
}

// message is a message, and what does not show of it.
type message struct {
	View
	counts map[string]bool // the recipients, by whether they count; nil: everybody but the sender does
	read   map[string]bool
}

// fact is a receipt, a recall or an erasure.
type fact struct {
	kind                       events.Kind
	message, person            string
	claimed, timestamp, offset int64
}

type judge struct {
	Verdict
	lineage   projections.Lineage
	partition int32
	messages  map[string]*message
	waiting   []fact
}

// Judge works out what records come to from a position on, with nothing before.
func Judge(lineage projections.Lineage, partition int32, from int64, records []events.Record) Verdict {
	j := judge{Verdict{Messages: make(map[string]View), Position: from}, lineage, partition, make(map[string]*message), nil}
	for _, rec := range records {
		outcome := j.record(rec)
		if j.Stopped {
			break
		}
		j.Outcomes, j.Position = append(j.Outcomes, outcome), max(j.Position, rec.Offset+1)
	}
	for id, m := range j.messages {
		j.Messages[id] = m.At(math.MaxInt64, math.MaxInt64)
	}
	for _, f := range j.waiting {
		j.Waiting = append(j.Waiting, f.offset)
	}
	return j.Verdict
}

// record tells this partition's events from all else: rules 1 and 10.
func (j *judge) record(rec events.Record) projections.Outcome {
	event, err := new(events.Decoder).Decode(rec.Key, rec.Value)
	switch {
	case rec.Offset < j.Position:
		return projections.Old
	case rec.Control:
		return projections.Control
	case slices.Contains(j.lineage.Skips, projections.Skip{Partition: j.partition, Offset: rec.Offset}):
		return projections.Skipped
	case errors.Is(err, events.ErrUnknownKind):
		j.Stopped = true
		return 0
	case err != nil:
		return projections.Undecodable
	case event.Kind() != events.KindUserErased && events.Partition(rec.Key, j.lineage.Partitions) != j.partition:
		return projections.Misplaced
	}
	return j.event(event, rec)
}

func (j *judge) event(event events.Event, rec events.Record) projections.Outcome {
	// Rule 3: a day old, no use any more; an hour more for timestamps that run back.
	for len(j.waiting) > 0 && rec.Timestamp > j.waiting[0].timestamp+(25*time.Hour).Milliseconds() {
		j.waiting = j.waiting[1:]
	}
	f := fact{kind: event.Kind(), message: string(event.Key()), timestamp: rec.Timestamp, offset: rec.Offset}
	m, day, retention := j.messages[f.message], (24 * time.Hour).Milliseconds(), j.lineage.Retention.Milliseconds()
	found := m != nil && rec.Timestamp <= m.SentAt+retention // Rule 7.
	switch e := event.(type) {
	case *events.MessageSent:
		if found { // Rule 2: the first counts.
			return projections.Repeated
		}
		if m = newMessage(e, rec); rec.Timestamp > m.SentAt+retention {
			return projections.Expired
		}
		j.waiting = slices.DeleteFunc(j.waiting, func(w fact) bool {
			if w.message == f.message && w.timestamp >= rec.Timestamp-day && w.timestamp <= m.SentAt+retention {
				m.apply(w) // Rule 3.
			}
			return w.message == f.message
		})
		j.messages[f.message] = m
		return projections.Created
	case *events.UserErased: // Rule 6: out of everything that precedes it.
		f.person = string(e.UserID)
		j.waiting = slices.DeleteFunc(j.waiting, func(w fact) bool { return w.person == f.person })
		for _, m := range j.messages {
			m.apply(f)
		}
		return projections.Erased
	case *events.MessageRead:
		f.person, f.claimed = string(e.ReaderID), e.ReadAt
	}
	if found {
		return m.apply(f)
	}
	if j.waiting = append(j.waiting, f); len(j.waiting) > j.lineage.Limits.Waiting {
		j.waiting = j.waiting[1:] // Rule 3: first in, first out.
		j.Evicted++
	}
	return projections.Waits
}

func newMessage(e *events.MessageSent, rec events.Record) *message {
	m := &message{read: make(map[string]bool), View: View{Conversation: string(e.ConversationID), Sender: string(e.SenderID),
		SentAt: min(e.SentAt, rec.Timestamp), Version: rec.Offset + 1, RecipientCount: int(e.RecipientCount)}}
	if e.CountOnly {
		return m
	}
	m.counts = make(map[string]bool) // Rule 5.
	for _, id := range e.Recipients {
		m.counts[string(id)] = true
	}
	delete(m.counts, m.Sender)
	for _, id := range e.OptedOut {
		if m.counts[string(id)] {
			m.counts[string(id)] = false
			m.OptedOutCount++
		}
	}
	m.RecipientCount = len(m.counts) - m.OptedOutCount
	return m
}

// apply folds a fact that finds the message.
func (m *message) apply(f fact) projections.Outcome {
	counts, recipient := m.counts[f.person]
	version := max(m.Version, f.offset+1) // What waited shows from the sending on.
	switch {
	case f.kind == events.KindUserErased: // Rule 6: a stranger from here on.
		switch {
		case f.person == m.Sender:
			m.Sender = ""
		case counts, m.read[f.person]:
			m.RecipientCount = max(0, m.RecipientCount-1)
		case recipient:
			m.OptedOutCount--
		default:
			return projections.Erased // There is nothing of them, or nothing any more.
		}
		delete(m.counts, f.person)
		delete(m.read, f.person)
		gone := func(r Reader) bool { return r.ID == f.person }
		m.Readers, m.Unlisted = slices.DeleteFunc(m.Readers, gone), slices.DeleteFunc(m.Unlisted, gone)
		m.Version, m.TakenAway = version, version
		return projections.Erased
	case f.kind == events.KindMessageRecalled && m.Recalled:
		return projections.Repeated
	case f.kind == events.KindMessageRecalled: // Rule 6: for good.
		m.Recalled, m.Readers, m.Unlisted, m.read = true, nil, nil, nil
		m.Version, m.TakenAway = version, version
		return projections.Recalled
	case m.Recalled, f.person == m.Sender, m.counts != nil && !counts: // Rule 5.
		return projections.Dropped
	case m.read[f.person]: // Rule 4: the first in log order.
		return projections.Repeated
	case m.counts == nil && len(m.Readers) >= 20_000: // Rule 5.
		m.Unlisted = append(m.Unlisted, Reader{f.person, max(m.SentAt, min(f.claimed, f.timestamp)), f.offset})
	default:
		m.Readers = append(m.Readers, Reader{f.person, max(m.SentAt, min(f.claimed, f.timestamp)), f.offset})
	}
	m.read[f.person], m.Version = true, version
	return projections.Counted
}

// At restricts a view to receipts of a time or before, of records below an offset.
func (v View) At(readAt, below int64) View {
	gone := func(r Reader) bool { return r.ReadAt > readAt || r.Offset >= below }
	v.Readers, v.Unlisted = slices.DeleteFunc(slices.Clone(v.Readers), gone), slices.DeleteFunc(slices.Clone(v.Unlisted), gone)
	v.ReadCount, v.Truncated = len(v.Readers)+len(v.Unlisted), len(v.Unlisted) > 0
	return v
}
