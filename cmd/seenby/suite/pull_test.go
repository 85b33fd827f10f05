package suite

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestPull walks through the life of one message as its sender's client sees it.
func TestPull(t *testing.T) {
	s := newSystem(t, theKafka(t), 2).small()
	const id = "a/b ü"
	position := s.send(readMessages("r0", id)) // Before the message.
	s.expect(mustAsk(t, s, pullMessage("alice", id, url.Values{"min_position": {position}})), http.StatusNotFound, "not_found")
	readers := make([]string, 40)
	for i := range readers {
		readers[i] = fmt.Sprintf("r%d", i)
	}
	position = s.send(putMessage(id, "alice", readers...))

	ask := func(query url.Values) (answer, *pull) {
		t.Helper()
		a := s.expect(mustAsk(t, s, pullMessage("alice", id, query)), http.StatusOK, "")
		p, err := parsePull(a, id, 2000)
		if err != nil {
			t.Fatal(err)
		}
		return a, p
	}
	_, p := ask(url.Values{"min_position": {position}})
	c := localCopy{version: p.Version, readers: p.Readers}
	if len(p.Readers) != 1 || p.Delta || p.RecipientCount != 40 {
		t.Fatalf("the first pull: %+v", p)
	}
	for i, reader := range readers[1:] {
		position = s.send(readMessages(reader, id))
		_, p := ask(url.Values{"since": {c.version}, "min_position": {position}})
		if !p.Delta || len(p.Readers) != 1 || p.Readers[0].Reader != reader || p.ReadCount != i+2 || p.Complete != (p.ReadCount == 40) {
			t.Fatalf("since the last version: %+v, must be %s alone", p, reader)
		}
		if err := c.fold(p); err != nil {
			t.Fatal(err)
		}
	}
	full, p := ask(nil)
	if !slices.Equal(p.Readers, c.readers) {
		t.Errorf("deltas led to %v, there are %v", c.readers, p.Readers)
	}
	if poll := full.header.Get("Seenby-Poll"); poll != "stop" {
		t.Errorf("complete, and Seenby-Poll is %q", poll)
	}
	if again, _ := ask(nil); !bytes.Equal(again.body, full.body) {
		t.Errorf("one URL, one version, two bodies:\n%s\n%s", full.body, again.body)
	}
	if _, p := ask(url.Values{"since": {c.version}}); !p.Delta || len(p.Readers) != 0 {
		t.Errorf("since the current version: %+v", p)
	}
	if _, p := ask(url.Values{"limit": {"0"}}); p.ReadCount != 40 || len(p.Readers) != 0 || p.Next != nil {
		t.Errorf("with limit=0: %+v", p)
	}
	testNotModified(t, s, id, full.header.Get("ETag"))
	testPages(t, s, id, c)
	testRecall(t, s, id, c.version)
}

func testNotModified(t *testing.T, s *system, id, etag string) {
	t.Helper()
	for _, tags := range []string{etag, strings.TrimPrefix(etag, "W/"), `"x", ` + etag, "*"} {
		r := pullMessage("alice", id, nil)
		r.header = http.Header{"If-None-Match": {tags}}
		a := mustAsk(t, s, r)
		if a.status != http.StatusNotModified || len(a.body) > 0 || a.header.Get("ETag") != etag || a.header.Get("Seenby-Position") == "" {
			t.Errorf("If-None-Match: %s: %d %v %s", tags, a.status, a.header, a.body)
		}
	}
}

// testPages pulls in pages of several sizes.
func testPages(t *testing.T, s *system, id string, c localCopy) {
	t.Helper()
	for _, limit := range []string{"1", "7", "40", "2000"} {
		p, err := s.client.pullAll(t.Context(), "alice", id, url.Values{"limit": {limit}})
		if err != nil || !slices.Equal(p.Readers, c.readers) {
			t.Errorf("in pages of %s: %+v, %v", limit, p, err)
		}
	}
}

func testRecall(t *testing.T, s *system, id, version string) {
	t.Helper()
	first := mustAsk(t, s, pullMessage("alice", id, url.Values{"limit": {"5"}}))
	page, err := parsePull(first, id, 5)
	if err != nil || page.Next == nil {
		t.Fatalf("%s: %v", first.body, err)
	}
	position := s.send(recallMessage(id))
	a := s.expect(mustAsk(t, s, pullMessage("alice", id, url.Values{"since": {version}, "min_position": {position}})), http.StatusOK, "")
	p, err := parsePull(a, id, 200)
	if err != nil {
		t.Fatal(err)
	}
	if p.State != "recalled" || p.ReadCount != 0 || len(p.Readers) != 0 || p.Delta || p.Complete || a.header.Get("Seenby-Poll") != "stop" {
		t.Errorf("after the recall: %v %+v", a.header, p)
	}
	s.expect(mustAsk(t, s, pullMessage("alice", id, url.Values{"cursor": {*page.Next}})), http.StatusGone, "cursor_gone")
	position = s.send(readMessages("r1", id))
	if p := s.awaitRead(t, "alice", id, position); p.State != "recalled" || p.ReadCount != 0 || p.Version != parseVersion(t, a) {
		t.Errorf("read after the recall: %+v", p)
	}
}

func parseVersion(t *testing.T, a answer) string {
	t.Helper()
	return strings.TrimSuffix(strings.TrimPrefix(a.header.Get("ETag"), `W/"`), `"`)
}

// TestVisibleTo has recipients look at who has read.
func TestVisibleTo(t *testing.T) {
	s := newSystem(t, theKafka(t), 1)
	s.addIngest()
	s.addProjectors(1, "--visible-to", "participants")
	s.addQuery()
	s.start()
	r := putMessage("m1", "alice", "bob", "carol")
	r.body = putBody{Conversation: "c", Sender: "alice", Recipients: []string{"bob", "carol"}, OptedOut: []string{"carol"}}
	position := s.send(r)
	for who, status := range map[caller]int{backend: 200, "alice": 200, "bob": 200, "carol": 404, "mallory": 404} {
		if a := mustAsk(t, s, pullMessage(who, "m1", url.Values{"min_position": {position}})); a.status != status {
			t.Errorf("%q: %d %s, not %d", who, a.status, a.body, status)
		}
	}
}

// TestReadyMeansCaughtUp starts a projector that has much to catch up on. When it
// first says that it is ready, everything is there.
func TestReadyMeansCaughtUp(t *testing.T) {
	s := newSystem(t, theKafka(t), 1)
	s.addIngest()
	// It is killed before it saves anything, so that all of it is to be done again.
	s.addProjectors(1, "--flush-every", "1m")
	s.addQuery()
	s.start()
	readers := make([]string, 10_000)
	for i := range readers {
		readers[i] = fmt.Sprintf("r%d", i)
	}
	position := s.send(putMessage("m1", "alice", readers...))
	for batch := range slices.Chunk(readers, 500) {
		items := make([]receiptBody, 0, len(batch))
		for _, reader := range batch {
			items = append(items, receiptBody{Message: "m1", Reader: reader})
		}
		position = s.send(postReceipts(backend, items...))
	}
	s.awaitRead(t, "alice", "m1", position)
	p := s.projectors[0]
	for range 3 {
		p.stop(syscall.SIGKILL)
		begun := time.Now()
		p.start(t)
		for ready := false; !ready; ready, _ = p.ready(t.Context()) {
			if time.Since(begun) > patience {
				t.Fatalf("%s is not ready", p.name)
			}
		}
		// Query may have to learn that it is there again.
		a := s.awaitAnswer(func() (answer, error) {
			return s.client.ask(t.Context(), s.client.query, pullMessage("alice", "m1", url.Values{"limit": {"0"}}))
		}, http.StatusOK, "")
		if got, err := parsePull(a, "m1", 0); err != nil || got.ReadCount != len(readers) {
			t.Errorf("ready, and %+v, %v; %d have read", got, err, len(readers))
		}
	}
}
