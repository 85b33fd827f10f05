package badgerstore

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"go.uber.org/goleak"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/materialize"
	"github.com/seenby/seenby/projections/storetest"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(workloadDir); dir != "" {
		os.Exit(runWorkload(dir))
	}
	goleak.VerifyTestMain(m)
}

func testLineage() projections.Lineage {
	return projections.Lineage{
		TopicID:     [16]byte{1, 2, 3},
		Partitions:  64,
		Generation:  1,
		FoldVersion: projections.FoldVersion,
		Limits:      projections.Limits{Waiting: 1000},
		Retention:   30 * 24 * time.Hour,
	}
}

func testOptions(dir string) Options {
	return Options{
		Dir:            dir,
		Lineage:        testLineage(),
		Owner:          Owner{Copy: "a", Nodes: 2, Node: 1},
		Logger:         slog.New(slog.DiscardHandler),
		MemTableSize:   16 << 20,
		BlockCacheSize: 1 << 20,
		IndexCacheSize: 1 << 20,
	}
}

func mustOpen(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustClose(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func mustCommit(t testing.TB, s *Store, partition int32, b *materialize.Batch) {
	t.Helper()
	if err := s.Commit(partition, b); err != nil {
		t.Fatal(err)
	}
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Opener {
		options := testOptions(t.TempDir())
		return func() (materialize.Store, error) { return Open(options) }
	})
}

// keys lists the store's keys but meta.
func keys(t testing.TB, s *Store) (all []string) {
	t.Helper()
	err := s.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			if k := string(it.Item().Key()); k != string(metaKey) {
				all = append(all, k)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestOpenRefuses changes one setting at a time.
func TestOpenRefuses(t *testing.T) {
	o := testOptions(t.TempDir())
	o.Lineage.Skips = []projections.Skip{{Partition: 1, Offset: 50}}
	s := mustOpen(t, o)
	mustCommit(t, s, 1, &materialize.Batch{Checkpoint: projections.Checkpoint{Position: 100}})
	mustClose(t, s)
	skips := func(all ...projections.Skip) func(*Options) {
		return func(o *Options) { o.Lineage.Skips = all }
	}
	for name, c := range map[string]struct {
		change func(*Options)
		want   []string
	}{
		"topic":       {func(o *Options) { o.Lineage.TopicID[0] = 9 }, []string{"topic ID is 010203", "not 090203"}},
		"partitions":  {func(o *Options) { o.Lineage.Partitions = 128 }, []string{"number of partitions is 64, not 128"}},
		"generation":  {func(o *Options) { o.Lineage.Generation = 2 }, []string{"generation is 1, not 2"}},
		"fold":        {func(o *Options) { o.Lineage.FoldVersion = 77 }, []string{"fold version is 2, not 77"}},
		"limit":       {func(o *Options) { o.Lineage.Limits.Waiting = 5 }, []string{"limit of waiting events is 1000, not 5"}},
		"retention":   {func(o *Options) { o.Lineage.Retention = time.Hour }, []string{"retention is 720h0m0s, not 1h0m0s"}},
		"copy":        {func(o *Options) { o.Owner.Copy = "b" }, []string{"copy is a, not b"}},
		"nodes":       {func(o *Options) { o.Owner.Nodes = 3 }, []string{"number of nodes of the copy is 2, not 3"}},
		"node":        {func(o *Options) { o.Owner.Node = 0 }, []string{"number of the node is 1, not 0"}},
		"fewer skips": {skips(), []string{"list of records to skip", "1@50 is missing"}},
		"late skip": {skips(projections.Skip{Partition: 1, Offset: 50}, projections.Skip{Partition: 1, Offset: 99}),
			[]string{"1@99 was folded already: the partition is at 100"}},
		"two": {func(o *Options) { o.Lineage.Generation, o.Owner.Copy = 4, "c" }, []string{"generation is 1, not 4", "copy is a, not c"}},
		"skip and more": {func(o *Options) {
			skips(projections.Skip{Partition: 1, Offset: 50}, projections.Skip{Partition: 1, Offset: 100})(o)
			o.Lineage.Generation = 4
		}, []string{"generation is 1, not 4"}},
	} {
		t.Run(name, func(t *testing.T) {
			other := o
			c.change(&other)
			_, err := Open(other)
			if !errors.Is(err, materialize.ErrLineage) {
				t.Fatalf("Open: %v", err)
			}
			for _, want := range append(c.want, o.Dir, "empty data directory") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error does not say %q: %v", want, err)
				}
			}
			mustClose(t, mustOpen(t, o)) // as it was
		})
	}
}

// TestOpenAddsSkips is how an operator has a stopped partition go on.
func TestOpenAddsSkips(t *testing.T) {
	o := testOptions(t.TempDir())
	s := mustOpen(t, o)
	mustCommit(t, s, 1, &materialize.Batch{Checkpoint: projections.Checkpoint{Position: 100}})
	mustClose(t, s)
	before := o
	o.Lineage.Skips = []projections.Skip{{Partition: 1, Offset: 100}, {Partition: 9, Offset: 0}}
	s = mustOpen(t, o)
	if saved, found, err := s.Restore(1); err != nil || !found || saved.Checkpoint.Position != 100 {
		t.Errorf("Restore: %+v, %v, %v", saved, found, err)
	}
	mustClose(t, s)
	if _, err := Open(before); !errors.Is(err, materialize.ErrLineage) {
		t.Errorf("Open without the skips that it has now: %v", err)
	}
	mustClose(t, mustOpen(t, o))
}

func TestOpenUnknownFormat(t *testing.T) {
	o := testOptions(t.TempDir())
	s := mustOpen(t, o)
	if err := s.commit([]write{{metaKey, []byte{FormatVersion + 6, 0xff}}}); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	_, err := Open(o)
	if !errors.Is(err, materialize.ErrFormat) || !strings.Contains(err.Error(), "version 8, and this build knows version 2") {
		t.Errorf("Open: %v", err)
	}
}

func TestOpenForeignDatabase(t *testing.T) {
	o := testOptions(t.TempDir())
	db, err := badger.Open(badgerOptions(o))
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(func(txn *badger.Txn) error { return txn.Set([]byte("k"), []byte("v")) }); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(o); !errors.Is(err, materialize.ErrFormat) {
		t.Errorf("Open: %v", err)
	}
}

func TestOpenTwice(t *testing.T) {
	o := testOptions(t.TempDir())
	s := mustOpen(t, o)
	_, err := Open(o)
	if !errors.Is(err, errInUse) || !strings.Contains(err.Error(), o.Dir) {
		t.Errorf("Open of a directory that is open: %v", err)
	}
	mustCommit(t, s, 1, &materialize.Batch{Checkpoint: projections.Checkpoint{Position: 1}})
	mustClose(t, s)
	mustClose(t, mustOpen(t, o))
}

func TestOpenBadOptions(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Options){
		"no directory":   func(o *Options) { o.Dir = "" },
		"no logger":      func(o *Options) { o.Logger = nil },
		"small memtable": func(o *Options) { o.MemTableSize = 1 << 20 },
		"a file":         func(o *Options) { o.Dir = file },
	} {
		o := testOptions(t.TempDir())
		change(&o)
		if s, err := Open(o); err == nil {
			mustClose(t, s)
			t.Errorf("%s: opened", name)
		}
	}
}

// TestOpenAfterEmptyLogs has what a crash leaves while Badger begins a log file
// or drops one. It would not open that by itself.
func TestOpenAfterEmptyLogs(t *testing.T) {
	o := testOptions(t.TempDir())
	s := mustOpen(t, o)
	mustCommit(t, s, 1, &materialize.Batch{Checkpoint: projections.Checkpoint{Position: 5}})
	mustClose(t, s)
	for _, name := range []string{"00099.mem", "000099.vlog"} {
		if err := os.WriteFile(filepath.Join(o.Dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s = mustOpen(t, o)
	defer mustClose(t, s)
	if saved, found, err := s.Restore(1); err != nil || !found || saved.Checkpoint.Position != 5 {
		t.Errorf("Restore: %+v, %v, %v", saved, found, err)
	}
}

// TestOpenWithSmallerMemtables opens what a crash left of a store with larger
// memtables: its log as it was, and cut to what is in it, as Badger does when it
// reads one, just before another crash.
func TestOpenWithSmallerMemtables(t *testing.T) {
	o := testOptions(t.TempDir())
	o.MemTableSize = 32 << 20
	s := mustOpen(t, o)
	for i := range int64(1400) {
		b := &materialize.Batch{Checkpoint: projections.Checkpoint{Position: i}}
		for n := range int64(100) { // small records take more room in memory than in the log
			b.WaitingAdded = append(b.WaitingAdded, projections.WaitingEvent{Offset: 100*i + n})
		}
		mustCommit(t, s, 1, b)
	}
	want, _, err := s.Restore(1)
	if err != nil {
		t.Fatal(err)
	}
	left, cut := filepath.Join(t.TempDir(), "left"), filepath.Join(t.TempDir(), "cut")
	for _, dir := range []string{left, cut} {
		if err := os.CopyFS(dir, os.DirFS(o.Dir)); err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, s)
	logs, err := filepath.Glob(cut + "/*.mem")
	if err != nil || len(logs) != 1 {
		t.Fatalf("%v, %v: there should be one log", logs, err)
	}
	log, err := os.ReadFile(logs[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(logs[0], int64(len(bytes.TrimRight(log, "\x00")))); err != nil {
		t.Fatal(err)
	}
	o.MemTableSize = minMemTableSize
	for _, dir := range []string{left, cut} {
		o.Dir = dir
		s := mustOpen(t, o)
		got, found, err := s.Restore(1)
		if err != nil || !found || got.Checkpoint != want.Checkpoint || len(got.Waiting) != len(want.Waiting) {
			t.Errorf("restored %+v with %d events, not %+v with %d: %v", got.Checkpoint, len(got.Waiting), want.Checkpoint, len(want.Waiting), err)
		}
		mustClose(t, s)
	}
}

// TestConcurrentCommits has partitions commit at once, which are written together
// where they fit one transaction. One that fits none fails alone.
func TestConcurrentCommits(t *testing.T) {
	const partitions, commits = 8, 30
	o := testOptions(t.TempDir())
	o.MemTableSize = minMemTableSize
	s := mustOpen(t, o)
	defer mustClose(t, s)
	batch := func(i, n int64) *materialize.Batch {
		b := &materialize.Batch{Checkpoint: projections.Checkpoint{Position: i}}
		for offset := range n {
			b.WaitingAdded = append(b.WaitingAdded, projections.WaitingEvent{MessageID: "m", ReaderID: "r", Offset: i<<32 + offset})
		}
		return b
	}
	var all sync.WaitGroup
	for p := range int32(partitions) {
		all.Go(func() {
			for i := range int64(commits) {
				if err := s.Commit(p, batch(i, 200*int64(p))); err != nil {
					t.Error(err)
				}
				if err := s.Commit(p, batch(1<<20, 10_000)); !errors.Is(err, materialize.ErrTooLarge) {
					t.Errorf("Commit of too much: %v", err)
				}
			}
		})
	}
	all.Wait()
	for p := range int32(partitions) {
		saved, found, err := s.Restore(p)
		if err != nil || !found || saved.Position != commits-1 || len(saved.Waiting) != commits*200*int(p) {
			t.Errorf("partition %d is at %d with %d events, %v, %v", p, saved.Position, len(saved.Waiting), found, err)
		}
	}
}

// TestFailedWrite has a store whose disk failed once: nothing more is written.
func TestFailedWrite(t *testing.T) {
	s := mustOpen(t, testOptions(t.TempDir()))
	defer mustClose(t, &Store{db: s.db, dir: s.dir})
	broken := errors.New("input/output error")
	s.fail(broken)
	s.fail(errors.New("another"))
	err := s.Commit(1, &materialize.Batch{Checkpoint: projections.Checkpoint{Position: 1}})
	if !errors.Is(err, broken) {
		t.Errorf("Commit: %v", err)
	}
	if _, found, err := s.Restore(1); found || err != nil {
		t.Errorf("Restore: found %v, %v", found, err)
	}
}

func TestFullDisk(t *testing.T) {
	s := mustOpen(t, testOptions(t.TempDir()))
	defer mustClose(t, s)
	reserve := s.reserve
	s.reserve = 1 << 62
	err := s.Commit(1, &materialize.Batch{Checkpoint: projections.Checkpoint{Position: 1}})
	if err == nil || !strings.Contains(err.Error(), "make room") {
		t.Errorf("Commit: %v", err)
	}
	s.reserve = reserve
	mustCommit(t, s, 1, &materialize.Batch{Checkpoint: projections.Checkpoint{Position: 1}})
}

// TestInterruptedRemoval has many waiting events leave, and a crash before they
// were deleted.
func TestInterruptedRemoval(t *testing.T) {
	s := mustOpen(t, testOptions(t.TempDir()))
	defer mustClose(t, s)
	b := &materialize.Batch{Checkpoint: projections.Checkpoint{Position: 1}}
	gone := &materialize.Batch{Checkpoint: projections.Checkpoint{Position: 2}}
	for i := range int64(1000) {
		b.WaitingAdded = append(b.WaitingAdded, projections.WaitingEvent{MessageID: "m", ReaderID: "r", Offset: i})
		if i != 500 {
			gone.WaitingRemoved = append(gone.WaitingRemoved, i)
		}
	}
	mustCommit(t, s, 1, b)
	e := encoder{partition: 1}
	lists := e.batch(gone)
	if lists != 1 {
		t.Fatalf("%d lists", lists)
	}
	if err := s.commit(e.writes); err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		saved, _, err := s.Restore(1)
		if err != nil || len(saved.Waiting) != 1 || saved.Waiting[0].Offset != 500 {
			t.Errorf("Restore: %d events, %v", len(saved.Waiting), err)
		}
	}
	check()
	if err := s.deleteRemoved(1); err != nil {
		t.Fatal(err)
	}
	check()
	if all := keys(t, s); len(all) != 2 {
		t.Errorf("%d records are left", len(all))
	}
}

const testHour = 3_600_000

// chunked is a message with so many sealed chunks, which no fold has written.
func chunked(id string, sentAt int64, chunks int) *projections.Message {
	names := projections.NewNames(&events.MessageSent{SenderID: []byte("sender"), Recipients: [][]byte{[]byte("a"), []byte("b")}})
	m := &projections.Message{ID: id, ConversationID: "c", SentAt: sentAt, Sent: 1, Changed: 2,
		Roster: projections.RestoreRoster(names, names.Hash().Ref(), 0, nil)}
	var sealed [][]byte
	for i := range chunks {
		sealed = append(sealed, fmt.Appendf(nil, "chunk %d of %s at %d", i, id, sentAt))
	}
	m.Receipts = projections.RestoreReceipts(sealed, []byte("open"))
	return m
}

func crowd(id string, sentAt int64, chunks int) *projections.Message {
	m := chunked(id, sentAt, chunks)
	m.Roster, m.Crowd = nil, &projections.Crowd{Sender: "sender", Given: 7}
	return m
}

// rosterOf is a message's roster, kept for its hour.
func rosterOf(m *projections.Message) materialize.RosterChange {
	return materialize.RosterChange{StoredRoster: materialize.StoredRoster{Roster: m.Roster, KeepUntil: projections.Hour(m.SentAt)}, Extended: true}
}

// same says whether what the store has of a message is it.
func same(got, want *projections.Message) bool {
	if got == nil || got.SentAt != want.SentAt || got.Receipts.Sealed() != want.Receipts.Sealed() || got.Changed != want.Changed {
		return false
	}
	for i := range want.Receipts.Sealed() {
		if !bytes.Equal(got.Receipts.Chunk(i).Bytes, want.Receipts.Chunk(i).Bytes) {
			return false
		}
	}
	return bytes.Equal(got.Receipts.Open().Bytes, want.Receipts.Open().Bytes)
}

// TestCorrupt changes records behind the store's back.
func TestCorrupt(t *testing.T) {
	s := mustOpen(t, testOptions(t.TempDir()))
	defer mustClose(t, s)
	m, c := chunked("m", 1_790_000_000_000, 3), crowd("c", 1_790_000_000_000, 1)
	b := &materialize.Batch{
		Checkpoint:       projections.Checkpoint{Position: 1},
		Messages:         []materialize.Change{{Message: m}, {Message: c}},
		Rosters:          []materialize.RosterChange{rosterOf(m)},
		Digests:          []projections.HourDigest{{Hour: 1, Digest: projections.Digest{Lo: 7}}},
		ErasuresAdded:    []projections.Erasure{{UserID: "u", Offset: 7}},
		WaitingAdded:     []projections.WaitingEvent{{MessageID: "w", ReaderID: "r", Offset: 7}},
		Undecodable:      []materialize.Undecodable{{Offset: 8, Value: []byte("v"), ValueSize: 1}},
		UndecodableTotal: 1,
	}
	mustCommit(t, s, 1, b)
	e := encoder{partition: 1}
	e.batch(b)
	check := func(what string, k []byte) {
		t.Helper()
		_, _, errRestore := s.Restore(1)
		_, errUndecodable := s.Undecodable(1)
		_, _, errMessage := s.Message(1, []byte("m"))
		_, _, errCrowd := s.Message(1, []byte("c"))
		_, errChunks := s.Chunks(1, []byte("m"), 3)
		_, errRoster := s.Roster(1, m.Roster.Ref)
		_, errRosters := s.Rosters(1, 0, 5)
		errEach := s.View(1, func(r Reader) error {
			return r.EachMessage(func(*projections.Message, projections.RosterRef) error { return nil })
		})
		d := deleter{store: s}
		errPrune := s.db.View(func(txn *badger.Txn) error {
			_, err := (&pruner{deleter: d, txn: txn, partition: 1, seen: make(map[string]struct{})}).lists(1 << 60)
			return s.explain(1, err)
		})
		err := errors.Join(errRestore, errUndecodable, errMessage, errCrowd, errRoster, errRosters, errEach, errPrune)
		if !errors.Is(err, materialize.ErrCorrupt) || !strings.Contains(err.Error(), "partition 1: the store is corrupt: "+describe(k)) {
			t.Errorf("%s of %q: %v", what, k, err)
		}
		if (errMessage == nil) != (errChunks == nil) {
			t.Errorf("%s of %q: Message %v, Chunks %v", what, k, errMessage, errChunks)
		}
	}
	for _, w := range e.writes {
		if w.key[4] == kindCrowd {
			continue // its value says nothing
		}
		for i := range w.value {
			bad := append([]byte(nil), w.value...)
			bad[i] ^= 0x10
			if err := s.commit([]write{{w.key, bad}}); err != nil {
				t.Fatal(err)
			}
			check(fmt.Sprintf("byte %d", i), w.key)
		}
		if err := s.commit([]write{{w.key, w.value[:2]}}); err != nil {
			t.Fatal(err)
		}
		check("half", w.key)
		if _, chunk, ok := parseMessageKey(w.key); w.key[4] == kindMessage && ok && chunk >= 0 {
			if err := s.commit([]write{remove(w.key)}); err != nil {
				t.Fatal(err)
			}
			check("loss", w.key)
		}
		if err := s.commit([]write{w}); err != nil {
			t.Fatal(err)
		}
	}
	if got, _, err := s.Message(1, []byte("m")); err != nil || !same(got, m) {
		t.Errorf("at the end: %v", err)
	}
}

// TestNothingLeft is that replaced, recalled and pruned messages leave nothing
// behind, nor do rosters, digests, erasures and waiting events.
func TestNothingLeft(t *testing.T) {
	s := mustOpen(t, testOptions(t.TempDir()))
	defer mustClose(t, s)
	old, later := chunked("replaced", 1_790_000_000_000, 30), chunked("replaced", 1_790_000_000_000+1000*testHour, 3)
	many := crowd("recalled", old.SentAt, 1000)
	twice, thrice := crowd("twice in an hour", old.SentAt, 20), crowd("twice in an hour", old.SentAt+1, 2)
	added := &materialize.Batch{Checkpoint: projections.Checkpoint{Position: 1}, Messages: []materialize.Change{{Message: old}, {Message: many}, {Message: twice}},
		Rosters: []materialize.RosterChange{rosterOf(old), largeRoster(old.SentAt)}, Digests: []projections.HourDigest{{Hour: projections.Hour(old.SentAt)}},
		ErasuresAdded: []projections.Erasure{{UserID: "u", Offset: 1}, {UserID: "u", Offset: 2}}}
	for i := range int64(2000) {
		added.WaitingAdded = append(added.WaitingAdded, projections.WaitingEvent{Offset: i})
	}
	mustCommit(t, s, 1, added)
	recalled := crowd("recalled", many.SentAt, 0)
	recalled.Recalled = true
	removed := &materialize.Batch{Checkpoint: projections.Checkpoint{Position: 2}, Messages: []materialize.Change{{Message: later},
		{Message: recalled, Stored: true, Sealed: 1000}, {Message: thrice}}, Rosters: []materialize.RosterChange{rosterOf(later)}, ErasuresForgotten: 3}
	for i := range int64(2000) {
		removed.WaitingRemoved = append(removed.WaitingRemoved, i)
	}
	mustCommit(t, s, 1, removed)
	if n := prune(t, s, old.SentAt+10*testHour); n != 2 {
		t.Errorf("Prune removed %d", n)
	}
	if got, _, err := s.Message(1, []byte("replaced")); err != nil || !same(got, later) {
		t.Errorf("the later message: %v", err)
	}
	// checkpoint, list, roster, head, chunks
	if all := keys(t, s); len(all) != 7 {
		t.Errorf("%d records are left: %.300q", len(all), all)
	}
	if n := prune(t, s, later.SentAt+10*testHour); n != 1 {
		t.Errorf("Prune removed %d", n)
	}
	if all := keys(t, s); len(all) != 1 {
		t.Errorf("%d records are left: %q", len(all), all)
	}
}

// largeRoster is one of several pieces.
func largeRoster(sentAt int64) materialize.RosterChange {
	e := &events.MessageSent{SenderID: []byte("sender")}
	for i := range 5000 {
		e.Recipients = append(e.Recipients, fmt.Appendf(nil, "%0128d", i))
	}
	names := projections.NewNames(e)
	return materialize.RosterChange{StoredRoster: materialize.StoredRoster{Roster: projections.RestoreRoster(names, names.Hash().Ref(), 0, nil), KeepUntil: projections.Hour(sentAt)}, Extended: true}
}

func prune(t testing.TB, s *Store, before int64) (removed int) {
	t.Helper()
	for {
		n, done, err := s.Prune(1, before)
		if err != nil {
			t.Fatal(err)
		}
		if removed += n; done {
			return removed
		}
	}
}

// TestPruneStep is that a step is bounded.
func TestPruneStep(t *testing.T) {
	s := mustOpen(t, testOptions(t.TempDir()))
	defer mustClose(t, s)
	b := &materialize.Batch{Checkpoint: projections.Checkpoint{Position: 1}}
	for i := range 4500 {
		b.Messages = append(b.Messages, materialize.Change{Message: crowd(fmt.Sprint(i), 0, 0)})
	}
	mustCommit(t, s, 1, b)
	steps := 0
	for done := false; !done; steps++ {
		n, all, err := s.Prune(1, testHour)
		if err != nil || n > pruneAtOnce {
			t.Fatalf("Prune removed %d, %v", n, err)
		}
		done = all
	}
	if all := keys(t, s); steps < 4 || len(all) != 1 {
		t.Errorf("after %d steps %d records are left", steps, len(all))
	}
}

// TestScrubbedRoster is that no piece is left of what a roster was, with names of
// those who are gone.
func TestScrubbedRoster(t *testing.T) {
	s := mustOpen(t, testOptions(t.TempDir()))
	defer mustClose(t, s)
	r := largeRoster(0)
	mustCommit(t, s, 1, &materialize.Batch{Checkpoint: projections.Checkpoint{Position: 1}, Rosters: []materialize.RosterChange{r}})
	before := len(keys(t, s))
	var gone []projections.GonePerson
	for i := range uint32(r.Roster.Names.Len() - 10) {
		gone = append(gone, projections.GonePerson{Number: i, Next: int64(i) + 1})
	}
	r.Roster = projections.RestoreRoster(r.Roster.Names, r.Roster.Ref, 9999, gone)
	r.Extended = false
	mustCommit(t, s, 1, &materialize.Batch{Checkpoint: projections.Checkpoint{Position: 2}, Rosters: []materialize.RosterChange{r}})
	if after := len(keys(t, s)); before != 5+2 || after != 1+2 {
		t.Errorf("%d records, and %d without the names", before, after)
	}
	err := s.View(1, func(reader Reader) error {
		return scan(reader.txn, key(1, kindRoster), func(_, value []byte) error {
			if bytes.Contains(value, []byte("00042")) {
				t.Error("a name is left")
			}
			return nil
		})
	})
	got, errRoster := s.Roster(1, r.Roster.Ref)
	if err != nil || errRoster != nil || len(got.Roster.Gone().People) != len(gone) {
		t.Errorf("%v, %v, %v", got, err, errRoster)
	}
}

// TestInterruptedPrune has a prune end after any number of its deletions, as a
// crash between two of its transactions does.
func TestInterruptedPrune(t *testing.T) {
	s := mustOpen(t, testOptions(t.TempDir()))
	defer mustClose(t, s)
	m, again, later := chunked("m", 0, 4), crowd("used again", 0, 3), chunked("used again", 100*testHour, 2)
	large := largeRoster(0)
	first := &materialize.Batch{Checkpoint: projections.Checkpoint{Position: 1}, Messages: []materialize.Change{{Message: m}, {Message: again}}, Rosters: []materialize.RosterChange{rosterOf(m), large}}
	second := &materialize.Batch{Checkpoint: projections.Checkpoint{Position: 2}, Messages: []materialize.Change{{Message: later}}, Rosters: []materialize.RosterChange{rosterOf(later)}}
	for n := 0; ; n++ {
		mustCommit(t, s, 1, first)
		mustCommit(t, s, 1, second)
		p := pruner{deleter: deleter{store: s}, partition: 1, seen: make(map[string]struct{})}
		err := s.db.View(func(txn *badger.Txn) error {
			p.txn = txn
			_, err := p.lists(10 * testHour)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if n > len(p.writes) {
			return
		}
		p.writes = p.writes[:n]
		if err := p.flush(); err != nil {
			t.Fatal(err)
		}
		if got, _, err := s.Message(1, []byte("m")); err != nil || got != nil && !same(got, m) {
			t.Fatalf("after %d deletions: %v", n, err)
		}
		prune(t, s, 10*testHour)
		if got, _, err := s.Message(1, []byte("used again")); err != nil || !same(got, later) {
			t.Fatalf("after %d deletions: the later message: %v", n, err)
		}
		// checkpoint, list, roster, head, chunks
		if all := keys(t, s); len(all) != 6 {
			t.Fatalf("after %d deletions, %d records are left: %.1000q", n, len(all), all)
		}
		prune(t, s, 200*testHour)
	}
}
