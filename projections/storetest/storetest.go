// Package storetest is what every materialize.Store has to pass.
package storetest

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/materialize"
)

// Opener opens one store, empty the first time. It is called again only after
// the store that it returned was closed.
type Opener func() (materialize.Store, error)

// Run holds stores to the contract. New returns the opener of a new store, which
// has at least 64 partitions.
func Run(t *testing.T, newStore func(t *testing.T) Opener) {
	for _, c := range []struct {
		name string
		test func(*testing.T, *harness)
	}{
		{"Empty", testEmpty},
		{"Messages", testMessages},
		{"Growth", testGrowth},
		{"CrowdGrowth", testCrowdGrowth},
		{"Recall", testRecall},
		{"Replaced", testReplaced},
		{"Chunks", testChunks},
		{"LargestRosters", testLargestRosters},
		{"RostersInPages", testRosterPages},
		{"RostersAreKeptLonger", testRosterKept},
		{"ErasedFromRosters", testErasedFromRosters},
		{"ErasedFromCrowds", testErasedFromCrowds},
		{"CrowdsInPages", testCrowdPages},
		{"Erasures", testErasures},
		{"Digests", testDigests},
		{"Checkpoint", testCheckpoint},
		{"Waiting", testWaiting},
		{"ManyWaitingLeave", testManyWaitingLeave},
		{"Undecodable", testUndecodable},
		{"Prune", testPrune},
		{"PruneKeepsLaterMessages", testPruneKeepsLater},
		{"PruneWhatWasReplaced", testPruneReplaced},
		{"PruneLargeMessages", testPruneLarge},
		{"PartitionsAreApart", testPartitions},
		{"IDsAreApart", testIDs},
		{"TooLarge", testTooLarge},
		{"LargestBatch", testLargestBatch},
		{"NothingShared", testNothingShared},
		{"ReadersWhileCommitting", testReaders},
		{"RandomOperations", testRandom},
		{"RestartAtEveryCommit", testRestarts},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := &harness{t: t, open: newStore(t)}
			h.Store = h.mustOpen()
			t.Cleanup(func() {
				if err := h.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			})
			c.test(t, h)
		})
	}
}

// harness is a store under test that can be opened again.
type harness struct {
	materialize.Store
	t    testing.TB
	open Opener
}

func (h *harness) mustOpen() materialize.Store {
	h.t.Helper()
	s, err := h.open()
	if err != nil {
		h.t.Fatalf("open: %v", err)
	}
	return s
}

func (h *harness) reopen() {
	h.t.Helper()
	if err := h.Close(); err != nil {
		h.t.Fatalf("Close: %v", err)
	}
	h.Store = h.mustOpen()
}

func (h *harness) commit(partition int32, b *materialize.Batch) {
	h.t.Helper()
	if err := h.Commit(partition, b); err != nil {
		h.t.Fatalf("Commit: %v", err)
	}
}

// flush commits what changed.
func (h *harness) flush(partition int32, w *world) {
	h.t.Helper()
	h.commit(partition, w.batch())
}

// want holds all that the store has of a partition to a world that was flushed, now
// and after opening again.
func (h *harness) want(partition int32, w *world) {
	h.t.Helper()
	for range 2 {
		h.wantNow(partition, w)
		h.reopen()
	}
}

func (h *harness) wantNow(partition int32, w *world) {
	h.t.Helper()
	h.wantSaved(partition, w)
	for id := range w.messages {
		h.wantMessage(partition, w, id)
	}
	rosters, err := h.Rosters(partition, 0, len(w.rosters)+1)
	if err != nil || len(rosters) != len(w.rosters) {
		h.t.Fatalf("%d rosters, not %d: %v", len(rosters), len(w.rosters), err)
	}
	for _, got := range rosters {
		h.wantRoster(got, w.rosters[got.Roster.Ref])
	}
	crowds, err := h.Crowds(partition, nil, len(w.messages)+1)
	if err != nil {
		h.t.Fatal(err)
	}
	for id, m := range w.messages {
		if m.Crowd != nil && !slices.ContainsFunc(crowds, func(one []byte) bool { return string(one) == id }) {
			h.t.Fatalf("the crowds are %q, without %q", crowds, id)
		}
	}
}

func (h *harness) wantSaved(partition int32, w *world) {
	h.t.Helper()
	got := h.restore(partition)
	slices.SortFunc(got.Digests, func(a, b projections.HourDigest) int { return cmp.Compare(a.Hour, b.Hour) })
	want := materialize.Saved{Restored: projections.Restored{Checkpoint: w.fold.Checkpoint(), Waiting: w.fold.Waiting().All(),
		Erasures: w.fold.Erasures(), Digests: w.fold.Digests()}}
	for i, d := range want.Digests {
		// What was forgotten of it only the store is told.
		want.Digests[i].Forgotten, want.Digests[i].ForgottenTo = w.digests[d.Hour].Forgotten, w.digests[d.Hour].ForgottenTo
	}
	if got.Checkpoint != want.Checkpoint || !slices.Equal(got.Waiting, want.Waiting) || !slices.Equal(got.Erasures, want.Erasures) || !slices.Equal(got.Digests, want.Digests) {
		h.t.Fatalf("restored\n%.2000v\nnot\n%.2000v", fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want))
	}
}

// wantMessage holds one message to the world's, as it is stored and as it is shown.
func (h *harness) wantMessage(partition int32, w *world, id string) {
	h.t.Helper()
	want := w.messages[id]
	var ref projections.RosterRef
	if want.Roster != nil {
		ref = want.Roster.Ref
	}
	got, gotRef, err := h.Message(partition, []byte(id))
	if err != nil || got == nil {
		h.t.Fatalf("message %q: %v, %v", id, got, err)
	}
	if diff := diffStored(got, want, gotRef, ref); diff != "" {
		h.t.Fatalf("message %q: %s", id, diff)
	}
	if want.Roster != nil {
		r, err := h.Roster(partition, ref)
		if err != nil || r == nil {
			h.t.Fatalf("message %q: roster %016x: %v, %v", id, uint64(ref), r, err)
		}
		got.Roster = r.Roster
	}
	if err := got.Rebuild(); err != nil {
		h.t.Fatalf("message %q: %v", id, err)
	}
	shown := loaded(want)
	if err := shown.Rebuild(); err != nil {
		h.t.Fatalf("message %q as it was folded: %v", id, err)
	}
	w.fold.Settle(got)
	w.fold.Settle(shown)
	if diff := DiffMessage(got, shown); diff != "" {
		h.t.Fatalf("message %q: %.2000s", id, diff)
	}
}

// wantRoster holds a stored roster to the world's: it must not have the names of
// those who are gone.
func (h *harness) wantRoster(got *materialize.StoredRoster, want *roster) {
	h.t.Helper()
	if want == nil {
		h.t.Fatalf("there is a roster %016x", uint64(got.Roster.Ref))
	}
	if g, w := rosterText(got.Roster, got.KeepUntil), rosterText(want.Roster, want.keepUntil); g != w {
		h.t.Fatalf("a roster is\n  %.1000s\nnot\n  %.1000s", g, w)
	}
	if gone := got.Roster.Gone(); gone != nil {
		for _, p := range gone.People {
			if name := got.Roster.Names.Name(p.Number); name != "" {
				h.t.Fatalf("roster %016x names %q, who is gone", uint64(got.Roster.Ref), name)
			}
		}
	}
}

func (h *harness) wantNone(partition int32, id string) {
	h.t.Helper()
	m, _, err := h.Message(partition, []byte(id))
	if m != nil || err != nil {
		h.t.Fatalf("message %q is there: %+v, %v", id, m, err)
	}
	if chunks, err := h.Chunks(partition, []byte(id), 10); len(chunks) > 0 || err != nil {
		h.t.Fatalf("message %q has %d chunks, %v", id, len(chunks), err)
	}
}

func (h *harness) restore(partition int32) materialize.Saved {
	h.t.Helper()
	saved, found, err := h.Restore(partition)
	if err != nil || !found {
		h.t.Fatalf("Restore: found %v, %v", found, err)
	}
	return saved
}

// prune prunes until it is done.
func (h *harness) prune(partition int32, before int64) (removed int) {
	h.t.Helper()
	for range 10_000 {
		n, done, err := h.Prune(partition, before)
		if err != nil {
			h.t.Fatalf("Prune: %v", err)
		}
		if removed += n; done {
			return removed
		}
	}
	h.t.Fatal("Prune is never done")
	return 0
}

func batch(position int64) *materialize.Batch {
	return &materialize.Batch{Checkpoint: projections.Checkpoint{Position: position, LeaderEpoch: 3, Timestamp: base}}
}

func testEmpty(t *testing.T, h *harness) {
	for range 2 {
		if _, found, err := h.Restore(5); found || err != nil {
			t.Errorf("Restore of a partition that was never committed: found %v, %v", found, err)
		}
		h.wantNone(5, "m")
		if kept, err := h.Undecodable(5); len(kept) > 0 || err != nil {
			t.Errorf("Undecodable: %v, %v", kept, err)
		}
		if r, err := h.Roster(5, 7); r != nil || err != nil {
			t.Errorf("Roster: %v, %v", r, err)
		}
		if all, err := h.Rosters(5, 0, 10); len(all) > 0 || err != nil {
			t.Errorf("Rosters: %v, %v", all, err)
		}
		if all, err := h.Crowds(5, nil, 10); len(all) > 0 || err != nil {
			t.Errorf("Crowds: %v, %v", all, err)
		}
		if n := h.prune(5, 1<<60); n != 0 {
			t.Errorf("Prune removed %d of nothing", n)
		}
		h.reopen()
	}
}

func testCheckpoint(t *testing.T, h *harness) {
	for _, c := range []projections.Checkpoint{
		{Position: 0, LeaderEpoch: -1},
		{Position: 17, LeaderEpoch: 0, Timestamp: -1, LastErasure: 3},
		{Position: 1 << 60, LeaderEpoch: 1<<31 - 1, Timestamp: 1 << 50, Evicted: 1 << 40, LastErasure: 1 << 59},
	} {
		h.commit(7, &materialize.Batch{Checkpoint: c, UndecodableTotal: c.Evicted})
		want := materialize.Saved{Restored: projections.Restored{Checkpoint: c}, Undecodable: c.Evicted}
		for range 2 {
			if got := h.restore(7); !reflect.DeepEqual(got, want) {
				t.Errorf("restored %+v, want %+v", got, want)
			}
			h.reopen()
		}
	}
}
