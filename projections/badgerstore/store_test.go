package badgerstore

import (
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/materialize"
	"github.com/seenby/seenby/projections/storetest"
)

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

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Opener {
		options := testOptions(t.TempDir())
		return func() (materialize.Store, error) { return Open(options) }
	})
}

var _ = goleak.VerifyTestMain
