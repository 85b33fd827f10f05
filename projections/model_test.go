package projections_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"go.uber.org/goleak"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/history"
	"github.com/seenby/seenby/projections/oracle"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// partition is a fold with messages and rosters in maps: the obvious keeper.
type partition struct {
	lineage  projections.Lineage
	number   int32
	fold     *projections.Fold
	messages map[string]*projections.Message
	rosters  map[projections.RosterRef]*projections.Roster
	matcher  projections.Matcher
	// refs is how many first names of rosters there are, so that some are taken by
	// others; 0: as many as can be.
	refs uint64
	// dropped are the chunks that messages have dropped.
	dropped map[*projections.Message][]projections.Chunk
	// err is what Message and Roster return, for tests of failing stores.
	err error
	// told counts the calls of Create and Changed.
	created, changed int
	// erasures are all that ever were; replaced are the hours of messages that
	// another one of their ID took the place of.
	erasures []projections.Erasure
	replaced map[int64]bool
}

func newPartition(h history.History, from int64) *partition {
	return &partition{
		lineage: h.Lineage,
		number:  h.Partition,
		fold: projections.NewFold(h.Lineage, h.Partition,
			projections.Restored{Checkpoint: projections.Checkpoint{Position: from, LeaderEpoch: -1}}),
		messages: make(map[string]*projections.Message),
		rosters:  make(map[projections.RosterRef]*projections.Roster),
		dropped:  make(map[*projections.Message][]projections.Chunk),
		replaced: make(map[int64]bool),
	}
}

func (p *partition) Message(id []byte) (*projections.Message, error) {
	if p.err != nil {
		return nil, p.err
	}
	m := p.messages[string(id)]
	if m != nil {
		p.settle(m)
	}
	return m, nil
}

// settle settles a message; a count-only one must be whole then.
func (p *partition) settle(m *projections.Message) {
	if m.CountOnly() {
		p.complete(m)
	}
	p.fold.Settle(m)
}

// complete puts dropped chunks back.
func (p *partition) complete(m *projections.Message) {
	if !m.Receipts.Whole() {
		m.Receipts.Restore(p.dropped[m])
	}
	delete(p.dropped, m)
}

func (p *partition) Roster(e *events.MessageSent) (*projections.Roster, error) {
	if p.err != nil {
		return nil, p.err
	}
	names := projections.NewNames(e)
	ref := names.Hash().Ref()
	if p.refs > 0 {
		ref = projections.RosterRef(uint64(ref) % p.refs)
	}
	for ; ; ref = ref.Next() {
		r := p.rosters[ref]
		if r == nil {
			r = projections.RestoreRoster(names, ref, p.fold.LastErasure(), nil)
			p.rosters[ref] = r
			return r, nil
		}
		p.fold.SettleRoster(r)
		if r.Gone() == nil && p.matcher.Match(r.Names, e) {
			return r, nil
		}
	}
}

func (p *partition) Create(m *projections.Message) {
	if before := p.messages[m.ID]; before != nil {
		p.replaced[projections.Hour(before.SentAt)] = true
		delete(p.dropped, before)
	}
	p.messages[m.ID] = m
	p.created++
}

func (p *partition) Changed(m *projections.Message) {
	if m.Recalled {
		delete(p.dropped, m)
	}
	p.changed++
}

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
		if outcome == projections.Erased {
			e, err := new(events.Decoder).Decode(rec.Key, rec.Value)
			if err != nil {
				return outcomes, err
			}
			p.erasures = append(p.erasures, projections.Erasure{UserID: string(e.(*events.UserErased).UserID),
				Offset: rec.Offset, Timestamp: rec.Timestamp})
		}
		outcomes = append(outcomes, outcome)
	}
	return outcomes, nil
}

// verdict is the partition's state as the oracle puts it.
func (p *partition) verdict() oracle.Verdict {
	v := oracle.Verdict{Messages: make(map[string]oracle.View)}
	for id, m := range p.messages {
		p.settle(m)
		p.complete(m)
		v.Messages[id] = viewOf(m)
	}
	for _, e := range p.fold.Waiting().All() {
		v.Waiting = append(v.Waiting, e.Offset)
	}
	checkpoint := p.fold.Checkpoint()
	v.Position, v.Evicted = checkpoint.Position, checkpoint.Evicted
	return v
}

// viewOf shows a message that is settled and whole. Those who are not listed have
// no name.
func viewOf(m *projections.Message) oracle.View {
	sender, known := m.SenderID()
	if known != (sender != "") {
		panic("a sender is known without a name, or the other way round")
	}
	v := oracle.View{
		Conversation:   m.ConversationID,
		Sender:         sender,
		SentAt:         m.SentAt,
		Version:        m.Version(),
		TakenAway:      m.TakenAway(),
		Recalled:       m.Recalled,
		Truncated:      m.Truncated(),
		ReadCount:      m.ReadCount(),
		RecipientCount: m.RecipientCount(),
		OptedOutCount:  m.OptedOutCount(),
	}
	for _, r := range receiptsOf(m, 0) {
		counts, listed := m.Shown(r)
		reader := oracle.Reader{ReadAt: r.ReadAt, Offset: r.Offset}
		switch {
		case listed:
			reader.ID = m.Reader(r)
			if id := m.AppendReader([]byte("x"), r); string(id) != "x"+reader.ID {
				panic("a reader has two names")
			}
			v.Readers = append(v.Readers, reader)
		case counts:
			v.Unlisted = append(v.Unlisted, reader)
		}
	}
	return v
}

// receiptsOf are a whole message's receipts, whoever is gone.
func receiptsOf(m *projections.Message, from int) (all []projections.Receipt) {
	if err := m.EachReceipt(from, func(r projections.Receipt) bool {
		all = append(all, r)
		return true
	}); err != nil {
		panic(err)
	}
	return all
}

// digests are what the fold's must be, worked out from the messages, by hour; of
// hours that have a replaced message it says nothing.
func (p *partition) digests() map[int64]projections.Digest {
	sums := make(map[int64]projections.Digest)
	for _, m := range p.messages {
		p.settle(m)
		hour := projections.Hour(m.SentAt)
		sums[hour] = sums[hour].Add(m.Digest())
	}
	for _, e := range p.erasures {
		hour := projections.Hour(e.Timestamp)
		sums[hour] = sums[hour].Add(e.Digest())
	}
	for hour := range p.replaced {
		delete(sums, hour)
	}
	return sums
}

// checkDigests compares the fold's digests with the messages.
func (p *partition) checkDigests() error {
	want := p.digests()
	for _, got := range p.fold.Digests() {
		if p.replaced[got.Hour] {
			continue
		}
		if want[got.Hour] != got.Digest {
			return fmt.Errorf("the digest of hour %d is %v, that of its messages %v", got.Hour, got.Digest, want[got.Hour])
		}
		delete(want, got.Hour)
	}
	if len(want) > 0 {
		return fmt.Errorf("there are messages, but no digests, of hours %v", slices.Collect(maps.Keys(want)))
	}
	return nil
}

// disturb does what a keeper may do at any time, and must not show.
func (p *partition) disturb(src *rand.Rand) {
	for _, id := range slices.Sorted(maps.Keys(p.messages)) {
		m := p.messages[id]
		switch src.IntN(8) {
		case 0:
			m.Receipts.Seal()
		case 1:
			p.settle(m)
		case 2:
			p.complete(m)
		case 3:
			if n := m.Receipts.Sealed(); n > 0 {
				p.drop(m, 1+src.IntN(n))
			}
		}
	}
	if src.IntN(6) == 0 {
		p.scrub()
	}
}

// drop drops the first chunks, up to n.
func (p *partition) drop(m *projections.Message, n int) {
	chunks := p.dropped[m]
	for i := len(chunks); i < n; i++ {
		chunks = append(chunks, m.Receipts.Chunk(i))
	}
	m.Receipts.Drop(n)
	p.dropped[m] = chunks
}

// scrub takes the erased out of everything, and then forgets who they were.
func (p *partition) scrub() {
	for _, m := range p.messages {
		p.settle(m)
	}
	for _, r := range p.rosters {
		p.fold.SettleRoster(r)
		r.Names = scrubbed(r)
	}
	p.fold.Forget(p.fold.LastErasure())
	if len(p.fold.Erasures()) > 0 {
		panic("not forgotten")
	}
}

// scrubbed is a roster's names without those who are gone.
func scrubbed(r *projections.Roster) *projections.Names {
	if r.Gone() == nil {
		return r.Names
	}
	names := namesOf(r.Names)
	for _, gone := range r.Gone().People {
		names[gone.Number] = ""
	}
	return projections.RestoreNames(names, r.Names.OptedOut, r.Names.Hash(), true)
}

func namesOf(n *projections.Names) []string {
	names := make([]string, n.Len())
	for i := range names {
		names[i] = n.Name(uint32(i))
	}
	return names
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
		readers := slices.Equal(other.Readers, view.Readers) && slices.EqualFunc(other.Unlisted, view.Unlisted, sameReceipt)
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
	v.Readers, v.Unlisted = nil, nil
	return fmt.Sprintf("%+v", v)
}

// sameReceipt compares readers of whom one may have no name.
func sameReceipt(a, b oracle.Reader) bool { return a.ReadAt == b.ReadAt && a.Offset == b.Offset }

func cut(readers []oracle.Reader) []oracle.Reader { return readers[max(0, len(readers)-20):] }

// stored is a partition's state as a store keeps it.
type stored struct {
	Checkpoint projections.Checkpoint
	Waiting    []projections.WaitingEvent
	Erasures   []projections.Erasure
	Digests    []projections.HourDigest
	Rosters    []storedRoster
	Messages   map[string]storedMessage
}

type storedRoster struct {
	Ref      projections.RosterRef
	Names    []string // empty: scrubbed
	OptedOut []bool
	Hash     projections.RosterHash
	Settled  int64
	Gone     []projections.GonePerson
}

type storedMessage struct {
	ID, Conversation      string
	SentAt, Sent, Changed int64
	Recalled              bool
	Roster                *projections.RosterRef
	Sender                uint32
	Crowd                 *projections.Crowd
	Sealed                [][]byte
	Open                  []byte
}

func (p *partition) store() ([]byte, error) {
	s := stored{Checkpoint: p.fold.Checkpoint(), Waiting: p.fold.Waiting().All(), Erasures: p.fold.Erasures(),
		Digests: p.fold.Digests(), Messages: make(map[string]storedMessage)}
	for _, ref := range slices.Sorted(maps.Keys(p.rosters)) {
		r := p.rosters[ref]
		kept := storedRoster{Ref: r.Ref, Names: namesOf(r.Names), Hash: r.Names.Hash(), Settled: r.Settled()}
		for i := range kept.Names {
			kept.OptedOut = append(kept.OptedOut, r.Names.OptedOut(uint32(i)))
		}
		if gone := r.Gone(); gone != nil {
			kept.Gone = gone.People
		}
		s.Rosters = append(s.Rosters, kept)
	}
	for id, m := range p.messages {
		kept := storedMessage{ID: m.ID, Conversation: m.ConversationID, SentAt: m.SentAt, Sent: m.Sent, Changed: m.Changed,
			Recalled: m.Recalled, Sender: m.Sender, Crowd: m.Crowd, Open: m.Receipts.Open().Bytes}
		if m.Roster != nil {
			kept.Roster = &m.Roster.Ref
		}
		for i, chunk := range p.dropped[m] {
			kept.Sealed = append(kept.Sealed, chunk.Bytes)
			if i >= m.Receipts.Sealed() {
				return nil, errors.New("a chunk was dropped that was not sealed")
			}
		}
		for i := len(kept.Sealed); i < m.Receipts.Sealed(); i++ {
			kept.Sealed = append(kept.Sealed, m.Receipts.Chunk(i).Bytes)
		}
		s.Messages[id] = kept
	}
	return json.Marshal(s)
}

// restore is the partition as it comes back from its stored form.
func (p *partition) restore(b []byte) (*partition, error) {
	var s stored
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, err
	}
	again := newPartition(history.History{Lineage: p.lineage, Partition: p.number}, 0)
	again.refs, again.erasures, again.replaced = p.refs, p.erasures, p.replaced
	again.fold = projections.NewFold(p.lineage, p.number, projections.Restored{
		Checkpoint: s.Checkpoint, Waiting: s.Waiting, Erasures: s.Erasures, Digests: s.Digests})
	rosters := make(map[projections.RosterRef]*projections.Roster)
	for _, r := range s.Rosters {
		names := projections.RestoreNames(r.Names, func(n uint32) bool { return r.OptedOut[n] }, r.Hash, slices.Contains(r.Names, ""))
		if names.Hash() != r.Hash {
			return nil, fmt.Errorf("roster %x has another hash after a restart", r.Ref)
		}
		rosters[r.Ref] = projections.RestoreRoster(names, r.Ref, r.Settled, r.Gone)
	}
	for id, kept := range s.Messages {
		m := &projections.Message{ID: kept.ID, ConversationID: kept.Conversation, SentAt: kept.SentAt, Sent: kept.Sent,
			Changed: kept.Changed, Recalled: kept.Recalled, Sender: kept.Sender, Crowd: kept.Crowd,
			Receipts: projections.RestoreReceipts(kept.Sealed, kept.Open)}
		if kept.Roster != nil {
			// A roster that no message uses is not kept.
			m.Roster = rosters[*kept.Roster]
			again.rosters[*kept.Roster] = m.Roster
		}
		if err := m.Rebuild(); err != nil {
			return nil, fmt.Errorf("message %s: %w", id, err)
		}
		again.messages[id] = m
	}
	return again, nil
}

// restart is store and restore.
func (p *partition) restart() (*partition, error) {
	b, err := p.store()
	if err != nil {
		return nil, err
	}
	return p.restore(b)
}

// unexpired leaves out what has expired at now.
func unexpired(lineage projections.Lineage, views map[string]oracle.View, now int64) map[string]oracle.View {
	views = maps.Clone(views)
	maps.DeleteFunc(views, func(_ string, v oracle.View) bool { return now > v.SentAt+lineage.Retention.Milliseconds() })
	return views
}
