package projections_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/history"
)

// longID pads an ID to the longest there may be, which no buffer on the stack is
// made for.
func longID(kind string, i int) string {
	s := fmt.Sprintf("%s-%d-", kind, i)
	return s + strings.Repeat("x", events.MaxIDLen-len(s))
}

func encode(t testing.TB, e events.Event) []byte {
	t.Helper()
	b, err := events.AppendEncode(nil, e)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// onePartition is the lineage of a topic of one partition.
func onePartition(waiting int) history.History {
	return history.History{Lineage: projections.Lineage{Partitions: 1, Retention: 72 * time.Hour,
		Limits: projections.Limits{Waiting: waiting}}}
}

// groups are messages to and receipts of 5,000 people, who are listed in one and
// a number in the other.
var groups = map[string]func(people [][]byte) *events.MessageSent{
	"listed": func(people [][]byte) *events.MessageSent { return &events.MessageSent{Recipients: people} },
	"count only": func(people [][]byte) *events.MessageSent {
		return &events.MessageSent{CountOnly: true, RecipientCount: uint32(len(people))}
	},
}

// crowdOf returns a partition in which a message was sent, and a receipt of it
// by each of its recipients.
func crowdOf(t testing.TB, group func([][]byte) *events.MessageSent) (*partition, []events.Record) {
	t.Helper()
	people := make([][]byte, 5000)
	for i := range people {
		people[i] = []byte(longID("reader", i))
	}
	sent := group(people)
	sent.MessageID, sent.ConversationID, sent.SenderID = []byte(longID("message", 0)), []byte("c"), []byte("alice")
	sent.SentAt = events.Unclaimed
	p := newPartition(onePartition(0), 0)
	if _, err := p.apply([]events.Record{{Timestamp: history.Epoch, Key: sent.MessageID, Value: encode(t, sent)}}); err != nil {
		t.Fatal(err)
	}
	receipts := make([]events.Record, len(people))
	for i, id := range people {
		read := &events.MessageRead{MessageID: sent.MessageID, ReaderID: id, ReadAt: events.Unclaimed}
		receipts[i] = events.Record{Offset: int64(i) + 1, Timestamp: history.Epoch, Key: read.MessageID, Value: encode(t, read)}
	}
	return p, receipts
}

func TestARepeatedReceiptAllocatesNothing(t *testing.T) {
	for name, group := range groups {
		t.Run(name, func(t *testing.T) {
			p, receipts := crowdOf(t, group)
			rec := receipts[0]
			want := projections.Counted
			allocs := testing.AllocsPerRun(1000, func() {
				outcome, _, err := p.fold.Apply(rec, p)
				if outcome != want || err != nil {
					t.Fatal(outcome, err)
				}
				want = projections.Repeated
				rec.Offset++
			})
			if allocs > 0 {
				t.Errorf("%v allocations for each repeated receipt", allocs)
			}
		})
	}
}

// What a new receipt allocates is the growth of what it is added to.
func TestANewReceiptAllocatesOnlyGrowth(t *testing.T) {
	for name, group := range groups {
		t.Run(name, func(t *testing.T) {
			p, receipts := crowdOf(t, group)
			next := 0
			// AllocsPerRun rounds down, so all receipts are one run; another
			// one comes before it.
			apply := func(receipts []events.Record) {
				for _, rec := range receipts {
					if outcome, _, err := p.fold.Apply(rec, p); outcome != projections.Counted || err != nil {
						t.Fatal(outcome, err)
					}
				}
			}
			half := len(receipts) / 2
			allocs := testing.AllocsPerRun(1, func() {
				apply(receipts[next : next+half])
				next += half
			})
			if each := allocs / float64(half); each > 0.05 {
				t.Errorf("%v allocations for each new receipt", each)
			}
		})
	}
}

// A receipt of somebody in a group of 2,000 whose members read within minutes is a
// few bytes.
func TestAReceiptIsAFewBytes(t *testing.T) {
	s := newStream(t, 1)
	if _, err := s.p.apply(s.receipts); err != nil {
		t.Fatal(err)
	}
	for _, m := range s.p.messages {
		bytes := len(m.Receipts.Open().Bytes)
		for i := range m.Receipts.Sealed() {
			bytes += len(m.Receipts.Chunk(i).Bytes)
		}
		if each := float64(bytes) / float64(m.Receipts.Len()); each > 6 {
			t.Errorf("%.1f bytes a receipt", each)
		}
	}
}

// A full queue gives way in constant time, even where all of it waits for one
// message. If it did not, this test would take minutes.
func TestAFullQueueOfOneMessage(t *testing.T) {
	const limit = 200_000
	p := newPartition(onePartition(limit), 0)
	read := &events.MessageRead{MessageID: []byte("m"), ReaderID: []byte("bob"), ReadAt: events.Unclaimed}
	rec := events.Record{Key: read.MessageID, Value: encode(t, read)}
	for rec.Offset = range int64(4 * limit) {
		if outcome, _, err := p.fold.Apply(rec, p); outcome != projections.Waits || err != nil {
			t.Fatal(outcome, err)
		}
	}
	waiting, evicted := p.fold.Waiting(), p.fold.Checkpoint().Evicted
	if waiting.Len() != limit || evicted != 3*limit {
		t.Fatalf("%d wait, %d gave way", waiting.Len(), evicted)
	}
	if all := waiting.All(); all[0].Offset != 3*limit || all[limit-1].Offset != 4*limit-1 {
		t.Errorf("those from %d to %d wait", all[0].Offset, all[limit-1].Offset)
	}
}

func BenchmarkFold(b *testing.B) {
	for name, group := range groups {
		for _, repeated := range []string{"new", "repeated"} {
			b.Run(name+"/"+repeated, func(b *testing.B) {
				b.ReportAllocs()
				var p *partition
				var receipts []events.Record
				offset := int64(0)
				for i := 0; b.Loop(); i++ {
					if p == nil || i == len(receipts) && repeated == "new" {
						b.StopTimer()
						p, receipts = crowdOf(b, group)
						i, offset = 0, 0
						b.StartTimer()
					}
					rec := receipts[i%len(receipts)]
					if offset++; repeated == "repeated" {
						rec.Offset, rec.Key, rec.Value = offset, receipts[0].Key, receipts[0].Value
					}
					if _, _, err := p.fold.Apply(rec, p); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkWaiting is a receipt that waits and makes another one give way; it
// takes as long whatever the limit.
func BenchmarkWaiting(b *testing.B) {
	for _, limit := range []int{100, 100_000} {
		b.Run(fmt.Sprint(limit), func(b *testing.B) {
			p := newPartition(onePartition(limit), 0)
			read := &events.MessageRead{MessageID: []byte("m"), ReaderID: []byte("bob"), ReadAt: events.Unclaimed}
			rec := events.Record{Key: read.MessageID, Value: encode(b, read)}
			for rec.Offset = range int64(limit) {
				if _, _, err := p.fold.Apply(rec, p); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				rec.Offset++
				if _, _, err := p.fold.Apply(rec, p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// stream is what a busy partition's log holds: messages to groups of 2,000 people
// with UUIDs, and receipts of all of them, 50 messages at a time.
type stream struct {
	p        *partition
	receipts []events.Record
}

func newStream(t testing.TB, seed uint64) stream {
	t.Helper()
	const people, messages = 2000, 50
	src := history.Seeded(seed)
	uuid := func() []byte {
		return []byte(fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", src.Uint32(), src.IntN(1<<16), src.IntN(1<<16), src.IntN(1<<16), src.Uint64()>>16))
	}
	group := make([][]byte, people)
	for i := range group {
		group[i] = uuid()
	}
	s := stream{p: newPartition(onePartition(0), 0)}
	at, offset := int64(history.Epoch), int64(0)
	record := func(e events.Event) events.Record {
		at += int64(src.IntN(2))
		offset++
		return events.Record{Offset: offset - 1, Timestamp: at, Key: e.Key(), Value: encode(t, e)}
	}
	var keys [][]byte
	for range messages {
		keys = append(keys, uuid())
		sent := record(&events.MessageSent{MessageID: keys[len(keys)-1], ConversationID: []byte("c"), SenderID: group[0],
			SentAt: at, Recipients: group})
		if _, err := s.p.apply([]events.Record{sent}); err != nil {
			t.Fatal(err)
		}
	}
	order := make([]int, messages*(people-1))
	for i := range order {
		order[i] = i
	}
	// Receipts come in an order that is mixed, but not wholly.
	src.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	for _, i := range order {
		s.receipts = append(s.receipts, record(&events.MessageRead{MessageID: keys[i%messages], ReaderID: group[1+i/messages],
			ReadAt: at - int64(src.IntN(2000))}))
	}
	return s
}

// BenchmarkStream is what one receipt of a stream takes, of a fold that keeps all
// in maps.
func BenchmarkStream(b *testing.B) {
	s := newStream(b, 1)
	begin := s.p.fold.Checkpoint().Position
	empty, err := s.p.store()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if i == len(s.receipts) {
			b.StopTimer()
			if s.p, err = s.p.restore(empty); err != nil || s.p.fold.Checkpoint().Position != begin {
				b.Fatal(err)
			}
			i = 0
			b.StartTimer()
		}
		if outcome, _, err := s.p.fold.Apply(s.receipts[i], s.p); err != nil || outcome != projections.Counted {
			b.Fatal(outcome, err)
		}
		i++
	}
	if _, err := s.p.apply(s.receipts[i:]); err != nil {
		b.Fatal(err)
	}
	bytes, receipts := 0, 0
	for _, m := range s.p.messages {
		bytes += m.Size()
		receipts += m.Receipts.Len()
	}
	b.ReportMetric(float64(bytes)/float64(receipts), "bytes/receipt")
}
