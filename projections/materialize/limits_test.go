package materialize_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/materialize"
	"github.com/seenby/seenby/projections/memstore"
)

// TestFlushBySize applies much at once: it is flushed in the middle, and never
// more than is allowed.
func TestFlushBySize(t *testing.T) {
	c := testConfig(memstore.Open(&memstore.Medium{}, testMaxBatch))
	c.FlushBytes = 20_000
	p, s := openChecked(t, c)
	p.StartAt(0)
	l := newLog(t)
	var recs []events.Record
	for i := range 2000 {
		id := fmt.Sprintf("m%d", i%300)
		if i < 300 {
			recs = append(recs, l.sent(id, 20))
		} else {
			recs = append(recs, l.read(id, i/300))
		}
	}
	mustApply(t, p, recs...)
	if s.commits < 10 || s.largest > 2*c.FlushBytes {
		t.Errorf("%d flushes, the largest of %d bytes", s.commits, s.largest)
	}
	if got := p.Stats(); got.DirtyBytes > c.FlushBytes || got.Flushes != int64(s.commits) || got.Outcomes[projections.Counted] != 1700 || got.Outcomes[projections.Created] != 300 {
		t.Errorf("%+v", got)
	}
}

// TestLargestRecord has the most expensive records there can be, with names as
// long as they can be, in a store whose transactions hold just that.
func TestLargestRecord(t *testing.T) {
	const waiting = 25_000
	name := func(i int) []byte { return fmt.Appendf(nil, "%0128d", i) }
	for kind, first := range map[string]func(*log, []byte) events.Record{
		"count-only": func(l *log, id []byte) events.Record {
			return l.event(&events.MessageSent{MessageID: id, ConversationID: name(0), SenderID: name(0), SentAt: l.time, CountOnly: true})
		},
		"listed": func(l *log, id []byte) events.Record {
			e := &events.MessageSent{MessageID: id, ConversationID: name(0), SenderID: name(0), SentAt: l.time}
			for i := range events.MaxRecipients {
				e.Recipients = append(e.Recipients, name(i+1))
			}
			return l.event(e)
		},
		"given up": func(l *log, id []byte) events.Record {
			l.time += (48 * time.Hour).Milliseconds()
			return l.event(&events.MessageRead{MessageID: id, ReaderID: name(1)})
		},
	} {
		t.Run(kind, func(t *testing.T) {
			most := materialize.LargestRecord(waiting) + 64<<10
			c := testConfig(memstore.Open(&memstore.Medium{}, most))
			c.Lineage.Limits.Waiting = waiting
			c.FlushBytes = most
			p, s := openChecked(t, c)
			p.StartAt(0)
			l := newLog(t)
			id := name(77)
			var recs []events.Record
			for i := range waiting {
				recs = append(recs, l.event(&events.MessageRead{MessageID: id, ReaderID: name(i + 1), ReadAt: events.Unclaimed}))
			}
			mustApply(t, p, recs...)
			mustFlush(t, p)
			if got := p.Stats().Waiting; got != waiting {
				t.Fatalf("%d wait", got)
			}
			// With as much before it in the same flush as there is room for.
			for i := range 1000 {
				mustApply(t, p, l.sent(fmt.Sprint(i), 3))
			}
			mustApply(t, p, first(l, id))
			mustFlush(t, p)
			if got := p.Stats().Waiting; got > 1 {
				t.Errorf("%d wait", got)
			}
			if s.largest > most {
				t.Errorf("a batch of %d bytes, where one record may change %d", s.largest, most)
			}
			// Then the largest recall.
			if kind == "given up" {
				return
			}
			mustApply(t, p, l.recalled(string(id)))
			mustFlush(t, p)
			if v := mustView(t, p, string(id)); !v.Message.Recalled || v.Message.ReadCount() != 0 {
				t.Errorf("%+v", v)
			}
		})
	}
}

// TestMemory has two partitions share a budget that holds a small part of their
// messages.
func TestMemory(t *testing.T) {
	medium := &memstore.Medium{}
	store := memstore.Open(medium, testMaxBatch)
	c := testConfig(store)
	c.Lineage.Partitions = 2
	c.Memory = materialize.NewMemory(100_000)
	partitions := make([]*materialize.Partition, 2)
	ids := make([][]string, 2)
	for i := range partitions {
		c.Partition = int32(i)
		partitions[i], _ = openChecked(t, c)
		partitions[i].StartAt(0)
		for n := 0; len(ids[i]) < 400; n++ {
			if id := fmt.Sprintf("m%d", n); events.Partition(id, 2) == int32(i) {
				ids[i] = append(ids[i], id)
			}
		}
	}
	logs := []*log{newLog(t), newLog(t)}
	const slack = 50_000 // what one visit may add
	apply := func(i int, rec events.Record) {
		t.Helper()
		mustApply(t, partitions[i], rec)
		if used := c.Memory.Used(); used > c.Memory.Limit()+slack {
			t.Fatalf("%d bytes are used", used)
		}
	}
	// The first takes all of it, then lies idle while the second needs it.
	for i, p := range partitions {
		for _, id := range ids[i] {
			apply(i, logs[i].sent(id, 40))
			apply(i, logs[i].read(id, 7))
		}
		mustFlush(t, p)
	}
	if first := partitions[0].Stats(); first.Messages > 30 {
		t.Errorf("an idle partition keeps %d messages in memory", first.Messages)
	}
	for round := range 3 {
		for i, p := range partitions {
			for _, id := range ids[i] {
				if v := mustView(t, p, id); v.Message.Receipts.Len() != 1+round {
					t.Fatalf("message %s: %+v", id, v)
				}
				apply(i, logs[i].read(id, 10+round))
			}
		}
	}
	got := partitions[1].Stats()
	if got.Evicted < 100 || got.Loads < 100 || got.Flushes < 5 {
		t.Errorf("hardly anything happened: %+v", got)
	}
	for i, p := range partitions {
		mustFlush(t, p)
		for _, id := range ids[i] {
			mustView(t, p, id)
		}
	}
	if used := c.Memory.Used(); used > c.Memory.Limit() {
		t.Errorf("%d bytes are used when all is clean", used)
	}
}

// TestMemoryCount holds the count of bytes to what the messages say themselves.
func TestMemoryCount(t *testing.T) {
	c := testConfig(memstore.Open(&memstore.Medium{}, testMaxBatch))
	p, _ := openChecked(t, c)
	p.StartAt(0)
	l := newLog(t)
	mustApply(t, p, l.sent("listed", 500), l.sentCountOnly("counted"))
	for i := range 500 {
		mustApply(t, p, l.read("listed", i), l.read("counted", i))
	}
	want := 0
	for _, id := range []string{"listed", "counted"} {
		m := mustView(t, p, id).Message
		want += m.Size()
		if m.Roster != nil {
			want += m.Roster.Size() + m.Roster.Names.Size()
		} else {
			want += 500 * 40 // who is in, which a view has not
		}
	}
	if used := int(c.Memory.Used()); used < want-want/10 || used > want+want/10+1000 {
		t.Errorf("%d bytes are counted, and the messages have %d", used, want)
	}
	mustApply(t, p, l.recalled("listed"), l.recalled("counted"))
	if used := int(c.Memory.Used()); used > want/2 {
		t.Errorf("%d bytes are counted after recalls, of %d", used, want)
	}
}

// TestFlushFails has a disk that fails once.
func TestFlushFails(t *testing.T) {
	p, s := openChecked(t, testConfig(memstore.Open(&memstore.Medium{}, testMaxBatch)))
	p.StartAt(0)
	l := newLog(t)
	mustApply(t, p, l.sent("m", 3))
	s.commit = func(int32, *materialize.Batch) error { return errDisk }
	err := p.Flush()
	if err == nil || !strings.Contains(err.Error(), "partition 0: flush of offsets 0 to 0: input/output error: see to the disk") {
		t.Errorf("Flush: %v", err)
	}
	s.commit = nil
	for what, again := range map[string]error{"Flush": p.Flush(), "Apply": p.Apply([]events.Record{l.read("m", 1)})} {
		if again == nil {
			t.Errorf("%s goes on", what)
		}
	}
	if _, _, err := p.Prune(1 << 50); err == nil {
		t.Error("Prune goes on")
	}
	if s.commits != 1 {
		t.Errorf("%d commits", s.commits)
	}
	if v := mustView(t, p, "m"); !v.Found {
		t.Error("views do not answer any more")
	}
}

// TestFlushOnlyWhatIsNew is that a commit is made for each flush with something
// new, if only an offset, and for no other.
func TestFlushOnlyWhatIsNew(t *testing.T) {
	p, s := openChecked(t, testConfig(memstore.Open(&memstore.Medium{}, testMaxBatch)))
	flush := func(commits int) {
		t.Helper()
		mustFlush(t, p)
		if s.commits != commits {
			t.Errorf("%d commits, not %d", s.commits, commits)
		}
	}
	flush(0)
	p.StartAt(0)
	flush(0)
	l := newLog(t)
	mustApply(t, p, l.record("k", []byte("hi")))
	flush(1)
	mustApply(t, p, events.Record{Offset: l.next, Control: true}) // its offset counts
	flush(2)
	flush(2)
}
