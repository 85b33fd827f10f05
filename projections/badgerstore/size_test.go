package badgerstore

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/history"
	"github.com/seenby/seenby/projections/materialize"
)

// group makes the events of one large group, with IDs as products have them.
type group struct {
	t       testing.TB
	rng     *rand.Rand
	people  [][]byte
	chat    []byte
	offset  int64
	store   *Store
	applied *materialize.Partition
}

func newGroup(t testing.TB, dir string, people int) *group {
	t.Helper()
	g := &group{t: t, rng: rand.New(rand.NewPCG(7, 7))}
	for range people {
		g.people = append(g.people, g.uuid())
	}
	g.chat = g.uuid()
	o := testOptions(dir)
	o.Lineage.Partitions, o.Owner.Nodes, o.Owner.Node = 1, 1, 0
	g.store = mustOpen(t, o)
	var err error
	g.applied, err = materialize.Open(materialize.Config{Lineage: o.Lineage, Store: g.store, Memory: materialize.NewMemory(64 << 20), FlushBytes: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	g.applied.StartAt(0)
	return g
}

func (g *group) uuid() []byte {
	return fmt.Appendf(nil, "%08x-%04x-4%03x-%04x-%012x", g.rng.Uint32(), g.rng.Uint32()>>16, g.rng.Uint32()>>20, g.rng.Uint32()>>16, g.rng.Uint64()>>16)
}

func (g *group) apply(e events.Event) {
	g.t.Helper()
	value, err := events.AppendEncode(nil, e)
	if err != nil {
		g.t.Fatal(err)
	}
	rec := events.Record{Offset: g.offset, Timestamp: history.Epoch + g.offset*20, LeaderEpoch: 1, Key: e.Key(), Value: value}
	g.offset++
	if err := g.applied.Apply([]events.Record{rec}); err != nil {
		g.t.Fatal(err)
	}
}

// send sends so many messages, each by somebody else of the group.
func (g *group) send(messages int) (ids [][]byte) {
	g.t.Helper()
	for range messages {
		id := g.uuid()
		g.apply(&events.MessageSent{MessageID: id, ConversationID: g.chat, SenderID: g.people[g.rng.IntN(len(g.people))],
			SentAt: events.Unclaimed, Recipients: g.people})
		ids = append(ids, id)
	}
	return ids
}

// closed closes the store and returns what it takes on disk.
func (g *group) closed(dir string) (bytes int64) {
	g.t.Helper()
	if err := g.applied.Flush(); err != nil {
		g.t.Fatal(err)
	}
	// Senders read too, which does not count.
	came := g.applied.Stats().Outcomes
	if came[projections.Created]+came[projections.Counted]+came[projections.Dropped] != g.offset {
		g.t.Fatalf("%d events came to %v", g.offset, came)
	}
	if err := g.store.Close(); err != nil {
		g.t.Fatal(err)
	}
	err := filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if stat, ok := info.Sys().(*syscall.Stat_t); err == nil && ok {
			bytes += stat.Blocks * 512
		}
		return err
	})
	if err != nil {
		g.t.Fatal(err)
	}
	return bytes
}

// TestSize holds what is on disk, of a closed store and all that is in it, to what
// an operator is told to plan with: messages of a group of 2,000 before anybody
// reads, their roster being there once, and receipts.
func TestSize(t *testing.T) {
	const messages, people = 10_000, 2000
	sizes := make(map[string]int64)
	for name, build := range map[string]func(*group){
		"roster alone": func(g *group) { g.send(1) },
		"unread":       func(g *group) { g.send(messages) },
		"read": func(g *group) {
			ids := g.send(100)
			for _, reader := range g.rng.Perm(people) {
				for _, id := range ids {
					g.apply(&events.MessageRead{MessageID: id, ReaderID: g.people[reader], ReadAt: events.Unclaimed})
				}
			}
		},
	} {
		dir := t.TempDir()
		g := newGroup(t, dir, people)
		build(g)
		sizes[name] = g.closed(dir)
	}
	if each := float64(sizes["unread"]-sizes["roster alone"]) / (messages - 1); each >= 100 {
		t.Errorf("a message that nobody has read takes %.1f bytes beside its roster", each)
	} else {
		t.Logf("%.1f bytes a message", each)
	}
	if each := float64(sizes["read"]-sizes["roster alone"]) / (100 * people); each > 8 {
		t.Errorf("a receipt takes %.2f bytes", each)
	} else {
		t.Logf("%.2f bytes a receipt", each)
	}
}
