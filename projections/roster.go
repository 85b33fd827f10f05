package projections

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/seenby/seenby/events"
)

// Roster is the participants of a message as of its sending: recipients and
// sender. It does not say who the sender is, so that everybody's messages in a
// group have one roster. A roster is immutable.
type Roster struct {
	// Names are sorted bytewise and distinct. A message names people by their
	// index here, their number.
	Names []string
	// OptedOut says, by number, whose reads do not count.
	OptedOut []bool
}

// RosterHash is SHA-256 over a roster's content; equal rosters have equal
// hashes.
type RosterHash [sha256.Size]byte

// NewRoster returns the roster of e, which must not be count-only.
func NewRoster(e *events.MessageSent) *Roster {
	names := make([]string, 0, len(e.Recipients)+1)
	names = append(names, string(e.SenderID))
	for _, id := range e.Recipients {
		names = append(names, string(id))
	}
	slices.Sort(names)
	r := &Roster{Names: slices.Compact(names)}
	r.OptedOut = make([]bool, len(r.Names))
	for _, id := range e.OptedOut {
		if n, found := r.numberOf(id); found {
			r.OptedOut[n] = true
		}
	}
	return r
}

// Number finds a person.
func (r *Roster) Number(name string) (number uint32, found bool) {
	n, found := slices.BinarySearch(r.Names, name)
	return uint32(n), found
}

// numberOf is Number for bytes. A comparison with a converted slice copies
// nothing; Number(string(id)) would allocate for a long ID, on the hot path.
func (r *Roster) numberOf(id []byte) (number uint32, found bool) {
	n, found := slices.BinarySearchFunc(r.Names, id, func(name string, id []byte) int {
		switch {
		case name < string(id):
			return -1
		case name > string(id):
			return 1
		}
		return 0
	})
	return uint32(n), found
}

// Hash is over each name's length, bytes and flag, in order.
func (r *Roster) Hash() (sum RosterHash) {
	h := sha256.New()
	var b []byte
	for i, name := range r.Names {
		b = binary.AppendUvarint(b[:0], uint64(len(name)))
		b = append(b, name...)
		if r.OptedOut[i] {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
		h.Write(b)
	}
	h.Sum(sum[:0])
	return sum
}

// Size estimates the roster's memory in bytes.
func (r *Roster) Size() int {
	n := 128 + cap(r.OptedOut)
	for _, name := range r.Names {
		n += 16 + len(name)
	}
	return n
}
