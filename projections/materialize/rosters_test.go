package materialize_test

import (
	"fmt"
	"testing"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/materialize"
	"github.com/seenby/seenby/projections/memstore"
)

// TestRostersAreShared has many messages of one large group in two partitions: in
// memory their roster is one, it is counted once, it does not make a partition
// flush, and it goes with the last message that uses it.
func TestRostersAreShared(t *testing.T) {
	const people, messages = 2000, 50
	c := testConfig(memstore.Open(&memstore.Medium{}, testMaxBatch))
	c.Lineage.Partitions = 2
	c.Memory = materialize.NewMemory(1 << 20)
	var names *projections.Names
	for partition := range int32(2) {
		c.Partition = partition
		p, _ := openChecked(t, c)
		p.StartAt(0)
		l := newLog(t)
		var ids []string
		for n := 0; len(ids) < messages; n++ {
			if id := fmt.Sprintf("m%d", n); events.Partition(id, 2) == partition {
				ids = append(ids, id)
				mustApply(t, p, l.sent(id, people))
			}
		}
		mustFlush(t, p)
		for i := range 20 {
			for _, id := range ids {
				mustApply(t, p, l.read(id, i))
			}
		}
		if got := p.Stats(); got.Messages != messages || got.Flushes > 5 {
			t.Errorf("a partition with %d messages of one group in memory flushed %d times", got.Messages, got.Flushes)
		}
		for _, id := range ids {
			m := mustView(t, p, id).Message
			if names == nil {
				names = m.Roster.Names
			}
			if m.Roster.Names != names {
				t.Fatalf("message %s has names of its own", id)
			}
		}
	}
	if used := c.Memory.Used(); used > int64(names.Size()+2*messages*2000) {
		t.Errorf("%d bytes are counted for messages whose names take %d", used, names.Size())
	}
}

// TestRostersGo has a roster's messages leave memory: one was replaced by a
// message of another roster, one evicted, the others pruned.
func TestRostersGo(t *testing.T) {
	c := testConfig(memstore.Open(&memstore.Medium{}, testMaxBatch))
	c.Memory = materialize.NewMemory(60_000)
	p, _ := openChecked(t, c)
	p.StartAt(0)
	l := newLog(t)
	mustApply(t, p, l.sent("a", 500), l.sent("b", 500))
	l.time += c.Lineage.Retention.Milliseconds() + 1
	mustApply(t, p, l.sent("a", 600))
	mustFlush(t, p)
	for i := range 200 {
		mustApply(t, p, l.sentCountOnly(fmt.Sprintf("other-%d", i)))
		mustFlush(t, p)
	}
	if p.Stats().Evicted == 0 {
		t.Fatal("nothing was evicted")
	}
	for id, people := range map[string]int{"a": 600, "b": 500} {
		if n := mustView(t, p, id).Message.Roster.Names.Len(); n != people+1 {
			t.Errorf("message %s has a roster of %d", id, n)
		}
	}
	l.time += 2 * c.Lineage.Retention.Milliseconds()
	mustApply(t, p, l.recalled("nobody's"))
	if err := removeAll(p, l.time); err != nil {
		t.Fatal(err)
	}
	if used := c.Memory.Used(); used != 0 {
		t.Errorf("%d bytes are counted with nothing in memory", used)
	}
}
