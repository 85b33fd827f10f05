package projector

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/seenby/seenby/services/contract"
	"github.com/seenby/seenby/services/projector/protocol"
)

// batch asks for a batch by its JSON. The result has a line for each message.
func (c *chat) batch(caller contract.Caller, body string, readers int) (answer *protocol.BatchAnswer, lines string) {
	c.t.Helper()
	asked, problem := contract.DecodeBatch([]byte(body))
	if problem == nil {
		var b *batch
		owner := func(string) source { return c }
		if b, problem = c.answers.batch(context.Background(), owner, asked, readers, caller); problem == nil {
			answer = &b.answer
		}
	}
	if problem != nil {
		return nil, string(problem.Code)
	}
	var said []string
	for i, r := range answer.Results {
		line := asked.Items[i].MessageID + ": "
		switch {
		case r.Failed != "":
			line += string(r.Failed)
		case r.Body == nil:
			line += "unchanged"
		default:
			line += parseReply(c.t, contract.Answer{Status: 200, Body: r.Body}).page() + readBy(c.t, r.Body)
		}
		if r.Done {
			line += " (done)"
		}
		said = append(said, line)
	}
	return answer, strings.Join(said, "; ")
}

func readBy(t testing.TB, body []byte) string {
	t.Helper()
	var m struct {
		ReadBy *[]struct {
			ReaderID string `json:"reader_id"`
			ReadAt   string `json:"read_at"`
		} `json:"read_by"`
	}
	if err := json.Unmarshal(body, &m); err != nil {
		t.Fatal(err)
	}
	if m.ReadBy == nil {
		return ""
	}
	var ids []string
	for _, r := range *m.ReadBy {
		if _, err := contract.ParseTime(r.ReadAt); err != nil {
			t.Error(err)
		}
		ids = append(ids, r.ReaderID)
	}
	return fmt.Sprintf(" by %v", ids)
}

func asking(ids ...string) string {
	var items []string
	for _, id := range ids {
		id, since, has := strings.Cut(id, " ")
		item := fmt.Sprintf(`{"message_id":%q`, id)
		if has {
			item += fmt.Sprintf(`,"since":%q`, since)
		}
		items = append(items, item+"}")
	}
	return `"messages":[` + strings.Join(items, ",") + `]`
}

func TestBatch(t *testing.T) {
	c := newChat(t)
	c.send("m1", "bob", "carol", "!dave")
	c.send("m2", "bob")
	c.send("m3", "bob", "carol")
	c.read("m1", "bob")
	v1 := c.pull(alice, "m1", "").Version
	c.read("m1", "carol")
	c.read("m2", "bob")
	v1b, v2 := c.pull(alice, "m1", "").Version, c.pull(alice, "m2", "").Version
	v3 := c.pull(alice, "m3", "").Version
	otherLineage := contract.Version{Log: c.answers.log, Lineage: 9, Next: 1}.Encode("m3")
	ahead := contract.Version{Log: c.answers.log, Lineage: c.answers.lineage, Next: 1 << 30}.Encode("m3")
	otherLog := contract.Position{Log: 9, Next: map[int32]int64{0: 1}}.Encode()
	notYet := contract.Position{Log: c.answers.log, Next: map[int32]int64{0: 1 << 30}}.Encode()
	elsewhere := contract.Position{Log: c.answers.log, Next: map[int32]int64{7: 1 << 30}}.Encode()
	for name, k := range map[string]struct {
		caller contract.Caller
		body   string
		want   string
	}{
		"in the order asked": {alice, asking("m3", "m1", "m2"),
			"m3: active full [] 0 of 2; m1: active full [bob carol] 2 of 2 complete (done); m2: active full [bob] 1 of 1 complete (done)"},
		"deltas and unchanged": {alice, asking("m1 "+v1, "m2 "+v2, "m3 "+v3),
			"m1: active delta [carol] 2 of 2 complete (done); m2: unchanged (done); m3: unchanged"},
		"another lineage":      {alice, asking("m3 " + otherLineage), "m3: active full [] 0 of 2"},
		"no such message":      {alice, asking("m3", "m9"), "m3: active full [] 0 of 2; m9: not_found"},
		"not theirs":           {bob, asking("m1", "m9"), "m1: not_found; m9: not_found"},
		"the backend":          {backend, asking("m2"), "m2: active full [bob] 1 of 1 complete (done)"},
		"limit":                {alice, asking("m1") + `,"limit":1`, "m1: active full [bob] 2 of 2 complete more (done)"},
		"limit 0":              {alice, asking("m1") + `,"limit":0`, "m1: active full [] 2 of 2 complete (done)"},
		"not applied yet":      {alice, asking("m3 "+ahead, "m2"), "m3: not_fresh; m2: active full [bob] 1 of 1 complete (done)"},
		"position not applied": {alice, asking("m3", "m2") + `,"min_position":["` + notYet + `"]`, "m3: not_fresh; m2: not_fresh"},
		"position elsewhere":   {alice, asking("m2") + `,"min_position":["` + elsewhere + `"]`, "m2: active full [bob] 1 of 1 complete (done)"},
		"position gone":        {alice, asking("m3") + `,"min_position":["` + otherLog + `"]`, "position_gone"},
		"by name": {alice, asking("m1 "+v1b, "m3 "+v3) + `,"readers":["carol","dave","mallory","bob"],"limit":0`,
			"m1: active delta [] 2 of 2 complete by [bob carol] (done); m3: active delta [] 0 of 2 by []"},
		"by no name": {alice, asking("m2 "+v2) + `,"readers":[]`, "m2: active delta [] 1 of 1 complete by [] (done)"},
	} {
		t.Run(name, func(t *testing.T) {
			answer, got := c.batch(k.caller, "{"+k.body+"}", contract.MaxBatchReaders)
			if got != k.want {
				t.Errorf("got  %s\nwant %s", got, k.want)
			}
			if answer == nil {
				return
			}
			if told, looked := answer.Position.Next[0], strings.Count(got, "not_fresh") <= strings.Count(got, ";"); looked && told != c.next || !looked && told != 0 {
				t.Errorf("position %v, applied up to %d", answer.Position, c.next)
			}
		})
	}
	c.recall("m1")
	c.stopped = errNotOwner
	if _, got := c.batch(alice, "{"+asking("m1", "m2")+"}", 9); got != "m1: owner_unavailable; m2: owner_unavailable" {
		t.Error(got)
	}
	c.stopped = nil
	if _, got := c.batch(alice, "{"+asking("m1 "+v1)+"}", 9); got != "m1: recalled full [] 0 of 2 (done)" {
		t.Error(got)
	}
}

// TestBatchGivenUp: nobody is answered who does not wait for it any more.
func TestBatchGivenUp(t *testing.T) {
	c := newChat(t)
	c.send("m1", "bob")
	asked, _ := contract.DecodeBatch([]byte("{" + asking("m1", "m2") + "}"))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, problem := c.answers.batch(ctx, func(string) source { t.Error("a message was looked at"); return c }, asked, 9, alice)
	if problem == nil || problem.Code != contract.Timeout {
		t.Errorf("got %v", problem)
	}
}

// TestBatchRoom: readers beyond what an answer may have are on the next page.
func TestBatchRoom(t *testing.T) {
	c := newChat(t)
	people := []string{"a", "b", "c", "d", "e"}
	for _, id := range []string{"m1", "m2", "m3"} {
		c.send(id, people...)
		c.read(id, people...)
	}
	answer, got := c.batch(alice, "{"+asking("m1", "m2", "m3")+"}", 7)
	if want := "m1: active full [a b c d e] 5 of 5 complete (done); m2: active full [a b] 5 of 5 complete more (done); m3: active full [] 5 of 5 complete more (done)"; got != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
	for i, want := range []string{"", "c d e", "a b c d e"} {
		r := parseReply(t, contract.Answer{Status: 200, Body: answer.Results[i].Body})
		if r.Next == nil {
			continue
		}
		if rest := c.pull(alice, r.MessageID, params("cursor", *r.Next)); rest.readers() != want || rest.Next != nil || rest.Version != r.Version {
			t.Errorf("%s goes on with %s", r.MessageID, rest.raw)
		}
	}
}

// TestBatchIsAsPulls: what a batch has of a message is what a pull of it has.
func TestBatchIsAsPulls(t *testing.T) {
	c := newChat(t)
	c.send("m1", "bob", "carol", "dave")
	c.send("crowd", "#3")
	since := map[string]string{}
	for i, step := range []func(){
		func() { c.read("m1", "bob") }, func() { c.read("crowd", "bob", "zoe") }, func() { c.read("m1", "carol", "stranger") },
		func() { c.recall("crowd") }, func() { c.read("m1", "dave") },
	} {
		step()
		for _, id := range []string{"m1", "crowd"} {
			item, query := id, "limit=50"
			if v := since[id]; v != "" && i%2 == 1 {
				item, query = id+" "+v, query+"&since="+v
			}
			answer, line := c.batch(alice, "{"+asking(item)+"}", 100)
			single := c.pull(alice, id, query)
			if body := answer.Results[0].Body; body != nil && string(body) != single.raw || body == nil && single.Version != since[id] {
				t.Errorf("step %d: %s: %s\npull: %s", i, line, body, single.raw)
			}
			since[id] = single.Version
		}
	}
}

// TestReadByBeyondTheList: readers who are not listed are known by name all the same.
func TestReadByBeyondTheList(t *testing.T) {
	c := newChat(t)
	c.send("crowd", "#30000")
	for i := range 20_001 {
		c.read("crowd", fmt.Sprintf("p%05d", i))
	}
	_, got := c.batch(alice, "{"+asking("crowd")+`,"limit":0,"readers":["p20000","nobody","p00000"]}`, 100)
	if want := "crowd: active full [] 20001 of 30000 truncated by [p00000 p20000]"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestUnread(t *testing.T) {
	c := newChat(t)
	c.send("m1", "bob", "carol", "!dave", "erin", "zoe")
	all := c.unread(alice, "m1", "")
	c.wantUnread(all, "4: bob carol erin zoe")
	if all.header.Get("Etag") != `W/"`+c.pull(alice, "m1", "").Version+`"` || all.header.Get("Seenby-Poll") == "" {
		t.Errorf("%v", all.header)
	}
	c.wantUnread(c.unread(alice, "m1", "", all.header.Get("Etag")), "304")
	first := c.unread(alice, "m1", "limit=2")
	c.wantUnread(first, "4: bob carol more")
	c.read("m1", "carol", "erin")
	c.wantUnread(c.unread(alice, "m1", ""), "2: bob zoe")
	// Pages are of one version.
	second := c.unread(alice, "m1", params("limit", "1", "cursor", *first.Next))
	c.wantUnread(second, "4: erin more")
	c.wantUnread(c.unread(alice, "m1", params("cursor", *second.Next)), "4: zoe")
	c.wantUnread(c.unread(alice, "m1", "limit=0"), "2:")
	c.wantUnread(c.unread(bob, "m1", ""), "404 not_found")
	c.wantUnread(c.unread(backend, "m1", ""), "2: bob zoe")
	c.wantUnread(c.unread(alice, "m9", ""), "404 not_found")
	for name, query := range map[string]string{
		"a cursor of readers":      params("cursor", *c.pull(alice, "m1", "limit=1").Next),
		"a forged cursor":          params("cursor", (*first.Next)[:len(*first.Next)-2]+"xx"),
		"a cursor of another form": "cursor=x",
	} {
		if got := c.unread(alice, "m1", query); got.Code != "bad_cursor" {
			t.Errorf("%s: %s", name, got.raw)
		}
	}
	if got := c.pull(alice, "m1", params("cursor", *first.Next)); got.Code != "bad_cursor" {
		t.Errorf("unread's cursor for readers: %s", got.raw)
	}
	c.read("m1", "bob", "zoe")
	c.wantUnread(c.unread(alice, "m1", ""), "0:")
	if poll := c.unread(alice, "m1", "").header.Get("Seenby-Poll"); poll != "stop" {
		t.Errorf("Seenby-Poll %q", poll)
	}
	c.send("crowd", "#3")
	c.wantUnread(c.unread(alice, "crowd", ""), "409 no_roster")
	c.recall("m1")
	c.wantUnread(c.unread(alice, "m1", ""), "409 recalled")
	c.wantUnread(c.unread(alice, "m1", params("cursor", *first.Next)), "409 recalled")
}

// TestUnreadAfterAnErasure: nobody is shown who was erased, and pages from before are
// not continued.
func TestUnreadAfterAnErasure(t *testing.T) {
	c := newChat(t)
	c.send("m1", "bob", "carol", "dave")
	first := c.unread(alice, "m1", "limit=1")
	c.erase("carol")
	c.wantUnread(c.unread(alice, "m1", ""), "2: bob dave")
	c.wantUnread(c.unread(alice, "m1", params("cursor", *first.Next)), "410 cursor_gone")
}

type unreadReply struct {
	reply
	UnreadCount int      `json:"unread_count"`
	Members     []string `json:"members"`
}

func (c *chat) unread(caller contract.Caller, id, query string, tags ...string) unreadReply {
	c.t.Helper()
	answer := contract.Answer{}
	u, problem := contract.ParseUnread(id, query, map[string][]string{"If-None-Match": tags}, c.keys)
	if problem == nil {
		answer, _, problem = c.answers.unread(context.Background(), c, u, caller)
	}
	answer = toClient(answer, problem)
	r := unreadReply{reply: parseReply(c.t, answer)}
	if len(answer.Body) > 0 {
		if err := json.Unmarshal(answer.Body, &r); err != nil {
			c.t.Fatal(err)
		}
	}
	return r
}

func (c *chat) wantUnread(r unreadReply, want string) {
	c.t.Helper()
	got := fmt.Sprintf("%d: %s", r.UnreadCount, strings.Join(r.Members, " "))
	switch {
	case r.status == 304:
		got = "304"
	case r.status != 200:
		got = fmt.Sprintf("%d %s", r.status, r.Code)
	case r.Next != nil:
		got += " more"
	}
	if strings.TrimSpace(got) != want || !slices.IsSorted(r.Members) {
		c.t.Errorf("got  %s\nwant %s\n%s", got, want, r.raw)
	}
}
