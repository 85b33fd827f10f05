package badgerstore

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"go.uber.org/goleak"

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
		"fold":        {func(o *Options) { o.Lineage.FoldVersion = 77 }, []string{"fold version is 1, not 77"}},
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
	if !errors.Is(err, materialize.ErrFormat) || !strings.Contains(err.Error(), "version 7, and this build knows version 1") {
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

// TestCorrupt changes records behind the store's back.
func TestCorrupt(t *testing.T) {
	s := mustOpen(t, testOptions(t.TempDir()))
	defer mustClose(t, s)
	m := largeMessage("m", 300)
	b := &materialize.Batch{
		Checkpoint:       projections.Checkpoint{Position: 1},
		Messages:         []materialize.Change{{Message: m}},
		WaitingAdded:     []projections.WaitingEvent{{MessageID: "w", ReaderID: "r", Offset: 7}},
		Undecodable:      []materialize.Undecodable{{Offset: 8, Value: []byte("v"), ValueSize: 1}},
		UndecodableTotal: 1,
	}
	mustCommit(t, s, 1, b)
	writes, _ := encodeBatch(1, b)
	check := func(what string, k []byte) {
		t.Helper()
		_, _, errRestore := s.Restore(1)
		_, errUndecodable := s.Undecodable(1)
		_, errMessage := s.Message(1, []byte("m"))
		_, errPrune := s.Prune(1, -1<<60)
		err := errors.Join(errRestore, errUndecodable, errMessage, errPrune)
		if !errors.Is(err, materialize.ErrCorrupt) || !strings.Contains(err.Error(), "partition 1") {
			t.Errorf("%s of %q: %v", what, k, err)
		}
		if errMessage != nil && !strings.Contains(errMessage.Error(), `message "m"`) {
			t.Errorf("the error does not name the message: %v", errMessage)
		}
	}
	for _, w := range writes {
		if w.key[4] == kindHour {
			continue // its value says nothing
		}
		for i := range w.value {
			if i > 20 && i < len(w.value)-8 {
				continue
			}
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
		if part := w.key[len(w.key)-5]; w.key[4] == kindMessage && part >= partBirth && part <= partUnlisted {
			if err := s.commit([]write{remove(w.key)}); err != nil {
				t.Fatal(err)
			}
			check("loss", w.key)
		}
		if err := s.commit([]write{w}); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := s.Message(1, []byte("m")); err != nil || storetest.DiffMessage(got, m) != "" {
		t.Errorf("at the end: %v", err)
	}
}

func largeMessage(id string, people int) *projections.Message {
	m := &projections.Message{ID: id, ConversationID: "c", SentAt: 1_790_000_000_000, Version: 1, Roster: &projections.Roster{}}
	for i := range people {
		m.Roster.Names = append(m.Roster.Names, fmt.Sprintf("person-%05d", i))
		m.Roster.OptedOut = append(m.Roster.OptedOut, false)
		if i > 0 {
			m.Receipts = append(m.Receipts, projections.Receipt{Person: uint32(i), ReadAt: m.SentAt + int64(i), Offset: int64(i)})
			m.Version = int64(i) + 1
		}
	}
	return m
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

// TestNothingLeft is that replaced, recalled and pruned messages leave nothing
// behind, nor do waiting events, few or many.
func TestNothingLeft(t *testing.T) {
	s := mustOpen(t, testOptions(t.TempDir()))
	defer mustClose(t, s)
	const hour = 3_600_000
	old := largeMessage("replaced", 3000)
	later := largeMessage("replaced", 3)
	later.SentAt += 1000 * hour
	unlisted := &projections.Message{ID: "recalled", SentAt: old.SentAt, SenderName: "s"}
	for i := range 100_000 {
		unlisted.Unlisted = append(unlisted.Unlisted, projections.HashReader(fmt.Append(nil, i)))
	}
	added := &materialize.Batch{Checkpoint: projections.Checkpoint{Position: 1}, Messages: []materialize.Change{{Message: old}, {Message: unlisted}}}
	for i := range int64(2000) {
		added.WaitingAdded = append(added.WaitingAdded, projections.WaitingEvent{Offset: i})
	}
	mustCommit(t, s, 1, added)
	recalled := &projections.Message{ID: "recalled", SentAt: old.SentAt, SenderName: "s", Recalled: true}
	removed := &materialize.Batch{Checkpoint: projections.Checkpoint{Position: 2}, Messages: []materialize.Change{{Message: later},
		{Message: recalled, Stored: true, Unlisted: len(unlisted.Unlisted)}}}
	for i := range int64(2000) {
		removed.WaitingRemoved = append(removed.WaitingRemoved, i)
	}
	mustCommit(t, s, 1, removed)
	if n, err := s.Prune(1, old.SentAt+10*hour); n != 1 || err != nil {
		t.Errorf("Prune: %d, %v", n, err)
	}
	if got, err := s.Message(1, []byte("replaced")); err != nil || storetest.DiffMessage(got, later) != "" {
		t.Errorf("the later message: %v", err)
	}
	// checkpoint, hour, head, birth, receipts
	if all := keys(t, s); len(all) != 5 {
		t.Errorf("%d records are left: %.300q", len(all), all)
	}
	if n, err := s.Prune(1, later.SentAt+10*hour); n != 1 || err != nil {
		t.Errorf("Prune: %d, %v", n, err)
	}
	if all := keys(t, s); len(all) != 1 {
		t.Errorf("%d records are left: %q", len(all), all)
	}
}

// TestInterruptedPrune has a prune end after any number of its deletions, as a
// crash between two of its transactions does.
func TestInterruptedPrune(t *testing.T) {
	s := mustOpen(t, testOptions(t.TempDir()))
	defer mustClose(t, s)
	m := largeMessage("m", 400)
	later := largeMessage("used again", 2)
	later.SentAt += 1e9
	b := &materialize.Batch{Checkpoint: projections.Checkpoint{Position: 1}, Messages: []materialize.Change{{Message: m}, {Message: largeMessage("used again", 300)}}}
	for n := 0; ; n++ {
		mustCommit(t, s, 1, b)
		mustCommit(t, s, 1, &materialize.Batch{Checkpoint: projections.Checkpoint{Position: 2}, Messages: []materialize.Change{{Message: later}}})
		due, err := s.due(1, m.SentAt+1e8)
		if err != nil || len(due) != 2 {
			t.Fatalf("due: %v, %v", due, err)
		}
		d := deleter{store: s}
		for _, one := range due {
			if _, err := s.prune(&d, 1, one); err != nil {
				t.Fatal(err)
			}
		}
		if n > len(d.writes) {
			return
		}
		d.writes = d.writes[:n]
		if err := d.flush(); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Message(1, []byte("m")); err != nil || got != nil && storetest.DiffMessage(got, m) != "" {
			t.Fatalf("after %d deletions: %v", n, err)
		}
		if _, err := s.Prune(1, m.SentAt+1e8); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Message(1, []byte("used again")); err != nil || storetest.DiffMessage(got, later) != "" {
			t.Fatalf("after %d deletions: the later message: %v", n, err)
		}
		if all := keys(t, s); len(all) != 5 {
			t.Fatalf("after %d deletions, %d records are left: %.300q", n, len(all), all)
		}
		if _, err := s.Prune(1, later.SentAt+1e8); err != nil {
			t.Fatal(err)
		}
	}
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
	writes, lists := encodeBatch(1, gone)
	if lists != 1 {
		t.Fatalf("%d lists", lists)
	}
	if err := s.commit(writes); err != nil {
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
