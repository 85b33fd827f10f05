package projections_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/history"
)

func ids(names ...string) (b [][]byte) {
	for _, name := range names {
		b = append(b, []byte(name))
	}
	return b
}

func sentTo(sender string, recipients, optedOut [][]byte) *events.MessageSent {
	return &events.MessageSent{SenderID: []byte(sender), Recipients: recipients, OptedOut: optedOut}
}

func namesTo(sender string, recipients, optedOut [][]byte) *projections.Names {
	return projections.NewNames(sentTo(sender, recipients, optedOut))
}

func TestNamesAreSortedBytewiseAndDistinct(t *testing.T) {
	n := namesTo("b", ids("ö", "b", "a", "B", "ab", "a", "10", "2"), ids("ab", "nobody", "ab"))
	want := []string{"10", "2", "B", "a", "ab", "b", "ö"}
	if got := namesOf(n); !slices.Equal(got, want) {
		t.Errorf("names are %q, not %q", got, want)
	}
	if n.Len() != 7 || n.TextLen() != 10 {
		t.Errorf("%d names of %d bytes", n.Len(), n.TextLen())
	}
	for i, name := range want {
		if got, found := n.Number([]byte(name)); int(got) != i || !found {
			t.Errorf("%s is %d, %v", name, got, found)
		}
		if n.OptedOut(uint32(i)) != (name == "ab") {
			t.Errorf("%s is told wrongly to have opted out or not", name)
		}
	}
}

// crowd are people whose IDs share their beginnings, and lengths.
func crowd(n int) (people [][]byte) {
	for i := range n {
		people = append(people, []byte(fmt.Sprintf("person-%d", i)))
	}
	return people
}

func TestEverybodyHasTheirNumber(t *testing.T) {
	for _, size := range []int{1, 2, 15, 16, 17, 18, 64, 65, 1000, 10_001} {
		names := projections.NewNames(sentTo("person-0", crowd(size), ids("person-0", fmt.Sprintf("person-%d", size-1))))
		restored := projections.RestoreNames(namesOf(names), names.OptedOut, projections.RosterHash{}, false)
		for _, n := range []*projections.Names{names, restored} {
			if n.Len() != size || !n.Equal(names) || !names.Equal(n) {
				t.Fatalf("of %d names it has %d, equal: %v", size, n.Len(), n.Equal(names))
			}
			for i := range uint32(size) {
				if got, found := n.Number([]byte(n.Name(i))); got != i || !found {
					t.Fatalf("of %d, %s is %d, %v", size, n.Name(i), got, found)
				}
			}
			for _, stranger := range []string{"", "person-", "person-00", "person", "a", "z", fmt.Sprintf("person-%d", size)} {
				if got, found := n.Number([]byte(stranger)); found {
					t.Fatalf("of %d, the stranger %q is %d", size, stranger, got)
				}
			}
			if size < 100 && n.Size() < n.TextLen()+4*size {
				t.Errorf("the size of %d names is %d", size, n.Size())
			}
		}
	}
}

// Names that were scrubbed find nobody by them, and everybody else, and keep the
// hash of what they were.
func TestScrubbedNames(t *testing.T) {
	for _, size := range []int{1, 2, 5, 16, 17, 1000} {
		names := projections.NewNames(sentTo("person-0", crowd(size), ids("person-0")))
		for _, every := range []int{1, 2, 3, size} {
			blank := namesOf(names)
			for i := 0; i < size; i += every {
				blank[i] = ""
			}
			n := projections.RestoreNames(blank, names.OptedOut, names.Hash(), true)
			if n.Hash() != names.Hash() || n.Equal(names) || n.Len() != size {
				t.Errorf("%d names, each %dth scrubbed: the hash changed, or they are equal", size, every)
			}
			for i := range uint32(size) {
				got, found := n.Number([]byte(names.Name(i)))
				if scrubbed := int(i)%every == 0; found == scrubbed || found && got != i {
					t.Errorf("%d names, each %dth scrubbed: %s is %d, %v", size, every, names.Name(i), got, found)
				}
				if n.OptedOut(i) != names.OptedOut(i) {
					t.Errorf("%s changed their mind", names.Name(i))
				}
			}
			if _, found := n.Number(nil); found {
				t.Error("a scrubbed name finds somebody")
			}
			if new(projections.Matcher).Match(n, sentTo("person-0", crowd(size), ids("person-0"))) {
				t.Error("scrubbed names match")
			}
		}
	}
}

func TestWhoeverSendsInAGroupItIsOneRoster(t *testing.T) {
	a, b := namesTo("a", ids("b", "c"), ids("c")), namesTo("b", ids("c", "a", "a"), ids("c"))
	if a.Hash() != b.Hash() || !a.Equal(b) {
		t.Error("two rosters for one group")
	}
}

func TestRostersThatDifferHashDifferently(t *testing.T) {
	rosters := map[string]*projections.Names{
		"a b c":           namesTo("a", ids("b", "c"), nil),
		"a b c without c": namesTo("a", ids("b", "c"), ids("c")),
		"a b c without b": namesTo("a", ids("b", "c"), ids("b")),
		"a b":             namesTo("a", ids("b"), nil),
		"a bc":            namesTo("a", ids("bc"), nil),
		"ab c":            namesTo("ab", ids("c"), nil),
		"one long":        namesTo("a\x00\x01b", nil, nil),
		"a alone":         namesTo("a", nil, nil),
	}
	seen := make(map[projections.RosterHash]string)
	for name, r := range rosters {
		if other, found := seen[r.Hash()]; found {
			t.Errorf("%q and %q hash alike", name, other)
		}
		seen[r.Hash()] = name
		for other, o := range rosters {
			if r.Equal(o) != (name == other) {
				t.Errorf("%q equals %q: %v", name, other, r.Equal(o))
			}
		}
	}
}

// Stored rosters and digests carry this: it must not change.
func TestTheHashOfARosterStays(t *testing.T) {
	const want = "5087d0dd5afc9d39884e23d0f4c21e130472c7ece08db52c5419108a6d7c9c50"
	n := namesTo("alice", ids("bob", "carol"), ids("carol"))
	if hash := n.Hash(); fmt.Sprintf("%x", hash[:]) != want {
		t.Errorf("%x, it was %s", hash, want)
	}
}

// An event of a handful of people, with repeats, the sender among the recipients,
// and strangers who opted out: small enough that two are often alike.
func smallEvent(src *rand.Rand, people [][]byte) *events.MessageSent {
	e := &events.MessageSent{SenderID: people[src.IntN(len(people))]}
	if src.IntN(2) == 0 {
		e.Recipients = append(e.Recipients, people...)
	}
	for range src.IntN(2 * len(people)) {
		e.Recipients = append(e.Recipients, people[src.IntN(len(people))])
	}
	for range src.IntN(3) {
		e.OptedOut = append(e.OptedOut, people[src.IntN(len(people))])
	}
	if src.IntN(4) == 0 {
		e.OptedOut = append(e.OptedOut, []byte("stranger"))
	}
	src.Shuffle(len(e.Recipients), func(i, j int) { e.Recipients[i], e.Recipients[j] = e.Recipients[j], e.Recipients[i] })
	return e
}

func TestMatchIsEqualityWithoutNames(t *testing.T) {
	src, m := history.Seeded(1), new(projections.Matcher)
	matched := 0
	for i := range 30_000 {
		size := 1 + src.IntN(4)
		if i%10 == 0 {
			size = 15 + src.IntN(60) // hashed, and more than a word
		}
		people := crowd(size)
		a, b := smallEvent(src, people), smallEvent(src, people)
		n := projections.NewNames(a)
		want := n.Equal(projections.NewNames(b))
		if got := m.Match(n, b); got != want {
			t.Fatalf("%+v matches %+v: %v", a, b, got)
		}
		if want {
			matched++
		}
		if !m.Match(n, a) {
			t.Fatalf("%+v does not match itself", a)
		}
	}
	if matched < 1000 {
		t.Errorf("only %d matched", matched)
	}
	n := projections.NewNames(sentTo("a", ids("b"), nil))
	if m.Match(n, &events.MessageSent{CountOnly: true, SenderID: []byte("a"), RecipientCount: 1}) {
		t.Error("a count-only message matches")
	}
}

func TestMatchAllocatesNothing(t *testing.T) {
	e := sentTo("person-0", crowd(2000), ids("person-9"))
	n, m := projections.NewNames(e), new(projections.Matcher)
	m.Match(n, e)
	if allocs := testing.AllocsPerRun(100, func() { m.Match(n, e) }); allocs > 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// The names that a roster may have follow from its content, and do not come again.
func TestTheNamesOfARosterGoOn(t *testing.T) {
	const want = projections.RosterRef(0x0102030405060708)
	ref := projections.RosterHash{1, 2, 3, 4, 5, 6, 7, 8, 9}.Ref()
	if ref != want {
		t.Fatalf("the first is %x, not %x", ref, want)
	}
	if next := ref.Next(); next != 0x66840dda154e8a11 {
		t.Errorf("the next is %x", next)
	}
	seen := make(map[projections.RosterRef]bool)
	for range 1000 {
		if seen[ref] {
			t.Fatalf("%x comes again", ref)
		}
		seen[ref], ref = true, ref.Next()
	}
}

// A message never shares the roster that somebody was taken out of, even under
// one name, and those before it do.
func TestARosterThatLostSomebodyIsNotShared(t *testing.T) {
	p := newPartition(onePartition(0), 0)
	tell(t, p, `0s sent m1 in c by alice to bob,carol
0s sent m2 in c by carol to bob,alice
0s erase zoe
0s sent m3 in c by bob to alice,carol
0s erase bob
0s sent m4 in c by alice to bob,carol
0s sent m5 in c by alice to bob,carol
0s erase bob
0s sent m6 in c by alice to bob,carol
0s sent m7 in c by alice to carol`,
		"0 created\n1 created\n2 erased\n3 created\n4 erased\n5 created\n6 created\n7 erased\n8 created\n9 created\n")
	groups := [][]string{{"m1", "m2", "m3"}, {"m4", "m5"}, {"m6"}, {"m7"}}
	seen := make(map[*projections.Roster]int)
	for i, group := range groups {
		for _, id := range group {
			r := p.messages[id].Roster
			if other, found := seen[r]; found && other != i {
				t.Errorf("%s shares the roster of %s", id, groups[other])
			}
			seen[r] = i
		}
	}
	if len(seen) != len(groups) {
		t.Errorf("%d rosters", len(seen))
	}
	first := p.messages["m1"].Roster.Ref
	if p.messages["m4"].Roster.Ref != first.Next() || p.messages["m6"].Roster.Ref != first.Next().Next() {
		t.Error("the names do not follow on each other")
	}
	p.verdict()
	for id, want := range map[string]int64{"m1": 5, "m2": 5, "m3": 5, "m4": 8, "m5": 8, "m6": 9, "m7": 10} {
		if got := p.messages[id].Version(); got != want {
			t.Errorf("the version of %s is %d, not %d", id, got, want)
		}
	}
	if r := p.messages["m1"].Roster; r.Size() < 64 || r.Gone() == nil || r.Gone().Last != 5 || r.Settled() != 8 {
		t.Errorf("the first roster is %+v", r)
	}
}
