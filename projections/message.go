package projections

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
)

// MaxListedReaders is how many readers of a count-only message are listed;
// after that read_count goes on and the list is truncated.
const MaxListedReaders = 20_000

// Message is what the fold knows of one message. It changes only under
// [Fold.Apply] and [Fold.Settle]; what [Message.Snapshot] returns between two
// calls stays as it is for good.
type Message struct {
	ID             string
	ConversationID string
	// SentAt is in Unix milliseconds.
	SentAt int64
	// Sent is the offset + 1 of the MessageSent, and Changed that of the last event
	// that changed the message itself.
	Sent, Changed int64

	// Roster lists the participants, of whom Sender is the sender's number. It
	// is nil in a count-only message, which has Crowd.
	Roster *Roster
	Crowd  *Crowd
	Sender uint32
	// Recalled says that the set is empty for good.
	Recalled bool

	// Receipts are in log order. They are only ever appended to, or dropped
	// by a recall.
	Receipts Receipts

	in  []uint64 // by number: who of the roster has read; few, if that is enough
	few [1]uint64
	sum Digest // of the receipts
	// receiptSeed is the seed of their digests, or 0.
	receiptSeed uint64
	// settled is up to which erasure the message is settled. gone is the roster's
	// Gone then, and lost how many of the readers are in it.
	settled int64
	gone    *Gone
	lost    int32
	count   int32 // receipts in the set, whoever is gone
}

// Crowd is what a count-only message has in place of a roster.
type Crowd struct {
	// Sender is the sender's ID, empty if they were erased.
	Sender string
	// Given is the number of recipients.
	Given uint32
	// Taken are the indexes of the receipts that erasures took out, ascending; how
	// many they were, those that a recall removed since included; and the version
	// that the last erasure gave to the message, or 0.
	Taken      []uint32
	TakenCount uint32
	TakenAt    int64
	// Lost is the digest of what was taken out and cannot be worked out any more.
	Lost Digest
	// Settled is up to which erasure the message is settled.
	Settled int64

	listed int
	hashes map[ReaderHash]struct{} // who has read
}

// Receipt is one reader's.
type Receipt struct {
	// ReadAt is in Unix milliseconds, and never before SentAt.
	ReadAt int64
	// Offset is that of the event.
	Offset int64
	// Index is the receipt's among the message's receipts, in log order.
	Index int
	// Person is the reader's number in the roster.
	Person uint32

	// A count-only message's receipt has the reader's name, or if they are unlisted
	// their hash; nothing if that was scrubbed.
	unlisted bool
	reader   []byte
}

// ReaderHash stands for the reader, in a count-only message; known is false if it
// was scrubbed.
func (r *Receipt) ReaderHash() (hash ReaderHash, known bool) {
	if r.reader == nil {
		return hash, false
	}
	return r.readerHash(), true
}

// readerHash is that of the reader of a count-only message.
func (r *Receipt) readerHash() ReaderHash {
	if r.unlisted {
		return ReaderHash(r.reader)
	}
	return HashReader(r.reader)
}

// ReaderHash stands for a reader of a count-only message: the first 16 bytes of
// SHA-256 over the ID.
type ReaderHash [16]byte

// HashReader returns the hash that stands for a reader.
func HashReader(id []byte) ReaderHash {
	sum := sha256.Sum256(id)
	return ReaderHash(sum[:16])
}

// CountOnly says that the message has a number of recipients but no list.
func (m *Message) CountOnly() bool { return m.Roster == nil }

// Version is the offset + 1 of the last event that changed the message or took
// somebody out of it.
func (m *Message) Version() int64 { return max(m.Changed, m.erasedAt()) }

// erasedAt is the version that the last erasure of one of its people gave to the
// message, or 0.
func (m *Message) erasedAt() int64 {
	if m.Crowd != nil {
		return m.Crowd.TakenAt
	}
	return m.gone.last()
}

// TakenAway is the version that came with the last event that took something
// away, a recall or an erasure, or 0: only from there on is what was added since a
// version all that changed since.
func (m *Message) TakenAway() int64 {
	if m.Recalled {
		return m.Version()
	}
	return m.erasedAt()
}

// SenderID is the sender's ID; known is false if they were erased.
func (m *Message) SenderID() (id string, known bool) {
	if m.Roster == nil {
		return m.Crowd.Sender, m.Crowd.Sender != ""
	}
	if m.gone.has(m.Sender) {
		return "", false
	}
	return m.Roster.Names.Name(m.Sender), true
}

// Shown says whether r, one of the message's receipts, counts, as those that were
// erased do not, and whether its reader is listed.
func (m *Message) Shown(r Receipt) (counts, listed bool) {
	if m.Roster != nil {
		here := !m.gone.has(r.Person)
		return here, here
	}
	_, taken := slices.BinarySearch(m.Crowd.Taken, uint32(r.Index))
	return !taken, !taken && !r.unlisted
}

// Reader is the ID of the reader of r, which is one of the message's listed
// receipts.
func (m *Message) Reader(r Receipt) string {
	if m.Roster == nil {
		return string(r.reader)
	}
	return m.Roster.Names.Name(r.Person)
}

// AppendReader appends the ID to b, as Reader returns it.
func (m *Message) AppendReader(b []byte, r Receipt) []byte {
	if m.Roster == nil {
		return append(b, r.reader...)
	}
	return append(b, m.Roster.Names.Name(r.Person)...)
}

// ReadCount is how many have read.
func (m *Message) ReadCount() int {
	if m.Crowd != nil {
		return int(m.count) - len(m.Crowd.Taken)
	}
	return int(m.count - m.lost)
}

// RecipientCount is how many should read: not the sender, not the opted out, not
// the erased.
func (m *Message) RecipientCount() int {
	if m.Roster == nil {
		return max(0, int(m.Crowd.Given)-int(m.Crowd.TakenCount))
	}
	n := m.Roster.Names.Len() - 1 - m.optedOut()
	for _, p := range m.goneOthers() {
		if p.Number != m.Sender && !m.Roster.Names.OptedOut(p.Number) {
			n--
		}
	}
	return n
}

// OptedOutCount is how many recipients have opted out. A count-only message
// does not know it and has 0.
func (m *Message) OptedOutCount() int {
	if m.Roster == nil {
		return 0
	}
	n := m.optedOut()
	for _, p := range m.goneOthers() {
		if p.Number != m.Sender && m.Roster.Names.OptedOut(p.Number) {
			n--
		}
	}
	return n
}

// optedOut is OptedOutCount as of sending.
func (m *Message) optedOut() int {
	n := m.Roster.Names.optedOutCount
	if m.Roster.Names.OptedOut(m.Sender) {
		n--
	}
	return n
}

func (m *Message) goneOthers() []GonePerson {
	if m.gone == nil {
		return nil
	}
	return m.gone.People
}

// IsRecipient says whether id is a recipient who has not opted out. In a
// count-only message nobody is known to be one.
func (m *Message) IsRecipient(id string) bool {
	if m.Roster == nil {
		return false
	}
	n, found := m.Roster.Names.Number([]byte(id))
	return found && m.ShouldRead(n)
}

// ShouldRead says whether the person with this number in the roster is a recipient
// who has not opted out. There must be a roster.
func (m *Message) ShouldRead(number uint32) bool {
	return number != m.Sender && !m.gone.has(number) && !m.Roster.Names.OptedOut(number)
}

// Truncated says that there are readers who are not listed.
func (m *Message) Truncated() bool {
	return m.Crowd != nil && m.ReadCount() > m.Crowd.listed
}

// Snapshot is the message as it is, for whoever shows it: it stays so while the
// fold goes on. The fold must not be given it.
func (m *Message) Snapshot() Message {
	s := *m
	s.in = nil
	if m.Roster != nil {
		// The original gets other names when they are scrubbed.
		roster := *m.Roster
		s.Roster = &roster
	}
	if m.Crowd != nil {
		crowd := *m.Crowd
		crowd.hashes = nil
		s.Crowd = &crowd
	}
	return s
}

// Rebuild makes a message that was loaded from a store, with its roster, ready for
// the fold: the sets of who is in are not stored, they follow from the receipts.
// It fails for receipts that no fold wrote.
func (m *Message) Rebuild() error {
	m.count, m.in, m.few, m.sum, m.lost, m.gone, m.settled = 0, nil, [1]uint64{}, Digest{}, 0, nil, 0
	if m.Crowd != nil {
		m.Crowd.listed, m.Crowd.hashes = 0, nil
		m.settled = m.Crowd.Settled
	}
	seed := m.seed()
	var err error
	take := func(r Receipt) bool {
		err = m.retake(seed, r)
		return err == nil
	}
	index := 0
	var last Receipt
	read := func(c *Chunk) error {
		n, end, broken := m.decode(c.Bytes, index, take)
		if broken != nil || err != nil {
			return fmt.Errorf("receipt %d and on: %w", index+n, cmp.Or(broken, err))
		}
		if n > 0 {
			last = end
		}
		c.Len, c.Last = n, end.Offset
		index += n
		return nil
	}
	r := &m.Receipts
	for i := range r.chunks {
		if err := read(&r.chunks[i]); err != nil {
			return err
		}
	}
	open := Chunk{Bytes: r.open}
	if err := read(&open); err != nil {
		return err
	}
	r.opened, r.offset, r.readAt = int32(open.Len), last.Offset, last.ReadAt
	if m.Crowd != nil && len(m.Crowd.Taken)+len(m.Crowd.hashes) != int(m.count) {
		return errTaken
	}
	return nil
}

// retake puts a stored receipt in the set.
func (m *Message) retake(seed uint64, r Receipt) error {
	m.count++
	if m.Roster != nil {
		if !m.add(r.Person) {
			return errTwice
		}
		m.sum = m.sum.Add(rosterReceipt(seed, r))
		return nil
	}
	counts, listed := m.Shown(r)
	switch {
	case !counts:
		return nil
	case r.reader == nil:
		return errTaken
	case listed:
		m.Crowd.listed++
	}
	hash := r.readerHash()
	if !m.addHash(hash) {
		return errTwice
	}
	m.sum = m.sum.Add(crowdReceipt(seed, hash, r))
	return nil
}

var (
	errTwice = errors.New("a reader is in the set twice")
	errTaken = errors.New("receipts that were taken out are not those that are marked so")
)

// add puts a person of the roster in, and reports whether they were out.
func (m *Message) add(person uint32) bool {
	if m.in == nil {
		if m.in = m.few[:]; m.Roster.Names.Len() > 64 {
			m.in = make([]uint64, words(m.Roster.Names.Len()))
		}
	}
	word, bit := &m.in[person/64], uint64(1)<<(person%64)
	if *word&bit != 0 {
		return false
	}
	*word |= bit
	return true
}

func (m *Message) addHash(h ReaderHash) bool {
	if _, found := m.Crowd.hashes[h]; found {
		return false
	}
	if m.Crowd.hashes == nil {
		m.Crowd.hashes = make(map[ReaderHash]struct{})
	}
	m.Crowd.hashes[h] = struct{}{}
	return true
}

// empty takes everybody out for good.
func (m *Message) empty() {
	m.Recalled = true
	m.Receipts, m.count, m.lost, m.sum, m.in = Receipts{}, 0, 0, Digest{}, nil
	if m.Crowd != nil {
		m.Crowd.Taken, m.Crowd.listed, m.Crowd.hashes = nil, 0, nil
	}
}

// lose is told whom the roster has lost.
func (m *Message) lose(gone *Gone) {
	m.gone, m.lost = gone, 0
	for _, p := range m.goneOthers() {
		if m.in != nil && m.in[p.Number/64]>>(p.Number%64)&1 == 1 {
			m.lost++
		}
	}
}

// takeOut takes an erased person out of a count-only message, whose chunks are
// whole, and reports whether they were in it.
func (m *Message) takeOut(e Erasure) (found bool) {
	birth := m.birth()
	if m.Crowd.Sender == e.UserID {
		m.Crowd.Sender = ""
		m.Crowd.Lost = m.Crowd.Lost.Add(birth).Sub(m.birth())
		found = true
	}
	if hash := HashReader([]byte(e.UserID)); m.isIn(hash) {
		m.takeReader(e.UserID, hash)
		found = true
	}
	if found {
		m.Crowd.TakenAt = e.Next()
	}
	return found
}

func (m *Message) isIn(hash ReaderHash) bool {
	_, found := m.Crowd.hashes[hash]
	return found
}

// takeReader takes one reader's receipt out, and their name or hash out of its
// chunk.
func (m *Message) takeReader(id string, hash ReaderHash) {
	var taken Receipt
	// A message that the fold handed out is whole, and its bytes are its own.
	_ = m.EachReceipt(0, func(r Receipt) bool {
		if counts, listed := m.Shown(r); !counts || listed && string(r.reader) != id || !listed && r.readerHash() != hash {
			return true
		}
		taken = r
		return false
	})
	delete(m.Crowd.hashes, hash)
	part := crowdReceipt(m.seed(), hash, taken)
	m.sum, m.Crowd.Lost = m.sum.Sub(part), m.Crowd.Lost.Add(part)
	if !taken.unlisted {
		m.Crowd.listed--
	}
	m.Crowd.Taken = append(slices.Clone(m.Crowd.Taken), uint32(taken.Index))
	slices.Sort(m.Crowd.Taken)
	m.Crowd.TakenCount++
	m.scrub(taken.Index)
}

// Size estimates the message's memory in bytes, for whoever bounds it, without
// what messages may share: the roster, and the name of the conversation.
func (m *Message) Size() int {
	n := 256 + len(m.ID) + 8 + m.Receipts.Bytes()
	if cap(m.in) > len(m.few) {
		n += 8 * cap(m.in)
	}
	if m.Crowd != nil {
		n += 96 + len(m.ConversationID) + len(m.Crowd.Sender) + 4*cap(m.Crowd.Taken) + 40*len(m.Crowd.hashes)
	}
	return n
}
