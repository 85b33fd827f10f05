package suite

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// workload is what clients will send, made so that what pulls must answer in the
// end is known whatever order it takes effect in:
//
//   - a message has one roster, however often it is put;
//   - all receipts of one reader for one message claim the same time, or none;
//   - a recall is final, before or after everything else.
//
// Nothing here knows how seenby comes to its answers.
type workload struct {
	messages []*message
	ops      []*op
	receipts int
}

// message is one message, and everything that is sent about it.
type message struct {
	id, conversation, sender string
	sentAt                   time.Time
	recipients, optedOut     []string
	// count is the recipient_count of a message without a list.
	count  *int
	recall bool
	// reads are by reader.
	reads map[string]*read

	// Of the message's PUT.
	put attempts
}

// read is what one person claims about one message.
type read struct {
	reader string
	// counts says whether it is a receipt that shows.
	counts bool
	// claimed is sent along if it is set.
	claimed string
	// exact is what read_at must be; where it is empty, it must be within the
	// attempts.
	exact string

	attempts
}

// op is one request of the workload, and what it says.
type op struct {
	request request
	put     *message
	reads   []*read
}

// shape says how large a workload is.
type shape struct {
	messages, receipts int
	people, group      int
	// crowd is how many readers one count-only message gets beyond the others.
	crowd int
}

// event is something that is to be sent at about this point of the load, from 0
// to 1.
type event struct {
	at      float64
	message *message
	read    *read // nil: the PUT, or the recall
	recall  bool
}

const clockForm = "2006-01-02T15:04:05.000Z"

func newWorkload(rng *rand.Rand, s shape, now time.Time) *workload {
	w := new(workload)
	var events []event
	for i := range s.messages {
		m := newMessage(rng, s, i, now)
		receipts, put := s.receipts/s.messages, putAt(rng)
		if i == 0 {
			// One message that everybody reads: its receipts are often neighbours in
			// the log.
			m.recipients, m.optedOut, m.count, m.recall = everybody(s.people, m.sender), nil, nil, false
			receipts, put = s.receipts/10, rng.Float64()*early
		}
		w.messages = append(w.messages, m)
		events = append(events, m.schedule(rng, receipts, put, now)...)
	}
	if s.crowd > 0 {
		events = append(events, w.crowd(rng, s.crowd, now)...)
	}
	slices.SortFunc(events, func(a, b event) int { return cmp.Compare(a.at, b.at) })
	w.cut(rng, events)
	return w
}

func person(n int) string {
	// Some names are hard on paths, JSON and sorting.
	switch n % 10 {
	case 7:
		return fmt.Sprintf("zoë %d/%%2F\"", n)
	case 8:
		return fmt.Sprintf("人%d", n)
	}
	return fmt.Sprintf("person-%d", n)
}

func everybody(people int, but string) (names []string) {
	for n := range people {
		if name := person(n); name != but {
			names = append(names, name)
		}
	}
	return names
}

func newMessage(rng *rand.Rand, s shape, i int, now time.Time) *message {
	groups := s.people / s.group
	group := rng.IntN(groups)
	members := make([]string, s.group)
	for j := range members {
		members[j] = person(group*s.group + j)
	}
	rng.Shuffle(len(members), func(a, b int) { members[a], members[b] = members[b], members[a] })
	id := fmt.Sprintf("message %d", i)
	if i%17 == 0 {
		id = fmt.Sprintf("мес/%d?#%%", i)
	}
	m := &message{
		id: id, conversation: fmt.Sprintf("group-%d", group), sender: members[0], recipients: members[1:],
		sentAt: now.Add(-time.Hour - time.Duration(rng.IntN(1_000_000))*time.Millisecond).UTC().Truncate(time.Millisecond),
		reads:  make(map[string]*read),
	}
	switch chance := rng.IntN(100); {
	case chance < 10:
		m.optedOut = slices.Clone(m.recipients[:1+rng.IntN(len(m.recipients)/4)])
	case chance < 20:
		count := len(m.recipients)
		m.count, m.recipients = &count, nil
	case chance < 30:
		m.recall = true
	}
	return m
}

// early is until when a large message is put. Only so many receipts may wait in a
// partition; beyond that the contract promises nothing.
const early = 0.3

func putAt(rng *rand.Rand) float64 {
	if rng.IntN(5) == 0 {
		return 0.5 + rng.Float64()*0.5 // Most of its receipts come first.
	}
	return rng.Float64() * 0.5
}

// schedule decides who reads the message, and when everything about it is sent.
func (m *message) schedule(rng *rand.Rand, receipts int, put float64, now time.Time) []event {
	events := []event{{at: put, message: m}}
	if rng.IntN(10) == 0 {
		events = append(events, event{at: rng.Float64(), message: m}) // Put twice.
	}
	if m.recall {
		events = append(events, event{at: rng.Float64(), message: m, recall: true})
	}
	members := m.recipients
	if m.count != nil {
		members = nil
		for j := range *m.count {
			members = append(members, person(j))
		}
	}
	for range receipts {
		reader := members[rng.IntN(len(members))]
		switch chance := rng.IntN(100); {
		case chance < 3:
			reader = fmt.Sprintf("stranger-%d", rng.IntN(50))
		case chance < 4:
			reader = m.sender
		case chance < 6 && len(m.optedOut) > 0:
			reader = m.optedOut[rng.IntN(len(m.optedOut))]
		}
		r := m.reads[reader]
		if r == nil {
			r = m.newRead(rng, reader, now)
		}
		events = append(events, event{at: max(0, put-0.1) + rng.Float64()*(1-max(0, put-0.1)), message: m, read: r})
		if put > 0.5 {
			events[len(events)-1].at = rng.Float64()
		}
	}
	return events
}

func (m *message) newRead(rng *rand.Rand, reader string, now time.Time) *read {
	r := &read{reader: reader, counts: m.counts(reader)}
	switch rng.IntN(4) {
	case 0: // As it was.
		at := m.sentAt.Add(time.Duration(rng.IntN(50*60_000)) * time.Millisecond)
		r.claimed, r.exact = at.In(time.FixedZone("", 3600*(rng.IntN(24)-12))).Format(time.RFC3339Nano), at.Format(clockForm)
	case 1: // Before the message was sent.
		r.claimed = m.sentAt.Add(-time.Duration(rng.IntN(1_000_000)) * time.Millisecond).Format(time.RFC3339Nano)
		r.exact = m.sentAt.Format(clockForm)
	case 2: // In the future.
		r.claimed = now.Add(24 * time.Hour).Format(time.RFC3339)
	}
	m.reads[reader] = r
	return r
}

// counts says whether someone's receipt shows, as the contract has it.
func (m *message) counts(reader string) bool {
	if m.count != nil {
		return reader != m.sender
	}
	return slices.Contains(m.recipients, reader) && !slices.Contains(m.optedOut, reader)
}

// crowd adds a message of more readers than are listed.
func (w *workload) crowd(rng *rand.Rand, readers int, now time.Time) []event {
	m := &message{
		id: "crowd", conversation: "everybody", sender: "host", count: &readers,
		sentAt: now.Add(-time.Hour).UTC().Truncate(time.Millisecond), reads: make(map[string]*read),
	}
	w.messages = append(w.messages, m)
	events := []event{{at: rng.Float64() * early, message: m}}
	for i := range readers {
		events = append(events, event{at: rng.Float64(), message: m, read: m.newRead(rng, fmt.Sprintf("guest-%d", i), now)})
	}
	return events
}

// cut makes requests of the events: the backend's in batches of all sizes, and
// those of every tenth reader under their own tokens.
func (w *workload) cut(rng *rand.Rand, events []event) {
	var batch []event
	size := 1
	own := make(map[string][]event)
	flush := func(who caller, of []event) {
		if len(of) > 0 {
			w.ops = append(w.ops, receiptsOp(who, of))
		}
	}
	for _, e := range events {
		switch {
		case e.recall:
			w.ops = append(w.ops, &op{request: recallMessage(e.message.id)})
			continue
		case e.read == nil:
			w.ops = append(w.ops, &op{request: e.message.putRequest(), put: e.message})
			continue
		}
		w.receipts++
		if reader := e.read.reader; reader[len(reader)-1] == '5' {
			own[reader] = append(own[reader], e)
			if rng.IntN(4) == 0 {
				flush(caller(reader), own[reader])
				delete(own, reader)
			}
			continue
		}
		if batch = append(batch, e); len(batch) >= size {
			flush(backend, batch)
			batch, size = nil, 1+rng.IntN([]int{20, 200, 500}[rng.IntN(3)])
		}
	}
	flush(backend, batch)
	readers := make([]string, 0, len(own))
	for reader := range own {
		readers = append(readers, reader)
	}
	slices.Sort(readers) // So that a seed means one load.
	for _, reader := range readers {
		flush(caller(reader), own[reader])
	}
}

func (m *message) putRequest() request {
	return request{method: "PUT", path: messagePath(m.id), who: backend, body: putBody{
		Conversation: m.conversation, Sender: m.sender, SentAt: m.sentAt.Format(clockForm),
		Recipients: m.recipients, OptedOut: m.optedOut, Count: m.count,
	}}
}

func receiptsOp(who caller, events []event) *op {
	o := new(op)
	var items []receiptBody
	for _, e := range events {
		item := receiptBody{Message: e.message.id, ReadAt: e.read.claimed, Reader: e.read.reader}
		if who != backend {
			item.Reader = ""
		}
		items = append(items, item)
		o.reads = append(o.reads, e.read)
	}
	o.request = postReceipts(who, items...)
	return o
}
