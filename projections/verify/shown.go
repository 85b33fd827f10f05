package verify

import (
	"encoding/binary"

	"github.com/zeebo/xxh3"

	"github.com/seenby/seenby/projections"
)

// namesDigest is that of a roster's participants as anybody is shown them: a name
// that was scrubbed, and one that only was erased, are alike.
func namesDigest(r *projections.Roster) projections.Digest {
	hash := r.Names.Hash()
	b := append(make([]byte, 0, 64+r.Names.TextLen()+3*r.Names.Len()), hash[:]...)
	gone := r.Gone()
	next := 0
	for i := range uint32(r.Names.Len()) {
		name := r.Names.Name(i)
		if gone != nil && next < len(gone.People) && gone.People[next].Number == i {
			b = binary.AppendUvarint(append(b, 0), uint64(gone.People[next].Next))
			next++
			continue
		}
		b = append(append(b, name...), 1)
		if r.Names.OptedOut(i) {
			b = append(b, 2)
		}
	}
	return digestOf(b)
}

// shownDigest is that of what a pull can show of a message, beside its receipts.
func shownDigest(m *projections.Message, names projections.Digest) projections.Digest {
	sender, known := m.SenderID()
	b := append(append(make([]byte, 0, 256), m.ID...), 0)
	b = append(append(b, sender...), 0)
	of := names.Bytes()
	b = append(b, of[:]...)
	for _, n := range []int64{m.Version(), m.TakenAway(), int64(m.ReadCount()), int64(m.RecipientCount()), int64(m.OptedOutCount()),
		number(known), number(m.Recalled), number(m.Truncated())} {
		b = binary.LittleEndian.AppendUint64(b, uint64(n))
	}
	return digestOf(b)
}

func number(is bool) int64 {
	if is {
		return 1
	}
	return 0
}

func digestOf(b []byte) projections.Digest {
	h := xxh3.Hash128(b)
	return projections.Digest{Hi: h.Hi, Lo: h.Lo}
}
