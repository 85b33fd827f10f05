package projector

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/services/contract"
)

// after is the RFC 3339 time so many milliseconds after t0.
func after(ms int64) string { return string(contract.AppendTime(nil, t0+ms)) }

// TestPullAt: read_at decides, not when the receipt came.
func TestPullAt(t *testing.T) {
	c := newChat(t)
	c.now = c.now.Add(10 * time.Second)
	c.write(sentAt(sentEvent("m1", "alice", "a", "b", "c", "d", "!out"), t0))
	c.readAt("m1", "a", 3000)
	c.readAt("m1", "b", 1000)
	c.readAt("m1", "c", 2000)
	version := c.readAt("m1", "d", -5) // is read when it was sent
	for at, page := range map[string]string{
		after(-1):                        "active full [] 0 of 4",
		after(0):                         "active full [d] 1 of 4",
		after(999):                       "active full [d] 1 of 4",
		after(1000):                      "active full [b d] 2 of 4",
		"2026-11-23T08:00:00.9999999Z":   "active full [d] 1 of 4",
		"2026-11-23T08:00:01.0000001Z":   "active full [b d] 2 of 4",
		"2026-11-23T10:00:02.5+02:00":    "active full [b c d] 3 of 4",
		after(3000):                      "active full [a b c d] 4 of 4 complete",
		"0000-01-01T00:00:00Z":           "active full [] 0 of 4",
		"9999-12-31T23:59:59.999999999Z": "active full [a b c d] 4 of 4 complete",
	} {
		r := want(t, c.pull(alice, "m1", params("at", at)), page)
		if r.Version != c.version("m1", version) || *r.OptedOutCount != 1 {
			t.Errorf("%s: %s", at, r.raw)
		}
		counts := c.pull(alice, "m1", params("at", at, "limit", "0"))
		if counts.ReadCount != r.ReadCount || counts.Complete != r.Complete || len(counts.Readers) != 0 || counts.Next != nil {
			t.Errorf("%s, with limit=0: %s", at, counts.raw)
		}
	}
	// It counts for the sender's and for nobody else's eyes.
	want(t, c.pull(bob, "m1", params("at", after(0))), "404 not_found")
	c.recall("m1")
	want(t, c.pull(alice, "m1", params("at", after(3000))), "recalled full [] 0 of 4")
}

// TestPullAtVersion: what was added up to a version, that one included.
func TestPullAtVersion(t *testing.T) {
	c := newChat(t)
	c.read("m1", "a") // waits
	c.send("m1", "a", "b", "c")
	sent := c.pull(alice, "m1", "").Version
	c.send("other", "a")
	c.read("m1", "b", "b", "stranger")
	second := c.pull(alice, "m1", "").Version
	c.read("m1", "c")
	current := want(t, c.pull(alice, "m1", ""), "active full [a b c] 3 of 3 complete").Version
	for _, k := range []struct{ version, page string }{
		{c.version("m1", 0), "active full [] 0 of 3"},
		{sent, "active full [a] 1 of 3"},
		{second, "active full [a b] 2 of 3"},
		{current, "active full [a b c] 3 of 3 complete"},
		{c.version("m1", c.next), "active full [a b c] 3 of 3 complete"},
		{c.version("other", 1), "400 bad_version"},
	} {
		if r := want(t, c.pull(alice, "m1", params("at_version", k.version)), k.page); r.status == 200 && r.Version != current {
			t.Errorf("of version %s, the current one is %s", r.Version, current)
		}
	}
	want(t, c.pull(alice, "m1", params("at_version", second, "limit", "0")), "active full [] 2 of 3")
	c.recall("m1")
	want(t, c.pull(alice, "m1", params("at_version", second)), "recalled full [] 0 of 3")
}

// TestPullRestrictedHasNothingToPollWith: what is restricted has no entity tag,
// asks nobody to pull it again, and is never not modified.
func TestPullRestrictedHasNothingToPollWith(t *testing.T) {
	c := newChat(t)
	c.send("m1", "a", "b")
	c.read("m1", "a", "b")
	version := c.pull(alice, "m1", "").Version
	first := c.pull(alice, "m1", params("at_version", version, "limit", "1"))
	for _, query := range []string{params("at", after(0)), params("at_version", version), params("at_version", version, "limit", "0"),
		params("cursor", *first.Next), params("cursor", *first.Next, "at_version", version)} {
		r := c.pull(alice, "m1", query, `*`, `W/"`+version+`"`)
		if r.status != 200 || r.header["Etag"] != nil || r.header["Seenby-Poll"] != nil {
			t.Errorf("%s: %d %v", query, r.status, r.header)
		}
		for _, name := range []string{"Content-Type", "Seenby-Position", "Seenby-Lag-Ms"} {
			if r.header.Get(name) == "" {
				t.Errorf("%s: no %s", query, name)
			}
		}
	}
}

// TestPullRestrictedPages: the cursor fixes the restriction, and the version:
// what is added later is not on its pages, although it was read in time.
func TestPullRestrictedPages(t *testing.T) {
	c := newChat(t)
	c.now = c.now.Add(10 * time.Second)
	c.write(sentAt(sentEvent("m1", "alice", "a", "b", "c", "d", "e"), t0))
	c.readAt("m1", "a", 1)
	c.readAt("m1", "b", 9)
	c.readAt("m1", "c", 2)
	early := c.readAt("m1", "d", 3)
	at := want(t, c.pull(alice, "m1", params("at", after(5), "limit", "2")), "active full [a c] 3 of 5 more")
	atVersion := want(t, c.pull(alice, "m1", params("at_version", c.version("m1", early), "limit", "1")), "active full [a] 4 of 5 more")
	c.readAt("m1", "e", 4)
	for name, k := range map[string]struct{ params, page string }{
		"at":                                   {params("cursor", *at.Next), "active full [d] 3 of 5"},
		"at, repeated":                         {params("cursor", *at.Next, "at", after(5)), "active full [d] 3 of 5"},
		"at, another":                          {params("cursor", *at.Next, "at", after(6)), "400 bad_parameter"},
		"at, with its version":                 {params("cursor", *at.Next, "at_version", at.Version), "400 bad_parameter"},
		"at, with limit=0":                     {params("cursor", *at.Next, "limit", "0"), "400 bad_parameter"},
		"at_version":                           {params("cursor", *atVersion.Next, "limit", "2"), "active full [b c] 4 of 5 more"},
		"at_version, repeated":                 {params("cursor", *atVersion.Next, "at_version", c.version("m1", early)), "active full [b c d] 4 of 5"},
		"at_version, another":                  {params("cursor", *atVersion.Next, "at_version", c.version("m1", early+1)), "400 bad_parameter"},
		"at_version, with its number as since": {params("cursor", *atVersion.Next, "since", c.version("m1", early)), "400 bad_parameter"},
		"anew":                                 {params("at", after(5)), "active full [a c d e] 4 of 5"},
		"the older version":                    {params("at_version", at.Version), "active full [a b c d] 4 of 5"},
	} {
		t.Run(name, func(t *testing.T) {
			r := want(t, c.pull(alice, "m1", k.params), k.page)
			if strings.HasPrefix(k.params, "cursor") && r.status == 200 && r.Version != at.Version {
				t.Errorf("a page of %s, the first was of %s", r.Version, at.Version)
			}
		})
	}
	c.recall("m1")
	want(t, c.pull(alice, "m1", params("cursor", *at.Next)), "410 cursor_gone")
	want(t, c.pull(alice, "m1", params("cursor", *atVersion.Next)), "410 cursor_gone")
	other := contract.Cursor{Log: c.answers.log, Lineage: 99, Next: 3, Index: 1, ReadCount: 2,
		Part: contract.Part{Kind: contract.PartAtVersion, Version: contract.Version{Log: c.answers.log, Lineage: 99, Next: 2}}}
	want(t, c.pull(alice, "m1", params("cursor", other.Encode("m1", c.keys))), "410 cursor_gone")
}

// reading is a receipt as the test itself keeps it.
type reading struct {
	reader string
	readAt int64 // after t0
	next   int64
}

// reckoning is a message as the test itself keeps it.
type reckoning struct {
	people     map[string]bool // who may read; nil: everybody
	recipients int
	set        []reading
	taken      int64 // the version that came with the last erasure
}

// erase takes a person out of the reckoning, at a version.
func (r *reckoning) erase(person string, version int64) {
	i := slices.IndexFunc(r.set, func(one reading) bool { return one.reader == person })
	if i < 0 && !r.people[person] {
		return
	}
	if i >= 0 {
		r.set = slices.Delete(r.set, i, i+1)
	}
	delete(r.people, person)
	r.recipients--
	r.taken = version
}

func (r *reckoning) reads(one reading) bool {
	return (r.people == nil || r.people[one.reader]) && !slices.ContainsFunc(r.set, func(o reading) bool { return o.reader == one.reader })
}

// TestPullPartsOfRandomSets compares every kind of part, page by page, with
// receipts that the test filters itself.
func TestPullPartsOfRandomSets(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	person := func() string { return fmt.Sprintf("p%02d", rnd.IntN(40)) }
	for range 60 {
		c := newChat(t)
		c.now = c.now.Add(10 * time.Second)
		m := &reckoning{recipients: 500}
		people := []string{"#500"}
		if rnd.IntN(2) == 0 {
			people, m.people, m.recipients = nil, make(map[string]bool), 40
			for i := range 40 {
				people = append(people, fmt.Sprintf("p%02d", i))
				m.people[people[i]] = true
			}
		}
		c.write(sentAt(sentEvent("m1", "alice", people...), t0))
		for range rnd.IntN(60) {
			switch rnd.IntN(8) {
			case 0:
				c.read("other", "x")
			case 1:
				who := person()
				m.erase(who, c.erase(who))
			default:
				r := reading{reader: person(), readAt: rnd.Int64N(20)}
				r.next = c.readAt("m1", r.reader, r.readAt)
				if m.reads(r) {
					m.set = append(m.set, r)
				}
			}
		}
		for range 10 {
			comparePart(t, c, rnd, m)
		}
	}
}

func comparePart(t *testing.T, c *chat, rnd *rand.Rand, m *reckoning) {
	t.Helper()
	ms, next := rnd.Int64N(22)-1, 1+rnd.Int64N(c.next)
	var name, value string
	is, delta := func(reading) bool { return true }, false
	switch rnd.IntN(4) {
	case 0:
		name, value, is = "at", after(ms), func(r reading) bool { return r.readAt <= ms }
	case 1:
		name, value, is = "at_version", c.version("m1", next), func(r reading) bool { return r.next <= next }
	case 2:
		name, value = "since", c.version("m1", next)
		if delta = next >= m.taken; delta {
			is = func(r reading) bool { return r.next > next }
		}
	default:
		name, value = "min_position", c.position(1)
	}
	var expected []string
	for _, r := range m.set {
		if is(r) {
			expected = append(expected, r.reader)
		}
	}
	count := len(expected)
	if delta {
		count = len(m.set)
	}
	var got []string
	r := c.pull(alice, "m1", params(name, value, "limit", strconv.Itoa(1+rnd.IntN(8))))
	for pages := 0; ; pages++ {
		if r.status != 200 || r.ReadCount != count || r.RecipientCnt != m.recipients || r.Complete != (count >= m.recipients) || r.Delta != delta ||
			pages > len(m.set) {
			t.Fatalf("%s=%s of %+v: page %d is %s, not of %d readers", name, value, m, pages, r.page(), count)
		}
		for _, one := range r.Readers {
			got = append(got, one.ReaderID)
		}
		if r.Next == nil {
			break
		}
		if len(r.Readers) == 0 {
			t.Fatalf("an empty page goes on: %s", r.raw)
		}
		r = c.pull(alice, "m1", params("cursor", *r.Next, "limit", strconv.Itoa(1+rnd.IntN(8))))
	}
	if strings.Join(got, " ") != strings.Join(expected, " ") {
		t.Fatalf("%s=%s of %+v: got %v, want %v", name, value, m, got, expected)
	}
}

// TestPullTruncatedParts: those who are not listed are counted in restricted
// sets too.
func TestPullTruncatedParts(t *testing.T) {
	c := newChat(t)
	c.now = c.now.Add(10 * time.Second)
	c.write(sentAt(sentEvent("m1", "alice", "#20003"), t0))
	for i := range projections.MaxListedReaders {
		c.readAt("m1", fmt.Sprintf("reader-%05d", i), 10)
	}
	full := c.version("m1", c.next)
	c.readAt("m1", "unlisted 1", 5)
	one := c.version("m1", c.next)
	c.readAt("m1", "unlisted 2", 20)
	c.readAt("m1", "unlisted 3", 10)
	for _, k := range []struct{ name, value, page string }{
		{"at", after(4), "active full [] 0 of 20003"},
		{"at", after(5), "active full [] 1 of 20003 truncated"},
		{"at", after(10), "active full [] 20002 of 20003 truncated"},
		{"at", after(20), "active full [] 20003 of 20003 complete truncated"},
		{"at_version", full, "active full [] 20000 of 20003"},
		{"at_version", one, "active full [] 20001 of 20003 truncated"},
	} {
		want(t, c.pull(alice, "m1", params(k.name, k.value, "limit", "0")), k.page)
	}
	for _, k := range []struct {
		name, value string
		listed      int
	}{{"at", after(5), 0}, {"at", after(15), 20_000}, {"at_version", one, 20_000}} {
		r := c.pull(alice, "m1", params(k.name, k.value, "limit", "1999"))
		count, seen := r.ReadCount, len(r.Readers)
		for r.Next != nil {
			r = c.pull(alice, "m1", params("cursor", *r.Next, "limit", "1999"))
			if r.status != 200 || r.ReadCount != count || !r.Truncated {
				t.Fatalf("%s=%s: %s", k.name, k.value, r.page())
			}
			seen += len(r.Readers)
		}
		if seen != k.listed {
			t.Errorf("%s=%s: %d readers on all pages, want %d", k.name, k.value, seen, k.listed)
		}
	}
}
