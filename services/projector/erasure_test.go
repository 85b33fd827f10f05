package projector

import (
	"strings"
	"testing"

	"github.com/seenby/seenby/projections"
)

// TestPullAfterErasure: who was erased is in no list, count or denominator any
// more, and whoever knew them gets everything anew.
func TestPullAfterErasure(t *testing.T) {
	c := newChat(t)
	c.send("m1", "bob", "carol", "!dave", "erin")
	c.read("m1", "bob", "carol")
	first := want(t, c.pull(alice, "m1", "limit=1"), "active full [bob] 2 of 3 more")
	old := first.Version
	c.erase("bob")
	r := want(t, c.pull(alice, "m1", ""), "active full [carol] 1 of 2")
	if r.Version != c.version("m1", c.next) {
		t.Errorf("the version is %s, after the erasure %s", r.Version, c.version("m1", c.next))
	}
	for name, k := range map[string]struct{ params, page string }{
		"an older version":      {params("since", old), "active full [carol] 1 of 2"},
		"its own version":       {params("since", r.Version), "active delta [] 1 of 2"},
		"a page":                {params("cursor", *first.Next), "410 cursor_gone"},
		"as of before":          {params("at_version", old), "active full [carol] 1 of 2"},
		"as of the sending":     {params("at_version", c.version("m1", 1)), "active full [] 0 of 2"},
		"as of the time before": {params("at", after(0)), "active full [carol] 1 of 2"},
	} {
		t.Run(name, func(t *testing.T) { want(t, c.pull(alice, "m1", k.params), k.page) })
	}
	if got := c.pull(alice, "m1", "", `W/"`+old+`"`); got.status != 200 {
		t.Errorf("an erased reader is not modified: %d", got.status)
	}
	c.read("m1", "bob") // a stranger now
	c.erase("bob")
	c.erase("nobody")
	want(t, c.pull(alice, "m1", params("since", r.Version)), "active delta [] 1 of 2")
	c.erase("dave")
	if r = want(t, c.pull(alice, "m1", params("since", r.Version)), "active full [carol] 1 of 2"); *r.OptedOutCount != 0 {
		t.Errorf("%d have opted out", *r.OptedOutCount)
	}
	c.read("m1", "erin")
	want(t, c.pull(alice, "m1", params("since", r.Version)), "active delta [erin] 2 of 2 complete")
	c.recall("m1")
	r = want(t, c.pull(alice, "m1", ""), "recalled full [] 0 of 2")
	c.erase("erin")
	want(t, c.pull(alice, "m1", params("since", r.Version)), "recalled full [] 0 of 1")
}

// TestPullOfErasedSender: nobody is the sender then, whoever has the name.
func TestPullOfErasedSender(t *testing.T) {
	for _, people := range [][]string{{"bob"}, {"#2"}} {
		c := newChat(t)
		c.answers.visibleTo = Participants
		c.send("m1", people...)
		c.read("m1", "bob")
		old := want(t, c.pull(alice, "m1", ""), "active full [bob] 1 of "+map[int]string{0: "1 complete", 1: "2"}[strings.Count(people[0], "#")]).Version
		c.erase("alice")
		want(t, c.pull(alice, "m1", ""), "404 not_found")
		r := c.pull(backend, "m1", params("since", old))
		if r.status != 200 || r.Delta || r.readers() != "bob" || !strings.Contains(r.raw, `"sender_id":null,`) {
			t.Errorf("%v: %d %s", people, r.status, r.raw)
		}
	}
}

// TestPullErasedParticipant: who was erased sees no more of the message than a
// stranger.
func TestPullErasedParticipant(t *testing.T) {
	c := newChat(t)
	c.answers.visibleTo = Participants
	c.send("m1", "bob", "carol")
	want(t, c.pull(bob, "m1", ""), "active full [] 0 of 2")
	c.erase("bob")
	want(t, c.pull(bob, "m1", ""), "404 not_found")
	c.send("m2", "bob", "carol")
	want(t, c.pull(bob, "m2", ""), "active full [] 0 of 2")
}

// TestPullErasedFromCrowd: a reader whom an erasure took out lowers both counts,
// and may come back, at the end.
func TestPullErasedFromCrowd(t *testing.T) {
	c := newChat(t)
	c.send("m1", "#3")
	c.read("m1", "x", "y", "z")
	first := want(t, c.pull(alice, "m1", "limit=1"), "active full [x] 3 of 3 complete more")
	c.erase("y")
	r := want(t, c.pull(alice, "m1", params("since", first.Version)), "active full [x z] 2 of 2 complete")
	want(t, c.pull(alice, "m1", params("cursor", *first.Next)), "410 cursor_gone")
	page := want(t, c.pull(alice, "m1", "limit=1"), "active full [x] 2 of 2 complete more")
	want(t, c.pull(alice, "m1", params("cursor", *page.Next, "limit", "1")), "active full [z] 2 of 2 complete")
	c.erase("stranger")
	c.read("m1", "y")
	want(t, c.pull(alice, "m1", params("since", r.Version)), "active delta [y] 3 of 2 complete")
	want(t, c.pull(alice, "m1", params("at_version", first.Version)), "active full [x z] 2 of 2 complete")
}

// TestPullErasedFromTruncated: places in the list that become free are given to
// who reads next; who was only counted stays so.
func TestPullErasedFromTruncated(t *testing.T) {
	c := newChat(t)
	c.send("m1", "#1000000")
	c.read("m1", "first")
	for i := range projections.MaxListedReaders - 1 {
		c.read("m1", "reader-"+c.position(int64(i)))
	}
	c.read("m1", "unlisted")
	want(t, c.pull(alice, "m1", "limit=1"), "active full [first] 20001 of 1000000 truncated more")
	c.erase("first")
	v := c.pull(alice, "m1", "limit=0").Version
	c.read("m1", "late")
	want(t, c.pull(alice, "m1", params("since", v)), "active delta [late] 20001 of 999999 truncated")
	c.erase("unlisted")
	want(t, c.pull(alice, "m1", "limit=0"), "active full [] 20000 of 999998")
}
