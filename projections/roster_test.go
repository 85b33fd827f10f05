package projections_test

import (
	"slices"
	"testing"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/projections"
)

func ids(names ...string) (b [][]byte) {
	for _, name := range names {
		b = append(b, []byte(name))
	}
	return b
}

func rosterOf(sender string, recipients, optedOut [][]byte) *projections.Roster {
	return projections.NewRoster(&events.MessageSent{SenderID: []byte(sender), Recipients: recipients, OptedOut: optedOut})
}

func TestARosterIsSortedBytewiseAndDistinct(t *testing.T) {
	r := rosterOf("b", ids("ö", "b", "a", "B", "ab", "a", "10", "2"), ids("ab", "nobody"))
	if want := []string{"10", "2", "B", "a", "ab", "b", "ö"}; !slices.Equal(r.Names, want) {
		t.Errorf("names are %q, not %q", r.Names, want)
	}
	if want := []bool{false, false, false, false, true, false, false}; !slices.Equal(r.OptedOut, want) {
		t.Errorf("opted out are %v, not %v", r.OptedOut, want)
	}
	for i, name := range r.Names {
		if n, found := r.Number(name); int(n) != i || !found {
			t.Errorf("%s is %d, %v", name, n, found)
		}
	}
	for _, name := range []string{"", "0", "A", "aa", "abc", "c", "öö"} {
		if n, found := r.Number(name); found {
			t.Errorf("%s is %d", name, n)
		}
	}
}

func TestWhoeverSendsInAGroupItIsOneRoster(t *testing.T) {
	a, b := rosterOf("a", ids("b", "c"), ids("c")), rosterOf("b", ids("c", "a", "a"), ids("c"))
	if a.Hash() != b.Hash() {
		t.Error("two rosters for one group")
	}
}

func TestRostersThatDifferHashDifferently(t *testing.T) {
	rosters := map[string]*projections.Roster{
		"a b c":           rosterOf("a", ids("b", "c"), nil),
		"a b c without c": rosterOf("a", ids("b", "c"), ids("c")),
		"a b c without b": rosterOf("a", ids("b", "c"), ids("b")),
		"a b":             rosterOf("a", ids("b"), nil),
		"a bc":            rosterOf("a", ids("bc"), nil),
		"ab c":            rosterOf("ab", ids("c"), nil),
		"one long":        rosterOf("a\x00\x01b", nil, nil),
		"a alone":         rosterOf("a", nil, nil),
	}
	seen := make(map[projections.RosterHash]string)
	for name, r := range rosters {
		if other, found := seen[r.Hash()]; found {
			t.Errorf("%q and %q hash alike", name, other)
		}
		seen[r.Hash()] = name
	}
}

func TestRecipientsAreToldFromOtherParticipants(t *testing.T) {
	listed := &projections.Message{Roster: rosterOf("alice", ids("alice", "bob", "carol"), ids("carol"))}
	listed.Sender, _ = listed.Roster.Number("alice")
	for name, want := range map[string]bool{"bob": true, "alice": false, "carol": false, "mallory": false, "": false, "zoe": false} {
		if got := listed.IsRecipient(name); got != want {
			t.Errorf("%q is a recipient: %v", name, got)
		}
	}
	counted := &projections.Message{SenderName: "alice", RecipientsGiven: 3}
	if counted.IsRecipient("bob") {
		t.Error("bob is known in a count-only group")
	}
	if !counted.CountOnly() || listed.CountOnly() {
		t.Error("count-only is told wrongly")
	}
}
