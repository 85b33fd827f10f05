package bench

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/seenby/seenby/events"
)

// Workload says which events a topic is filled with: messages to groups of
// people, each read by everybody but its sender. IDs are UUIDs as text. Equal
// workloads under equal clocks are equal, record by record.
type Workload struct {
	Name     string `json:"name"`
	Messages int    `json:"messages"`
	// Groups are of Readers people and one more, any of whom may be a message's
	// sender.
	Groups  int `json:"groups"`
	Readers int `json:"readers"`
	// Alive is how many messages are being read at a time: each read is of one of
	// them, at random, and a message that all have read makes room for the next. If
	// all messages are, they are all sent first, and the reads come in any order.
	Alive int    `json:"alive"`
	Seed  uint64 `json:"seed"`
}

// presets are the workloads that have names.
var presets = []Workload{
	{Name: "large", Messages: 2_500, Groups: 1, Readers: 2_000, Alive: 50},
	{Name: "small", Messages: 600_000, Groups: 20_000, Readers: 8, Alive: 4_000},
	{Name: "trickle", Messages: 200_000, Groups: 200, Readers: 200, Alive: 200_000},
}

// ErrWorkload is wrapped by what is returned for a workload that cannot be.
var ErrWorkload = errors.New("bad workload")

// Named returns the workload of that name.
func Named(name string) (Workload, error) {
	var names []string
	for _, w := range presets {
		if w.Name == name {
			return w, nil
		}
		names = append(names, w.Name)
	}
	return Workload{}, fmt.Errorf("%w: --workload must be one of %s, not %q", ErrWorkload, strings.Join(names, ", "), name)
}

// Validate returns what is wrong with w, or nil.
func (w Workload) Validate() error {
	switch {
	case w.Messages < 1 || w.Groups < 1 || w.Readers < 1 || w.Alive < 1:
		return fmt.Errorf("%w: --messages, --groups, --readers and --alive must be 1 or more", ErrWorkload)
	case w.Readers > events.MaxRecipients:
		return fmt.Errorf("%w: --readers must be at most %d, not %d: larger groups list nobody", ErrWorkload, events.MaxRecipients, w.Readers)
	case w.Alive > w.Messages:
		return fmt.Errorf("%w: --alive must be at most --messages (%d), not %d", ErrWorkload, w.Messages, w.Alive)
	}
	return nil
}

// Receipts is how many receipts there are.
func (w Workload) Receipts() int64 { return int64(w.Messages) * int64(w.Readers) }

// Events is how many records there are: the receipts, and a MessageSent a message.
func (w Workload) Events() int64 { return w.Receipts() + int64(w.Messages) }

// maxLate is how long before it is sent a read may have happened, in
// milliseconds: clients collect them for a second.
const maxLate = 1_000

// Each hands out the events in the order in which they are to be written, until
// use returns an error, which it returns. now is the clock of the people's
// claims, in Unix milliseconds. An event is good until the next one is asked for;
// the IDs in it, for good.
func (w Workload) Each(now func() int64, use func(events.Event) error) error {
	g := &generator{Workload: w, now: now, use: use, random: rand.New(rand.NewPCG(w.Seed, 1)), groups: make(map[int]*group)}
	if w.Alive == w.Messages {
		return g.allAlive()
	}
	return g.window()
}

// generator is one run of Each.
type generator struct {
	Workload
	now    func() int64
	use    func(events.Event) error
	random *rand.Rand
	groups map[int]*group
	read   events.MessageRead // used again and again
}

// group is a conversation and its people.
type group struct {
	id     []byte
	people [][]byte
}

// message is one that is being read.
type message struct {
	id     []byte
	sent   int64
	people [][]byte
	sender int
	// order has who still has to read it, last first; only of a window's.
	order []uint16
}

// send hands the n-th message out.
func (g *generator) send(n int) (message, error) {
	to := g.group(g.random.IntN(g.Groups))
	m := message{id: uuid(g.Seed, messageIDs, uint64(n)), sent: g.now(), people: to.people, sender: g.random.IntN(len(to.people))}
	recipients := slices.Concat(to.people[:m.sender], to.people[m.sender+1:])
	return m, g.use(&events.MessageSent{MessageID: m.id, ConversationID: to.id, SenderID: to.people[m.sender], SentAt: m.sent, Recipients: recipients})
}

// group returns the n-th. It is made when it is first written to.
func (g *generator) group(n int) *group {
	if to := g.groups[n]; to != nil {
		return to
	}
	to := &group{id: uuid(g.Seed, conversationIDs, uint64(n)), people: make([][]byte, g.Readers+1)}
	for i := range to.people {
		to.people[i] = uuid(g.Seed, personIDs, uint64(n*len(to.people)+i))
	}
	g.groups[n] = to
	return to
}

// receive hands a read out: of the i-th of the people beside the sender.
func (g *generator) receive(m *message, i int) error {
	if i >= m.sender {
		i++
	}
	g.read.MessageID, g.read.ReaderID = m.id, m.people[i]
	g.read.ReadAt = max(m.sent, g.now()-int64(g.random.Uint32N(maxLate)))
	return g.use(&g.read)
}

// window keeps Alive messages being read.
func (g *generator) window() error {
	alive := make([]message, 0, g.Alive)
	for next := 0; ; {
		for len(alive) < g.Alive && next < g.Messages {
			m, err := g.send(next)
			if err != nil {
				return err
			}
			m.order = make([]uint16, g.Readers)
			for i := range m.order {
				m.order[i] = uint16(i)
			}
			g.random.Shuffle(len(m.order), func(i, j int) { m.order[i], m.order[j] = m.order[j], m.order[i] })
			alive, next = append(alive, m), next+1
		}
		if len(alive) == 0 {
			return nil
		}
		at := g.random.IntN(len(alive))
		m := &alive[at]
		last := len(m.order) - 1
		if err := g.receive(m, int(m.order[last])); err != nil {
			return err
		}
		if m.order = m.order[:last]; last == 0 {
			alive[at] = alive[len(alive)-1]
			alive = alive[:len(alive)-1]
		}
	}
}

// allAlive sends all messages, and then has them read in any order, which is
// computed instead of kept: there may be tens of millions of reads.
func (g *generator) allAlive() error {
	all := make([]message, g.Messages)
	for i := range all {
		var err error
		if all[i], err = g.send(i); err != nil {
			return err
		}
	}
	order := newPermutation(uint64(g.Receipts()), g.Seed)
	for i := range uint64(g.Receipts()) {
		at := order.at(i)
		if err := g.receive(&all[at/uint64(g.Readers)], int(at%uint64(g.Readers))); err != nil {
			return err
		}
	}
	return nil
}
