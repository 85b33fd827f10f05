package projections_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"go.uber.org/goleak"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/history"
	"github.com/seenby/seenby/projections/oracle"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// partition is a fold with messages in a map.
type partition struct {
	lineage  projections.Lineage
	number   int32
	fold     *projections.Fold
	messages map[string]*projections.Message
	// err is what Message returns, for tests of failing stores.
	err error
	// told counts the calls of Create and Changed.
	created, changed int
}

func newPartition(h history.History, from int64) *partition {
	return &partition{
		lineage:  h.Lineage,
		number:   h.Partition,
		fold:     projections.NewFold(h.Lineage, h.Partition, projections.Checkpoint{Position: from, LeaderEpoch: -1}, nil),
		messages: make(map[string]*projections.Message),
	}
}

func (p *partition) Message(id []byte) (*projections.Message, error) {
	return p.messages[string(id)], p.err
}
func (p *partition) Create(m *projections.Message) {
	p.messages[m.ID] = m
	p.created++
}
func (p *partition) Changed(*projections.Message) { p.changed++ }

// apply folds records until one cannot be passed.
func (p *partition) apply(records []events.Record) (outcomes []projections.Outcome, err error) {
	for _, rec := range records {
		created, changed := p.created, p.changed
		outcome, reason, err := p.fold.Apply(rec, p)
		if err != nil {
			return outcomes, err
		}
		if skipped := outcome == projections.Undecodable || outcome == projections.Misplaced; skipped != (reason != nil) {
			return outcomes, fmt.Errorf("offset %d is %v, and its reason %q", rec.Offset, outcome, fmt.Sprint(reason))
		}
		if (p.created > created) != (outcome == projections.Created) {
			return outcomes, fmt.Errorf("offset %d is %v, but Create was called %d times", rec.Offset, outcome, p.created-created)
		}
		if (p.changed > changed) != (outcome == projections.Counted || outcome == projections.Recalled) {
			return outcomes, fmt.Errorf("offset %d is %v, but Changed was called %d times", rec.Offset, outcome, p.changed-changed)
		}
		outcomes = append(outcomes, outcome)
	}
	return outcomes, nil
}

// verdict is the partition's state as the oracle puts it.
func (p *partition) verdict() oracle.Verdict {
	v := oracle.Verdict{Messages: make(map[string]oracle.View)}
	for id, m := range p.messages {
		v.Messages[id] = viewOf(m)
	}
	for _, e := range p.fold.Waiting().All() {
		v.Waiting = append(v.Waiting, e.Offset)
	}
	checkpoint := p.fold.Checkpoint()
	v.Position, v.Evicted = checkpoint.Position, checkpoint.Evicted
	return v
}

func viewOf(m *projections.Message) oracle.View {
	v := oracle.View{
		Conversation:   m.ConversationID,
		Sender:         m.SenderID(),
		SentAt:         m.SentAt,
		Version:        m.Version,
		Recalled:       m.Recalled,
		Truncated:      m.Truncated(),
		ReadCount:      m.ReadCount(),
		RecipientCount: m.RecipientCount(),
		OptedOutCount:  m.OptedOutCount(),
	}
	for _, r := range m.Receipts {
		v.Readers = append(v.Readers, oracle.Reader{ID: m.Reader(r), ReadAt: r.ReadAt, Offset: r.Offset})
	}
	return v
}

// differ describes the difference between two verdicts, or is empty.
func differ(got, want oracle.Verdict) string {
	for i := range min(len(got.Outcomes), len(want.Outcomes)) {
		if got.Outcomes[i] != want.Outcomes[i] {
			return fmt.Sprintf("record %d is %v, not %v", i, got.Outcomes[i], want.Outcomes[i])
		}
	}
	if len(got.Outcomes) != len(want.Outcomes) {
		return fmt.Sprintf("%d records were folded, not %d", len(got.Outcomes), len(want.Outcomes))
	}
	if d := differInViews(got.Messages, want.Messages); d != "" {
		return d
	}
	if !slices.Equal(got.Waiting, want.Waiting) {
		return fmt.Sprintf("waiting are %v, not %v", got.Waiting, want.Waiting)
	}
	if got.Evicted != want.Evicted || got.Position != want.Position || got.Stopped != want.Stopped {
		return fmt.Sprintf("evicted, position, stopped are %d, %d, %v, not %d, %d, %v",
			got.Evicted, got.Position, got.Stopped, want.Evicted, want.Position, want.Stopped)
	}
	return ""
}

func differInViews(got, want map[string]oracle.View) string {
	for id, view := range want {
		other, found := got[id]
		if !found {
			return fmt.Sprintf("message %s is missing: %+v", id, view)
		}
		readers := slices.Equal(other.Readers, view.Readers)
		if g, w := headOf(other), headOf(view); g != w || !readers {
			return fmt.Sprintf("message %s is\n  %s %v\nnot\n  %s %v", id, g, cut(other.Readers), w, cut(view.Readers))
		}
	}
	for id, view := range got {
		if _, found := want[id]; !found {
			return fmt.Sprintf("message %s should not be: %+v", id, view)
		}
	}
	return ""
}

func headOf(v oracle.View) string {
	v.Readers = nil
	return fmt.Sprintf("%+v", v)
}

func cut(readers []oracle.Reader) []oracle.Reader { return readers[max(0, len(readers)-20):] }

// stored is a partition's state as a store keeps it: exported fields only.
type stored struct {
	Checkpoint projections.Checkpoint
	Waiting    []projections.WaitingEvent
	Messages   map[string]*projections.Message
}

func (p *partition) store() ([]byte, error) {
	return json.Marshal(stored{p.fold.Checkpoint(), p.fold.Waiting().All(), p.messages})
}

// restore is the partition as it comes back from its stored form.
func (p *partition) restore(b []byte) (*partition, error) {
	var s stored
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, err
	}
	for _, m := range s.Messages {
		m.Rebuild()
	}
	if s.Messages == nil {
		return nil, errors.New("no messages")
	}
	return &partition{lineage: p.lineage, number: p.number, messages: s.Messages,
		fold: projections.NewFold(p.lineage, p.number, s.Checkpoint, s.Waiting)}, nil
}

// unexpired leaves out what has expired at now.
func unexpired(lineage projections.Lineage, views map[string]oracle.View, now int64) map[string]oracle.View {
	views = maps.Clone(views)
	maps.DeleteFunc(views, func(_ string, v oracle.View) bool { return now > v.SentAt+lineage.Retention.Milliseconds() })
	return views
}
