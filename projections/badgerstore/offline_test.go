package badgerstore

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"reflect"
	"slices"
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

// TestOffline holds all that a store tells of its partitions when nobody has it open
// to what it told before.
func TestOffline(t *testing.T) {
	dir := t.TempDir()
	o := testOptions(dir)
	o.Lineage, o.Owner = workloadLineage, Owner{Copy: "a", Nodes: 2, Node: 0}
	o.Lineage.Skips = []projections.Skip{{Partition: 2, Offset: 1 << 40}, {Partition: 0, Offset: 1 << 41}}
	s := mustOpen(t, o)
	fill(t, s, 2000)
	want := make(map[int32]string)
	for _, p := range []int32{0, 2} {
		want[p] = told(t, s.View, p)
		if len(want[p]) < 10_000 {
			t.Fatalf("partition %d: only %s", p, want[p])
		}
	}
	mustClose(t, s)
	off, err := OpenOffline(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := off.Close(); err != nil {
			t.Error(err)
		}
	}()
	meta := Meta{Format: FormatVersion, Lineage: o.Lineage, Owner: o.Owner}
	meta.Lineage.Skips = o.Lineage.SortedSkips()
	if got := off.Meta(); !reflect.DeepEqual(got, meta) || got.Lineage.ID() != o.Lineage.ID() {
		t.Errorf("meta %+v, not %+v", got, meta)
	}
	if got := off.Partitions(); !slices.Equal(got, []int32{0, 2}) {
		t.Errorf("partitions %v", got)
	}
	for p, want := range want {
		if got := told(t, off.View, p); got != want {
			t.Errorf("partition %d: %.1000s\nnot %.1000s", p, got, want)
		}
	}
	broken := errors.New("broken")
	if err := off.View(2, func(Reader) error { return broken }); !errors.Is(err, broken) || !strings.Contains(err.Error(), dir) {
		t.Errorf("View: %v", err)
	}
}

// told is all that a partition has, digests included, which must be those that its
// messages and erasures have.
func told(t testing.TB, view func(int32, func(Reader) error) error, partition int32) string {
	t.Helper()
	var b strings.Builder
	err := view(partition, func(r Reader) error {
		saved, found, err := r.Restore()
		if err != nil || !found {
			return errors.Join(err, errors.New("nothing is there"))
		}
		fmt.Fprintf(&b, "%d: %+v", r.Partition(), saved)
		rosters := make(map[projections.RosterRef]*projections.Roster)
		if err := r.EachRoster(func(s *materialize.StoredRoster) error {
			rosters[s.Roster.Ref] = s.Roster
			fmt.Fprintf(&b, " %x until %d", s.Roster.Names.Hash(), s.KeepUntil)
			return nil
		}); err != nil {
			return err
		}
		hours := make(map[int64]projections.Digest)
		for _, e := range saved.Erasures {
			hour := projections.Hour(e.Timestamp)
			hours[hour] = hours[hour].Add(e.Digest())
		}
		fold := projections.NewFold(workloadLineage, partition, saved.Restored)
		if err := r.EachMessage(func(m *projections.Message, ref projections.RosterRef) error {
			if again, _, err := r.Message([]byte(m.ID)); err != nil || !reflect.DeepEqual(again, m) {
				t.Errorf("message %q is %+v, not %+v, %v", m.ID, again, m, err)
			}
			if m.Crowd == nil {
				m.Roster = rosters[ref]
			}
			if err := m.Rebuild(); err != nil {
				return err
			}
			fold.Settle(m)
			fmt.Fprintf(&b, " %q %v", m.ID, m.Digest())
			hour := projections.Hour(m.SentAt)
			hours[hour] = hours[hour].Add(m.Digest())
			return nil
		}); err != nil {
			return err
		}
		for _, h := range saved.Digests {
			if hours[h.Hour].Add(h.Forgotten) != h.Digest {
				t.Errorf("partition %d, hour %d: the messages have %v, the digest is %v", partition, h.Hour, hours[h.Hour], h.Digest)
			}
		}
		kept, err := r.Undecodable()
		fmt.Fprintf(&b, " %+v", kept)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestViewIsOfOneCommit reads while another goroutine commits, and prunes.
func TestViewIsOfOneCommit(t *testing.T) {
	s := mustOpen(t, testOptions(t.TempDir()))
	defer mustClose(t, s)
	commit := func(i int64) {
		b := &materialize.Batch{Checkpoint: projections.Checkpoint{Position: i}}
		for n := range 20 {
			m := chunked(fmt.Sprint(n), i*testHour, 2)
			m.Changed = 1 + i
			b.Messages = append(b.Messages, materialize.Change{Message: m})
			b.Rosters = []materialize.RosterChange{rosterOf(m)}
		}
		mustCommit(t, s, 1, b)
	}
	commit(0)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range int64(200) {
			commit(i)
			if _, _, err := s.Prune(1, i*testHour); err != nil {
				t.Error(err)
			}
		}
	}()
	for reading := true; reading; {
		select {
		case <-done:
			reading = false
		default:
		}
		err := s.View(1, func(r Reader) error {
			saved, _, err := r.Restore()
			if err != nil {
				return err
			}
			n := 0
			err = r.EachMessage(func(m *projections.Message, ref projections.RosterRef) error {
				n++
				if roster, err := r.Roster(ref); m.Changed != 1+saved.Position || roster == nil || err != nil {
					t.Errorf("a message is of version %d, at %d: %v, %v", m.Changed, saved.Position, roster, err)
				}
				return nil
			})
			if n != 20 {
				t.Errorf("%d messages", n)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestEachMessagePassesOverLeftovers has chunks be there that belong to no message.
func TestEachMessagePassesOverLeftovers(t *testing.T) {
	s := mustOpen(t, testOptions(t.TempDir()))
	defer mustClose(t, s)
	first, pruned, replaced, last := chunked("first", 0, 9), chunked("pruned", 0, 5), crowd("replaced", 0, 5), chunked("x", 0, 2)
	later := chunked("replaced", 50*testHour, 2)
	for i, messages := range [][]*projections.Message{{first, pruned, replaced, last}, {later}} {
		b := &materialize.Batch{Checkpoint: projections.Checkpoint{Position: int64(i)}}
		for _, m := range messages {
			b.Messages = append(b.Messages, materialize.Change{Message: m})
		}
		mustCommit(t, s, 1, b)
	}
	if err := s.commit([]write{remove(messageKey(1, "pruned"))}); err != nil {
		t.Fatal(err)
	}
	var got []*projections.Message
	err := s.View(1, func(r Reader) error {
		return r.EachMessage(func(m *projections.Message, _ projections.RosterRef) error {
			got = append(got, m)
			return nil
		})
	})
	if err != nil || len(got) != 3 || !same(got[0], first) || !same(got[1], later) || !same(got[2], last) {
		t.Errorf("%d messages, %v", len(got), err)
	}
}
