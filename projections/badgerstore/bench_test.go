package badgerstore

import (
	"encoding/binary"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/materialize"
)

// BenchmarkCommit writes states as a rebuild does, one partition's batch after the
// other, and tells how much of the disk they take once the store is closed. On two
// shared cores, of 300,000, 300,000 and 1,500 messages: 5.4 us and 284 bytes a message, 35.5 a receipt;
// 2.2 us and 98 bytes; 160 us and 14 KB, 7.0 a receipt.
//
//   - small: messages of 8 readers in groups of 9, each of which sends 1.25 of them to
//     a partition; everything has come when they are written.
//   - unread: messages without a reader, in groups of 200.
//   - large: messages of 2,000 readers, written again and again as they come.
func BenchmarkCommit(b *testing.B) {
	b.Run("small", func(b *testing.B) {
		benchmarkCommit(b, func(src *rand.Rand, n int) (bench *commitBench) {
			bench = &commitBench{src: src}
			for i := range n {
				if i%5 > 0 || i == 0 {
					bench.newRoster(9)
				}
				bench.message(8)
			}
			return bench
		})
	})
	b.Run("unread", func(b *testing.B) {
		benchmarkCommit(b, func(src *rand.Rand, n int) (bench *commitBench) {
			bench = &commitBench{src: src}
			for i := range n {
				if i%500 == 0 {
					bench.newRoster(200)
				}
				bench.message(0)
			}
			return bench
		})
	})
	b.Run("large", func(b *testing.B) {
		benchmarkCommit(b, func(src *rand.Rand, n int) (bench *commitBench) {
			const readers, flushes = 2000, 12
			bench = &commitBench{src: src}
			for from := 0; from < n; from += 100 {
				bench.newRoster(readers + 1)
				var group []*grown
				for range min(100, n-from) {
					group = append(group, &grown{change: bench.message(0)})
				}
				for i := range flushes {
					bench.flush()
					for _, g := range group {
						bench.grow(g, (readers*(i+1))/flushes-(readers*i)/flushes)
					}
				}
				bench.flush()
			}
			return bench
		})
	})
}

func benchmarkCommit(b *testing.B, prepare func(src *rand.Rand, n int) *commitBench) {
	c := prepare(rand.New(rand.NewPCG(1, 2)), b.N)
	c.flush()
	o := testOptions(b.TempDir())
	o.BlockCacheSize, o.IndexCacheSize = 0, 0
	s := mustOpen(b, o)
	b.ReportAllocs()
	b.ResetTimer()
	for i, batch := range c.batches {
		mustCommit(b, s, int32(i%64), batch)
	}
	mustClose(b, s)
	b.StopTimer()
	disk := diskUsage(b, o.Dir)
	b.ReportMetric(float64(disk)/float64(b.N), "disk-B/message")
	if c.receipts > 0 {
		b.ReportMetric(float64(disk)/float64(c.receipts), "disk-B/receipt")
		b.ReportMetric(float64(c.receipts)/b.Elapsed().Seconds(), "receipts/s")
	}
}

func diskUsage(t testing.TB, dir string) (bytes int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		bytes += info.Sys().(*syscall.Stat_t).Blocks * 512
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}

// commitBench makes batches.
type commitBench struct {
	src      *rand.Rand
	batches  []*materialize.Batch
	next     materialize.Batch
	size     int
	offset   int64
	roster   *projections.Roster
	receipts int
}

const benchBatch = 1 << 20

func (c *commitBench) id() string {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], c.src.Uint64())
	binary.LittleEndian.PutUint64(b[8:], c.src.Uint64())
	return string(appendUUID(nil, b[:]))
}

func (c *commitBench) flush() {
	if c.size > 0 {
		c.next.Checkpoint.Position = c.offset
		c.batches = append(c.batches, new(c.next))
		c.next, c.size = materialize.Batch{}, 0
	}
}

func (c *commitBench) add(change materialize.Change) {
	c.next.Messages = append(c.next.Messages, change)
	if c.size += change.Size(); c.size > benchBatch {
		c.flush()
	}
}

func (c *commitBench) newRoster(people int) {
	e := &events.MessageSent{SenderID: []byte(c.id())}
	for range people - 1 {
		e.Recipients = append(e.Recipients, []byte(c.id()))
	}
	names := projections.NewNames(e)
	c.roster = projections.RestoreRoster(names, names.Hash().Ref(), 0, nil)
	c.next.Rosters = append(c.next.Rosters, materialize.RosterChange{StoredRoster: materialize.StoredRoster{Roster: c.roster, KeepUntil: 24}, Extended: true})
	c.size += 64 + people*38
}

// message is a new one, with so many receipts.
func (c *commitBench) message(readers int) materialize.Change {
	c.offset += int64(readers) + 1
	m := &projections.Message{ID: c.id(), ConversationID: c.roster.Names.Name(0), SentAt: 1_790_000_000_000 + c.offset, Sent: c.offset, Changed: c.offset,
		Roster: c.roster, Sender: 3}
	m.Receipts = projections.RestoreReceipts(nil, c.chunk(readers))
	change := materialize.Change{Message: m}
	c.add(change)
	return change
}

// chunk is so many receipts, within ten minutes.
func (c *commitBench) chunk(readers int) (b []byte) {
	before := int64(0)
	for range readers {
		at := c.src.Int64N(600_000)
		b = binary.AppendUvarint(b, uint64(c.src.IntN(c.roster.Names.Len())))
		b = binary.AppendUvarint(b, uint64(c.src.IntN(200)))
		b = binary.AppendVarint(b, (at-before)/10)
		before = at
	}
	c.receipts += readers
	return b
}

type grown struct {
	change materialize.Change
	sealed [][]byte
}

func (c *commitBench) grow(g *grown, readers int) {
	m := *g.change.Message
	c.offset += int64(readers)
	stored := len(g.sealed)
	g.sealed = append(g.sealed, c.chunk(readers))
	m.Changed, m.Receipts = c.offset, projections.RestoreReceipts(g.sealed, nil)
	c.add(materialize.Change{Message: &m, Stored: true, Sealed: stored})
}
