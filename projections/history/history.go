// Package history generates histories of one partition: records as a log might
// hold them, with everything in it that the rules of the fold are about, close
// together. Few messages and few people, so that events meet; times that fall on
// the rules' boundaries and a millisecond beside them; duplicates, reordering,
// recalls, erasures, strangers, garbage; few rosters for many messages, so that
// they are shared. It is for tests of the fold, of stores and of whatever serves
// them, and follows from its seed alone.
package history

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/projections"
)

// Epoch is when histories begin, in Unix milliseconds: 2026-11-23T08:00:00Z.
const Epoch = 1_795_420_800_000

// Slack is how far a history's record timestamps run back at most.
const Slack = time.Hour

// Source is where choices come from: a *rand.Rand, or what stands for it.
type Source interface {
	// IntN returns an int in [0, n).
	IntN(n int) int
}

// History is a generated partition.
type History struct {
	Lineage   projections.Lineage
	Partition int32
	// Records are in log order, with gaps in their offsets.
	Records []events.Record
}

// Spec says what kind of history to generate.
type Spec struct {
	Partition  int32
	Partitions int32
	// Records is how many.
	Records int
	// Active is how many messages are talked about at a time.
	Active int
	// People is how many there are, senders and strangers included.
	People int
	// Erasures is how many in a hundred records begin to erase somebody.
	Erasures int
	// Retention and Waiting become the lineage's.
	Retention time.Duration
	Waiting   int
	// IDs says how faithful producers are about the IDs of messages.
	IDs Faith
}

// Faith is what producers keep of the rule that IDs are never used again.
type Faith int

const (
	// UsedAgain lets an ID come again at any time.
	UsedAgain Faith = iota
	// UsedOnce has the MessageSents of an ID claim a sent_at that is at most 24
	// hours later than that of any before. It is what folding from a later
	// start relies on.
	UsedOnce
)

var errSpec = errors.New("a history needs Partition < Partitions, Active and People above 0, Retention of at least a millisecond, Erasures of 0 to 100")

func (s Spec) check() error {
	if s.Partition < 0 || s.Partition >= s.Partitions || s.Active < 1 || s.People < 1 || s.Retention < time.Millisecond || s.Records < 0 ||
		s.Erasures < 0 || s.Erasures > 100 {
		return errSpec
	}
	return nil
}

// Seeded returns the random number generator of a seed.
func Seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

// RandomSpec draws the spec of a short history.
func RandomSpec(src Source) Spec {
	s := Spec{
		Partitions: 1 + int32(src.IntN(4)),
		Records:    60 + src.IntN(140),
		Active:     1 + src.IntN(4),
		People:     2 + src.IntN(12),
		Erasures:   pick(src, 0, 2, 4, 4, 10),
		Retention:  pick(src, time.Hour, 24*time.Hour, 30*time.Hour, 72*time.Hour, 72*time.Hour),
		Waiting:    pick(src, 0, 1, 2, 3, 8, 1000, 1000, 1000),
	}
	s.Partition = int32(src.IntN(int(s.Partitions)))
	if src.IntN(8) == 0 {
		s.People = 150 // more than two words of a bitmap
	}
	return s
}

// Generate draws a history.
func Generate(src Source, spec Spec) (History, error) {
	if err := spec.check(); err != nil {
		return History{}, err
	}
	g := newGenerator(src, spec)
	for len(g.h.Records) < spec.Records {
		if err := g.step(); err != nil {
			return History{}, err
		}
	}
	return g.h, nil
}

// Crowd draws the history of one count-only message that so many people read,
// some of them twice, the sender too. Some are erased, listed or not, most of
// them once the list is full, and may read again. The last three records recall
// the message, and erase a reader and the sender.
func Crowd(src Source, readers int) (History, error) {
	g := newGenerator(src, Spec{Partitions: 1, Active: 1, People: readers + 1, Retention: 72 * time.Hour, Waiting: readers})
	sent := &events.MessageSent{MessageID: g.active[0], ConversationID: []byte("c"), SenderID: g.people[0],
		SentAt: g.latest, CountOnly: true, RecipientCount: uint32(readers)}
	early := src.IntN(20) // how many read before the message is sent
	var erased []int
	for next := 0; next <= readers; {
		if len(g.h.Records) >= early && sent != nil {
			if err := g.append(sent); err != nil {
				return History{}, err
			}
			sent = nil
		}
		if full := next > projections.MaxListedReaders; full && src.IntN(12) == 0 || src.IntN(600) == 0 {
			person := pick(src, src.IntN(next+1), max(0, next-src.IntN(300)))
			if err := g.append(&events.UserErased{UserID: g.people[person]}); err != nil {
				return History{}, err
			}
			erased = append(erased, person)
		}
		person := next
		switch n := src.IntN(60); {
		case n == 0:
			person = src.IntN(next + 1)
		case n == 1:
			person = max(0, next-src.IntN(300))
		case n == 2 && len(erased) > 0:
			person = pick(src, erased...)
		default:
			next++
		}
		g.latest += int64(src.IntN(3))
		read := &events.MessageRead{MessageID: g.active[0], ReaderID: g.people[person], ReadAt: events.Unclaimed}
		if err := g.append(read); err != nil {
			return History{}, err
		}
	}
	for _, e := range []events.Event{&events.MessageRecalled{MessageID: g.active[0]},
		&events.UserErased{UserID: g.people[1+src.IntN(readers)]}, &events.UserErased{UserID: g.people[0]}} {
		if err := g.append(e); err != nil {
			return History{}, err
		}
	}
	return g.h, nil
}

func pick[T any](src Source, from ...T) T { return from[src.IntN(len(from))] }
