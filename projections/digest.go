package projections

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math/bits"
	"slices"

	"github.com/zeebo/xxh3"
)

// Digest is a 128-bit sum, over parts of a partition's state, that does not depend
// on the order in which they were added. Equal states have equal digests; states
// that differ by a mistake have different ones but for chance (2^-128). It is no
// protection against somebody who makes states up.
//
// A part is hashed by XXH3-128 ([xxh3]), over
//
//	birth     'b' | ID | 0 | conversation | 0 | sent_at | offset + 1 | sender | roster's hash, or the number given
//	receipt   person, or their hash | read_at | offset           seeded by XXH3-64 of the ID, xor 'r'
//	recall    'x' | ID | 0 | offset + 1
//	erasure   'e' | person | 0 | offset
//
// with numbers in 8 bytes, little-endian. The parts of a message are added in the
// hour of its sent_at, an erasure in that of its record's timestamp; so what
// expires does not have to be taken out part by part.
type Digest struct{ Hi, Lo uint64 }

// HourDigest is the digest of what belongs to one hour.
type HourDigest struct {
	Hour   int64
	Digest Digest
	// Forgotten is what of it comes from erasures that were forgotten since
	// ([Fold.Forget]), those up to the Next ForgottenTo; so that it can still be told
	// from what is stored. It is zero in what [Fold.Digests] returns: copies forget
	// when they are done.
	Forgotten   Digest
	ForgottenTo int64
}

// String is the digest in hexadecimal.
func (d Digest) String() string {
	b := d.Bytes()
	return hex.EncodeToString(b[:])
}

// Bytes is the digest, big-endian.
func (d Digest) Bytes() (b [16]byte) {
	binary.BigEndian.PutUint64(b[:], d.Hi)
	binary.BigEndian.PutUint64(b[8:], d.Lo)
	return b
}

// DigestOf is the reverse of Bytes.
func DigestOf(b [16]byte) Digest {
	return Digest{binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])}
}

// Add returns the sum of two digests.
func (d Digest) Add(other Digest) Digest {
	lo, carry := bits.Add64(d.Lo, other.Lo, 0)
	hi, _ := bits.Add64(d.Hi, other.Hi, carry)
	return Digest{hi, lo}
}

// Sub is the reverse of Add.
func (d Digest) Sub(other Digest) Digest {
	lo, borrow := bits.Sub64(d.Lo, other.Lo, 0)
	hi, _ := bits.Sub64(d.Hi, other.Hi, borrow)
	return Digest{hi, lo}
}

func digestOf(b []byte) Digest {
	h := xxh3.Hash128(b)
	return Digest{h.Hi, h.Lo}
}

// seed is what the message's receipts are seeded with, worked out once.
func (m *Message) seed() uint64 {
	if m.receiptSeed == 0 {
		m.receiptSeed = receiptSeed(m.ID)
	}
	return m.receiptSeed
}

// receiptSeed is what a message's receipts are seeded with.
func receiptSeed(id string) uint64 {
	return xxh3.HashString(id) ^ 'r'
}

// rosterReceipt is the digest of a receipt of a person of a roster.
func rosterReceipt(seed uint64, r Receipt) Digest {
	var b [24]byte
	binary.LittleEndian.PutUint64(b[:], uint64(r.Person))
	binary.LittleEndian.PutUint64(b[8:], uint64(r.ReadAt))
	binary.LittleEndian.PutUint64(b[16:], uint64(r.Offset))
	h := xxh3.Hash128Seed(b[:], seed)
	return Digest{h.Hi, h.Lo}
}

// crowdReceipt is the digest of a receipt in a count-only message.
func crowdReceipt(seed uint64, reader ReaderHash, r Receipt) Digest {
	var b [32]byte
	copy(b[:], reader[:])
	binary.LittleEndian.PutUint64(b[16:], uint64(r.ReadAt))
	binary.LittleEndian.PutUint64(b[24:], uint64(r.Offset))
	h := xxh3.Hash128Seed(b[:], seed)
	return Digest{h.Hi, h.Lo}
}

// birth is the digest of all that a message has from its sending on.
func (m *Message) birth() Digest {
	b := make([]byte, 0, 512)
	b = append(append(append(b, 'b'), m.ID...), 0)
	b = append(append(b, m.ConversationID...), 0)
	b = binary.LittleEndian.AppendUint64(b, uint64(m.SentAt))
	b = binary.LittleEndian.AppendUint64(b, uint64(m.Sent))
	if m.Roster != nil {
		b = binary.LittleEndian.AppendUint64(b, uint64(m.Sender))
		hash := m.Roster.Names.Hash()
		return digestOf(append(b, hash[:]...))
	}
	b = append(append(b, m.Crowd.Sender...), 0)
	return digestOf(binary.LittleEndian.AppendUint64(b, uint64(m.Crowd.Given)))
}

func (m *Message) recall() Digest {
	b := append(append(append(make([]byte, 0, 256), 'x'), m.ID...), 0)
	return digestOf(binary.LittleEndian.AppendUint64(b, uint64(m.Changed)))
}

// Digest is the digest of the erasure.
func (e Erasure) Digest() Digest {
	b := append(append(append(make([]byte, 0, 256), 'e'), e.UserID...), 0)
	return digestOf(binary.LittleEndian.AppendUint64(b, uint64(e.Offset)))
}

// Digest works out anew, from the receipts, what the message adds to its hour.
func (m *Message) Digest() Digest {
	d := m.birth()
	if m.Crowd != nil {
		d = d.Add(m.Crowd.Lost)
	}
	if m.Recalled {
		return d.Add(m.recall())
	}
	return d.Add(m.sum)
}

// digests are a partition's, by hour.
type digests struct {
	byHour  map[int64]*hourDigest
	changed []*hourDigest
	last    *hourDigest
}

type hourDigest struct {
	HourDigest
	changed bool
}

func restoreDigests(hours []HourDigest) digests {
	d := digests{byHour: make(map[int64]*hourDigest, len(hours))}
	for _, h := range hours {
		d.byHour[h.Hour] = &hourDigest{HourDigest: h}
	}
	return d
}

func (d *digests) of(hour int64) *hourDigest {
	h := d.last
	if h == nil || h.Hour != hour {
		if h = d.byHour[hour]; h == nil {
			h = &hourDigest{HourDigest: HourDigest{Hour: hour}}
			d.byHour[hour] = h
		}
		d.last = h
	}
	if !h.changed {
		h.changed = true
		d.changed = append(d.changed, h)
	}
	return h
}

func (d *digests) add(hour int64, part Digest) {
	h := d.of(hour)
	h.Digest = h.Digest.Add(part)
}

func (d *digests) sub(hour int64, part Digest) {
	h := d.of(hour)
	h.Digest = h.Digest.Sub(part)
}

// forget keeps the digest of an erasure that is about to be forgotten, unless its
// hour is over and done with.
func (d *digests) forget(e Erasure) {
	if h := d.byHour[Hour(e.Timestamp)]; h == nil || e.Next() <= h.ForgottenTo {
		return
	}
	h := d.of(Hour(e.Timestamp))
	h.Forgotten, h.ForgottenTo = h.Forgotten.Add(e.Digest()), e.Next()
}

// Digests are those of all hours, in their order.
func (f *Fold) Digests() []HourDigest {
	all := make([]HourDigest, 0, len(f.digests.byHour))
	for _, h := range f.digests.byHour {
		all = append(all, HourDigest{Hour: h.Hour, Digest: h.Digest})
	}
	slices.SortFunc(all, func(a, b HourDigest) int { return int(a.Hour - b.Hour) })
	return all
}

// ChangedDigests is how many hours TakeDigests would return.
func (f *Fold) ChangedDigests() int { return len(f.digests.changed) }

// TakeDigests returns the digests that changed since it was last called.
func (f *Fold) TakeDigests() []HourDigest {
	taken := make([]HourDigest, len(f.digests.changed))
	for i, h := range f.digests.changed {
		taken[i], h.changed = h.HourDigest, false
	}
	f.digests.changed = f.digests.changed[:0]
	return taken
}

// DropDigests drops those of the hours that were over at a time in Unix
// milliseconds. Nothing may have changed since TakeDigests.
func (f *Fold) DropDigests(at int64) {
	for hour := range f.digests.byHour {
		if HourEnded(hour, at) {
			delete(f.digests.byHour, hour)
		}
	}
	f.digests.last = nil
}

// Hour is the hour that a time in Unix milliseconds lies in, counted from the Unix
// epoch. Messages are digested, and expire, by the hour of their sent_at.
func Hour(at int64) int64 {
	hour := at / hourMillis
	if at%hourMillis < 0 {
		hour--
	}
	return hour
}

// HourEnded says whether an hour was over at a time in Unix milliseconds.
func HourEnded(hour, at int64) bool { return hour < Hour(at) }

const hourMillis = 3_600_000

func sha256Of(b []byte) [sha256.Size]byte { return sha256.Sum256(b) }
