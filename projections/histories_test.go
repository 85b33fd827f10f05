package projections_test

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/history"
	"github.com/seenby/seenby/projections/oracle"
)

// How many histories, and from which seed on. A failure names its seed.
const (
	historiesVariable = "SEENBY_TEST_HISTORIES"
	seedVariable      = "SEENBY_TEST_SEED"

	defaultHistories = 1000
)

func numberFrom(t *testing.T, variable string, otherwise uint64) uint64 {
	t.Helper()
	s := os.Getenv(variable)
	if s == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return n
}

// property is checked on a history. Choices that are not the history's, it
// draws from src. What it returns says how the history breaks it.
type property func(h history.History, src *rand.Rand) error

// checkHistories checks a property on one in every so many histories, and
// reports the first that breaks it, cut down to what matters.
func checkHistories(t *testing.T, every uint64, ids history.Faith, holds property) {
	t.Helper()
	t.Parallel()
	seed := numberFrom(t, seedVariable, 1)
	for end := seed + max(numberFrom(t, historiesVariable, defaultHistories)/every, 1); seed < end; seed++ {
		src := history.Seeded(seed)
		spec := history.RandomSpec(src)
		if spec.IDs = ids; ids == history.UsedOnce {
			spec.Waiting = spec.Records // where the limit is hit, nothing is promised
		}
		h, err := history.Generate(src, spec)
		if err != nil {
			t.Fatal(err)
		}
		check := func(h history.History) (err error) {
			defer func() { // or a panic would not name its seed
				if p := recover(); p != nil {
					err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
				}
			}()
			return holds(h, history.Seeded(seed))
		}
		if check(h) == nil {
			continue
		}
		h = h.Shrink(func(h history.History) bool { return check(h) != nil })
		t.Fatalf("%v\n\n%v\n\nagain: %s=%d %s=%d", check(h), h, seedVariable, seed, historiesVariable, every)
	}
}

func TestFoldAgreesWithTheOracle(t *testing.T) {
	checkHistories(t, 1, history.UsedAgain, func(h history.History, src *rand.Rand) error {
		p := newPartition(h, 0)
		var outcomes []projections.Outcome
		for done := 0; done < len(h.Records); {
			next := min(done+1+src.IntN(60), len(h.Records))
			some, err := p.apply(h.Records[done:next])
			if err != nil {
				return err
			}
			outcomes, done = append(outcomes, some...), next
			got, want := p.verdict(), oracle.Judge(h.Lineage, h.Partition, 0, h.Records[:done])
			got.Outcomes = outcomes
			if d := differ(got, want); d != "" {
				return fmt.Errorf("after %d records: %s", done, d)
			}
			if err := p.checkDigests(); err != nil {
				return fmt.Errorf("after %d records: %w", done, err)
			}
			checkpoint := p.fold.Checkpoint()
			if epoch := h.Records[done-1].LeaderEpoch; checkpoint.LeaderEpoch != epoch || checkpoint.Timestamp != latest(h.Records[:done]) {
				return fmt.Errorf("the checkpoint after %d records is %+v, not of epoch %d and timestamp %d",
					done, checkpoint, epoch, latest(h.Records[:done]))
			}
		}
		return nil
	})
}

func TestFoldAgreesWithTheOracleAfterEveryRecord(t *testing.T) {
	checkHistories(t, 30, history.UsedAgain, func(h history.History, _ *rand.Rand) error {
		p := newPartition(h, 0)
		for i := range h.Records {
			if _, err := p.apply(h.Records[i : i+1]); err != nil {
				return err
			}
			want := oracle.Judge(h.Lineage, h.Partition, 0, h.Records[:i+1])
			want.Outcomes = nil
			if d := differ(p.verdict(), want); d != "" {
				return fmt.Errorf("after %s: %s", history.Format(h.Records[i]), d)
			}
		}
		return nil
	})
}

func TestARestartAnywhereChangesNothing(t *testing.T) {
	checkHistories(t, 30, history.UsedAgain, func(h history.History, _ *rand.Rand) error {
		never, often := newPartition(h, 0), newPartition(h, 0)
		for i, rec := range h.Records {
			b, err := often.store()
			if err != nil {
				return err
			}
			if often, err = often.restore(b); err != nil {
				return err
			}
			want, err := never.apply(h.Records[i : i+1])
			if err != nil {
				return err
			}
			got, err := often.apply(h.Records[i : i+1])
			if err != nil {
				return err
			}
			if got[0] != want[0] {
				return fmt.Errorf("%s after a restart is %v, not %v", history.Format(rec), got[0], want[0])
			}
		}
		if got, want := often.fold.Checkpoint(), never.fold.Checkpoint(); got != want {
			return fmt.Errorf("the checkpoint is %+v, not %+v", got, want)
		}
		return asError(differ(often.verdict(), never.verdict()))
	})
}

// What a keeper does beside folding does not show: when it restarts, what it
// seals, drops and restores, when it settles and scrubs, which names rosters have.
func TestWhatAKeeperDoesChangesNothing(t *testing.T) {
	checkHistories(t, 3, history.UsedAgain, func(h history.History, src *rand.Rand) error {
		never, often := newPartition(h, 0), newPartition(h, 0)
		often.refs = uint64(src.IntN(3))
		restarts := 2 + src.IntN(30)
		for i, rec := range h.Records {
			if src.IntN(2) == 0 {
				often.disturb(src)
			}
			if src.IntN(restarts) == 0 {
				var err error
				if often, err = often.restart(); err != nil {
					return err
				}
			}
			want, err := never.apply(h.Records[i : i+1])
			if err != nil {
				return err
			}
			got, err := often.apply(h.Records[i : i+1])
			if err != nil {
				return err
			}
			if got[0] != want[0] {
				return fmt.Errorf("%s is %v, not %v", history.Format(rec), got[0], want[0])
			}
			for _, m := range never.messages { // It settles everything at once.
				never.settle(m)
			}
			if d := digestsDiffer(often.fold, never.fold); d != nil {
				return fmt.Errorf("after %s: %w", history.Format(rec), d)
			}
			if src.IntN(20) == 0 {
				if err := often.checkDigests(); err != nil {
					return fmt.Errorf("after %s: %w", history.Format(rec), err)
				}
			}
		}
		if err := never.checkDigests(); err != nil {
			return err
		}
		if err := often.checkDigests(); err != nil {
			return err
		}
		if got, want := often.fold.Checkpoint(), never.fold.Checkpoint(); got != want {
			return fmt.Errorf("the checkpoint is %+v, not %+v", got, want)
		}
		if err := asError(differ(often.verdict(), never.verdict())); err != nil {
			return err
		}
		judged := oracle.Judge(h.Lineage, h.Partition, 0, h.Records)
		judged.Outcomes = nil
		return asError(differ(often.verdict(), judged))
	})
}

// digestsDiffer says how two folds' digests do.
func digestsDiffer(got, want *projections.Fold) error {
	if g, w := got.Digests(), want.Digests(); !slices.Equal(g, w) {
		return fmt.Errorf("the digests are %v, not %v", g, w)
	}
	return nil
}

// What TakeDigests tells adds up to the digests.
func TestChangesOfTheDigestsAddUpToThem(t *testing.T) {
	checkHistories(t, 10, history.UsedAgain, func(h history.History, src *rand.Rand) error {
		p, kept := newPartition(h, 0), make(map[int64]projections.HourDigest)
		for i := range h.Records {
			if _, err := p.apply(h.Records[i : i+1]); err != nil {
				return err
			}
			if src.IntN(6) > 0 {
				continue
			}
			n := p.fold.ChangedDigests()
			changed := p.fold.TakeDigests()
			if len(changed) != n || p.fold.ChangedDigests() != 0 || len(p.fold.TakeDigests()) != 0 {
				return fmt.Errorf("%d changed, of %d", len(changed), n)
			}
			for _, d := range changed {
				kept[d.Hour] = d
			}
			byHour := func(a, b projections.HourDigest) int { return int(a.Hour - b.Hour) }
			if all := slices.SortedFunc(maps.Values(kept), byHour); !slices.Equal(all, p.fold.Digests()) {
				return fmt.Errorf("changes add up to\n%v\nnot\n%v", all, p.fold.Digests())
			}
			if src.IntN(4) == 0 {
				over := p.fold.Checkpoint().Timestamp - int64(src.IntN(int(h.Lineage.Retention.Milliseconds())))
				p.fold.DropDigests(over)
				maps.DeleteFunc(kept, func(hour int64, _ projections.HourDigest) bool { return projections.HourEnded(hour, over) })
				if len(p.fold.Digests()) != len(kept) {
					return fmt.Errorf("%d digests are left of %d", len(p.fold.Digests()), len(kept))
				}
			}
		}
		return nil
	})
}

// at and at_version restrict a set to what had been read, or was in the log, then.
func TestRestrictedSetsAgreeWithTheOracle(t *testing.T) {
	checkHistories(t, 10, history.UsedAgain, func(h history.History, src *rand.Rand) error {
		p := newPartition(h, 0)
		if _, err := p.apply(h.Records); err != nil {
			return err
		}
		p.verdict()
		for id, view := range oracle.Judge(h.Lineage, h.Partition, 0, h.Records).Messages {
			m := p.messages[id]
			for range 10 {
				rec := h.Records[src.IntN(len(h.Records))]
				readAt, offset := rec.Timestamp+int64(src.IntN(3))-1, rec.Offset+int64(src.IntN(2))
				if src.IntN(3) == 0 {
					offset = math.MaxInt64
				}
				want, got := view.At(readAt, offset), []oracle.Reader(nil)
				count := 0
				for _, r := range receiptsOf(m, 0) {
					if counts, listed := m.Shown(r); counts && r.ReadAt <= readAt && r.Offset < offset {
						count++
						if listed {
							got = append(got, oracle.Reader{ID: m.Reader(r), ReadAt: r.ReadAt, Offset: r.Offset})
						}
					}
				}
				if count != want.ReadCount || !slices.Equal(got, want.Readers) {
					return fmt.Errorf("message %s at %d, below %d, is read by %d: %v, not by %d: %v",
						id, readAt, offset, count, got, want.ReadCount, want.Readers)
				}
			}
		}
		return nil
	})
}

// A pull that knows a version is told what came since, from EachReceipt's from on,
// unless something was taken away since.
func TestADeltaIsWhatCameSince(t *testing.T) {
	checkHistories(t, 5, history.UsedAgain, func(h history.History, src *rand.Rand) error {
		p := newPartition(h, 0)
		seen := make(map[int64]map[string]oracle.View) // by SentAt + Sent, of one message
		for i, rec := range h.Records {
			if _, err := p.apply(h.Records[i : i+1]); err != nil {
				return err
			}
			if src.IntN(4) > 0 && i < len(h.Records)-1 {
				continue
			}
			for id, now := range p.verdict().Messages {
				sent := p.messages[id].Sent
				for _, before := range seen[sent] {
					if before.Version > now.Version || before.TakenAway > now.TakenAway || now.TakenAway > now.Version {
						return fmt.Errorf("after %s: versions run back from\n%+v\nto\n%+v", history.Format(rec), before, now)
					}
					if before.Version < now.TakenAway {
						continue
					}
					at, from := before, len(before.Readers)+len(before.Unlisted)
					for _, r := range now.Readers {
						if r.Offset >= before.Version {
							at.Readers = append(slices.Clone(at.Readers), r)
						}
					}
					for _, r := range now.Unlisted {
						if r.Offset >= before.Version {
							at.Unlisted = append(slices.Clone(at.Unlisted), r)
						}
					}
					at.Version, at.ReadCount, at.Truncated = now.Version, now.ReadCount, now.Truncated
					if d := differInViews(map[string]oracle.View{id: at}, map[string]oracle.View{id: now}); d != "" {
						return fmt.Errorf("after %s: with what came since version %d, %s", history.Format(rec), before.Version, d)
					}
					if now.TakenAway == 0 && len(receiptsOf(p.messages[id], from)) != now.ReadCount-from {
						return fmt.Errorf("after %s: there are others from receipt %d on", history.Format(rec), from)
					}
				}
				if seen[sent] == nil {
					seen[sent] = make(map[string]oracle.View)
				}
				seen[sent][strconv.FormatInt(now.Version, 10)] = now
			}
		}
		return nil
	})
}

func TestRecordsBelowThePositionChangeNothing(t *testing.T) {
	checkHistories(t, 10, history.UsedAgain, func(h history.History, src *rand.Rand) error {
		p := newPartition(h, 0)
		for i := range h.Records {
			if _, err := p.apply(h.Records[i : i+1]); err != nil {
				return err
			}
			if src.IntN(20) > 0 {
				continue
			}
			p.verdict() // settles all
			before, err := p.store()
			if err != nil {
				return err
			}
			outcomes, err := p.apply(h.Records[src.IntN(i+1) : i+1])
			if err != nil {
				return err
			}
			if slices.ContainsFunc(outcomes, func(o projections.Outcome) bool { return o != projections.Old }) {
				return fmt.Errorf("records below %d are %v", p.fold.Checkpoint().Position, outcomes)
			}
			after, err := p.store()
			if err != nil {
				return err
			}
			if string(before) != string(after) {
				return fmt.Errorf("below the position the state changed from\n%s\nto\n%s", before, after)
			}
		}
		return nil
	})
}

// Design: a fold from any point older than retention + 24 h gives the same
// unexpired state. IDs are used once, and no limit is hit.
func TestALaterStartGivesTheSameUnexpiredState(t *testing.T) {
	starts := 0
	t.Cleanup(func() {
		if !t.Failed() && starts == 0 {
			t.Error("no history could be started later")
		}
	})
	checkHistories(t, 3, history.UsedOnce, func(h history.History, src *rand.Rand) error {
		h.Records = h.Records[:len(h.Records)-src.IntN(len(h.Records)/2+1)] // "now" is anywhere
		now := latest(h.Records)
		horizon := now - h.Lineage.Retention.Milliseconds() - projections.WaitingTime.Milliseconds()
		last := 0 // the last record that the log may begin with
		for last < len(h.Records) && latest(h.Records[:last+1]) < horizon {
			last++
		}
		if last == 0 {
			return nil
		}
		whole := newPartition(h, 0)
		if _, err := whole.apply(h.Records); err != nil {
			return err
		}
		want := unexpired(h.Lineage, whole.verdict().Messages, now)
		unexpiredDigests := func(f *projections.Fold) []projections.HourDigest {
			return slices.DeleteFunc(f.Digests(), func(d projections.HourDigest) bool {
				return projections.HourEnded(d.Hour-1, now-h.Lineage.Retention.Milliseconds()) // It has begun to expire.
			})
		}
		for _, start := range []int{last, 1 + src.IntN(last)} {
			starts++
			p := newPartition(h, h.Records[start-1].Offset+1)
			if _, err := p.apply(h.Records[start:]); err != nil {
				return err
			}
			if d := differInViews(unexpired(h.Lineage, p.verdict().Messages, now), want); d != "" {
				return fmt.Errorf("from record %d on: %s", start, d)
			}
			if got, want := unexpiredDigests(p.fold), unexpiredDigests(whole.fold); !slices.Equal(got, want) {
				return fmt.Errorf("from record %d on the digests are %v, not %v", start, got, want)
			}
		}
		return nil
	})
}

func latest(records []events.Record) int64 {
	t := int64(0)
	for _, rec := range records {
		t = max(t, rec.Timestamp)
	}
	return t
}

func TestRemovingExpiredMessagesChangesNothing(t *testing.T) {
	checkHistories(t, 3, history.UsedAgain, func(h history.History, src *rand.Rand) error {
		kept, pruned := newPartition(h, 0), newPartition(h, 0)
		for i, rec := range h.Records {
			if src.IntN(3) == 0 {
				before := pruned.fold.Checkpoint().Timestamp - history.Slack.Milliseconds()
				maps.DeleteFunc(pruned.messages, func(_ string, m *projections.Message) bool {
					return m.SentAt+h.Lineage.Retention.Milliseconds() < before
				})
			}
			want, err := kept.apply(h.Records[i : i+1])
			if err != nil {
				return err
			}
			got, err := pruned.apply(h.Records[i : i+1])
			if err != nil {
				return err
			}
			if got[0] != want[0] {
				return fmt.Errorf("%s after expired messages were removed is %v, not %v", history.Format(rec), got[0], want[0])
			}
		}
		now := latest(h.Records)
		got, want := pruned.verdict(), kept.verdict()
		got.Messages, want.Messages = unexpired(h.Lineage, got.Messages, now), unexpired(h.Lineage, want.Messages, now)
		return asError(differ(got, want))
	})
}

func TestChangesOfTheQueueAddUpToIt(t *testing.T) {
	checkHistories(t, 3, history.UsedAgain, func(h history.History, src *rand.Rand) error {
		p, kept := newPartition(h, 0), make(map[int64]projections.WaitingEvent)
		for i := range h.Records {
			if _, err := p.apply(h.Records[i : i+1]); err != nil {
				return err
			}
			if src.IntN(6) > 0 {
				continue
			}
			added, removed := p.fold.Waiting().TakeChanges()
			if !slices.IsSortedFunc(added, byOffset) {
				return fmt.Errorf("not in log order: %+v", added)
			}
			for _, offset := range removed {
				if _, found := kept[offset]; !found {
					return fmt.Errorf("offset %d is removed, which was never added", offset)
				}
				delete(kept, offset)
			}
			for _, e := range added {
				if _, found := kept[e.Offset]; found {
					return fmt.Errorf("offset %d is added twice", e.Offset)
				}
				kept[e.Offset] = e
			}
			all := slices.SortedFunc(maps.Values(kept), byOffset)
			if waiting := p.fold.Waiting(); !slices.Equal(all, waiting.All()) || waiting.Len() != len(all) {
				return fmt.Errorf("changes add up to\n%+v\nnot %d\n%+v", all, waiting.Len(), waiting.All())
			}
			if src.IntN(3) == 0 { // The store's queue goes on as well as the fold's own.
				p.fold = projections.NewFold(h.Lineage, h.Partition, projections.Restored{Checkpoint: p.fold.Checkpoint(),
					Waiting: all, Erasures: p.fold.Erasures(), Digests: p.fold.Digests()})
			}
		}
		return nil
	})
}

// A record that cannot be passed changes nothing, however often it is tried.
func TestARecordThatStopsChangesNothing(t *testing.T) {
	broken := errors.New("broken disk")
	checkHistories(t, 10, history.UsedAgain, func(h history.History, src *rand.Rand) error {
		if len(h.Records) == 0 {
			return nil
		}
		p := newPartition(h, 0)
		at := src.IntN(len(h.Records))
		if _, err := p.apply(h.Records[:at]); err != nil {
			return err
		}
		p.verdict() // settles all
		before, err := p.store()
		if err != nil {
			return err
		}
		rec := h.Records[at]
		rec.Timestamp += (48 * time.Hour).Milliseconds()
		for _, stop := range []events.Record{{Key: rec.Key, Value: history.Unknown()}, {Value: history.Unknown()}} {
			if h.Lineage.Skipped(h.Partition, rec.Offset) {
				break
			}
			stop.Offset, stop.Timestamp = rec.Offset, rec.Timestamp
			if _, err := p.apply([]events.Record{stop}); !errors.Is(err, projections.ErrMustStop) {
				return fmt.Errorf("%s: %w", history.Format(stop), err)
			}
			if v := oracle.Judge(h.Lineage, h.Partition, rec.Offset, []events.Record{stop}); !v.Stopped {
				return errors.New("the oracle goes on")
			}
		}
		p.err = broken
		if _, err := p.apply([]events.Record{rec}); err != nil && !errors.Is(err, broken) {
			return err
		} else if err == nil {
			return nil // It needed no message.
		}
		after, err := p.store()
		if err != nil {
			return err
		}
		if string(before) != string(after) {
			return fmt.Errorf("a record that stops changed the state from\n%s\nto\n%s", before, after)
		}
		p.err = nil
		if _, err := p.apply(h.Records[at:]); err != nil {
			return err
		}
		want := oracle.Judge(h.Lineage, h.Partition, 0, h.Records)
		want.Outcomes = nil
		return asError(differ(p.verdict(), want))
	})
}

func TestACrowdIsListedUpToTheLimit(t *testing.T) {
	t.Parallel()
	seed := numberFrom(t, seedVariable, 1)
	for end := seed + 1 + numberFrom(t, historiesVariable, defaultHistories)/1000; seed < end; seed++ {
		src := history.Seeded(seed)
		h, err := history.Crowd(src, projections.MaxListedReaders+600)
		if err != nil {
			t.Fatal(err)
		}
		if err := checkCrowd(h, src); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// checkCrowd compares with the oracle around the limit, and restarts anywhere
// and after it.
func checkCrowd(h history.History, src *rand.Rand) error {
	p := newPartition(h, 0)
	var outcomes []projections.Outcome
	restarts := []int{src.IntN(len(h.Records)), len(h.Records) - 250 - src.IntN(150)}
	never := newPartition(h, 0)
	if _, err := never.apply(h.Records); err != nil {
		return err
	}
	for i := range h.Records {
		if src.IntN(1000) == 0 {
			p.disturb(src)
		}
		if slices.Contains(restarts, i) {
			var err error
			if p, err = p.restart(); err != nil {
				return err
			}
		}
		some, err := p.apply(h.Records[i : i+1])
		if err != nil {
			return err
		}
		outcomes = append(outcomes, some...)
		around := false
		for _, m := range p.messages {
			around = outcomes[i] == projections.Counted && m.ReadCount() >= projections.MaxListedReaders-1 && m.ReadCount() <= projections.MaxListedReaders+1 ||
				outcomes[i] == projections.Erased && m.ReadCount() >= projections.MaxListedReaders && src.IntN(12) == 0
		}
		if !around && i < len(h.Records)-4 { // The last three recall, and erase.
			continue
		}
		got := p.verdict()
		got.Outcomes = outcomes
		if d := differ(got, oracle.Judge(h.Lineage, h.Partition, 0, h.Records[:i+1])); d != "" {
			return fmt.Errorf("after %d records: %s", i+1, d)
		}
		if err := p.checkDigests(); err != nil {
			return fmt.Errorf("after %d records: %w", i+1, err)
		}
	}
	return digestsDiffer(p.fold, never.fold)
}

// Histories that leave something out would judge nothing of it.
func TestHistoriesHaveEveryOutcome(t *testing.T) {
	t.Parallel()
	seen := make(map[projections.Outcome]int)
	recalledEarly, readEarly := 0, 0
	for seed := range uint64(100) {
		src := history.Seeded(seed)
		h, err := history.Generate(src, history.RandomSpec(src))
		if err != nil {
			t.Fatal(err)
		}
		p := newPartition(h, 0)
		outcomes, err := p.apply(h.Records)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range outcomes {
			seen[o]++
		}
		for _, m := range p.messages {
			switch {
			case m.Recalled && m.ReadCount() == 0:
				recalledEarly++
			case m.Receipts.Len() > 0 && receiptsOf(m, 0)[0].Offset < m.Sent-1:
				readEarly++
			}
		}
	}
	for _, o := range projections.Outcomes() {
		if o != projections.Old && seen[o] < 50 {
			t.Errorf("%d records were %v", seen[o], o)
		}
	}
	if recalledEarly == 0 || readEarly == 0 {
		t.Errorf("recalled, read before they were sent: %d, %d", recalledEarly, readEarly)
	}
	t.Log(seen)
}

func byOffset(a, b projections.WaitingEvent) int { return int(a.Offset - b.Offset) }

func asError(difference string) error {
	if difference == "" {
		return nil
	}
	return errors.New(difference)
}
