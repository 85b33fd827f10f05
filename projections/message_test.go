package projections_test

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/oracle"
)

// tell folds lines of a history.
func tell(t *testing.T, p *partition, lines string, want string) {
	t.Helper()
	s := &story{p: p}
	if out, err := s.log(lines); err != nil || out != want {
		t.Fatalf("%s\nis\n%s%v", lines, out, err)
	}
}

// What a pull was given stays as it is while the fold goes on: when it appends to
// the same memory, seals it, drops it, takes somebody out of it, or everything away.
func TestASnapshotStaysAsItIs(t *testing.T) {
	for name, group := range groups {
		t.Run(name, func(t *testing.T) {
			p, receipts := crowdOf(t, group)
			id := string(receipts[0].Key)
			type snapshot struct {
				is     projections.Message
				looked oracle.View
			}
			var taken []snapshot
			take := func() {
				m := p.messages[id]
				p.settle(m)
				p.complete(m)
				s := m.Snapshot()
				taken = append(taken, snapshot{s, viewOf(&s)})
			}
			for i := range receipts[:100] {
				if _, err := p.apply(receipts[i : i+1]); err != nil {
					t.Fatal(err)
				}
				take()
				if i%30 == 0 {
					p.messages[id].Receipts.Seal()
				}
				if i == 70 {
					p.drop(p.messages[id], 2)
				}
			}
			for i, reader := range []int{98, 70, 50, 5} {
				tell(t, p, "1h erase "+longID("reader", reader), fmt.Sprintf("%d erased\n", 101+i))
				take()
			}
			tell(t, p, "1h erase alice", "105 erased\n")
			take()
			p.scrub()
			take()
			tell(t, p, "1h recall "+id, "106 recalled\n")
			take()
			if _, known := p.messages[id].SenderID(); known {
				t.Error("alice is known")
			}
			for i, s := range taken {
				if got := viewOf(&s.is); !reflect.DeepEqual(got, s.looked) {
					t.Fatalf("snapshot %d changed from\n%+v\nto\n%+v", i, s.looked, got)
				}
				if want := min(i+1, 100); i < 100 && (s.looked.ReadCount != want || s.looked.Version != int64(i)+2 || s.looked.TakenAway != 0) {
					t.Fatalf("snapshot %d is %+v", i, s.looked)
				}
			}
			erased, recalled := taken[104].looked, taken[106].looked
			if erased.ReadCount != 96 || erased.TakenAway != 106 || !reflect.DeepEqual(erased, taken[105].looked) {
				t.Errorf("after the erasures it is %+v", erased)
			}
			if recalled.ReadCount != 0 || recalled.RecipientCount != 4996 || recalled.Version != 107 {
				t.Errorf("after the recall it is %+v", recalled)
			}
		})
	}
}

func TestSizeGrowsWithWhatAMessageHolds(t *testing.T) {
	for name, group := range groups {
		t.Run(name, func(t *testing.T) {
			p, receipts := crowdOf(t, group)
			m := p.messages[string(receipts[0].Key)]
			before := m.Size()
			if _, err := p.apply(receipts); err != nil {
				t.Fatal(err)
			}
			bytes := 0
			for i := range m.Receipts.Sealed() {
				bytes += len(m.Receipts.Chunk(i).Bytes)
			}
			if grown := m.Size() - before; bytes == 0 || grown < bytes {
				t.Errorf("%d receipts grew the message by %d bytes, which has %d sealed", len(receipts), grown, bytes)
			}
			size, sealed := m.Size(), m.Receipts.Sealed()
			if dropped := m.Receipts.Drop(sealed); dropped != bytes || m.Size() > size-dropped {
				t.Errorf("dropping %d of %d bytes left %d of %d", dropped, bytes, m.Size(), size)
			}
		})
	}
}

func TestRecipientsAreToldFromOtherParticipants(t *testing.T) {
	p := newPartition(onePartition(0), 0)
	tell(t, p, `0s sent listed in c by alice to alice,bob,carol,dave out carol
0s sent counted in c by alice count 3
1s erase dave`, "0 created\n1 created\n2 erased\n")
	listed, counted := p.messages["listed"], p.messages["counted"]
	p.settle(listed)
	for name, want := range map[string]bool{"bob": true, "alice": false, "carol": false, "dave": false, "mallory": false, "": false, "zoe": false} {
		if got := listed.IsRecipient(name); got != want {
			t.Errorf("%q is a recipient: %v", name, got)
		}
	}
	if counted.IsRecipient("bob") {
		t.Error("bob is known in a count-only group")
	}
	if !counted.CountOnly() || listed.CountOnly() {
		t.Error("count-only is told wrongly")
	}
}

// A message that is settled tells so, and one that an erasure came after does not.
func TestSettled(t *testing.T) {
	p := newPartition(onePartition(0), 0)
	tell(t, p, "0s sent listed in c by alice to bob\n0s sent counted in c by alice count 3\n0s read counted by bob",
		"0 created\n1 created\n2 counted\n")
	for step, erased := range []string{"zoe", "bob", "bob", "alice"} {
		tell(t, p, "1s erase "+erased, fmt.Sprintf("%d erased\n", step+3))
		for id, m := range p.messages {
			if p.fold.Settled(m) {
				t.Errorf("%s is settled without %s", id, erased)
			}
			changed := p.fold.Settle(m)
			if want := m.CountOnly() && (step == 1 || step == 3); changed != want {
				t.Errorf("taking %s out of %s changed it: %v", erased, id, changed)
			}
			if !p.fold.Settled(m) || p.fold.Settle(m) {
				t.Errorf("%s is not settled", id)
			}
			if m.CountOnly() && m.Crowd.Settled != p.fold.LastErasure() {
				t.Errorf("%s is settled up to %d", id, m.Crowd.Settled)
			}
		}
	}
}
