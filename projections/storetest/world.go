package storetest

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/materialize"
)

const (
	hour = int64(3_600_000)
	// base is a time at the beginning of an hour.
	base = 1_790_000_000_000 / hour * hour
)

// world is a partition as a fold has it, all in memory, that writes batches of what
// changed. What it writes is as true as what the partitions of package materialize
// write, but it seals chunks and extends rosters as a test says.
type world struct {
	fold     *projections.Fold
	messages map[string]*projections.Message
	rosters  map[projections.RosterRef]*roster
	offset   int64
	now      int64 // of the next record

	// sealFrom is how many receipts an open chunk must have to be sealed, and
	// keepLonger for how many hours more than needed rosters are kept.
	sealFrom   int
	keepLonger int64
	// stored is how many chunks the store has of a message that it has.
	stored    map[string]int
	digests   map[int64]projections.HourDigest // as the store has them
	dirty     map[string]struct{}
	erasures  int64 // the Next of the last one that is stored
	forgotten int64
}

type roster struct {
	*projections.Roster
	keepUntil       int64
	dirty, extended bool
	lost            int // how many people the store knows to be gone
}

func (r *roster) gone() int {
	if g := r.Gone(); g != nil {
		return len(g.People)
	}
	return 0
}

func newWorld() *world {
	lineage := projections.Lineage{Partitions: 1, FoldVersion: projections.FoldVersion,
		Limits: projections.Limits{Waiting: 1000}, Retention: 100 * 365 * 24 * time.Hour}
	return &world{
		fold:     projections.NewFold(lineage, 0, projections.Restored{Checkpoint: projections.Checkpoint{LeaderEpoch: -1}}),
		messages: make(map[string]*projections.Message), rosters: make(map[projections.RosterRef]*roster),
		now: base, sealFrom: 32,
		stored: make(map[string]int), digests: make(map[int64]projections.HourDigest), dirty: make(map[string]struct{}),
	}
}

// Message implements [projections.Messages].
func (w *world) Message(id []byte) (*projections.Message, error) {
	m := w.messages[string(id)]
	if m != nil {
		w.settle(m)
	}
	return m, nil
}

func (w *world) settle(m *projections.Message) {
	if w.fold.Settle(m) {
		w.Changed(m)
	}
}

// Roster implements [projections.Messages].
func (w *world) Roster(e *events.MessageSent) (*projections.Roster, error) {
	names := projections.NewNames(e)
	for ref := names.Hash().Ref(); ; ref = ref.Next() {
		r := w.rosters[ref]
		if r == nil {
			r = &roster{Roster: projections.RestoreRoster(names, ref, w.fold.LastErasure(), nil), keepUntil: -1 << 62}
			w.rosters[ref] = r
			return r.Roster, nil
		}
		if w.fold.SettleRoster(r.Roster); r.Gone() == nil && r.Names.Equal(names) {
			return r.Roster, nil
		}
	}
}

// Create implements [projections.Messages].
func (w *world) Create(m *projections.Message) {
	w.messages[m.ID] = m
	delete(w.stored, m.ID)
	w.Changed(m)
	if m.Roster == nil {
		return
	}
	if r, at := w.rosters[m.Roster.Ref], projections.Hour(m.SentAt); at > r.keepUntil {
		r.keepUntil, r.dirty, r.extended = at+w.keepLonger, true, true
	}
}

// Changed implements [projections.Messages].
func (w *world) Changed(m *projections.Message) { w.dirty[m.ID] = struct{}{} }

func (w *world) apply(e events.Event) projections.Outcome {
	value, err := events.AppendEncode(nil, e)
	if err != nil {
		panic(err)
	}
	outcome, reason, err := w.fold.Apply(events.Record{Offset: w.offset, Timestamp: w.now, LeaderEpoch: 1, Key: e.Key(), Value: value}, w)
	if err != nil || reason != nil {
		panic(fmt.Sprint(err, reason))
	}
	w.offset++
	return outcome
}

// sent makes a message to people, in place of any that has its ID.
func (w *world) sent(id string, sentAt int64, sender string, recipients, optedOut [][]byte) {
	w.create(&events.MessageSent{MessageID: []byte(id), ConversationID: []byte("conversation"), SenderID: []byte(sender), SentAt: sentAt,
		Recipients: recipients, OptedOut: optedOut})
}

// crowd makes a count-only message.
func (w *world) crowd(id string, sentAt int64, sender string) {
	w.create(&events.MessageSent{MessageID: []byte(id), ConversationID: []byte(uuid(77)), SenderID: []byte(sender), SentAt: sentAt,
		CountOnly: true, RecipientCount: 50_000})
}

func (w *world) create(e *events.MessageSent) {
	w.now = max(w.now, e.SentAt)
	delete(w.messages, string(e.MessageID))
	w.apply(e)
}

// group makes a message from the first of so many people to the others, of whom
// every fifth has opted out.
func (w *world) group(id string, sentAt int64, people int) {
	var recipients, optedOut [][]byte
	for i := 1; i < people; i++ {
		recipients = append(recipients, []byte(person(i)))
		if i%5 == 0 {
			optedOut = append(optedOut, []byte(person(i)))
		}
	}
	w.sent(id, sentAt, person(0), recipients, optedOut)
}

// read has people of these numbers read, from one to before another.
func (w *world) read(id string, from, to int) {
	for i := from; i < to; i++ {
		w.now += int64(i%7) * 1000
		w.apply(&events.MessageRead{MessageID: []byte(id), ReaderID: []byte(person(i)), ReadAt: events.Unclaimed})
		w.offset += int64(i % 3)
	}
}

// readMore has so many more people of a group read, who count.
func (w *world) readMore(id string, n int) {
	m := w.messages[id]
	for before, i := m.ReadCount(), 1; m.ReadCount() < before+n; i++ {
		w.read(id, i, i+1)
	}
}

func (w *world) recall(id string) { w.apply(&events.MessageRecalled{MessageID: []byte(id)}) }
func (w *world) erase(who string) { w.apply(&events.UserErased{UserID: []byte(who)}) }

// person is an ID, every third of which is no UUID.
func person(i int) string {
	if i%3 == 2 {
		return fmt.Sprintf("person-%06d", i)
	}
	return uuid(i)
}

func uuid(i int) string {
	return fmt.Sprintf("%08x-%04x-4000-8000-%012x", uint32(i)*2654435761, i&0xffff, i)
}

// scrub settles all messages and rosters, as if all had been read.
func (w *world) scrub() {
	for _, m := range w.messages {
		w.settle(m)
	}
	for _, r := range w.rosters {
		w.fold.SettleRoster(r.Roster)
	}
}

// batch is what changed since the last one. The messages in it are snapshots.
func (w *world) batch() *materialize.Batch {
	b := &materialize.Batch{Checkpoint: w.fold.Checkpoint(), Digests: w.fold.TakeDigests(), ErasuresForgotten: w.forgotten}
	for _, h := range b.Digests {
		w.digests[h.Hour] = h
	}
	for _, id := range slices.Sorted(maps.Keys(w.dirty)) {
		m := w.messages[id]
		if m.Receipts.Open().Len >= w.sealFrom {
			m.Receipts.Seal()
		}
		sealed, stored := w.stored[id]
		c := materialize.Change{Message: new(m.Snapshot()), Stored: stored, Sealed: sealed}
		for _, chunk := range m.Receipts.TakeRewritten() {
			if chunk < sealed {
				c.Rewritten = append(c.Rewritten, chunk)
			}
		}
		b.Messages = append(b.Messages, c)
		w.stored[id] = m.Receipts.Sealed()
	}
	for _, ref := range slices.Sorted(maps.Keys(w.rosters)) {
		r := w.rosters[ref]
		if w.fold.SettleRoster(r.Roster); r.dirty || r.gone() > r.lost {
			b.Rosters = append(b.Rosters, materialize.RosterChange{StoredRoster: materialize.StoredRoster{Roster: new(*r.Roster), KeepUntil: r.keepUntil}, Extended: r.extended})
		}
		r.dirty, r.extended, r.lost = false, false, r.gone()
	}
	for _, e := range w.fold.Erasures() {
		if e.Next() > w.erasures {
			b.ErasuresAdded = append(b.ErasuresAdded, e)
		}
	}
	w.erasures, w.forgotten = w.fold.LastErasure(), 0
	b.WaitingAdded, b.WaitingRemoved = w.fold.Waiting().TakeChanges()
	clear(w.dirty)
	return b
}

// forget drops the erasures, which must have been settled everywhere.
func (w *world) forget() {
	w.forgotten = w.fold.LastErasure()
	w.fold.Forget(w.forgotten)
}

// prune drops what a store drops.
func (w *world) prune(before int64) (removed int) {
	for id, m := range w.messages {
		if projections.HourEnded(projections.Hour(m.SentAt), before) {
			delete(w.messages, id)
			delete(w.stored, id)
			delete(w.dirty, id)
			removed++
		}
	}
	for ref, r := range w.rosters {
		if projections.HourEnded(r.keepUntil, before) {
			delete(w.rosters, ref)
		}
	}
	w.fold.DropDigests(before)
	return removed
}
