// Package oracle says what a partition's reader sets must be: slowly, and as
// obviously as the rules can be put, from all the records each time. It judges
// package projections, with which it shares types and not one line of logic.
package oracle

import (
	"errors"
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
	Conversation, Sender                     string
	SentAt, Version                          int64
	Recalled, Truncated                      bool
	Readers                                  []Reader
	ReadCount, RecipientCount, OptedOutCount int
}

// Reader is one who is listed. Times are in Unix milliseconds.
type Reader struct {
	ID             string
	ReadAt, Offset int64
}

// fact is a receipt or a recall.
type fact struct {
	recall                     bool
	message, reader            string
	claimed, timestamp, offset int64
	record                     int // its index
}

// sending is a MessageSent that a message exists from.
type sending struct {
	View                   // as if nobody had read
	counts map[string]bool // whose reads count; nil: everybody's but the sender's
	facts  []fact          // what finds the message, in log order
}

const hour = int64(time.Hour / time.Millisecond)

// Judge works out what records come to from a position on, with nothing before.
func Judge(lineage projections.Lineage, partition int32, from int64, records []events.Record) Verdict {
	v := Verdict{Messages: make(map[string]View), Position: from}
	sendings := make(map[string][]*sending) // by message; the last is in force
	var waiting []fact
	for i, rec := range records {
		outcome, event, passable := sort(lineage, partition, v.Position, rec)
		if v.Stopped = !passable; v.Stopped {
			break
		}
		v.Outcomes = append(v.Outcomes, outcome)
		v.Position = max(v.Position, rec.Offset+1)
		if event == nil {
			continue
		}
		// Rule 3: a day old, no use any more; an hour more for timestamps that run back.
		for len(waiting) > 0 && rec.Timestamp > waiting[0].timestamp+25*hour {
			waiting = waiting[1:]
		}
		// Rule 7: later than sent_at + retention, there is no message.
		id, retention := string(event.Key()), lineage.Retention.Milliseconds()
		var found *sending
		if all := sendings[id]; len(all) > 0 && rec.Timestamp <= all[len(all)-1].SentAt+retention {
			found = all[len(all)-1]
		}
		f := fact{message: id, timestamp: rec.Timestamp, offset: rec.Offset, record: i}
		switch e := event.(type) {
		case *events.MessageSent:
			s := newSending(e, rec)
			switch {
			case found != nil: // Rule 2: the first counts.
				v.Outcomes[i] = projections.Repeated
			case rec.Timestamp > s.SentAt+retention:
				v.Outcomes[i] = projections.Expired
			default:
				v.Outcomes[i] = projections.Created
				sendings[id] = append(sendings[id], s)
				waiting = slices.DeleteFunc(waiting, func(f fact) bool {
					if f.message == id && f.timestamp >= rec.Timestamp-24*hour && f.timestamp <= s.SentAt+retention {
						s.facts = append(s.facts, f) // Rule 3.
					}
					return f.message == id
				})
			}
			continue
		case *events.MessageRead:
			f.reader, f.claimed = string(e.ReaderID), e.ReadAt
		case *events.MessageRecalled:
			f.recall = true
		}
		if found != nil {
			found.facts = append(found.facts, f) // The view tells its outcome.
			continue
		}
		v.Outcomes[i] = projections.Waits
		if waiting = append(waiting, f); len(waiting) > lineage.Limits.Waiting {
			waiting = waiting[1:] // Rule 3: first in, first out.
			v.Evicted++
		}
	}
	for id, all := range sendings {
		for _, s := range all {
			v.Messages[id] = s.view(v.Outcomes)
		}
	}
	for _, f := range waiting {
		v.Waiting = append(v.Waiting, f.offset)
	}
	return v
}

// sort tells this partition's events from all else: rules 1 and 10. UserErased
// is not folded yet: it stops the partition as an unknown kind does.
func sort(lineage projections.Lineage, partition int32, position int64, rec events.Record) (_ projections.Outcome, _ events.Event, passable bool) {
	event, err := new(events.Decoder).Decode(rec.Key, rec.Value)
	switch {
	case rec.Offset < position:
		return projections.Old, nil, true
	case rec.Control:
		return projections.Control, nil, true
	case slices.Contains(lineage.Skips, projections.Skip{Partition: partition, Offset: rec.Offset}):
		return projections.Skipped, nil, true
	case errors.Is(err, events.ErrUnknownKind), err == nil && event.Kind() == events.KindUserErased:
		return 0, nil, false
	case err != nil:
		return projections.Undecodable, nil, true
	case events.Partition(rec.Key, lineage.Partitions) != partition:
		return projections.Misplaced, nil, true
	}
	return 0, event, true
}

func newSending(e *events.MessageSent, rec events.Record) *sending {
	s := &sending{View: View{Conversation: string(e.ConversationID), Sender: string(e.SenderID),
		SentAt: min(e.SentAt, rec.Timestamp), Version: rec.Offset + 1, RecipientCount: int(e.RecipientCount)}}
	if e.CountOnly {
		return s
	}
	s.counts = make(map[string]bool) // Rule 5.
	for _, id := range e.Recipients {
		s.counts[string(id)] = true
	}
	delete(s.counts, s.Sender)
	listed := len(s.counts)
	for _, id := range e.OptedOut {
		delete(s.counts, string(id))
	}
	s.RecipientCount, s.OptedOutCount = len(s.counts), listed-len(s.counts)
	return s
}

// view works out the message from its facts, and their outcomes.
func (s *sending) view(outcomes []projections.Outcome) View {
	v, read := s.View, make(map[string]bool)
	for _, f := range s.facts {
		outcome := projections.Counted
		switch counts := s.counts == nil || s.counts[f.reader]; {
		case f.recall && v.Recalled:
			outcome = projections.Repeated
		case f.recall: // Rule 6: for good.
			outcome = projections.Recalled
			v.Recalled, v.Truncated, v.Readers, v.ReadCount = true, false, nil, 0
		case v.Recalled, !counts, f.reader == s.Sender:
			outcome = projections.Dropped
		case read[f.reader]: // Rule 4: the first in log order.
			outcome = projections.Repeated
		default:
			read[f.reader] = true
			v.ReadCount++
			if v.Truncated = s.counts == nil && v.ReadCount > 20_000; !v.Truncated {
				v.Readers = append(v.Readers, Reader{f.reader, max(s.SentAt, min(f.claimed, f.timestamp)), f.offset})
			}
		}
		if f.offset < s.Version {
			continue // It waited, and showed nowhere then.
		}
		outcomes[f.record] = outcome
		if outcome == projections.Counted || outcome == projections.Recalled {
			v.Version = f.offset + 1
		}
	}
	return v
}
