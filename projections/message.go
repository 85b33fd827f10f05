package projections

import (
	"crypto/sha256"
)

// MaxListedReaders is how many readers of a count-only message are listed;
// after that read_count goes on and the list is truncated.
const MaxListedReaders = 20_000

// Message is what the fold knows of one message. It changes only under
// [Fold.Apply]; a shallow copy taken between two calls of Apply stays as it is
// for good, except for its sets of who is in, which only the fold may use.
type Message struct {
	ID             string
	ConversationID string
	// SentAt is in Unix milliseconds.
	SentAt int64
	// Version is the offset + 1 of the last event that changed the message.
	Version int64
	// Recalled says that the set is empty for good.
	Recalled bool

	// Roster lists the participants, of whom Sender is the sender's number. It
	// is nil in a count-only message, which has SenderName and RecipientsGiven.
	Roster          *Roster
	Sender          uint32
	SenderName      string
	RecipientsGiven uint32

	// Receipts are in log order. They are only ever appended to, or dropped
	// together with Readers by a recall.
	Receipts []Receipt
	// Readers are the listed readers of a count-only message: a receipt's
	// Person is the index here. Unlisted are the hashes of those beyond.
	Readers  []string
	Unlisted []ReaderHash

	in     []uint64                // by number: who of the roster has read
	hashes map[ReaderHash]struct{} // the readers of a count-only message
}

// Receipt is one reader's.
type Receipt struct {
	// Person is the reader's number in the roster, or in Message.Readers.
	Person uint32
	// ReadAt is in Unix milliseconds, and never before SentAt.
	ReadAt int64
	// Offset is that of the event.
	Offset int64
}

// ReaderHash stands for a reader of a count-only message who is not listed: the
// first 16 bytes of SHA-256 over the ID.
type ReaderHash [16]byte

// HashReader returns the hash that stands for a reader.
func HashReader(id []byte) ReaderHash {
	sum := sha256.Sum256(id)
	return ReaderHash(sum[:16])
}

// CountOnly says that the message has a number of recipients but no list.
func (m *Message) CountOnly() bool { return m.Roster == nil }

// SenderID is the sender's ID.
func (m *Message) SenderID() string {
	if m.Roster == nil {
		return m.SenderName
	}
	return m.Roster.Names[m.Sender]
}

// Reader is the ID of the reader of r, which is one of the message's receipts.
func (m *Message) Reader(r Receipt) string {
	if m.Roster == nil {
		return m.Readers[r.Person]
	}
	return m.Roster.Names[r.Person]
}

// ReadCount is how many have read.
func (m *Message) ReadCount() int { return len(m.Receipts) + len(m.Unlisted) }

// RecipientCount is how many should read: not the sender, not the opted out.
func (m *Message) RecipientCount() int {
	if m.Roster == nil {
		return int(m.RecipientsGiven)
	}
	return len(m.Roster.Names) - 1 - m.OptedOutCount()
}

// OptedOutCount is how many recipients have opted out. A count-only message
// does not know it and has 0.
func (m *Message) OptedOutCount() int {
	if m.Roster == nil {
		return 0
	}
	n := 0
	for i, out := range m.Roster.OptedOut {
		if out && uint32(i) != m.Sender {
			n++
		}
	}
	return n
}

// IsRecipient says whether id is a recipient who has not opted out. In a
// count-only message nobody is known to be one.
func (m *Message) IsRecipient(id string) bool {
	if m.Roster == nil {
		return false
	}
	n, found := m.Roster.Number(id)
	return found && n != m.Sender && !m.Roster.OptedOut[n]
}

// Truncated says that there are readers who are not listed.
func (m *Message) Truncated() bool { return len(m.Unlisted) > 0 }

// Rebuild makes a message that was loaded from a store ready for the fold: the
// sets of who is in are not stored, they follow from the receipts.
func (m *Message) Rebuild() {
	m.in, m.hashes = nil, nil
	if m.Roster != nil {
		for _, r := range m.Receipts {
			m.add(r.Person)
		}
		return
	}
	for _, name := range m.Readers {
		m.addHash(HashReader([]byte(name)))
	}
	for _, h := range m.Unlisted {
		m.addHash(h)
	}
}

// add puts a person of the roster in, and reports whether they were out.
func (m *Message) add(person uint32) bool {
	if m.in == nil {
		m.in = make([]uint64, (len(m.Roster.Names)+63)/64)
	}
	word, bit := &m.in[person/64], uint64(1)<<(person%64)
	if *word&bit != 0 {
		return false
	}
	*word |= bit
	return true
}

func (m *Message) addHash(h ReaderHash) bool {
	if _, found := m.hashes[h]; found {
		return false
	}
	if m.hashes == nil {
		m.hashes = make(map[ReaderHash]struct{})
	}
	m.hashes[h] = struct{}{}
	return true
}

// empty takes everybody out for good.
func (m *Message) empty() {
	m.Recalled = true
	m.Receipts, m.Readers, m.Unlisted = nil, nil, nil
	m.in, m.hashes = nil, nil
}

// Size estimates the message's memory in bytes, for whoever bounds it, without
// the roster, which messages may share.
func (m *Message) Size() int {
	n := 256 + len(m.ID) + len(m.ConversationID) + len(m.SenderName)
	n += cap(m.Receipts)*24 + cap(m.Unlisted)*16 + len(m.hashes)*32
	for _, name := range m.Readers {
		n += 16 + len(name)
	}
	if m.Roster != nil {
		// Who is in: a bit each, from the first receipt on.
		n += (len(m.Roster.Names) + 63) / 64 * 8
	}
	return n
}
