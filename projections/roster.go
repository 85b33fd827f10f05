package projections

import (
	"encoding/binary"
	"slices"
)

// Roster is the participants of messages of one partition, less those who were
// erased since. All messages of the partition that were sent to the same people
// share it, but a message never shares one that somebody was taken out of before.
// The keeper of messages guards it together with them.
type Roster struct {
	Names *Names
	// Ref names the roster in its partition; messages are stored with it.
	Ref RosterRef
	// settled is how far the partition's erasures were looked through for people
	// of this roster: the Next of the last one. gone are those found; what it
	// points to never changes.
	settled int64
	gone    *Gone
}

// RosterRef is a roster's name within its partition: the first 8 bytes of its
// content's hash, or, where a roster of that name is another or has lost somebody,
// the first 8 bytes of the SHA-256 over that ref, and so on.
type RosterRef uint64

// Ref is the first name that a roster of this content may have.
func (h RosterHash) Ref() RosterRef { return RosterRef(binary.BigEndian.Uint64(h[:])) }

// Next is the name to use where this one is taken.
func (r RosterRef) Next() RosterRef {
	return RosterHash(sha256Of(binary.BigEndian.AppendUint64(nil, uint64(r)))).Ref()
}

// Gone are the people that erasures took out of a roster. It is immutable.
type Gone struct {
	// People are ascending by number.
	People []GonePerson
	// Last is the version that the last of the erasures gave to the roster's
	// messages: its offset + 1.
	Last int64
}

// GonePerson is one of them.
type GonePerson struct {
	Number uint32
	// Next is the erasure's offset + 1.
	Next int64
}

// RestoreRoster returns a roster as Gone and Settled told it.
func RestoreRoster(names *Names, ref RosterRef, settled int64, people []GonePerson) *Roster {
	r := &Roster{Names: names, Ref: ref, settled: settled}
	if len(people) > 0 {
		g := &Gone{People: people}
		for _, p := range people {
			g.Last = max(g.Last, p.Next)
		}
		r.gone = g
	}
	return r
}

// Gone is who was taken out, or nil.
func (r *Roster) Gone() *Gone { return r.gone }

// Settled is up to which erasure (its offset + 1) the roster is settled.
func (r *Roster) Settled() int64 { return r.settled }

// has says whether the person was taken out.
func (g *Gone) has(number uint32) bool {
	if g == nil {
		return false
	}
	_, found := slices.BinarySearchFunc(g.People, number, func(p GonePerson, n uint32) int { return int(p.Number) - int(n) })
	return found
}

func (g *Gone) last() int64 {
	if g == nil {
		return 0
	}
	return g.Last
}

// find returns the number of somebody who was not taken out.
func (r *Roster) find(id []byte) (number uint32, found bool) {
	number, found = r.Names.Number(id)
	return number, found && !r.gone.has(number)
}

// settle takes those out whom erasures name that came since the last call.
// It reports whether there were any.
func (r *Roster) settle(erasures []Erasure, last int64) (found bool) {
	for _, e := range erasures {
		if e.Next() <= r.settled {
			continue
		}
		if number, in := r.find([]byte(e.UserID)); in {
			r.gone = r.gone.with(GonePerson{number, e.Next()})
			found = true
		}
	}
	r.settled = max(r.settled, last)
	return found
}

func (g *Gone) with(p GonePerson) *Gone {
	if g == nil {
		return &Gone{People: []GonePerson{p}, Last: p.Next}
	}
	people := append(slices.Clone(g.People), p)
	slices.SortFunc(people, func(a, b GonePerson) int { return int(a.Number) - int(b.Number) })
	return &Gone{People: people, Last: max(g.Last, p.Next)}
}

// Size estimates the memory in bytes, without the names.
func (r *Roster) Size() int {
	n := 64
	if r.gone != nil {
		n += 40 + 16*cap(r.gone.People)
	}
	return n
}
