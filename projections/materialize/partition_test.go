package materialize_test

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/history"
	"github.com/seenby/seenby/projections/materialize"
	"github.com/seenby/seenby/projections/memstore"
	"github.com/seenby/seenby/projections/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testMaxBatch = 16 << 20

func testLineage() projections.Lineage {
	return projections.Lineage{Partitions: 1, FoldVersion: projections.FoldVersion, Limits: projections.Limits{Waiting: 1000}, Retention: 24 * time.Hour}
}

func testConfig(store materialize.Store) materialize.Config {
	return materialize.Config{
		Lineage:    testLineage(),
		Store:      store,
		Memory:     materialize.NewMemory(64 << 20),
		FlushBytes: 1 << 20,
	}
}

func mustOpen(t testing.TB, c materialize.Config) *materialize.Partition {
	t.Helper()
	p, err := materialize.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustApply(t testing.TB, p *materialize.Partition, recs ...events.Record) {
	t.Helper()
	if err := p.Apply(recs); err != nil {
		t.Fatal(err)
	}
}

func mustFlush(t testing.TB, p *materialize.Partition) {
	t.Helper()
	if err := p.Flush(); err != nil {
		t.Fatal(err)
	}
}

func mustView(t testing.TB, p *materialize.Partition, id string) materialize.View {
	t.Helper()
	v, err := p.View([]byte(id), true)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// log makes records.
type log struct {
	t    testing.TB
	next int64
	time int64
}

func newLog(t testing.TB) *log { return &log{t: t, time: history.Epoch} }

func (l *log) record(key string, value []byte) events.Record {
	rec := events.Record{Offset: l.next, Timestamp: l.time, LeaderEpoch: 1, Key: []byte(key), Value: value}
	l.next++
	l.time++
	return rec
}

func (l *log) event(e events.Event) events.Record {
	l.t.Helper()
	value, err := events.AppendEncode(nil, e)
	if err != nil {
		l.t.Fatal(err)
	}
	return l.record(string(e.Key()), value)
}

func (l *log) sent(id string, people int) events.Record {
	e := &events.MessageSent{MessageID: []byte(id), ConversationID: []byte("c"), SenderID: []byte("sender"), SentAt: l.time}
	for i := range people {
		e.Recipients = append(e.Recipients, reader(i))
	}
	return l.event(e)
}

func (l *log) sentCountOnly(id string) events.Record {
	return l.event(&events.MessageSent{MessageID: []byte(id), ConversationID: []byte("c"), SenderID: []byte("sender"), SentAt: l.time, CountOnly: true, RecipientCount: 100_000})
}

func (l *log) read(id string, person int) events.Record {
	return l.event(&events.MessageRead{MessageID: []byte(id), ReaderID: reader(person), ReadAt: events.Unclaimed})
}

func (l *log) recalled(id string) events.Record {
	return l.event(&events.MessageRecalled{MessageID: []byte(id)})
}

func reader(i int) []byte { return fmt.Appendf(nil, "reader-%d", i) }

// reference is the fold with all its messages in a map.
type reference struct {
	fold     *projections.Fold
	messages map[string]*projections.Message
	rosters  map[projections.RosterRef]*projections.Roster
}

func newReference(lineage projections.Lineage, partition int32, start int64) *reference {
	return &reference{
		fold: projections.NewFold(lineage, partition, projections.Restored{
			Checkpoint: projections.Checkpoint{Position: start, LeaderEpoch: -1}}),
		messages: make(map[string]*projections.Message),
		rosters:  make(map[projections.RosterRef]*projections.Roster),
	}
}

func (r *reference) Message(id []byte) (*projections.Message, error) {
	m := r.messages[string(id)]
	if m != nil {
		r.fold.Settle(m)
	}
	return m, nil
}

func (r *reference) Roster(e *events.MessageSent) (*projections.Roster, error) {
	names := projections.NewNames(e)
	for ref := names.Hash().Ref(); ; ref = ref.Next() {
		roster := r.rosters[ref]
		if roster == nil {
			roster = projections.RestoreRoster(names, ref, r.fold.LastErasure(), nil)
			r.rosters[ref] = roster
		}
		r.fold.SettleRoster(roster)
		if roster.Gone() == nil && roster.Names.Equal(names) {
			return roster, nil
		}
	}
}

func (r *reference) Create(m *projections.Message) { r.messages[m.ID] = m }
func (r *reference) Changed(*projections.Message)  {}

// to folds the records below position.
func (r *reference) to(t testing.TB, recs []events.Record, position int64) {
	t.Helper()
	for _, rec := range recs {
		if rec.Offset >= position {
			return
		}
		if _, _, err := r.fold.Apply(rec, r); err != nil {
			t.Fatal(err)
		}
	}
}

// equal holds a partition to the reference, which is at its position.
func (r *reference) equal(t testing.TB, p *materialize.Partition, ids []string, gone func(*projections.Message) bool) {
	t.Helper()
	for _, id := range ids {
		v := mustView(t, p, id)
		want, _ := r.Message([]byte(id))
		if want != nil && !v.Found && gone(want) {
			continue
		}
		var got *projections.Message
		if v.Found {
			got = &v.Message
		}
		if diff := storetest.DiffMessage(got, want); diff != "" {
			t.Fatalf("at %d: message %q: %s", v.Position, id, diff)
		}
		if v.Position != r.fold.Checkpoint().Position {
			t.Fatalf("message %q is as of %d, not %d", id, v.Position, r.fold.Checkpoint().Position)
		}
	}
}

// equalDigests holds the digests of the hours that are not pruned to the reference's.
func (r *reference) equalDigests(t testing.TB, p *materialize.Partition, pruned int64) {
	t.Helper()
	got, err := p.Digests(t.Context(), p.Position())
	if err != nil {
		t.Fatal(err)
	}
	left := func(hours []projections.HourDigest) []projections.HourDigest {
		return slices.DeleteFunc(hours, func(h projections.HourDigest) bool { return projections.HourEnded(h.Hour, pruned) })
	}
	if want := left(r.fold.Digests()); !slices.Equal(left(got.Hours), want) || got.Position != p.Position() {
		t.Fatalf("at %d the digests are %v as of %d, not %v", p.Position(), got.Hours, got.Position, want)
	}
}

func messageIDs(recs []events.Record) []string {
	seen := map[string]struct{}{"never sent": {}}
	for _, rec := range recs {
		if len(rec.Key) > 0 {
			seen[string(rec.Key)] = struct{}{}
		}
	}
	var ids []string
	for id := range seen {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// checkedStore holds what comes to a store to the partition's promises, and
// fails as told.
type checkedStore struct {
	materialize.Store
	t         testing.TB
	partition *materialize.Partition
	// commit, if set, is called in place of Commit.
	commit  func(number int32, b *materialize.Batch) error
	message func(id []byte) error
	commits int
	largest int
}

func (s *checkedStore) Commit(number int32, b *materialize.Batch) error {
	s.commits++
	s.largest = max(s.largest, b.Size())
	bound := s.partition.Stats().DirtyBytes
	if len(b.WaitingRemoved) == 0 {
		bound -= materialize.RecordSize // for their list
	}
	if b.Size() > bound {
		s.t.Errorf("the batch costs %d, and the partition said at most %d", b.Size(), bound)
	}
	if s.commit != nil {
		return s.commit(number, b)
	}
	return s.Store.Commit(number, b)
}

func (s *checkedStore) Message(number int32, id []byte) (*projections.Message, projections.RosterRef, error) {
	if s.message != nil {
		if err := s.message(id); err != nil {
			return nil, 0, err
		}
	}
	return s.Store.Message(number, id)
}

// removeAll removes all that is due.
func removeAll(p *materialize.Partition, now int64) error {
	for {
		if _, done, err := p.Prune(now); done || err != nil {
			return err
		}
	}
}

// receipts are those of a view.
func receipts(t testing.TB, v materialize.View) (all []projections.Receipt) {
	t.Helper()
	err := v.Message.EachReceipt(0, func(r projections.Receipt) bool {
		all = append(all, r)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func openChecked(t testing.TB, c materialize.Config) (*materialize.Partition, *checkedStore) {
	t.Helper()
	s := &checkedStore{Store: c.Store, t: t}
	c.Store = s
	p := mustOpen(t, c)
	s.partition = p
	return p, s
}

var errDisk = errors.New("input/output error")

// TestHistories runs generated histories through partitions that have hardly any
// memory, flush at random, prune, and crash: at random moments, and by commits
// that fail before or after the store took them. At every step the partition
// must equal the fold of the log up to its position.
func TestHistories(t *testing.T) {
	for seed := range uint64(150) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { testHistory(t, seed) })
	}
}

func testHistory(t *testing.T, seed uint64) {
	src := history.Seeded(seed)
	h, err := history.Generate(src, history.RandomSpec(src))
	if err != nil {
		t.Fatal(err)
	}
	medium := &memstore.Medium{}
	ids := messageIDs(h.Records)
	c := testConfig(nil)
	c.Lineage, c.Partition = h.Lineage, h.Partition
	c.Memory = materialize.NewMemory(int64(src.IntN(4000)))
	if src.IntN(2) == 0 {
		c.FlushBytes = 1 + src.IntN(5000)
	}
	var latest, prunedBefore int64
	gone := func(m *projections.Message) bool {
		return projections.HourEnded(projections.Hour(m.SentAt), prunedBefore)
	}
	open := func() (*materialize.Partition, *reference) {
		c.Store = memstore.Open(medium, testMaxBatch)
		p, s := openChecked(t, c)
		if fail := src.IntN(4); fail < 2 {
			left := src.IntN(20)
			s.commit = func(number int32, b *materialize.Batch) error {
				if left--; left > 0 {
					return s.Store.Commit(number, b)
				}
				if fail == 0 {
					return errors.Join(errDisk, s.Store.Commit(number, b))
				}
				return errDisk
			}
		}
		r := newReference(h.Lineage, h.Partition, 0)
		if checkpoint, found := p.Checkpoint(); found {
			r.to(t, h.Records, checkpoint.Position)
			if got := r.fold.Checkpoint(); got != checkpoint {
				t.Fatalf("restored at %+v, and the fold of that prefix is at %+v", checkpoint, got)
			}
		} else {
			p.StartAt(0)
		}
		return p, r
	}
	p, r := open()
	for crashes := 0; p.Position() < h.Records[len(h.Records)-1].Offset+1; {
		switch n := src.IntN(20); {
		case n < 12:
			// Some of the records come again, as after a restart of the reader.
			next, _ := slices.BinarySearchFunc(h.Records, p.Position(), func(rec events.Record, at int64) int { return int(rec.Offset - at) })
			from := max(0, next-src.IntN(3))
			recs := h.Records[from:min(len(h.Records), next+1+src.IntN(40))]
			err = p.Apply(recs)
		case n < 14:
			err = p.Flush()
		case n < 16:
			now := latest + int64(src.IntN(int(3*h.Lineage.Retention.Milliseconds())))
			if err = removeAll(p, now); err == nil {
				before := min(now, latest) - h.Lineage.Retention.Milliseconds() - time.Hour.Milliseconds()
				prunedBefore = max(prunedBefore, before)
			}
		case n < 18:
			_, err = p.Scrub()
		case n < 19 && crashes < 20:
			crashes++
			p, r = open()
		}
		for _, rec := range h.Records {
			if rec.Offset < p.Position() {
				latest = max(latest, rec.Timestamp)
			}
		}
		r.to(t, h.Records, p.Position())
		r.equal(t, p, ids, gone)
		r.equalDigests(t, p, prunedBefore)
		if err != nil {
			if !errors.Is(err, errDisk) || !errors.Is(p.Stopped(), errDisk) {
				t.Fatal(err)
			}
			before := p.Position()
			if again := p.Apply(h.Records); again == nil || p.Flush() == nil || p.Position() != before {
				t.Fatal("a partition goes on after its flush failed")
			}
			err = nil
			crashes++
			p, r = open()
		}
	}
	if got, want := p.Stats().Waiting, r.fold.Waiting().Len(); got != want {
		t.Errorf("%d events wait, not %d", got, want)
	}
}

// TestRestoresAll is that nothing of the state is lost between flush and open.
func TestRestoresAll(t *testing.T) {
	medium := &memstore.Medium{}
	c := testConfig(memstore.Open(medium, testMaxBatch))
	p, _ := openChecked(t, c)
	if _, found := p.Checkpoint(); found || p.Position() != materialize.Nowhere {
		t.Fatalf("a new partition is at %d", p.Position())
	}
	l := newLog(t)
	if err := p.Apply([]events.Record{l.sent("m", 2)}); err == nil || p.Stopped() == nil {
		t.Fatal("a partition applies records without knowing where its log starts")
	}
	l = newLog(t)
	l.next = 40
	p, _ = openChecked(t, c)
	p.StartAt(40)
	if p.Position() != 40 {
		t.Errorf("a partition that starts at 40 is at %d", p.Position())
	}
	mustApply(t, p, l.sent("m", 3), l.read("m", 1), l.read("later", 2), l.record("bad", []byte("hi")), events.Record{Offset: l.next, LeaderEpoch: 7, Control: true})
	want := p.Stats()
	mustFlush(t, p)
	p, _ = openChecked(t, c)
	p.StartAt(999) // has a start already
	checkpoint, found := p.Checkpoint()
	if !found || checkpoint.Position != 45 || checkpoint.LeaderEpoch != 7 || checkpoint.Timestamp != l.time-1 {
		t.Errorf("restored %+v", checkpoint)
	}
	if got := p.Stats(); got.Waiting != 1 || want.Waiting != 1 || got.Undecodable != 1 || got.Messages != 0 {
		t.Errorf("restored %+v", got)
	}
	if v := mustView(t, p, "m"); !v.Found || v.Message.Receipts.Len() != 1 || v.Position != 45 {
		t.Errorf("restored %+v", v)
	}
}

// TestMustStop has a record that this build cannot fold.
func TestMustStop(t *testing.T) {
	medium := &memstore.Medium{}
	p, _ := openChecked(t, testConfig(memstore.Open(medium, testMaxBatch)))
	p.StartAt(0)
	l := newLog(t)
	unknown := protowire.AppendBytes(protowire.AppendTag(nil, protowire.Number(events.LastKind), protowire.BytesType), nil)
	recs := []events.Record{l.sent("m", 3), l.read("m", 1), l.record("m", unknown), l.read("m", 2)}
	err := p.Apply(recs)
	if !errors.Is(err, projections.ErrMustStop) {
		t.Fatalf("Apply: %v", err)
	}
	for _, want := range []string{"partition 0, offset 2", "upgrade", "--skip-record 0@2"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
	if again := p.Apply(recs[3:]); !errors.Is(again, projections.ErrMustStop) || p.Position() != 2 {
		t.Errorf("at %d: %v", p.Position(), again)
	}
	// What was applied before it is kept, and shown.
	mustFlush(t, p)
	p, _ = openChecked(t, testConfig(memstore.Open(medium, testMaxBatch)))
	if v := mustView(t, p, "m"); v.Position != 2 || v.Message.Receipts.Len() != 1 {
		t.Errorf("%+v", v)
	}
}

// TestUnreadableMessage has a store that fails to read: the partition stops
// before the record, and a view says so without stopping it.
func TestUnreadableMessage(t *testing.T) {
	p, s := openChecked(t, testConfig(memstore.Open(&memstore.Medium{}, testMaxBatch)))
	p.StartAt(0)
	s.message = func(id []byte) error {
		if string(id) == "bad" {
			return materialize.ErrCorrupt
		}
		return nil
	}
	l := newLog(t)
	mustApply(t, p, l.sent("m", 3))
	if _, err := p.View([]byte("bad"), true); !errors.Is(err, materialize.ErrCorrupt) {
		t.Errorf("View: %v", err)
	}
	if p.Stopped() != nil {
		t.Errorf("a view stopped the partition: %v", p.Stopped())
	}
	err := p.Apply([]events.Record{l.read("m", 1), l.read("bad", 1)})
	if !errors.Is(err, materialize.ErrCorrupt) || !strings.Contains(err.Error(), "offset 2") || p.Position() != 2 {
		t.Errorf("Apply, at %d: %v", p.Position(), err)
	}
	if v := mustView(t, p, "m"); v.Message.Receipts.Len() != 1 {
		t.Errorf("%+v", v)
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*materialize.Config)
		want   string
	}{
		"no store":      {func(c *materialize.Config) { c.Store = nil }, "required"},
		"no memory":     {func(c *materialize.Config) { c.Memory = nil }, "required"},
		"partition":     {func(c *materialize.Config) { c.Partition = 1 }, "partition 1 is none of the 1"},
		"flush bytes":   {func(c *materialize.Config) { c.FlushBytes = 0 }, "size"},
		"small batches": {func(c *materialize.Config) { c.Store = memstore.Open(&memstore.Medium{}, 1<<20) }, "where 1000 events may wait, one record may change"},
		"closed store": {func(c *materialize.Config) {
			if err := c.Store.Close(); err != nil {
				t.Error(err)
			}
		}, "restore: the store is closed"},
	} {
		config := testConfig(memstore.Open(&memstore.Medium{}, testMaxBatch))
		c.change(&config)
		if _, err := materialize.Open(config); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestUndecodable(t *testing.T) {
	p, _ := openChecked(t, testConfig(memstore.Open(&memstore.Medium{}, testMaxBatch)))
	p.StartAt(0)
	l := newLog(t)
	check := func(total int, first int64) {
		t.Helper()
		kept, n, err := p.Undecodable()
		if err != nil || n != int64(total) || len(kept) != min(total, materialize.MaxUndecodable) {
			t.Fatalf("%d kept of %d, not of %d: %v", len(kept), n, total, err)
		}
		for i, u := range kept {
			if u.Offset != first+int64(i) {
				t.Fatalf("kept[%d] is at %d, not %d", i, u.Offset, first+int64(i))
			}
		}
	}
	long := strings.Repeat("x", 3*materialize.MaxUndecodableBytes)
	null := l.record("", []byte(long))
	null.Key = nil
	mustApply(t, p, null, l.record(long, []byte("hi")))
	kept, _, err := p.Undecodable()
	if err != nil || len(kept) != 2 {
		t.Fatalf("%v, %v", kept, err)
	}
	want := materialize.Undecodable{Offset: 1, Timestamp: null.Timestamp + 1, Outcome: projections.Undecodable, Key: []byte(long[:1024]), KeySize: len(long), Value: []byte("hi"), ValueSize: 2, Reason: kept[1].Reason}
	if kept[1].Reason == "" || !reflect.DeepEqual(kept[1], want) || kept[0].Key != nil || kept[0].KeySize != 0 || len(kept[0].Value) != 1024 || kept[0].ValueSize != len(long) {
		t.Errorf("kept %.100v and %.100v", kept[0], kept[1])
	}
	check(2, 0)
	mustFlush(t, p)
	check(2, 0)
	var recs []events.Record
	for range materialize.MaxUndecodable + 500 {
		recs = append(recs, l.record("k", []byte("hi")))
	}
	mustApply(t, p, recs[:100]...)
	check(102, 0)
	mustFlush(t, p)
	mustApply(t, p, recs[100:]...)
	check(2+len(recs), 502)
	mustFlush(t, p)
	check(2+len(recs), 502)
}

// TestPrune is that a message stays while records to come can find it, however
// long it has expired by the wall clock.
func TestPrune(t *testing.T) {
	c := testConfig(memstore.Open(&memstore.Medium{}, testMaxBatch))
	p, _ := openChecked(t, c)
	if n, done, err := p.Prune(1 << 60); n != 0 || !done || err != nil {
		t.Errorf("Prune before the start: %d, %v, %v", n, done, err)
	}
	p.StartAt(0)
	l := newLog(t)
	const hour = 3_600_000
	retention := c.Lineage.Retention.Milliseconds()
	yearLater := int64(history.Epoch + 365*24*hour)
	prune := func(now int64, want int) {
		t.Helper()
		before := p.Stats().Pruned
		err := removeAll(p, now)
		if n := int(p.Stats().Pruned - before); n != want || err != nil {
			t.Fatalf("Prune removed %d, not %d: %v", n, want, err)
		}
	}
	mustApply(t, p, l.sent("m", 3), l.read("m", 0))
	prune(yearLater, 0) // an old log, folded a year later
	mustApply(t, p, l.read("m", 1))
	if v := mustView(t, p, "m"); v.Message.Receipts.Len() != 2 {
		t.Errorf("%+v", v)
	}
	l.time = history.Epoch + retention + hour
	mustApply(t, p, l.sent("m2", 3))
	prune(yearLater, 0) // its hour ended, but a record may yet be an hour earlier
	l.time += hour
	mustApply(t, p, l.sent("m3", 3))
	prune(history.Epoch, 0) // our clock is behind
	prune(yearLater, 1)
	prune(yearLater, 0)
	if v := mustView(t, p, "m"); v.Found || v.Position != 5 {
		t.Errorf("%+v", v)
	}
	for _, id := range []string{"m2", "m3"} {
		if v := mustView(t, p, id); !v.Found {
			t.Errorf("%s was removed", id)
		}
	}
	// The IDs can be used again.
	l.time = yearLater
	mustApply(t, p, l.sent("m", 3), l.read("m", 0))
	mustFlush(t, p)
	if v := mustView(t, p, "m"); v.Message.Receipts.Len() != 1 {
		t.Errorf("%+v", v)
	}
	prune(yearLater, 2)
	if got := p.Stats(); got.Pruned != 3 || got.Messages != 1 {
		t.Errorf("%+v", got)
	}
}
