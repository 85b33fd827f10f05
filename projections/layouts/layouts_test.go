// Package layouts_test compares ways to keep receipts in Badger: what each costs
// on disk, in writes, in memory and in time. docs/layouts.md has the figures, and
// what was chosen.
//
//	go test ./projections/layouts -run '^$' -bench Layouts -benchtime 1x
package layouts_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"go.uber.org/goleak"
)

var compressions = []struct {
	name string
	kind options.CompressionType
}{{"snappy", options.Snappy}, {"zstd", options.ZSTD}, {"none", options.None}}

// compressedOtherwise are the workloads and forms in which the kinds of
// compression are compared; elsewhere it is badgerstore's.
var compressedOtherwise = []string{
	"large-rebuild key-text", "large-rebuild key-packed", "large-rebuild fixed-128-before", "large-rebuild sealed-32",
	"small key-text", "small key-packed", "small fixed-128-before", "small sealed-32",
}

func forms(h *history) []form {
	return []form{
		keyed{false, h.rosters}, keyed{true, h.rosters}, aggregate{}, fixed{before: true}, fixed{},
		sealing{8}, sealing{16}, sealing{32}, sealing{128},
	}
}

// TestForms holds each form to what was written, where that is little.
func TestForms(t *testing.T) {
	h := workload{messages: 12, groups: 2, members: 150, people: 200, alive: 6, step: 3, flush: 50}.generate()
	for _, f := range forms(h) {
		t.Run(f.name(), func(t *testing.T) { measure(t, h, f, options.Snappy) })
	}
}

// BenchmarkLayouts writes each workload in each form, closes the store, and reads
// from it again. What it reports is
//
//	receipts/s          with a synced transaction a flush, and closing
//	disk-B/receipt      allocated to all files, once closed
//	live-B/receipt      the same of a copy that has only what is current, as if
//	                    Badger had compacted everything
//	handed-B/receipt    keys and values that were given to Badger
//	written-B/receipt   what the process wrote, by the kernel's account
//	us/set              to read a whole reader set, from a store just opened
//	kept-B/message      of receipts in memory, after a flush, by message flushed
func BenchmarkLayouts(b *testing.B) {
	for _, w := range workloads {
		b.Run(w.name, func(b *testing.B) {
			h := w.generate()
			for _, f := range forms(h) {
				for _, c := range compressions {
					if c.kind != options.Snappy && !slices.Contains(compressedOtherwise, w.name+" "+f.name()) {
						continue
					}
					b.Run(f.name()+"/"+c.name, func(b *testing.B) {
						for b.Loop() {
							measure(b, h, f, c.kind).report(b)
						}
					})
				}
			}
		})
	}
}

// BenchmarkLayoutsOfEntries compares the bytes of whole reader sets in log order
// with those of a bitmap of the readers and the rest in the roster's order.
func BenchmarkLayoutsOfEntries(b *testing.B) {
	for _, w := range workloads {
		b.Run(w.name, func(b *testing.B) {
			h := w.generate()
			for b.Loop() {
				ordered, bitmap := entryBytes(h)
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(float64(ordered)/float64(h.receipts), "ordered-B/receipt")
				b.ReportMetric(float64(bitmap)/float64(h.receipts), "bitmap-B/receipt")
			}
		})
	}
}

func entryBytes(h *history) (ordered, bitmap int) {
	messages := h.begin()
	for _, e := range h.events {
		if m := &messages[e.message]; e.person != m.sender {
			m.added = append(m.added, e.receipt)
		}
	}
	for i := range messages {
		m := &messages[i]
		var last receipt
		var buf []byte
		for k, r := range m.added {
			buf = appendReceipt(buf, m, r, last, k == 0)
			last = r
		}
		ordered += len(buf)
		slices.SortFunc(m.added, func(a, b receipt) int { return int(a.person) - int(b.person) })
		buf = buf[:0]
		last = receipt{offset: m.sent, readAt: m.sentAt}
		for _, r := range m.added {
			buf = binary.AppendVarint(binary.AppendVarint(buf, r.offset-last.offset), r.readAt-last.readAt)
			last = r
		}
		bitmap += len(buf) + (h.members+8)/8
	}
	return ordered, bitmap
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memTableSize is badgerstore's, scaled down with the workloads.
const memTableSize = 4 << 20

// open uses badgerstore's settings.
func open(dir string, compression options.CompressionType) (*badger.DB, error) {
	return badger.Open(badger.DefaultOptions(dir).
		WithLogger(nil).
		WithMetricsEnabled(false).
		WithSyncWrites(true).
		WithDetectConflicts(false).
		WithNumVersionsToKeep(1).
		WithValueThreshold(memTableSize * 15 / 100).
		WithValueLogFileSize(1 << 20).
		WithMemTableSize(memTableSize).
		WithNumMemtables(1).
		WithNumCompactors(2).
		WithCompression(compression).
		WithBlockCacheSize(16 << 20).
		WithIndexCacheSize(16 << 20))
}

// figures are what a form costs, in total.
type figures struct {
	receipts                                     int
	elapsed, perSet                              time.Duration
	disk, live, handed, written, kept, keptCount int64
}

func (f figures) report(b *testing.B) {
	n := float64(f.receipts)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(n/f.elapsed.Seconds(), "receipts/s")
	b.ReportMetric(float64(f.disk)/n, "disk-B/receipt")
	b.ReportMetric(float64(f.live)/n, "live-B/receipt")
	b.ReportMetric(float64(f.handed)/n, "handed-B/receipt")
	b.ReportMetric(float64(f.written)/n, "written-B/receipt")
	b.ReportMetric(float64(f.perSet.Microseconds()), "us/set")
	b.ReportMetric(float64(f.kept)/float64(f.keptCount), "kept-B/message")
}

func measure(t testing.TB, h *history, f form, compression options.CompressionType) figures {
	dir := t.TempDir()
	runtime.GC()
	before := writtenBytes(t)
	db, err := open(dir, compression)
	if err != nil {
		t.Fatal(err)
	}
	r := &run{h: h, form: f, db: db, messages: h.begin(), rosters: map[[2]int]bool{}}
	started := time.Now()
	if err := errors.Join(r.all(), db.Close()); err != nil {
		t.Fatal(err)
	}
	elapsed := time.Since(started)
	written := writtenBytes(t) - before
	disk := allocated(t, dir)
	if db, err = open(dir, compression); err != nil {
		t.Fatal(err)
	}
	perSet := readBack(t, db, r)
	live := liveBytes(t, db, compression)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return figures{h.receipts, elapsed, perSet, disk, live, r.handed, written, r.kept, r.flushed}
}

// liveBytes is what a copy of a database takes that has nothing else in it than
// what is current.
func liveBytes(t testing.TB, db *badger.DB, compression options.CompressionType) int64 {
	dir := t.TempDir()
	to, err := open(dir, compression)
	if err != nil {
		t.Fatal(err)
	}
	w := to.NewStreamWriter()
	stream := db.NewStream()
	stream.Send = w.Write
	err = w.Prepare()
	if err == nil {
		err = errors.Join(stream.Orchestrate(t.Context()), w.Flush())
	}
	if err := errors.Join(err, to.Close()); err != nil {
		t.Fatal(err)
	}
	return allocated(t, dir)
}

// run folds a history into a database.
type run struct {
	h        *history
	form     form
	db       *badger.DB
	messages []message
	dirty    [partitions][]int
	since    [partitions]int // receipts since the flush
	position [partitions]int64
	rosters  map[[2]int]bool // stored, by partition and group

	handed, kept, flushed int64
}

func (r *run) all() error {
	for _, e := range r.h.events {
		m := &r.messages[e.message]
		p := m.partition
		r.position[p] = e.offset + 1
		switch {
		case !m.born:
			m.born = true
			m.state.last = e.receipt
			r.dirty[p] = append(r.dirty[p], e.message)
			continue
		case m.stored && len(m.added) == 0:
			r.dirty[p] = append(r.dirty[p], e.message)
		}
		m.added = append(m.added, e.receipt)
		if r.since[p]++; r.since[p] == r.h.flush {
			if err := r.flush(p); err != nil {
				return err
			}
		}
	}
	for p := range partitions {
		if err := r.flush(p); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) flush(p int) error {
	b := &batch{partition: p}
	var born []byte // in the list of their hour
	var hour int64
	for _, i := range r.dirty[p] {
		m := &r.messages[i]
		if !m.stored {
			hour = m.sentAt / 3_600_000
			born = append(born, m.id[:]...)
			r.storeRoster(b, m)
		}
		r.form.flush(b, m)
		m.stored, m.added = true, m.added[:0]
		r.kept += int64(r.form.kept(m))
		r.flushed++
	}
	if len(born) > 0 && r.form.shared() {
		b.seal(appendNumber(appendNumber(newKey(p, 'h'), hour), r.position[p]), born)
	}
	b.seal(appendNumber(newKey(p, 'd'), hour), make([]byte, 32))
	b.seal(newKey(p, 'c'), appendNumber(make([]byte, 32), r.position[p]))
	r.dirty[p], r.since[p] = r.dirty[p][:0], 0
	return r.commit(b)
}

// storeRoster writes a message's roster, unless it is there.
func (r *run) storeRoster(b *batch, m *message) {
	if key := rosterKey(r.form, m); !r.form.shared() || !r.rosters[[2]int{m.partition, m.group}] {
		r.rosters[[2]int{m.partition, m.group}] = true
		b.seal(key, encodeRoster(r.h.rosters[m.group], r.form.text()))
	}
}

func rosterKey(f form, m *message) []byte {
	if f.shared() {
		return binary.BigEndian.AppendUint64(newKey(m.partition, 'r'), rosterRef(m.group))
	}
	return indexed(textKey(m, partBirth), 0)
}

// encodeRoster has a length before each name: 0 for a packed one.
func encodeRoster(roster []userID, text bool) []byte {
	var v []byte
	for _, id := range roster {
		if text {
			v = append(append(v, 36), id.text()...)
		} else {
			v = append(append(v, 0), id[:]...)
		}
	}
	return v
}

func decodeRoster(v []byte) (names []string) {
	for len(v) > 0 {
		if n := int(v[0]); n > 0 {
			names, v = append(names, string(v[1:1+n])), v[1+n:]
		} else {
			names, v = append(names, userID(v[1:17]).text()), v[17:]
		}
	}
	return names
}

// commit is one transaction, or, where a form writes more than one may have, as
// many as it takes: a store would have to flush sooner.
func (r *run) commit(b *batch) error {
	txn := r.db.NewTransaction(true)
	defer func() { txn.Discard() }()
	for _, w := range b.writes {
		r.handed += int64(len(w.key) + len(w.value))
		err := txn.Set(w.key, w.value)
		if errors.Is(err, badger.ErrTxnTooBig) {
			if err := txn.Commit(); err != nil {
				return err
			}
			txn = r.db.NewTransaction(true)
			err = txn.Set(w.key, w.value)
		}
		if err != nil {
			return err
		}
	}
	return txn.Commit()
}

// readBack reads some whole reader sets, each once, and returns how long one took,
// by the median. The database was just opened: its caches are empty, but the
// kernel has the files in memory.
// Rosters stay in memory once read, where messages share them.
func readBack(t testing.TB, db *badger.DB, r *run) time.Duration {
	const sets = 50
	var took []time.Duration
	rosters := map[string][]string{}
	for k := range sets {
		i := k * len(r.messages) / sets
		m := &r.messages[i]
		want := r.h.answer(i)
		started := time.Now()
		var all []receipt
		var names []string
		err := db.View(func(txn *badger.Txn) (err error) {
			key := rosterKey(r.form, m)
			if names = rosters[string(key)]; names == nil {
				v, err := get(txn, key)
				if err != nil {
					return err
				}
				names = decodeRoster(v)
				rosters[string(key)] = names
			}
			all, err = r.form.read(txn, m)
			return err
		})
		took = append(took, time.Since(started))
		if err != nil {
			t.Fatal(err)
		}
		if got := digest(all, names); len(all) != r.h.members || got != want {
			t.Fatalf("%s: message %d: %d receipts are not those that were written", r.form.name(), i, len(all))
		}
	}
	slices.Sort(took)
	return took[len(took)/2]
}

// allocated is what a directory's files take on disk.
func allocated(t testing.TB, dir string) (n int64) {
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		const block = 512
		n += info.Sys().(*syscall.Stat_t).Blocks * block
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// writtenBytes is what the process wrote so far, less what was thrown away before
// it reached the disk; 0 where the kernel does not say.
func writtenBytes(t testing.TB) (n int64) {
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(text) {
		var v int64
		if _, err := fmt.Sscanf(string(line), "write_bytes: %d", &v); err == nil {
			n += v
		} else if _, err := fmt.Sscanf(string(line), "cancelled_write_bytes: %d", &v); err == nil {
			n -= v
		}
	}
	if n < 0 {
		t.Fatalf("%d bytes written", n)
	}
	return n
}
