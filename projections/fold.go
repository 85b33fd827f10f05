// Package projections folds a partition's events into reader sets. The fold is
// pure: no clock, no I/O, no randomness; whatever it decides follows from the
// records, in log order, and the [Lineage]. Where messages are kept is the
// caller's ([Messages]); package materialize is that caller in production.
package projections

import (
	"errors"
	"fmt"

	"github.com/seenby/seenby/events"
)

// ErrMustStop is wrapped by what [Fold.Apply] returns for a record that this
// build cannot fold and must not pass over. The partition stays before it.
var ErrMustStop = errors.New("cannot go past this record")

// Messages is where the fold finds and keeps the messages of its partition.
type Messages interface {
	// Message returns a message, or nil if there is none. It was settled
	// ([Fold.Settle]), and if it is count-only its receipts are whole.
	Message(id []byte) (*Message, error)
	// Roster returns the partition's roster of a message's participants, which is
	// equal for equal ones, however often they come; but never one that an erasure
	// took somebody out of.
	Roster(*events.MessageSent) (*Roster, error)
	// Create takes a new message, in place of an expired one of that ID.
	Create(*Message)
	// Changed is told after each change of a message.
	Changed(*Message)
}

// Outcome is what a record came to.
type Outcome int

// The outcomes of a record. Their numbers are in stores: new ones come last.
const (
	// Counted: a receipt that is now in its reader set.
	Counted Outcome = iota
	// Created: the MessageSent that the message exists from.
	Created
	// Recalled: the recall that emptied the set.
	Recalled
	// Waits: a receipt or recall of a message that does not exist (yet).
	Waits
	// Repeated: an earlier fact again, a later MessageSent included.
	Repeated
	// Dropped: a receipt of somebody who does not count, or of a recalled
	// message.
	Dropped
	// Expired: a MessageSent that comes after its message's retention.
	Expired
	// Undecodable: no Event, by its value or key.
	Undecodable
	// Misplaced: an Event whose key belongs to another partition.
	Misplaced
	// Skipped: passed over because the operator said so.
	Skipped
	// Control: a transaction's marker.
	Control
	// Old: below the position.
	Old
	// Erased: a UserErased, whether it found anything to take out or not.
	Erased

	outcomes
)

var outcomeNames = [outcomes]string{"counted", "created", "recalled", "waits", "repeated", "dropped", "expired",
	"undecodable", "misplaced", "skipped", "control", "old", "erased"}

// String is the outcome as metrics and logs spell it.
func (o Outcome) String() string { return outcomeNames[o] }

// Outcomes lists all outcomes.
func Outcomes() []Outcome {
	all := make([]Outcome, outcomes)
	for i := range all {
		all[i] = Outcome(i)
	}
	return all
}

// Fold is the fold of one partition. One goroutine at a time may use it.
type Fold struct {
	lineage   Lineage
	partition int32
	position  int64
	epoch     int32
	timestamp int64
	waiting   *Waiting
	evicted   int64
	decoder   events.Decoder

	// erasures are in log order; lastErasure is the Next of the last one ever.
	erasures    []Erasure
	lastErasure int64
	digests     digests
}

// Checkpoint says of which prefix of a partition some state is the fold.
type Checkpoint struct {
	// Position is the next offset to apply.
	Position int64
	// LeaderEpoch is that of the last applied record, or -1.
	LeaderEpoch int32
	// Timestamp is the latest of the applied records' timestamps, in Unix
	// milliseconds, or 0.
	Timestamp int64
	// Evicted is how many waiting events had to give way to the limit so far.
	// Unless it is 0, a fold from another start may differ.
	Evicted int64
	// LastErasure is the offset + 1 of the last UserErased, or 0.
	LastErasure int64
}

// Restored is what a fold goes on from, beside its messages.
type Restored struct {
	Checkpoint
	// Waiting is in log order.
	Waiting []WaitingEvent
	// Erasures are those that [Fold.Erasures] told, in log order.
	Erasures []Erasure
	// Digests are in any order.
	Digests []HourDigest
}

// NewFold returns the fold of a partition that goes on from some state. A fold
// from the start of the log has the log's first offset as Position, LeaderEpoch
// -1, and nothing else.
func NewFold(lineage Lineage, partition int32, from Restored) *Fold {
	return &Fold{
		lineage:     lineage,
		partition:   partition,
		position:    from.Position,
		epoch:       from.LeaderEpoch,
		timestamp:   from.Timestamp,
		evicted:     from.Evicted,
		lastErasure: from.LastErasure,
		waiting:     RestoreWaiting(from.Waiting),
		erasures:    append([]Erasure(nil), from.Erasures...),
		digests:     restoreDigests(from.Digests),
	}
}

// Checkpoint is where the fold is.
func (f *Fold) Checkpoint() Checkpoint {
	return Checkpoint{Position: f.position, LeaderEpoch: f.epoch, Timestamp: f.timestamp, Evicted: f.evicted,
		LastErasure: f.lastErasure}
}

// Waiting is the queue of waiting events; between two calls of Apply the caller
// may read it and take its changes.
func (f *Fold) Waiting() *Waiting { return f.waiting }

// Apply folds one record into ms. Records come in log order; one below the
// position is ignored. An error wraps [ErrMustStop], or is one of ms; nothing
// has changed then. Why a record was undecodable or misplaced is in reason.
func (f *Fold) Apply(rec events.Record, ms Messages) (outcome Outcome, reason error, err error) {
	if rec.Offset < f.position {
		return Old, nil, nil
	}
	outcome, reason, err = f.fold(rec, ms)
	if err != nil {
		return outcome, nil, fmt.Errorf("partition %d, offset %d: %w", f.partition, rec.Offset, err)
	}
	f.position, f.epoch = rec.Offset+1, rec.LeaderEpoch
	f.timestamp = max(f.timestamp, rec.Timestamp)
	return outcome, reason, nil
}

func (f *Fold) fold(rec events.Record, ms Messages) (outcome Outcome, reason error, err error) {
	if rec.Control {
		return Control, nil, nil
	}
	if f.lineage.Skipped(f.partition, rec.Offset) {
		return Skipped, nil, nil
	}
	event, err := f.decoder.Decode(rec.Key, rec.Value)
	if errors.Is(err, events.ErrUnknownKind) {
		return 0, nil, fmt.Errorf("%w: %w: upgrade the projectors before the producers", ErrMustStop, err)
	}
	if err != nil {
		return Undecodable, err, nil
	}
	if key := event.Key(); key != nil {
		if at := events.Partition(key, f.lineage.Partitions); at != f.partition {
			return Misplaced, fmt.Errorf("key belongs to partition %d of %d: is the producer's partitioner murmur2?", at, f.lineage.Partitions), nil
		}
	}
	if e, erased := event.(*events.UserErased); erased {
		f.waiting.giveUp(rec.Timestamp)
		f.erase(e, rec)
		return Erased, nil, nil
	}
	m, err := f.find(event.Key(), rec.Timestamp, ms)
	if err != nil {
		return 0, nil, err
	}
	var roster *Roster
	sent, sends := event.(*events.MessageSent)
	if sends && m == nil && !sent.CountOnly && !f.expired(min(sent.SentAt, rec.Timestamp), rec.Timestamp) {
		if roster, err = ms.Roster(sent); err != nil {
			return 0, nil, err
		}
	}
	// From here on nothing fails, so that an error has changed nothing.
	f.waiting.giveUp(rec.Timestamp)
	switch e := event.(type) {
	case *events.MessageSent:
		outcome = f.sent(m, roster, e, rec, ms)
	case *events.MessageRead:
		outcome = f.read(m, e, rec, ms)
	case *events.MessageRecalled:
		outcome = f.recalled(m, rec, ms)
	}
	return outcome, nil, nil
}

// erase takes a person out of what waits, and keeps in mind to take them out of
// messages and rosters when those are settled.
func (f *Fold) erase(e *events.UserErased, rec events.Record) {
	erasure := Erasure{UserID: string(e.UserID), Offset: rec.Offset, Timestamp: rec.Timestamp}
	f.waiting.takeOut(erasure.UserID)
	f.erasures = append(f.erasures, erasure)
	f.lastErasure = erasure.Next()
	f.digests.add(Hour(rec.Timestamp), erasure.Digest())
}

// find returns the message, or nil if an event of this timestamp finds none.
func (f *Fold) find(id []byte, timestamp int64, ms Messages) (*Message, error) {
	m, err := ms.Message(id)
	if err != nil || m == nil || f.expired(m.SentAt, timestamp) {
		return nil, err
	}
	return m, nil
}

// expired decides by record timestamps alone, so that it does not matter
// whether an expired message's state was removed yet.
func (f *Fold) expired(sentAt, timestamp int64) bool {
	return timestamp > sentAt+f.lineage.Retention.Milliseconds()
}

// sent is told the message that already has the ID, or nil, and the roster unless
// the message is count-only or will not be.
func (f *Fold) sent(m *Message, roster *Roster, e *events.MessageSent, rec events.Record, ms Messages) Outcome {
	if m != nil {
		return Repeated
	}
	sentAt := min(e.SentAt, rec.Timestamp)
	if f.expired(sentAt, rec.Timestamp) {
		return Expired
	}
	m = &Message{
		ID:             string(e.MessageID),
		ConversationID: string(e.ConversationID),
		SentAt:         sentAt,
		Sent:           rec.Offset + 1,
		Changed:        rec.Offset + 1,
		Roster:         roster,
		settled:        f.lastErasure,
	}
	if e.CountOnly {
		m.Crowd = &Crowd{Sender: string(e.SenderID), Given: e.RecipientCount, Settled: f.lastErasure}
	} else {
		m.Sender, _ = m.Roster.Names.Number(e.SenderID)
	}
	for _, w := range f.waiting.take(m.ID) {
		switch {
		case rec.Timestamp-w.Timestamp > WaitingTime.Milliseconds(), f.expired(sentAt, w.Timestamp), m.Recalled:
		case w.Recall:
			m.empty()
		default:
			m.receive([]byte(w.ReaderID), w.ReadAt, w.Timestamp, w.Offset)
		}
	}
	f.digests.add(Hour(sentAt), m.Digest())
	ms.Create(m)
	return Created
}

// read is told the message, or nil if it finds none.
func (f *Fold) read(m *Message, e *events.MessageRead, rec events.Record, ms Messages) Outcome {
	if m == nil {
		f.wait(WaitingEvent{MessageID: string(e.MessageID), ReaderID: string(e.ReaderID), ReadAt: e.ReadAt,
			Offset: rec.Offset, Timestamp: rec.Timestamp})
		return Waits
	}
	if m.Recalled {
		return Dropped
	}
	outcome, part := m.receive(e.ReaderID, e.ReadAt, rec.Timestamp, rec.Offset)
	if outcome == Counted {
		m.Changed = rec.Offset + 1
		f.digests.add(Hour(m.SentAt), part)
		ms.Changed(m)
	}
	return outcome
}

// recalled is told the message, or nil if it finds none.
func (f *Fold) recalled(m *Message, rec events.Record, ms Messages) Outcome {
	if m == nil {
		f.wait(WaitingEvent{MessageID: string(rec.Key), Recall: true, Offset: rec.Offset, Timestamp: rec.Timestamp})
		return Waits
	}
	if m.Recalled {
		return Repeated
	}
	hour := Hour(m.SentAt)
	f.digests.sub(hour, m.sum)
	m.empty()
	m.Changed = rec.Offset + 1
	f.digests.add(hour, m.recall())
	ms.Changed(m)
	return Recalled
}

func (f *Fold) wait(e WaitingEvent) {
	if f.waiting.wait(e, f.lineage.Limits.Waiting) {
		f.evicted++
	}
}

// receive puts a reader in the set, if they count and are not in it; then part is
// the receipt's digest.
func (m *Message) receive(reader []byte, claimed, timestamp, offset int64) (outcome Outcome, part Digest) {
	r := Receipt{ReadAt: max(m.SentAt, min(claimed, timestamp)), Offset: offset}
	if m.Roster == nil {
		return m.receiveInCrowd(reader, r)
	}
	var found bool
	r.Person, found = m.Roster.find(reader)
	if !found || r.Person == m.Sender || m.Roster.Names.OptedOut(r.Person) {
		return Dropped, part
	}
	if !m.add(r.Person) {
		return Repeated, part
	}
	m.Receipts.append(m, r)
	return m.counted(rosterReceipt(m.seed(), r))
}

// receiveInCrowd is receive for a count-only message, where everyone but the
// sender counts.
func (m *Message) receiveInCrowd(reader []byte, r Receipt) (outcome Outcome, part Digest) {
	if string(reader) == m.Crowd.Sender {
		return Dropped, part
	}
	h := HashReader(reader)
	if !m.addHash(h) {
		return Repeated, part
	}
	if m.Crowd.listed < MaxListedReaders {
		m.Crowd.listed++
		m.Receipts.appendListed(m, reader, r)
	} else {
		m.Receipts.appendUnlisted(m, h, r)
	}
	return m.counted(crowdReceipt(m.seed(), h, r))
}

func (m *Message) counted(part Digest) (Outcome, Digest) {
	m.count++
	m.sum = m.sum.Add(part)
	return Counted, part
}
