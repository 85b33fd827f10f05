package projector

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/services/contract"
)

// want checks a reply's page, and returns the reply.
func want(t *testing.T, r reply, page string) reply {
	t.Helper()
	if r.page() != page {
		t.Errorf("got  %s\nwant %s\n%s", r.page(), page, r.raw)
	}
	return r
}

func TestPullTellsWhoHasRead(t *testing.T) {
	c := newChat(t)
	c.send("m1", "bob", "carol", "!dave", "erin")
	want(t, c.pull(alice, "m1", ""), "active full [] 0 of 3")
	c.read("m1", "bob", "mallory", "alice", "dave", "bob")
	r := want(t, c.pull(alice, "m1", ""), "active full [bob] 1 of 3")
	if *r.OptedOutCount != 1 || r.MessageID != "m1" {
		t.Errorf("%s", r.raw)
	}
	if got := r.header["Etag"]; !reflect.DeepEqual(got, []string{`W/"` + r.Version + `"`}) {
		t.Errorf("ETag %q of version %s", got, r.Version)
	}
	if r.header.Get("Content-Type") != "application/json" || r.header.Get("Seenby-Poll") != "interval=2000, window=20000" {
		t.Errorf("headers %v", r.header)
	}
	c.read("m1", "erin")
	c.read("m1", "carol")
	r = want(t, c.pull(alice, "m1", ""), "active full [bob erin carol] 3 of 3 complete")
	if r.header.Get("Seenby-Poll") != "stop" {
		t.Errorf("Seenby-Poll %q", r.header.Get("Seenby-Poll"))
	}
	if p, err := contract.ParsePosition(r.header.Get("Seenby-Position")); err != nil || p.Log != c.answers.log || p.Next[0] != c.next {
		t.Errorf("Seenby-Position %v (%v), applied up to %d", p, err, c.next)
	}
}

func TestPullBeforeAnythingElse(t *testing.T) {
	c := newChat(t)
	c.read("m1", "bob")
	want(t, c.pull(alice, "m1", ""), "404 not_found")
	c.send("m1", "bob", "carol")
	want(t, c.pull(alice, "m1", ""), "active full [bob] 1 of 2")
	c.send("nobody")
	want(t, c.pull(alice, "nobody", ""), "active full [] 0 of 0 complete")
	c.recall("nobody")
	want(t, c.pull(alice, "nobody", ""), "recalled full [] 0 of 0")
}

func TestPullSince(t *testing.T) {
	c := newChat(t)
	c.send("other", "bob")
	c.send("m1", "bob", "carol", "dave")
	v0 := c.pull(alice, "m1", "").Version
	c.read("m1", "bob")
	v1 := c.pull(alice, "m1", "").Version
	c.read("other", "bob")
	c.read("m1", "bob", "stranger", "carol")
	v2 := c.pull(alice, "m1", "").Version
	otherLineage := contract.Version{Log: c.answers.log, Lineage: 99, Next: 1}.Encode("m1")
	otherLog := contract.Version{Log: 99, Lineage: c.answers.lineage, Next: 1 << 40}.Encode("m1")
	for name, k := range map[string]struct{ since, page string }{
		"from the sending":   {v0, "active delta [bob carol] 2 of 3"},
		"one is known":       {v1, "active delta [carol] 2 of 3"},
		"the current":        {v2, "active delta [] 2 of 3"},
		"another lineage":    {otherLineage, "active full [bob carol] 2 of 3"},
		"another log":        {otherLog, "active full [bob carol] 2 of 3"},
		"of no event at all": {c.version("m1", 0), "active full [bob carol] 2 of 3"},
		"of another message": {c.version("other", 2), "400 bad_version"},
	} {
		t.Run(name, func(t *testing.T) { want(t, c.pull(alice, "m1", params("since", k.since)), k.page) })
	}
	c.recall("m1")
	for name, k := range map[string]struct{ since, page string }{
		"before the recall": {v2, "recalled full [] 0 of 3"},
		"the recall":        {c.pull(alice, "m1", "").Version, "recalled delta [] 0 of 3"},
		"none":              {"", "recalled full [] 0 of 3"},
	} {
		t.Run("recalled/"+name, func(t *testing.T) {
			query := ""
			if k.since != "" {
				query = params("since", k.since)
			}
			r := want(t, c.pull(alice, "m1", query), k.page)
			if r.header.Get("Seenby-Poll") != "stop" {
				t.Errorf("Seenby-Poll %q", r.header.Get("Seenby-Poll"))
			}
		})
	}
}

func TestPullNotModified(t *testing.T) {
	c := newChat(t)
	c.send("m1", "bob", "carol")
	old := c.pull(alice, "m1", "").Version
	c.read("m1", "bob")
	full := c.pull(alice, "m1", "")
	v := full.Version
	otherLineage := contract.Version{Log: c.answers.log, Lineage: 99, Next: 2}.Encode("m1")
	for name, k := range map[string]struct {
		tags   []string
		status int
	}{
		"weak":             {[]string{`W/"` + v + `"`}, 304},
		"strong":           {[]string{`"` + v + `"`}, 304},
		"in a list":        {[]string{`"x", W/"` + old + `" , W/"` + v + `"`}, 304},
		"on another line":  {[]string{`"x"`, `W/"` + v + `"`}, 304},
		"any":              {[]string{"*"}, 304},
		"old":              {[]string{`W/"` + old + `"`}, 200},
		"another lineage":  {[]string{`W/"` + otherLineage + `"`}, 200},
		"not a version":    {[]string{`W/"zzz"`}, 200},
		"without quotes":   {[]string{v}, 200},
		"none":             {nil, 200},
		"of other message": {[]string{`W/"` + c.version("m2", 1<<40) + `"`}, 200},
	} {
		t.Run(name, func(t *testing.T) {
			for _, query := range []string{"", "limit=0", params("since", old)} {
				r := c.pull(alice, "m1", query, k.tags...)
				if r.status != k.status {
					t.Errorf("%q: %d, want %d", query, r.status, k.status)
				}
				if r.status != 304 {
					continue
				}
				expected := full.header.Clone()
				expected.Del("Content-Type")
				if r.raw != "" || !reflect.DeepEqual(r.header, expected) {
					t.Errorf("%q: %q %v, want %v", query, r.raw, r.header, expected)
				}
			}
		})
	}
}

func TestPullPages(t *testing.T) {
	c := newChat(t)
	c.send("m1", "a", "b", "c", "d", "e", "f")
	v0 := c.pull(alice, "m1", "").Version
	c.read("m1", "a", "b", "c", "d", "e")
	first := want(t, c.pull(alice, "m1", "limit=2"), "active full [a b] 5 of 6 more")
	delta := want(t, c.pull(alice, "m1", params("limit", "2", "since", v0)), "active delta [a b] 5 of 6 more")
	c.read("m1", "f")
	for name, k := range map[string]struct{ params, page string }{
		"the next":               {params("cursor", *first.Next, "limit", "2"), "active full [c d] 5 of 6 more"},
		"the rest":               {params("cursor", *first.Next), "active full [c d e] 5 of 6"},
		"exactly the rest":       {params("cursor", *first.Next, "limit", "3"), "active full [c d e] 5 of 6"},
		"of a delta":             {params("cursor", *delta.Next, "limit", "1"), "active delta [c] 5 of 6 more"},
		"of a delta, repeated":   {params("cursor", *delta.Next, "limit", "1", "since", v0), "active delta [c] 5 of 6 more"},
		"with another since":     {params("cursor", *delta.Next, "since", first.Version), "400 bad_parameter"},
		"with limit=0":           {params("cursor", *first.Next, "limit", "0"), "400 bad_parameter"},
		"anew":                   {"", "active full [a b c d e f] 6 of 6 complete"},
		"limit=0":                {"limit=0", "active full [] 6 of 6 complete"},
		"not a cursor":           {"cursor=AAAA", "400 bad_cursor"},
		"the cursor, cut off":    {params("cursor", (*first.Next)[:len(*first.Next)-4]), "400 bad_cursor"},
		"a version for a cursor": {params("cursor", v0), "400 bad_cursor"},
	} {
		t.Run(name, func(t *testing.T) { want(t, c.pull(alice, "m1", k.params), k.page) })
	}
	t.Run("of one version", func(t *testing.T) {
		r := c.pull(alice, "m1", params("cursor", *first.Next))
		if r.Version != first.Version || r.header.Get("Etag") != `W/"`+first.Version+`"` {
			t.Errorf("page of %s (%s), the first was of %s", r.Version, r.header.Get("Etag"), first.Version)
		}
		if r.header.Get("Seenby-Poll") == pollStop {
			t.Error("a page of a version that was not complete says stop: the client would never learn of the last reader")
		}
		if r := c.pull(alice, "m1", params("cursor", *first.Next), `W/"`+first.Version+`"`); r.status != 304 {
			t.Errorf("with its own version as If-None-Match: %d", r.status)
		}
	})
	t.Run("of another message", func(t *testing.T) {
		c.send("m2", "a")
		want(t, c.pull(alice, "m2", params("cursor", *first.Next)), "400 bad_cursor")
	})
	t.Run("of another lineage", func(t *testing.T) {
		other := contract.Cursor{Log: c.answers.log, Lineage: 99, Next: 3, Index: 1, ReadCount: 2}.Encode("m1", c.keys)
		want(t, c.pull(alice, "m1", params("cursor", other)), "410 cursor_gone")
		other = contract.Cursor{Log: 99, Lineage: c.answers.lineage, Next: 1 << 40, Index: 1, ReadCount: 2}.Encode("m1", c.keys)
		want(t, c.pull(alice, "m1", params("cursor", other)), "410 cursor_gone")
	})
	t.Run("after a recall", func(t *testing.T) {
		c.recall("m1")
		want(t, c.pull(alice, "m1", params("cursor", *first.Next)), "410 cursor_gone")
		want(t, c.pull(alice, "m1", params("cursor", *delta.Next, "since", v0)), "410 cursor_gone")
		want(t, c.pull(bob, "m1", params("cursor", *first.Next)), "404 not_found")
	})
}

// TestPullPagesOfReplacedMessage: an ID that is used again, against the rules,
// after its message expired.
func TestPullPagesOfReplacedMessage(t *testing.T) {
	c := newChat(t)
	c.send("m1", "a", "b", "c")
	c.read("m1", "a", "b", "c")
	first := want(t, c.pull(alice, "m1", "limit=1"), "active full [a] 3 of 3 complete more")
	c.now = c.now.Add(testRetention + time.Second)
	c.caughtUp = c.now
	want(t, c.pull(alice, "m1", params("cursor", *first.Next)), "404 not_found")
	c.send("m1", "a", "b", "c")
	want(t, c.pull(alice, "m1", params("cursor", *first.Next)), "410 cursor_gone")
	c.read("m1", "a", "b", "c")
	want(t, c.pull(alice, "m1", params("cursor", *first.Next)), "410 cursor_gone")
}

func TestPullEqualURLEqualVersionEqualBody(t *testing.T) {
	c := newChat(t)
	c.send("m1", "a", "b", "c")
	c.read("m1", "a", "b", "c")
	for _, query := range []string{"", "limit=1", "limit=0", params("since", c.version("m1", 2), "limit", "1"),
		params("at_version", c.version("m1", 2), "limit", "1"), params("at", "2026-11-23T08:00:00Z", "limit", "1"), "at=9999-12-31T23:59:59Z"} {
		before := c.pull(alice, "m1", query)
		c.send("other "+strconv.Quote(query), "a")
		c.read("m1", "a")
		c.now = c.now.Add(time.Second)
		if after := c.pull(backend, "m1", query); after.raw != before.raw || after.header.Get("Etag") != before.header.Get("Etag") {
			t.Errorf("%q:\n%s\n%s", query, before.raw, after.raw)
		}
	}
}

func TestPullCountOnly(t *testing.T) {
	c := newChat(t)
	c.send("m1", "#3")
	c.read("m1", "x", "alice", "y", "x")
	r := want(t, c.pull(alice, "m1", ""), "active full [x y] 2 of 3")
	if r.OptedOutCount != nil || !strings.Contains(r.raw, `"opted_out_count":null`) {
		t.Error(r.raw)
	}
	c.read("m1", "z", "w")
	want(t, c.pull(alice, "m1", params("since", r.Version)), "active delta [z w] 4 of 3 complete")
}

func TestPullTruncated(t *testing.T) {
	c := newChat(t)
	c.send("m1", "#1000000")
	name := func(i int) string { return "reader-" + strconv.Itoa(i) }
	for i := range projections.MaxListedReaders - 1 {
		c.read("m1", name(i))
	}
	early := c.pull(alice, "m1", "limit=1")
	c.read("m1", "last listed")
	full := c.pull(alice, "m1", "limit=1")
	if full.Truncated || full.ReadCount != projections.MaxListedReaders {
		t.Fatalf("%s", full.raw)
	}
	c.read("m1", "unlisted 1", "unlisted 2")
	over := c.pull(alice, "m1", "limit=1")
	c.read("m1", "unlisted 3")
	want(t, c.pull(alice, "m1", params("since", full.Version)), "active delta [] 20003 of 1000000 truncated")
	want(t, c.pull(alice, "m1", params("since", early.Version)), "active delta [last listed] 20003 of 1000000 truncated")
	for name, k := range map[string]struct {
		from      reply
		count     int
		truncated bool
	}{
		"all were listed": {full, 20_000, false}, "some were not": {over, 20_002, true}, "one was missing": {early, 19_999, false},
	} {
		t.Run(name, func(t *testing.T) {
			seen := 1
			for next := k.from.Next; next != nil; {
				r := c.pull(alice, "m1", params("cursor", *next, "limit", "2000"))
				if r.status != 200 || r.ReadCount != k.count || r.Truncated != k.truncated || r.Version != k.from.Version {
					t.Fatalf("%s, of version %s, not %s", r.page(), r.Version, k.from.Version)
				}
				seen, next = seen+len(r.Readers), r.Next
			}
			if seen != min(k.count, projections.MaxListedReaders) {
				t.Errorf("%d readers on all pages", seen)
			}
		})
	}
}

func TestPullWhoMaySee(t *testing.T) {
	for _, k := range []struct {
		visibleTo VisibleTo
		message   string
		caller    contract.Caller
		status    int
	}{
		{Sender, "m1", alice, 200},
		{Sender, "m1", backend, 200},
		{Sender, "m1", contract.Caller{Subject: "alice", Backend: true}, 200},
		{Sender, "m1", bob, 404},
		{Sender, "m1", contract.Caller{Subject: "dave"}, 404},
		{Participants, "m1", alice, 200},
		{Participants, "m1", bob, 200},
		{Participants, "m1", contract.Caller{Subject: "dave"}, 404}, // opted out
		{Participants, "m1", contract.Caller{Subject: "mallory"}, 404},
		{Participants, "m1", backend, 200},
		{Participants, "counted", bob, 404},
		{Participants, "counted", alice, 200},
		{Participants, "recalled", bob, 200},
		{Sender, "recalled", bob, 404},
	} {
		c := newChat(t)
		c.answers.visibleTo = k.visibleTo
		c.send("m1", "bob", "!dave")
		c.send("counted", "#3")
		c.read("counted", "bob")
		c.send("recalled", "bob")
		c.recall("recalled")
		if r := c.pull(k.caller, k.message, ""); r.status != k.status {
			t.Errorf("visible to %s: %+v pulls %s: %d, want %d", k.visibleTo, k.caller, k.message, r.status, k.status)
		}
		if _, got := c.batch(k.caller, "{"+asking(k.message)+"}", 1); (got == k.message+": not_found") != (k.status == 404) {
			t.Errorf("visible to %s: %+v pulls a batch of %s: %s", k.visibleTo, k.caller, k.message, got)
		}
		if r := c.unread(k.caller, k.message, ""); (r.status == 404) != (k.status == 404) {
			t.Errorf("visible to %s: %+v asks who has not read %s: %d", k.visibleTo, k.caller, k.message, r.status)
		}
	}
}

// TestPullNotFoundIsOne: what one may not see is told like what does not exist,
// whatever is presented.
func TestPullNotFoundIsOne(t *testing.T) {
	c := newChat(t)
	c.send("hidden", "bob", "carol")
	c.read("hidden", "bob")
	c.send("recalled", "bob")
	c.recall("recalled")
	c.send("expired", "bob")
	c.now = c.now.Add(testRetention - time.Millisecond)
	want(t, c.pull(alice, "expired", ""), "active full [] 0 of 1")
	c.now = c.now.Add(time.Millisecond)
	c.caughtUp = c.now
	c.send("hidden", "bob", "carol")
	none := c.pull(bob, "none", "")
	want(t, none, "404 not_found")
	for _, id := range []string{"hidden", "recalled", "expired", "none"} {
		for _, query := range []string{"", "limit=0", params("since", c.version(id, 1)), params("min_position", c.position(2)),
			params("at_version", c.version(id, 1)), "at=2026-11-23T08:00:00Z",
			params("cursor", contract.Cursor{Log: 9, Next: 1}.Encode(id, c.keys))} {
			r := c.pull(bob, id, query, "*")
			if !reflect.DeepEqual(r, none) {
				t.Errorf("%s?%s: %d %v %s\nwant %d %v %s", id, query, r.status, r.header, r.raw, none.status, none.header, none.raw)
			}
			if strings.Contains(r.raw, id+`"`) {
				t.Errorf("it names the ID: %s", r.raw)
			}
		}
	}
	if r := c.pull(alice, "expired", ""); !reflect.DeepEqual(r, none) {
		t.Errorf("expired, to its sender: %s", r.raw)
	}
}

// TestPullFreshness: what is presented is waited for, whoever asks and whether
// or not there is such a message.
func TestPullFreshness(t *testing.T) {
	const far = 1 << 40
	for name, k := range map[string]struct {
		params func(*chat) string
		tags   func(*chat) []string
		page   string // of "m1" to alice
	}{
		"nothing":                      {page: "active full [] 0 of 1"},
		"position reached":             {params: func(c *chat) string { return params("min_position", c.position(c.next)) }, page: "active full [] 0 of 1"},
		"position":                     {params: func(c *chat) string { return params("min_position", c.position(c.next+1)) }, page: "503 not_fresh"},
		"one of two positions":         {params: func(c *chat) string { return params("min_position", c.position(1), "min_position", c.position(far)) }, page: "503 not_fresh"},
		"position of other partitions": {params: func(c *chat) string { return params("min_position", positionOf(c.answers.log, 7, far)) }, page: "active full [] 0 of 1"},
		"position of another log":      {params: func(*chat) string { return params("min_position", positionOf(99, 0, 1)) }, page: "410 position_gone"},
		"that and one far off": {params: func(c *chat) string {
			return params("min_position", c.position(far), "min_position", positionOf(99, 0, 1))
		}, page: "410 position_gone"},
		"since": {params: func(c *chat) string { return params("since", c.version("m1", far)) }, page: "503 not_fresh"},
		"since of another lineage": {params: func(c *chat) string {
			return params("since", contract.Version{Log: c.answers.log, Lineage: 99, Next: far}.Encode("m1"))
		}, page: "503 not_fresh"},
		"since of another log": {params: func(c *chat) string { return params("since", contract.Version{Log: 99, Next: far}.Encode("m1")) }, page: "active full [] 0 of 1"},
		"at_version":           {params: func(c *chat) string { return params("at_version", c.version("m1", far)) }, page: "503 not_fresh"},
		"at_version reached":   {params: func(c *chat) string { return params("at_version", c.version("m1", c.next)) }, page: "active full [] 0 of 1"},
		"at_version of another lineage": {params: func(c *chat) string {
			return params("at_version", contract.Version{Log: c.answers.log, Lineage: 99, Next: far}.Encode("m1"))
		}, page: "400 bad_version"},
		"at_version of another log": {params: func(c *chat) string {
			return params("at_version", contract.Version{Log: 99, Lineage: c.answers.lineage, Next: 1}.Encode("m1"))
		}, page: "400 bad_version"},
		"bad version before gone position": {params: func(*chat) string {
			return params("at_version", contract.Version{Log: 99, Next: 1}.Encode("m1"), "min_position", positionOf(99, 0, 1))
		}, page: "400 bad_version"},
		"at a time, and a tag": {params: func(*chat) string { return "at=2026-11-23T08:00:00Z" },
			tags: func(c *chat) []string { return []string{`W/"` + c.version("m1", far) + `"`} }, page: "503 not_fresh"},
		"tag":                            {tags: func(c *chat) []string { return []string{`"x", W/"` + c.version("m1", far) + `"`} }, page: "503 not_fresh"},
		"tag of another message":         {tags: func(c *chat) []string { return []string{`W/"` + c.version("m2", far) + `"`} }, page: "active full [] 0 of 1"},
		"tag of another log":             {tags: func(*chat) []string { return []string{`"` + contract.Version{Log: 99, Next: far}.Encode("m1") + `"`} }, page: "active full [] 0 of 1"},
		"cursor":                         {params: func(c *chat) string { return params("cursor", cursorAt(c, c.answers.log, far)) }, page: "503 not_fresh"},
		"cursor of another log, at once": {params: func(c *chat) string { return params("cursor", cursorAt(c, 99, far)) }, page: "410 cursor_gone"},
		"gone position before bad cursor": {params: func(c *chat) string {
			return params("min_position", positionOf(99, 0, 1), "cursor", cursorAt(c, 99, far))
		}, page: "410 position_gone"},
		"bad parameter before all": {params: func(*chat) string { return params("min_position", positionOf(99, 0, 1), "limit", "2001") }, page: "400 bad_parameter"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newChat(t)
			c.send("m1", "bob")
			c.send("m2", "bob")
			var query string
			var tags []string
			if k.params != nil {
				query = k.params(c)
			}
			if k.tags != nil {
				tags = k.tags(c)
			}
			mine := want(t, c.pull(alice, "m1", query, tags...), k.page)
			if k.page == "503 not_fresh" && mine.header.Get("Retry-After") != "1" {
				t.Errorf("Retry-After %q", mine.header.Get("Retry-After"))
			}
			theirs := c.pull(bob, "m1", query, tags...)
			if strings.HasPrefix(k.page, "503") || strings.HasPrefix(k.page, "410 position") {
				if !reflect.DeepEqual(mine, theirs) {
					t.Errorf("alice is told %s, bob %s", mine.raw, theirs.raw)
				}
			} else if mine.status != 400 {
				want(t, theirs, "404 not_found")
			}
		})
	}
}

func positionOf(log uint32, partition int32, next int64) string {
	return contract.Position{Log: log, Next: map[int32]int64{partition: next}}.Encode()
}

func cursorAt(c *chat, log uint32, next int64) string {
	return contract.Cursor{Log: log, Lineage: c.answers.lineage, Next: next, Index: 1, ReadCount: 2}.Encode("m1", c.keys)
}

// TestPullWaits: a pull that presents what is on its way is answered with it.
func TestPullWaits(t *testing.T) {
	c := newChat(t)
	c.answers.wait = time.Minute
	c.send("m1", "bob")
	answered := make(chan reply)
	go func() { answered <- c.pull(alice, "m1", params("min_position", c.position(2))) }()
	c.read("m1", "bob")
	want(t, <-answered, "active full [bob] 1 of 1 complete")
}

// TestPullOfStateThatCannotAnswer: the order among states, and that they do not
// depend on who asks.
func TestPullOfStateThatCannotAnswer(t *testing.T) {
	for name, k := range map[string]struct {
		make func(*chat)
		page string
	}{
		"starting":          {func(c *chat) { c.caughtUp = time.Time{} }, "503 starting"},
		"stopped":           {func(c *chat) { c.stopped = errors.New("broken") }, "503 owner_unavailable"},
		"stopped, starting": {func(c *chat) { c.stopped, c.caughtUp = errors.New("broken"), time.Time{} }, "503 owner_unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newChat(t)
			c.send("m1", "bob")
			k.make(c)
			for _, id := range []string{"m1", "none"} {
				for _, caller := range []contract.Caller{alice, bob} {
					r := want(t, c.pull(caller, id, params("min_position", c.position(1<<40))), k.page)
					if r.header.Get("Retry-After") != "1" {
						t.Errorf("headers %v", r.header)
					}
				}
			}
			want(t, c.pull(alice, "m1", params("min_position", positionOf(99, 0, 1))), "410 position_gone")
			want(t, c.pull(alice, "m1", "limit=x"), "400 bad_parameter")
		})
	}
}

func TestPullStopsWaitingWhenThePartitionStops(t *testing.T) {
	c := newChat(t)
	c.answers.wait = time.Minute
	c.send("m1", "bob")
	answered := make(chan reply)
	pull, problem := contract.ParsePull("m1", params("min_position", c.position(9)), nil, c.keys)
	if problem != nil {
		t.Fatal(problem)
	}
	o := &stoppable{chat: c, stop: make(chan struct{})}
	go func() {
		_, _, problem := c.answers.receipts(context.Background(), o, pull, alice)
		answered <- parseReply(t, problem.Answer())
	}()
	close(o.stop)
	want(t, <-answered, "503 owner_unavailable")
}

// stoppable is a chat whose partition stops while it is waited for.
type stoppable struct {
	*chat
	stop chan struct{}
}

func (s *stoppable) Wait(ctx context.Context, _ int64) error {
	select {
	case <-s.stop:
		return errors.New("stopped")
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *stoppable) Stopped() error {
	select {
	case <-s.stop:
		return errors.New("stopped")
	default:
		return nil
	}
}

func TestPullLag(t *testing.T) {
	c := newChat(t)
	c.send("m1", "bob")
	c.caughtUp = c.now.Add(-1234567 * time.Microsecond)
	if got := c.pull(alice, "m1", "").header.Get("Seenby-Lag-Ms"); got != "1234" {
		t.Errorf("Seenby-Lag-Ms %s", got)
	}
	c.caughtUp = c.now.Add(time.Second)
	if got := c.pull(alice, "m1", "").header.Get("Seenby-Lag-Ms"); got != "0" {
		t.Errorf("Seenby-Lag-Ms %s", got)
	}
}

// TestPullsBesideWrites: while reads arrive, nobody who presents a version is
// answered with less, deltas add up to the set, and pages are of one version.
func TestPullsBesideWrites(t *testing.T) {
	const readers = 400
	c := newChat(t)
	c.answers.wait = time.Minute
	var people []string
	for i := range readers {
		people = append(people, fmt.Sprintf("p%03d", i))
	}
	c.send("m1", people...)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { followDeltas(t, c, readers) })
		wg.Go(func() { followPages(t, c, readers) })
	}
	for _, p := range people {
		c.write(&events.MessageRead{MessageID: []byte("m1"), ReaderID: []byte(p), ReadAt: events.Unclaimed})
		c.send("beside "+p, "x")
	}
	wg.Wait()
}

func followDeltas(t *testing.T, c *chat, all int) {
	r := c.pull(alice, "m1", "limit=2000")
	seen, version := len(r.Readers), r.Version
	for seen < all {
		r := c.pull(alice, "m1", params("limit", "2000", "since", version), `W/"`+version+`"`)
		switch {
		case r.status == http.StatusNotModified:
			continue
		case r.status != http.StatusOK || !r.Delta || r.ReadCount != seen+len(r.Readers):
			t.Errorf("after %d readers: %s", seen, r.page())
			return
		}
		seen, version = seen+len(r.Readers), r.Version
	}
}

func followPages(t *testing.T, c *chat, all int) {
	for count := 0; count < all; {
		r := c.pull(alice, "m1", "limit=7")
		if r.ReadCount < count {
			t.Errorf("%d readers after %d", r.ReadCount, count)
			return
		}
		version, seen := r.Version, len(r.Readers)
		count = r.ReadCount
		for r.Next != nil {
			r = c.pull(alice, "m1", params("cursor", *r.Next, "limit", "50"))
			if r.status != http.StatusOK || r.Version != version || r.ReadCount != count {
				t.Errorf("a page of %d readers at %s: %s at %s", count, version, r.page(), r.Version)
				return
			}
			seen += len(r.Readers)
		}
		if seen != count {
			t.Errorf("%d readers on the pages of %d", seen, count)
			return
		}
	}
}
