package verify_test

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/badgerstore"
	"github.com/seenby/seenby/projections/history"
	"github.com/seenby/seenby/projections/materialize"
	"github.com/seenby/seenby/projections/verify"
)

var quiet = slog.New(slog.DiscardHandler)

func lineage() projections.Lineage {
	return projections.Lineage{TopicID: [16]byte{1}, Partitions: 1, Generation: 1, FoldVersion: projections.FoldVersion,
		Limits: projections.Limits{Waiting: 1000}, Retention: 72 * time.Hour}
}

func open(t *testing.T, dir string, l projections.Lineage, node int) *badgerstore.Store {
	t.Helper()
	s, err := badgerstore.Open(badgerstore.Options{Dir: dir, Lineage: l, Owner: badgerstore.Owner{Copy: "a", Nodes: int(l.Partitions), Node: node}, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closed(t *testing.T, s interface{ Close() error }) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func partition(t *testing.T, s materialize.Store, l projections.Lineage, number int32, memory int64) *materialize.Partition {
	t.Helper()
	p, err := materialize.Open(materialize.Config{Lineage: l, Partition: number, Store: s, Memory: materialize.NewMemory(memory), FlushBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	p.StartAt(0)
	return p
}

// must is for what cannot fail.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// check opens a store as the tool does, and holds it to itself.
func check(t *testing.T, dir string, number int32) (verify.Checked, *badgerstore.Offline) {
	t.Helper()
	o, err := badgerstore.OpenOffline(dir, quiet)
	if err != nil {
		t.Fatal(err)
	}
	s := o.Snapshot(number)
	defer s.Close()
	c, err := verify.Check(t.Context(), s, o.Meta().Lineage, number, verify.Options{Show: 10})
	if err != nil {
		t.Fatal(err)
	}
	return c, o
}

// compare compares two stores of a partition.
func compare(t *testing.T, first, second string, number int32, now int64) verify.Compared {
	t.Helper()
	var sides [2]*verify.Side
	var l projections.Lineage
	for i, dir := range []string{first, second} {
		c, o := check(t, dir, number)
		defer closed(t, o)
		s := o.Snapshot(number)
		defer s.Close()
		sides[i], l = &verify.Side{Snapshot: s, Checked: c}, o.Meta().Lineage
	}
	c, err := verify.Compare(t.Context(), sides[0], sides[1], l, now, verify.Options{Show: 10})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// log makes records.
type log struct {
	t    testing.TB
	next int64
	time int64
	recs []events.Record
}

func (l *log) add(e events.Event) {
	l.t.Helper()
	value, err := events.AppendEncode(nil, e)
	if err != nil {
		l.t.Fatal(err)
	}
	l.recs = append(l.recs, events.Record{Offset: l.next, Timestamp: l.time, LeaderEpoch: 1, Key: e.Key(), Value: value})
	l.next++
	l.time += 1000
}

func person(i int) []byte { return fmt.Appendf(nil, "person-%03d", i) }

// chat is messages to groups and crowds, who read, a recall and erasures.
func chat(t testing.TB) *log {
	l := &log{t: t, time: history.Epoch}
	read := func(id string, who int) {
		l.add(&events.MessageRead{MessageID: []byte(id), ReaderID: person(who), ReadAt: events.Unclaimed})
	}
	for m := range 40 {
		id := fmt.Sprintf("m%02d", m)
		sent := &events.MessageSent{MessageID: []byte(id), ConversationID: []byte("c"), SenderID: person(m % 3), SentAt: l.time}
		if m%5 == 4 {
			sent.CountOnly, sent.RecipientCount = true, 100
		} else {
			for i := range 20 + m%2 {
				sent.Recipients = append(sent.Recipients, person(i))
			}
			sent.OptedOut = [][]byte{person(19)}
		}
		l.add(sent)
		for i := range 3 + m%15 {
			read(id, i)
		}
		l.time += int64(20 * time.Minute / time.Millisecond)
	}
	l.add(&events.MessageRecalled{MessageID: []byte("m07")})
	l.add(&events.UserErased{UserID: person(2)})
	l.add(&events.UserErased{UserID: person(5)})
	read("m30", 16)
	l.add(&events.MessageRead{MessageID: []byte("to-come"), ReaderID: person(1), ReadAt: events.Unclaimed})
	l.add(&events.UserErased{UserID: []byte("stranger")})
	return l
}

// batches keeps what a partition commits.
type batches struct {
	materialize.Store
	kept []*materialize.Batch
}

func (b *batches) Commit(partition int32, batch *materialize.Batch) error {
	copied := *batch
	b.kept = append(b.kept, &copied)
	return b.Store.Commit(partition, batch)
}

// folded is the one batch that a log comes to.
func folded(t *testing.T, l *log) *materialize.Batch {
	t.Helper()
	s := open(t, t.TempDir(), lineage(), 0)
	defer closed(t, s)
	kept := &batches{Store: s}
	p := partition(t, kept, lineage(), 0, 64<<20)
	if err := p.Apply(l.recs); err != nil {
		t.Fatal(err)
	}
	if err := p.Flush(); err != nil {
		t.Fatal(err)
	}
	if len(kept.kept) != 1 {
		t.Fatalf("%d batches", len(kept.kept))
	}
	return kept.kept[0]
}

// stored is the directory of a store with one batch.
func stored(t *testing.T, b *materialize.Batch) string {
	t.Helper()
	dir := t.TempDir()
	s := open(t, dir, lineage(), 0)
	if err := s.Commit(0, b); err != nil {
		t.Fatal(err)
	}
	closed(t, s)
	return dir
}

func changeOf(b *materialize.Batch, id string) int {
	return slices.IndexFunc(b.Messages, func(c materialize.Change) bool { return c.Message.ID == id })
}

// TestFinds stores a log's state with something wrong in it, as no fold does but
// with checksums that are right.
func TestFinds(t *testing.T) {
	// what happened to the log that the wrong part comes from.
	altered := func(change func(*log)) *materialize.Batch {
		l := chat(t)
		change(l)
		return folded(t, l)
	}
	control := events.Record{Control: true, LeaderEpoch: 1}
	without := func(i int) func(*log) {
		return func(l *log) {
			control := control
			control.Offset, control.Timestamp = l.recs[i].Offset, l.recs[i].Timestamp
			l.recs[i] = control
		}
	}
	for name, c := range map[string]struct {
		wrong func(b *materialize.Batch)
		// finds is what the store says of itself, differs what it differs in.
		finds, differs string
	}{
		"nothing": {wrong: func(*materialize.Batch) {}},
		"a message is missing": {
			func(b *materialize.Batch) {
				i := changeOf(b, "m10")
				b.Messages = slices.Delete(slices.Clone(b.Messages), i, i+1)
			}, "its digest is", "m10: it is only in the first",
		},
		"a receipt is missing": {
			func(b *materialize.Batch) { // m02's last
				b.Messages[changeOf(b, "m02")] = altered(without(4 + 5 + 5)).Messages[changeOf(b, "m02")]
			}, "its digest is", `m02: read_count: 4, and 3`,
		},
		"a receipt is of another time": {
			func(b *materialize.Batch) {
				b.Messages[changeOf(b, "m02")] = altered(func(l *log) { l.recs[14].Timestamp++ }).Messages[changeOf(b, "m02")]
			}, "its digest is", `m02: receipts only in the first: "person-004"`,
		},
		"somebody else has read": {
			func(b *materialize.Batch) {
				b.Messages[changeOf(b, "m02")] = altered(func(l *log) {
					value := must(events.AppendEncode(nil, &events.MessageRead{MessageID: []byte("m02"), ReaderID: person(9), ReadAt: events.Unclaimed}))
					l.recs[14].Value = value
				}).Messages[changeOf(b, "m02")]
			}, "its digest is", `m02: receipts only in the first: "person-004"`,
		},
		"a name of a roster is another": {
			func(b *materialize.Batch) {
				r := &b.Rosters[0].StoredRoster
				r.Roster = renamed(r.Roster, 7, "somebody", false)
			}, "its participants are not those", "",
		},
		"a name of a scrubbed roster is another": {
			func(b *materialize.Batch) {
				r := &b.Rosters[0].StoredRoster
				r.Roster = renamed(r.Roster, 7, "somebody", true)
			}, "", `receipts only in the first: "person-007"`,
		},
		"an erasure is missing": {
			func(b *materialize.Batch) {
				b.ErasuresAdded = []projections.Erasure{b.ErasuresAdded[0], b.ErasuresAdded[2]}
			}, "its digest is", "m04: version: 418, and 417",
		},
		"an erasure of nobody is missing": {
			func(b *materialize.Batch) { b.ErasuresAdded = b.ErasuresAdded[:2] }, "its digest is",
			`its erasures differ; erasures not scrubbed yet, only in the first: "stranger" by offset 420`,
		},
		"a digest is another": {
			func(b *materialize.Batch) {
				b.Digests = slices.Clone(b.Digests)
				b.Digests[2].Digest.Lo++
			}, "its digest is", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			good := stored(t, folded(t, chat(t)))
			b := folded(t, chat(t))
			c.wrong(b)
			bad := stored(t, b)
			checked, o := check(t, bad, 0)
			closed(t, o)
			compared := compare(t, good, bad, 0, history.Epoch)
			said := fmt.Sprintf("%+v", checked.Shown)
			if (c.finds == "") != (checked.Total == 0) || !strings.Contains(said, c.finds) {
				t.Errorf("it says of itself %s", said)
			}
			var differs []string
			for _, d := range compared.Differences {
				differs = append(differs, d.Message+": "+strings.Join(d.What, "; "))
			}
			if (c.differs == "" && c.finds == "") != (compared.Total == 0 && checked.Total == 0) || !strings.Contains(strings.Join(differs, "\n"), c.differs) {
				t.Errorf("compared: %s", strings.Join(differs, "\n"))
			}
			if compared.Hours == 0 {
				t.Error("no hours were compared")
			}
		})
	}
}

// renamed is a roster with another name; if it was scrubbed, under the old hash.
func renamed(r *projections.Roster, number uint32, name string, scrubbed bool) *projections.Roster {
	names := make([]string, r.Names.Len())
	for i := range names {
		names[i] = r.Names.Name(uint32(i))
	}
	names[number] = name
	var gone []projections.GonePerson
	if scrubbed {
		gone = r.Gone().People
		for _, p := range gone {
			names[p.Number] = ""
		}
	}
	return projections.RestoreRoster(projections.RestoreNames(names, r.Names.OptedOut, r.Names.Hash(), scrubbed), r.Ref, r.Settled(), gone)
}

// TestEqualHowever: whatever the history, and however it was stored, with restarts,
// little memory and chores in between, or in one go, nothing is found.
func TestEqualHowever(t *testing.T) {
	compared := 0
	for seed := range uint64(12) {
		src := history.Seeded(seed)
		spec := history.RandomSpec(src)
		spec.Records, spec.Erasures, spec.Retention = 400, 4, 72*time.Hour
		h, err := history.Generate(src, spec)
		if err != nil {
			t.Fatal(err)
		}
		live, again := t.TempDir(), t.TempDir()
		foldLive(t, live, h, src)
		s := open(t, again, h.Lineage, int(h.Partition))
		p := partition(t, s, h.Lineage, h.Partition, 64<<20)
		if err := p.Apply(h.Records); err != nil {
			t.Fatal(err)
		}
		if err := p.Flush(); err != nil {
			t.Fatal(err)
		}
		closed(t, s)
		for _, dir := range []string{live, again} {
			c, o := check(t, dir, h.Partition)
			closed(t, o)
			if c.Total > 0 || !c.Committed {
				t.Errorf("seed %d: %+v", seed, c.Findings)
			}
		}
		c := compare(t, live, again, h.Partition, 0)
		if c.Total > 0 || c.Positions[0] != c.Positions[1] {
			t.Errorf("seed %d: %+v", seed, c)
		}
		compared += c.Hours
	}
	if compared < 15 {
		t.Errorf("%d hours were compared", compared)
	}
}

func foldLive(t *testing.T, dir string, h history.History, src *rand.Rand) {
	t.Helper()
	recs := h.Records
	for len(recs) > 0 {
		s := open(t, dir, h.Lineage, int(h.Partition))
		p := partition(t, s, h.Lineage, h.Partition, 4000)
		for range 1 + src.IntN(8) {
			n := min(len(recs), 1+src.IntN(40))
			if err := p.Apply(recs[:n]); err != nil {
				t.Fatal(err)
			}
			recs = recs[n:]
			switch src.IntN(4) {
			case 0:
				for done := false; !done; {
					var err error
					if done, err = p.Scrub(); err != nil {
						t.Fatal(err)
					}
				}
			case 1:
				for done := false; !done; {
					var err error
					if _, done, err = p.Prune(history.Epoch * 2); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := p.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		closed(t, s)
	}
}

// TestPositionsDiffer: of stores at different positions, what did not change
// between is compared.
func TestPositionsDiffer(t *testing.T) {
	l := chat(t)
	l.recs = l.recs[:400] // before anybody is erased
	all := stored(t, folded(t, l))
	l.recs = l.recs[:300]
	some := folded(t, l)
	if c := compare(t, all, stored(t, some), 0, history.Epoch); c.Total > 0 || c.Messages < 10 || c.Positions[0] == c.Positions[1] {
		t.Errorf("%+v", c)
	}
	i := changeOf(some, "m01")
	some.Messages = slices.Delete(slices.Clone(some.Messages), i, i+1)
	c := compare(t, all, stored(t, some), 0, history.Epoch)
	if c.Total != 1 || c.Differences[0].Message != "m01" {
		t.Errorf("%+v", c)
	}
}

// TestAfterACrash: a store that was not closed is put in order first.
func TestAfterACrash(t *testing.T) {
	dir, copied := t.TempDir(), t.TempDir()
	s := open(t, dir, lineage(), 0)
	defer closed(t, s)
	if err := s.Commit(0, folded(t, chat(t))); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if c := compare(t, copied, stored(t, folded(t, chat(t))), 0, history.Epoch); c.Total > 0 || c.Hours == 0 {
		t.Errorf("%+v", c)
	}
}

// TestFlippedByte flips a byte in a table, at 100 random places.
func TestFlippedByte(t *testing.T) {
	good := stored(t, folded(t, chat(t)))
	tables, err := filepath.Glob(filepath.Join(good, "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("%v %v", tables, err)
	}
	src := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		name := tables[src.IntN(len(tables))]
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		at := src.IntN(len(b))
		bit := byte(1) << src.IntN(8)
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(good)); err != nil {
			t.Fatal(err)
		}
		b[at] ^= bit
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), b, 0o600); err != nil {
			t.Fatal(err)
		}
		named := named(t, dir)
		if !strings.Contains(named, filepath.Base(name)) {
			t.Errorf("byte %d of %d, bit %08b: %q", at, len(b), bit, named)
		}
	}
	if said := named(t, good); said != "" {
		t.Errorf("nothing was flipped: %s", said)
	}
}

// named is all that is found in a directory.
func named(t *testing.T, dir string) string {
	t.Helper()
	var said []string
	damaged, err := badgerstore.DamagedIn(dir, func() error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range damaged {
		said = append(said, d.String())
	}
	if len(damaged) > 0 {
		if o, err := badgerstore.OpenOffline(dir, quiet); err == nil {
			t.Error("it is opened all the same")
			closed(t, o)
		}
		return strings.Join(said, "\n")
	}
	o, err := badgerstore.OpenOffline(dir, quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer closed(t, o)
	s := o.Snapshot(0)
	defer s.Close()
	c, err := verify.Check(t.Context(), s, o.Meta().Lineage, 0, verify.Options{Show: 10})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range c.Shown {
		said = append(said, f.Message+": "+f.What)
	}
	return strings.Join(said, "\n")
}
