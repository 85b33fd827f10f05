package layouts_test

import (
	"bytes"
	"encoding/hex"
	"hash/fnv"
	"math/rand/v2"
	"slices"
)

// workload is receipts in the order in which they come. Everything about it
// follows from its seed.
type workload struct {
	name string
	// messages are sent to groups in turn, each of so many members and the sender,
	// who all read; people are those that the groups are drawn from.
	messages, groups, members, people int
	// alive is how many messages are being read at once.
	alive int
	// step is the mean time in ms between receipts.
	step int
	// flush is how many receipts of a partition make a flush.
	flush int
}

const partitions = 8

// The workloads, scaled down so that what decides the figures stays: how
// many receipts a message gets between two flushes, and how many messages of a
// partition share a roster.
var workloads = []workload{
	{name: "large-rebuild", messages: 250, groups: 1, members: 2000, people: 2001, alive: 50, step: 3, flush: 4000},
	{name: "large-live", messages: 100, groups: 1, members: 2000, people: 2001, alive: 50, step: 3, flush: 200},
	{name: "small", messages: 60_000, groups: 16_000, members: 8, people: 100_000, alive: 1000, step: 1, flush: 2000},
	{name: "trickle", messages: 4000, groups: 32, members: 200, people: 4000, alive: 4000, step: 1, flush: 2500},
}

// userID is a UUID; its text has 36 bytes.
type userID [16]byte

func (id userID) text() string {
	var b [36]byte
	hex.Encode(b[:8], id[:4])
	hex.Encode(b[9:13], id[4:6])
	hex.Encode(b[14:18], id[6:8])
	hex.Encode(b[19:23], id[8:10])
	hex.Encode(b[24:], id[10:])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:])
}

// receipt is what a pull has to give back of one.
type receipt struct {
	person         uint32 // in the roster
	offset, readAt int64
}

// message is a message, what is new of it, and what a form keeps of it.
type message struct {
	id, conversation userID
	partition        int
	group            int
	sender           uint32
	sent, sentAt     int64 // offset and time of the sending
	born             bool  // sent in the log
	stored           bool
	added            []receipt // since the last flush
	state            state
}

// event is one record of a partition's log: a sending if person is the sender.
type event struct {
	message int
	receipt
}

// history is a workload spelled out.
type history struct {
	workload
	rosters  [][]userID // by group, sorted
	sent     []message
	events   []event
	receipts int
}

func (w workload) generate() *history {
	rng := rand.New(rand.NewPCG(4, uint64(w.messages)))
	newID := func() (id userID) {
		for i := range id {
			id[i] = byte(rng.Uint32())
		}
		id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
		return id
	}
	people := make([]userID, w.people)
	for i := range people {
		people[i] = newID()
	}
	h := &history{workload: w, receipts: w.messages * w.members}
	conversations := make([]userID, w.groups)
	for g := range w.groups {
		conversations[g] = newID()
		chosen := map[userID]bool{}
		var roster []userID
		for len(roster) <= w.members {
			if id := people[rng.IntN(len(people))]; !chosen[id] {
				chosen[id] = true
				roster = append(roster, id)
			}
		}
		slices.SortFunc(roster, func(a, b userID) int { return bytes.Compare(a[:], b[:]) })
		h.rosters = append(h.rosters, roster)
	}
	const start = 1_760_000_000_000
	now := int64(start)
	var offsets [partitions]int64
	record := func(i int, person uint32, readAt int64) {
		p := h.sent[i].partition
		h.events = append(h.events, event{i, receipt{person, offsets[p], readAt}})
		offsets[p]++
	}
	unread := make([][]uint32, w.messages)
	var alive []int
	send := func() {
		i := len(h.sent)
		g := i % w.groups
		m := message{
			id: newID(), conversation: conversations[g], group: g, partition: rng.IntN(partitions),
			sender: uint32(rng.IntN(w.members + 1)), sentAt: now,
		}
		m.sent = offsets[m.partition]
		for _, person := range rng.Perm(w.members + 1) {
			if uint32(person) != m.sender {
				unread[i] = append(unread[i], uint32(person))
			}
		}
		h.sent = append(h.sent, m)
		record(i, m.sender, now)
		alive = append(alive, i)
	}
	for len(alive) > 0 || len(h.sent) < w.messages {
		if len(alive) < w.alive && len(h.sent) < w.messages {
			send()
			continue
		}
		k := rng.IntN(len(alive))
		i := alive[k]
		now += int64(rng.IntN(2*w.step + 1))
		// A client collects for a moment, and is offline for another.
		record(i, unread[i][0], max(h.sent[i].sentAt, now-int64(rng.IntN(3000))))
		if unread[i] = unread[i][1:]; len(unread[i]) == 0 {
			alive[k] = alive[len(alive)-1]
			alive = alive[:len(alive)-1]
		}
	}
	return h
}

// begin returns the messages as they are before the first event.
func (h *history) begin() []message { return slices.Clone(h.sent) }

// answer is a message's reader set as it was generated.
func (h *history) answer(i int) uint64 {
	var all []receipt
	for _, e := range h.events {
		if e.message == i && e.person != h.sent[i].sender {
			all = append(all, e.receipt)
		}
	}
	names := make([]string, len(h.rosters[h.sent[i].group]))
	for n, id := range h.rosters[h.sent[i].group] {
		names[n] = id.text()
	}
	return digest(all, names)
}

// digest is of what a pull would show, in its order.
func digest(all []receipt, names []string) uint64 {
	f := fnv.New64a()
	var b []byte
	for _, r := range all {
		b = append(appendNumber(appendNumber(b[:0], r.offset), r.readAt), names[r.person]...)
		f.Write(b)
	}
	return f.Sum64()
}
