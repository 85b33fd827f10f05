package projections

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"slices"
	"strings"

	"github.com/zeebo/xxh3"

	"github.com/seenby/seenby/events"
)

// Names are the participants of messages as of their sending: recipients and
// sender, sorted bytewise and distinct, each flagged if opted out. They do not say
// who the sender is, so that everybody's messages in a group have equal ones. They
// are immutable, and hold few pointers however many people there are. A person
// whose name was scrubbed has none: an empty one, that nobody is found by.
type Names struct {
	// text is all names, one after the other; ends is where each ends.
	text string
	ends []uint32
	// optedOut has a bit a person; nil: nobody.
	optedOut      []uint64
	optedOutCount int
	// slots is a hash table with linear probing: 16 bits of a name's hash, and its
	// number + 1, each; nil where a binary search is as good.
	slots []uint32
	// hash is that of the content as of sending.
	hash RosterHash
}

// RosterHash is SHA-256 over a roster's content; equal rosters have equal hashes.
type RosterHash [sha256.Size]byte

// fewNames are as fast to search as to hash.
const fewNames = 16

// NewNames returns the participants of e, which must not be count-only.
func NewNames(e *events.MessageSent) *Names {
	names := make([][]byte, 0, len(e.Recipients)+1)
	names = append(append(names, e.SenderID), e.Recipients...)
	slices.SortFunc(names, compareBytes)
	names = slices.CompactFunc(names, func(a, b []byte) bool { return string(a) == string(b) })
	n := joinNames(names)
	n.index()
	for _, id := range e.OptedOut {
		if number, found := n.Number(id); found {
			n.optOut(number)
		}
	}
	n.hash = n.contentHash()
	return n
}

// RestoreNames returns what Name, OptedOut and Hash told of other Names; sorted,
// but for names that were scrubbed.
func RestoreNames(names []string, optedOut func(number uint32) bool, hash RosterHash, scrubbed bool) *Names {
	n := joinNames(names)
	n.hash = hash
	for i := range uint32(len(names)) {
		if optedOut(i) {
			n.optOut(i)
		}
	}
	n.index()
	if !scrubbed {
		n.hash = n.contentHash()
	}
	return n
}

// joinNames returns Names with their text, and nothing else yet.
func joinNames[T ~string | ~[]byte](names []T) *Names {
	size := 0
	for _, name := range names {
		size += len(name)
	}
	var text strings.Builder
	text.Grow(size)
	ends := make([]uint32, len(names))
	for i, name := range names {
		text.Write([]byte(name))
		ends[i] = uint32(text.Len())
	}
	return &Names{text: text.String(), ends: ends}
}

func compareBytes(a, b []byte) int {
	switch {
	case string(a) < string(b):
		return -1
	case string(a) > string(b):
		return 1
	}
	return 0
}

// index makes the hash table: at most half full. Scrubbed names are not in it, and
// make the order useless, so that a roster that has some is always hashed.
func (n *Names) index() {
	if len(n.ends) <= fewNames && !n.scrubbed() {
		return
	}
	n.slots = make([]uint32, 1<<bits.Len(uint(2*len(n.ends)-1)))
	for i := range n.ends {
		name := n.Name(uint32(i))
		if name == "" {
			continue
		}
		slot := xxh3.HashString(name)
		tag := uint32(slot>>48) << 16
		for n.slots[slot&n.mask()] != 0 {
			slot++
		}
		n.slots[slot&n.mask()] = tag | uint32(i+1)
	}
}

func (n *Names) scrubbed() bool {
	before := uint32(0)
	for _, end := range n.ends {
		if end == before {
			return true
		}
		before = end
	}
	return false
}

func (n *Names) mask() uint64 { return uint64(len(n.slots) - 1) }

func (n *Names) optOut(number uint32) {
	if n.optedOut == nil {
		n.optedOut = make([]uint64, words(len(n.ends)))
	}
	word, bit := &n.optedOut[number/64], uint64(1)<<(number%64)
	if *word&bit == 0 {
		*word |= bit
		n.optedOutCount++
	}
}

func words(bits int) int { return (bits + 63) / 64 }

// Len is how many people there are.
func (n *Names) Len() int { return len(n.ends) }

// TextLen is the length of all names together.
func (n *Names) TextLen() int { return len(n.text) }

// Name is the ID of the person with this number.
func (n *Names) Name(number uint32) string {
	from := uint32(0)
	if number > 0 {
		from = n.ends[number-1]
	}
	return n.text[from:n.ends[number]]
}

// OptedOut says whether the person's reads do not count.
func (n *Names) OptedOut(number uint32) bool {
	return n.optedOut != nil && n.optedOut[number/64]>>(number%64)&1 == 1
}

// Number finds a person. It allocates nothing.
func (n *Names) Number(id []byte) (number uint32, found bool) {
	if n.slots == nil {
		return n.search(id)
	}
	if len(id) == 0 {
		return 0, false
	}
	slot := xxh3.Hash(id)
	tag := uint32(slot >> 48)
	for ; ; slot++ {
		at := n.slots[slot&n.mask()]
		if at == 0 {
			return 0, false
		}
		if number := at&0xffff - 1; at>>16 == tag && n.Name(number) == string(id) {
			return number, true
		}
	}
}

func (n *Names) search(id []byte) (number uint32, found bool) {
	from, to := 0, len(n.ends)
	for from < to {
		middle := int(uint(from+to) / 2)
		if n.Name(uint32(middle)) < string(id) {
			from = middle + 1
		} else {
			to = middle
		}
	}
	return uint32(from), from < len(n.ends) && n.Name(uint32(from)) == string(id)
}

// Hash is over each name's length, bytes and flag, in order, as of sending: a name
// that was scrubbed since is still in it.
func (n *Names) Hash() RosterHash { return n.hash }

func (n *Names) contentHash() (sum RosterHash) {
	h := sha256.New()
	b := make([]byte, 0, 4096)
	for i := range uint32(len(n.ends)) {
		name := n.Name(i)
		b = binary.AppendUvarint(b, uint64(len(name)))
		b = append(b, name...)
		if n.OptedOut(i) {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
		if len(b) > cap(b)-events.MaxIDLen-16 {
			h.Write(b)
			b = b[:0]
		}
	}
	h.Write(b)
	h.Sum(sum[:0])
	return sum
}

// match is [Matcher.Match]; seen is scratch
// space of words(Len()) or more zero words, which are zero again afterwards.
func (n *Names) match(e *events.MessageSent, seen []uint64) bool {
	met := 0
	meet := func(id []byte) bool {
		number, found := n.Number(id)
		if found && seen[number/64]>>(number%64)&1 == 0 {
			seen[number/64] |= 1 << (number % 64)
			met++
		}
		return found
	}
	matches := meet(e.SenderID)
	for i := 0; matches && i < len(e.Recipients); i++ {
		matches = meet(e.Recipients[i])
	}
	matches = matches && met == len(n.ends)
	clear(seen[:words(len(n.ends))])
	if !matches {
		return false
	}
	out := 0
	for _, id := range e.OptedOut {
		number, found := n.Number(id)
		if !found {
			continue
		}
		if !n.OptedOut(number) {
			out = -1
			break
		}
		if seen[number/64]>>(number%64)&1 == 0 {
			seen[number/64] |= 1 << (number % 64)
			out++
		}
	}
	clear(seen[:words(len(n.ends))])
	return out == n.optedOutCount
}

// Matcher tells whether events have the participants that some Names hold: a
// group's messages come with the same people again and again. One goroutine at a
// time may use it.
type Matcher struct {
	seen []uint64
}

// Match says whether NewNames(e) would equal n, without making them.
func (m *Matcher) Match(n *Names, e *events.MessageSent) bool {
	if e.CountOnly || len(e.Recipients)+1 < len(n.ends) {
		return false
	}
	if need := words(len(n.ends)); len(m.seen) < need {
		m.seen = make([]uint64, need)
	}
	return n.match(e, m.seen)
}

// Equal compares names and flags.
func (n *Names) Equal(other *Names) bool {
	return n.hash == other.hash && n.text == other.text && slices.Equal(n.ends, other.ends)
}

// Size estimates the memory in bytes.
func (n *Names) Size() int {
	return 160 + len(n.text) + 4*cap(n.ends) + 4*cap(n.slots) + 8*cap(n.optedOut)
}
