package badgerstore

import (
	"errors"
	"io/fs"
	"log/slog"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/materialize"
)

func TestReadUndecodable(t *testing.T) {
	dir := t.TempDir()
	record := func(offset int64) materialize.Undecodable {
		return materialize.Undecodable{
			Offset: offset, Timestamp: 7, Outcome: projections.Undecodable, Reason: "a reason",
			Key: []byte("k\x1b"), Value: []byte("hi"), KeySize: 2, ValueSize: 2,
		}
	}
	s := mustOpen(t, testOptions(dir))
	batch := func(position, total int64, records ...materialize.Undecodable) *materialize.Batch {
		return &materialize.Batch{Checkpoint: projections.Checkpoint{Position: position}, Undecodable: records, UndecodableTotal: total}
	}
	mustCommit(t, s, 1, batch(10, 2, record(3), record(4)))
	mustCommit(t, s, 1, batch(11, 3, record(10)))
	mustCommit(t, s, 3, batch(5, 0))
	if _, err := ReadUndecodable(dir, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("read while it is open: %v", err)
	}
	mustClose(t, s)

	want := []KeptUndecodable{
		{Partition: 1, Total: 3, Records: []materialize.Undecodable{record(3), record(4), record(10)}},
		{Partition: 3},
	}
	for range 2 {
		if got, err := ReadUndecodable(dir, slog.New(slog.DiscardHandler)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%v, %+v", err, got)
		}
	}
	// It is still the same store.
	mustClose(t, mustOpen(t, testOptions(dir)))

	none := filepath.Join(t.TempDir(), "none")
	if _, err := ReadUndecodable(none, slog.New(slog.DiscardHandler)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("where there is none: %v", err)
	}
}
