package materialize_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/projections/materialize"
	"github.com/seenby/seenby/projections/memstore"
)

func (l *log) erased(person string) events.Record {
	l.t.Helper()
	rec := l.event(&events.UserErased{UserID: []byte(person)})
	rec.Key = nil
	return rec
}

// scrubAll does all the work that erasures left.
func scrubAll(t testing.TB, p *materialize.Partition) (steps int) {
	t.Helper()
	for {
		done, err := p.Scrub()
		if err != nil {
			t.Fatal(err)
		}
		if done {
			return steps
		}
		steps++
	}
}

// countingStore counts what is written.
type countingStore struct {
	materialize.Store
	messages, rosters, erasures int
}

func (s *countingStore) Commit(partition int32, b *materialize.Batch) error {
	s.messages += len(b.Messages)
	s.rosters += len(b.Rosters)
	s.erasures += len(b.ErasuresAdded)
	return s.Store.Commit(partition, b)
}

// TestErasureCostsRosters has a person erased who is in thousands of messages of
// two groups: nothing of the messages is written for it, and of the rosters, those
// that name the person.
func TestErasureCostsRosters(t *testing.T) {
	const messages = 3000
	store := &countingStore{Store: memstore.Open(&memstore.Medium{}, testMaxBatch)}
	c := testConfig(store)
	c.Memory = materialize.NewMemory(200_000) // few messages are hot
	p := mustOpen(t, c)
	p.StartAt(0)
	l := newLog(t)
	for i := range messages {
		people := 30
		if i%3 == 0 {
			people = 10
		}
		id := fmt.Sprintf("m%d", i)
		mustApply(t, p, l.sent(id, people), l.read(id, 5), l.read(id, 6))
	}
	mustFlush(t, p)
	for i := range 100 {
		mustApply(t, p, l.event(&events.MessageSent{MessageID: fmt.Appendf(nil, "other-%d", i), ConversationID: []byte("d"), SenderID: []byte("x"), SentAt: l.time,
			Recipients: [][]byte{fmt.Appendf(nil, "other-%d", i)}}))
	}
	mustFlush(t, p)
	store.messages, store.rosters = 0, 0
	mustApply(t, p, l.erased("reader-5"))
	version := l.next
	if got := p.Stats().Erasures; got != 1 {
		t.Errorf("%d erasures are pending", got)
	}
	check := func() {
		t.Helper()
		for _, i := range []int{0, 1, 1000, messages - 1} {
			v := mustView(t, p, fmt.Sprintf("m%d", i))
			people := 29
			if i%3 == 0 {
				people = 9
			}
			if m := v.Message; m.ReadCount() != 1 || m.RecipientCount() != people || m.Version() != version || m.TakenAway() != version {
				t.Errorf("m%d: read by %d of %d, version %d", i, m.ReadCount(), m.RecipientCount(), m.Version())
			}
		}
	}
	check()
	scrubAll(t, p)
	check()
	if store.messages > 0 || store.rosters != 2 || store.erasures != 1 {
		t.Errorf("an erasure wrote %d messages, %d rosters, and %d erasures", store.messages, store.rosters, store.erasures)
	}
	if got := p.Stats().Erasures; got != 0 {
		t.Errorf("%d erasures are pending after the scrub", got)
	}
	p = mustOpen(t, c)
	check()
	// Who is erased and comes again takes part in what is sent from then on.
	mustApply(t, p, l.sent("again", 10), l.read("again", 5))
	if m := mustView(t, p, "again").Message; m.ReadCount() != 1 || m.RecipientCount() != 10 || m.Version() != l.next {
		t.Errorf("read by %d of %d", m.ReadCount(), m.RecipientCount())
	}
	mustApply(t, p, l.read("m0", 5))
	check()
}

// TestErasureWhileFlushing has a count-only message lose a reader, because it is
// looked at, while it is being stored: what was lost is stored by the next flush.
func TestErasureWhileFlushing(t *testing.T) {
	medium := &memstore.Medium{}
	p, s := openChecked(t, testConfig(memstore.Open(medium, testMaxBatch)))
	p.StartAt(0)
	l := newLog(t)
	mustApply(t, p, l.sentCountOnly("m"))
	for i := range 100 {
		mustApply(t, p, l.read("m", i))
	}
	mustFlush(t, p)
	mustApply(t, p, l.read("m", 100), l.erased("reader-7"))
	looks := 0
	s.commit = func(number int32, b *materialize.Batch) error {
		if looks++; looks == 1 {
			if v := mustView(t, p, "m"); v.Message.ReadCount() != 100 {
				t.Errorf("read by %d", v.Message.ReadCount())
			}
		}
		return s.Store.Commit(number, b)
	}
	mustFlush(t, p)
	mustFlush(t, p)
	p, _ = openChecked(t, testConfig(memstore.Open(medium, testMaxBatch)))
	scrubAll(t, p)
	v := mustView(t, p, "m")
	if v.Message.ReadCount() != 100 || v.Message.RecipientCount() != 99_999 {
		t.Errorf("read by %d of %d", v.Message.ReadCount(), v.Message.RecipientCount())
	}
	for _, r := range receipts(t, v) {
		if counts, _ := v.Message.Shown(r); v.Message.Reader(r) == "reader-7" || counts != (r.Index != 7) {
			t.Errorf("receipt %d of %q counts: %v", r.Index, v.Message.Reader(r), counts)
		}
	}
}

// TestDigestsAtAPosition asks for digests as of positions behind, now and to come.
func TestDigestsAtAPosition(t *testing.T) {
	p, _ := openChecked(t, testConfig(memstore.Open(&memstore.Medium{}, testMaxBatch)))
	p.StartAt(0)
	l := newLog(t)
	recs := []events.Record{l.sent("a", 5), l.read("a", 1), l.sent("b", 5), l.read("b", 1), l.erased("reader-1"), l.read("a", 2)}
	var want []materialize.DigestsAt
	r := newReference(testLineage(), 0, 0)
	for i := range len(recs) + 1 {
		r.to(t, recs, int64(i))
		want = append(want, materialize.DigestsAt{Position: int64(i), Hours: r.fold.Digests()})
	}
	got := make([]chan materialize.DigestsAt, len(want))
	for i := range want {
		got[i] = make(chan materialize.DigestsAt, 1)
		asked := make(chan struct{})
		go func() {
			close(asked)
			d, err := p.Digests(t.Context(), int64(i))
			if err != nil {
				t.Error(err)
			}
			got[i] <- d
		}()
		<-asked
	}
	waiting := func() bool { return p.DigestWaiters() == len(want)-1 }
	for !waiting() {
		select {
		case <-t.Context().Done():
			t.Fatal("nobody waits")
		default:
		}
	}
	mustApply(t, p, recs...)
	for i, c := range got {
		if d := <-c; fmt.Sprint(d) != fmt.Sprint(want[i]) {
			t.Errorf("as of %d: %v, not %v", i, d, want[i])
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Digests(ctx, 100); !errors.Is(err, context.Canceled) {
		t.Errorf("a position that does not come: %v", err)
	}
	if d, err := p.Digests(ctx, 2); err != nil || d.Position != p.Position() {
		t.Errorf("a position that is behind: %v, %v", d, err)
	}
}
