package suite

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// batch is the answer to POST /v1/pulls.
type batch struct {
	Messages []struct {
		pull
		ReadBy *[]entry `json:"read_by"`
	} `json:"messages"`
	Unchanged []string `json:"unchanged"`
	Failed    []struct {
		Message string `json:"message_id"`
		Code    string `json:"code"`
	} `json:"failed"`
	Poll struct {
		Interval int  `json:"interval_ms"`
		Window   int  `json:"window_ms"`
		Stop     bool `json:"stop"`
	} `json:"poll"`
}

// String has one word a message.
func (b batch) String() string {
	var words []string
	for _, m := range b.Messages {
		words = append(words, fmt.Sprintf("%s=%d/%d", m.MessageID, len(m.Readers), m.ReadCount))
	}
	for _, id := range b.Unchanged {
		words = append(words, id+"=unchanged")
	}
	for _, f := range b.Failed {
		words = append(words, f.Message+"="+f.Code)
	}
	return strings.Join(words, " ")
}

func pullBatch(who caller, body map[string]any) request {
	return request{method: http.MethodPost, path: "/v1/pulls", who: who, body: body}
}

func pullUnread(who caller, id string, query url.Values) request {
	return request{method: http.MethodGet, path: "/v1/messages/" + url.PathEscape(id) + "/unread", who: who, query: query}
}

// TestBatch pulls messages of two projectors at once, one of which dies meanwhile.
func TestBatch(t *testing.T) {
	s := newSystem(t, theKafka(t), 4)
	s.addIngest()
	s.addProjectors(2)
	s.addQuery()
	s.start()
	ids := []string{s.idIn(0, "m"), s.idIn(1, "n ü/"), s.idIn(2, "o")}
	var positions []string
	for _, id := range ids {
		s.send(putMessage(id, "alice", "bob", "carol"))
		positions = append(positions, s.send(readMessages("bob", id)))
	}
	ask := func(body map[string]any) (b batch) {
		t.Helper()
		a := s.expect(mustAsk(t, s, pullBatch("alice", body)), http.StatusOK, "")
		if err := json.Unmarshal(a.body, &b); err != nil {
			t.Fatalf("%v: %s", err, a.body)
		}
		return b
	}
	items := func(since map[string]string) (items []map[string]string) {
		for _, id := range ids {
			item := map[string]string{"message_id": id}
			if v := since[id]; v != "" {
				item["since"] = v
			}
			items = append(items, item)
		}
		return append(items, map[string]string{"message_id": "nothing"})
	}
	want := func(b batch, words ...string) {
		t.Helper()
		if got := b.String(); got != strings.Join(words, " ") {
			t.Errorf("got %s\nwant %s", got, strings.Join(words, " "))
		}
	}
	first := ask(map[string]any{"messages": items(nil), "min_position": positions})
	want(first, ids[0]+"=1/1", ids[1]+"=1/1", ids[2]+"=1/1", "nothing=not_found")
	if first.Poll.Interval != 2000 || first.Poll.Window != 20000 || first.Poll.Stop {
		t.Errorf("poll %+v", first.Poll)
	}
	versions := map[string]string{}
	for _, m := range first.Messages {
		versions[m.MessageID] = m.Version
	}
	position := s.send(readMessages("carol", ids[1]))
	want(ask(map[string]any{"messages": items(versions), "min_position": []string{position}}),
		ids[1]+"=1/2", ids[0]+"=unchanged", ids[2]+"=unchanged", "nothing=not_found")
	named := ask(map[string]any{"messages": items(versions), "readers": []string{"carol", "zoe"}, "limit": 0})
	want(named, ids[0]+"=0/1", ids[1]+"=0/2", ids[2]+"=0/1", "nothing=not_found")
	for i, n := range []int{0, 1, 0} {
		if by := named.Messages[i].ReadBy; by == nil || len(*by) != n || n == 1 && (*by)[0].Reader != "carol" {
			t.Errorf("%s: read by %v", named.Messages[i].MessageID, by)
		}
	}
	testUnread(t, s, ids[0])

	s.projectors[1].stop(syscall.SIGKILL)
	want(ask(map[string]any{"messages": items(versions)}),
		ids[0]+"=unchanged", ids[2]+"=unchanged", ids[1]+"=owner_unavailable", "nothing="+codeOf(s, "nothing"))
	s.projectors[1].start(t)
	s.projectors[1].awaitReady(t)
	s.query.awaitReady(t)
	want(ask(map[string]any{"messages": items(nil)}), ids[0]+"=1/1", ids[1]+"=2/2", ids[2]+"=1/1", "nothing=not_found")
}

// codeOf is what a message that does not exist comes to while node 1 is gone.
func codeOf(s *system, id string) string {
	if s.partition(id)%2 == 1 {
		return "owner_unavailable"
	}
	return "not_found"
}

func testUnread(t *testing.T, s *system, id string) {
	t.Helper()
	var u struct {
		Message string   `json:"message_id"`
		Version string   `json:"version"`
		Count   int      `json:"unread_count"`
		Members []string `json:"members"`
		Next    *string  `json:"next"`
	}
	a := s.expect(mustAsk(t, s, pullUnread("alice", id, nil)), http.StatusOK, "")
	if err := json.Unmarshal(a.body, &u); err != nil || u.Message != id || u.Count != 1 || !slices.Equal(u.Members, []string{"carol"}) || u.Next != nil {
		t.Errorf("%v: %s", err, a.body)
	}
	if a.header.Get("ETag") != `W/"`+u.Version+`"` || a.header.Get("Seenby-Position") == "" {
		t.Errorf("headers %v", a.header)
	}
	s.expect(mustAsk(t, s, pullUnread("bob", id, nil)), http.StatusNotFound, "not_found")
	s.expect(mustAsk(t, s, pullUnread("alice", id, url.Values{"since": {u.Version}})), http.StatusBadRequest, "bad_parameter")
	r := putMessage(id+" crowd", "alice")
	r.body = map[string]any{"conversation_id": "c", "sender_id": "alice", "recipient_count": 5}
	position := s.send(r)
	s.expect(mustAsk(t, s, pullUnread("alice", id+" crowd", url.Values{"min_position": {position}})), http.StatusConflict, "no_roster")
	position = s.send(request{method: http.MethodDelete, path: "/v1/messages/" + url.PathEscape(id+" crowd"), who: backend})
	s.expect(mustAsk(t, s, pullUnread("alice", id+" crowd", url.Values{"min_position": {position}})), http.StatusConflict, "no_roster")
}
