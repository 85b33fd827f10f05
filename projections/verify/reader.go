package verify

import (
	"errors"
	"fmt"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/materialize"
)

// Reader reads the messages of a snapshot as anybody is shown them: with their
// rosters, and without those who were erased.
type Reader struct {
	from      Snapshot
	lineage   projections.Lineage
	partition int32
	saved     materialize.Saved
	fold      *projections.Fold
	rosters   map[projections.RosterRef]*roster
	size      int // of the rosters
}

type roster struct {
	*materialize.StoredRoster
	shown projections.Digest
	wrong error
}

// maxRosters is how many bytes of rosters are kept, those of messages that are read
// close to each other being few.
const maxRosters = 16 << 20

// NewReader reads what there is beside messages; found is false if the partition was
// never committed.
func NewReader(from Snapshot, lineage projections.Lineage, partition int32) (_ *Reader, found bool, err error) {
	r := &Reader{from: from, lineage: lineage, partition: partition, rosters: make(map[projections.RosterRef]*roster)}
	if r.saved, found, err = from.Restore(); err != nil || !found {
		return nil, false, err
	}
	r.fold = projections.NewFold(lineage, partition, r.saved.Restored)
	return r, true, nil
}

// Saved is what there is beside messages.
func (r *Reader) Saved() *materialize.Saved { return &r.saved }

// Loaded is a message with what it adds up to.
type Loaded struct {
	*projections.Message
	// Ref is its roster's, KeepUntil the roster's.
	Ref       projections.RosterRef
	KeepUntil int64
	// Stored is the digest of the message's parts; Shown that of what a pull can show
	// beside the receipts, names and counts, without those who were erased.
	Stored, Shown projections.Digest
}

// Message returns a message, or nil if there is none. It fails for one that no fold
// has made.
func (r *Reader) Message(id []byte) (_ *Loaded, err error) {
	defer func() {
		// Bytes that happen to decode may be out of all bounds.
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: message %q: %v", materialize.ErrCorrupt, id, p)
		}
	}()
	m, ref, err := r.from.Message(id)
	if err != nil || m == nil {
		return nil, err
	}
	l := &Loaded{Message: m, Ref: ref}
	var names projections.Digest
	if m.Crowd == nil {
		stored, err := r.roster(ref)
		if err != nil {
			return nil, err
		}
		if int(m.Sender) >= stored.Roster.Names.Len() {
			return nil, fmt.Errorf("its sender is number %d of a roster of %d", m.Sender, stored.Roster.Names.Len())
		}
		m.Roster, l.KeepUntil, names = stored.Roster, stored.KeepUntil, stored.shown
	}
	if err := m.Rebuild(); err != nil {
		return nil, err
	}
	l.Stored = m.Digest()
	r.fold.Settle(m)
	l.Shown = l.Stored.Add(shownDigest(m, names))
	return l, nil
}

// roster returns a roster that is there, and what its name says.
func (r *Reader) roster(ref projections.RosterRef) (*roster, error) {
	known := r.rosters[ref]
	if known == nil {
		stored, err := r.from.Roster(ref)
		if err != nil {
			return nil, err
		}
		if stored == nil {
			return nil, fmt.Errorf("its roster %016x is missing", uint64(ref))
		}
		known = &roster{StoredRoster: stored, wrong: checkRoster(stored, r.saved.LastErasure)}
		r.fold.SettleRoster(stored.Roster)
		known.shown = namesDigest(stored.Roster)
		if r.size += stored.Roster.Names.Size() + stored.Roster.Size(); r.size > maxRosters {
			clear(r.rosters)
			r.size = 0
		}
		r.rosters[ref] = known
	}
	if known.wrong != nil {
		return nil, fmt.Errorf("its roster %016x: %w", uint64(ref), known.wrong)
	}
	return known, nil
}

// maxRosterNames bounds how many rosters of one content a partition may have: one
// for each time that somebody was taken out of the last.
const maxRosterNames = 10_000

var errRosterName = errors.New("its participants are not those that it is named by")

// checkRoster holds a roster to its name. A hash that is stored because somebody
// was taken out is held to it too.
func checkRoster(s *materialize.StoredRoster, lastErasure int64) error {
	r := s.Roster
	if r.Gone() == nil {
		for i := range uint32(r.Names.Len()) {
			if r.Names.Name(i) == "" {
				return fmt.Errorf("participant %d has no name, and was not erased", i)
			}
		}
	} else {
		for _, p := range r.Gone().People {
			if p.Next > lastErasure || r.Names.Name(p.Number) != "" {
				return fmt.Errorf("participant %d is said to be erased at offset %d, and was not", p.Number, p.Next-1)
			}
		}
	}
	ref := r.Names.Hash().Ref()
	for range maxRosterNames {
		if ref == r.Ref {
			return nil
		}
		ref = ref.Next()
	}
	return errRosterName
}

// errors of a message.
var (
	errPlace    = errors.New("it belongs to another partition")
	errAhead    = errors.New("it was changed by an event that was not applied")
	errRecalled = errors.New("it was recalled, and has readers")
	errMany     = errors.New("more have read it than were to")
)

// check holds a message to what every fold does.
func (r *Reader) check(l *Loaded) error {
	position := r.saved.Position
	switch {
	case events.Partition(l.ID, r.lineage.Partitions) != r.partition:
		return errPlace
	case l.Sent > position || l.Changed > position || l.Changed < l.Sent:
		return errAhead
	case l.Recalled && l.Receipts.Len() > 0:
		return errRecalled
	case l.Crowd == nil && l.KeepUntil < projections.Hour(l.SentAt):
		return errors.New("its roster is kept for too short")
	case l.Crowd == nil && l.ReadCount() > l.RecipientCount():
		return errMany
	}
	if l.Crowd != nil {
		for i, index := range l.Crowd.Taken {
			if int(index) >= l.Receipts.Len() || i > 0 && index <= l.Crowd.Taken[i-1] {
				return errors.New("a receipt that it does not have was taken out")
			}
		}
	}
	return checkReceipts(l)
}

func checkReceipts(l *Loaded) (wrong error) {
	listed, before := 0, int64(-1)
	err := l.EachReceipt(0, func(at projections.Receipt) bool {
		switch {
		case at.Offset <= before:
			wrong = fmt.Errorf("receipt %d is of offset %d, after one of offset %d", at.Index, at.Offset, before)
		case at.Offset+1 > max(l.Changed, l.Sent):
			wrong = fmt.Errorf("receipt %d is of offset %d, which changed nothing", at.Index, at.Offset)
		case at.ReadAt < l.SentAt:
			wrong = fmt.Errorf("receipt %d was read before it was sent", at.Index)
		case l.Crowd == nil && at.Person == l.Sender:
			wrong = fmt.Errorf("receipt %d is of the sender", at.Index)
		case l.Crowd == nil && l.Roster.Names.OptedOut(at.Person):
			wrong = fmt.Errorf("receipt %d is of somebody who opted out", at.Index)
		}
		if _, is := l.Message.Shown(at); is && l.Crowd != nil {
			if sender, known := l.SenderID(); known && l.Reader(at) == sender {
				wrong = fmt.Errorf("receipt %d is of the sender", at.Index)
			}
			if listed++; listed > projections.MaxListedReaders {
				wrong = fmt.Errorf("it lists more than %d readers", projections.MaxListedReaders)
			}
		}
		before = at.Offset
		return wrong == nil
	})
	if err != nil {
		return err
	}
	return wrong
}
