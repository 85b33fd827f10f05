package badgerstore

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/materialize"
)

// fill folds so many records of the workload in each partition of the workload.
func fill(t testing.TB, s *Store, records int64) {
	t.Helper()
	for number := range int32(workloadPartition) {
		p, err := materialize.Open(materialize.Config{Lineage: workloadLineage, Partition: number, Store: s, Memory: materialize.NewMemory(2 << 20), FlushBytes: 300_000})
		if err != nil {
			t.Fatal(err)
		}
		p.StartAt(0)
		for p.Position() < records {
			var recs []events.Record
			for range 100 {
				recs = append(recs, workloadRecord(number, p.Position()+int64(len(recs))))
			}
			if err := p.Apply(recs); err != nil {
				t.Fatal(err)
			}
			if err := p.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// filled is the directory of a closed store, and its tables.
func filled(t testing.TB) (o Options, tables []string) {
	t.Helper()
	o = testOptions(t.TempDir())
	o.Lineage = workloadLineage
	s := mustOpen(t, o)
	fill(t, s, 3000)
	mustClose(t, s)
	tables, err := filepath.Glob(o.Dir + "/*.sst")
	if err != nil || len(tables) == 0 {
		t.Fatalf("tables %q, %v", tables, err)
	}
	return o, tables
}

// flip flips a bit somewhere in a file, and returns what flips it back.
func flip(t testing.TB, src *rand.Rand, path string) (at int64, back func()) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	at = src.Int64N(info.Size())
	var b [1]byte
	if _, err := file.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	flipped := [1]byte{b[0] ^ 1<<src.IntN(8)}
	// In place: a store may have the file in memory.
	if _, err := file.WriteAt(flipped[:], at); err != nil {
		t.Fatal(err)
	}
	return at, func() {
		file, err := os.OpenFile(path, os.O_RDWR, 0)
		if err == nil {
			_, err = file.WriteAt(b[:], at)
		}
		if err = errors.Join(err, file.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

func seeded(t testing.TB) *rand.Rand {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func proceed() error { return nil }

// TestFlippedBytes has the disk change one byte of a table, anywhere in it.
func TestFlippedBytes(t *testing.T) {
	o, tables := filled(t)
	src := seeded(t)
	for i := range 100 {
		path := tables[i%len(tables)]
		at, back := flip(t, src, path)
		_, err := Open(o)
		_, offline := OpenOffline(o.Dir, slog.New(slog.DiscardHandler))
		for _, err := range []error{err, offline} {
			if !errors.Is(err, materialize.ErrCorrupt) || !strings.Contains(err.Error(), filepath.Base(path)) || !strings.Contains(err.Error(), o.Dir) {
				t.Errorf("byte %d of %s: %v", at, path, err)
			}
		}
		back()
	}
	mustClose(t, mustOpen(t, o))
}

// TestFlippedBytesInARunningStore has it change while the store is open.
func TestFlippedBytesInARunningStore(t *testing.T) {
	o, tables := filled(t)
	s := mustOpen(t, o)
	defer mustClose(t, s)
	src := seeded(t)
	for i := range 100 {
		path := tables[i%len(tables)]
		at, back := flip(t, src, path)
		damaged, err := s.DamagedTables(proceed)
		if err != nil || len(damaged) != 1 || damaged[0].File != filepath.Base(path) {
			t.Errorf("byte %d of %s: %v, %v", at, path, damaged, err)
		}
		back()
	}
	if damaged, err := s.DamagedTables(proceed); len(damaged) > 0 || err != nil {
		t.Errorf("as it was: %v, %v", damaged, err)
	}
}

// TestDamageWhileCompacting has tables come and go.
func TestDamageWhileCompacting(t *testing.T) {
	o := testOptions(t.TempDir())
	o.Lineage, o.MemTableSize = workloadLineage, minMemTableSize
	s := mustOpen(t, o)
	defer mustClose(t, s)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range int64(300) {
			b := &materialize.Batch{Checkpoint: projections.Checkpoint{Position: i}}
			for n := range int64(1000) {
				b.WaitingAdded = append(b.WaitingAdded, projections.WaitingEvent{MessageID: "m", ReaderID: "r", Offset: 1000*(i%50) + n})
			}
			if err := s.Commit(1, b); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for going := true; going; {
		select {
		case <-done:
			going = false
		default:
		}
		if damaged, err := s.DamagedTables(proceed); len(damaged) > 0 || err != nil {
			t.Fatal(damaged, err)
		}
	}
}

// TestLostTable has a file of the store be gone.
func TestLostTable(t *testing.T) {
	o, tables := filled(t)
	if err := os.Remove(tables[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(o); !errors.Is(err, materialize.ErrCorrupt) || !strings.Contains(err.Error(), filepath.Base(tables[0])) {
		t.Errorf("Open: %v", err)
	}
}

// TestStrayTable has a table that was being written when the process ended.
func TestStrayTable(t *testing.T) {
	o, tables := filled(t)
	data, err := os.ReadFile(tables[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(o.Dir, "000999.sst"), data[:len(data)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	mustClose(t, mustOpen(t, o))
}
