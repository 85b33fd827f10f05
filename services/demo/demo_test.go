package demo

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seenby/seenby/services/auth"
	"github.com/seenby/seenby/services/contract"
	"github.com/seenby/seenby/services/server"
)

func newDemo(t *testing.T, file string, anyHost bool) *Demo {
	t.Helper()
	keyFile := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(keyFile, []byte(strings.Repeat("A", 43)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := auth.OpenKeys(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(Config{Keys: keys, File: file, AnyHost: anyHost, Logger: slog.New(slog.DiscardHandler), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *Demo) ask(t *testing.T, method, url string, caller contract.Caller, body string) (contract.Answer, *contract.Problem) {
	t.Helper()
	r := httptest.NewRequest(method, url, nil)
	for _, route := range d.Routes() {
		if route.Method == method && route.Path == r.URL.Path {
			return route.Handler(context.Background(), &server.Request{HTTP: r, Caller: caller, Body: []byte(body)})
		}
	}
	t.Fatalf("there is no route for %s %s", method, url)
	return contract.Answer{}, nil
}

// TestTokensAreOfPeople: nobody else's are given out, and none to other hosts' pages.
func TestTokensAreOfPeople(t *testing.T) {
	here, anywhere := newDemo(t, filepath.Join(t.TempDir(), "demo.json"), false), newDemo(t, filepath.Join(t.TempDir(), "demo.json"), true)
	for _, c := range []struct {
		demo *Demo
		url  string
		want contract.Code
	}{
		{here, "http://localhost:8080/demo/token?person=demo-ada", ""},
		{here, "http://127.0.0.1/demo/token?person=demo-finn", ""},
		{here, "http://[::1]:1/demo/token?person=demo-finn", ""},
		{here, "http://[::1]/demo/token?person=demo-finn", ""},
		{here, "http://localhost/demo/token?person=alice", contract.BadParameter},
		{here, "http://localhost/demo/token?person=demo", contract.BadParameter},
		{here, "http://localhost/demo/token", contract.BadParameter},
		{here, "http://localhost/demo/token?person=demo-ada&scope=backend", contract.BadParameter},
		{here, "http://rebound.example:8080/demo/token?person=demo-ada", contract.NoSuchRoute},
		{here, "http://localhost.example/demo/token?person=demo-ada", contract.NoSuchRoute},
		{here, "http://192.0.2.1/demo/token?person=demo-ada", contract.NoSuchRoute},
		{here, "http://rebound.example/demo/", contract.NoSuchRoute},
		{anywhere, "http://phone.example:8080/demo/token?person=demo-ada", ""},
		{anywhere, "http://phone.example:8080/demo/token?person=alice", contract.BadParameter},
	} {
		answer, problem := c.demo.ask(t, http.MethodGet, c.url, contract.Caller{}, "")
		var got contract.Code
		if problem != nil {
			got = problem.Code
		}
		if got != c.want || got == "" && answer.Status != http.StatusOK {
			t.Errorf("%s: %q, %d, want %q", c.url, got, answer.Status, c.want)
		}
	}
}

// TestChatIsForItsPeople: a token of somebody else neither reads nor writes it.
func TestChatIsForItsPeople(t *testing.T) {
	d := newDemo(t, filepath.Join(t.TempDir(), "demo.json"), false)
	stranger, ada := contract.Caller{Subject: "alice"}, contract.Caller{Subject: "demo-ada"}
	for name, c := range map[string]struct {
		method, path string
		caller       contract.Caller
		body         string
		want         contract.Code
	}{
		"reads":         {http.MethodGet, "room?after=0", stranger, "", contract.BadParameter},
		"writes":        {http.MethodPost, "messages", stranger, `{"text": "hi"}`, contract.InvalidBody},
		"a crowd":       {http.MethodPost, "crowd", stranger, "", contract.BadParameter},
		"after nothing": {http.MethodGet, "room", ada, "", contract.BadParameter},
		"no text":       {http.MethodPost, "messages", ada, `{"text": "  "}`, contract.InvalidBody},
		"too long":      {http.MethodPost, "messages", ada, `{"text": "` + strings.Repeat("x", maxText+1) + `"}`, contract.InvalidBody},
		"no JSON":       {http.MethodPost, "messages", ada, `hi`, contract.InvalidBody},
		"not running":   {http.MethodPost, "messages", ada, `{"text": "hi"}`, contract.Internal},
	} {
		if _, problem := d.ask(t, c.method, "http://localhost/demo/"+c.path, c.caller, c.body); problem == nil || problem.Code != c.want {
			t.Errorf("%s: %v, want %s", name, problem, c.want)
		}
	}
}

// TestRoomIsKept: the newest messages survive, and sequence numbers go on.
func TestRoomIsKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "demo.json")
	r, err := openRoom(file)
	if err != nil {
		t.Fatal(err)
	}
	for range maxMessages + 5 {
		if _, err := r.add(Message{Text: "hi"}); err != nil {
			t.Fatal(err)
		}
	}
	_, news := r.after(0)
	if r, err = openRoom(file); err != nil {
		t.Fatal(err)
	}
	messages, _ := r.after(0)
	if len(messages) != maxMessages || messages[0].Sequence != 6 || messages[len(messages)-1].Sequence != maxMessages+5 {
		t.Errorf("%d messages, from %d on", len(messages), messages[0].Sequence)
	}
	if m, err := r.add(Message{}); err != nil || m.Sequence != maxMessages+6 {
		t.Errorf("the next is %d, %v", m.Sequence, err)
	}
	select {
	case <-news:
		t.Error("another room's news")
	default:
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openRoom(file); err == nil || !strings.Contains(err.Error(), "remove it") {
		t.Errorf("a broken file: %v", err)
	}
}

// TestPageIsStrict: files may do what the page needs, and no more.
func TestPageIsStrict(t *testing.T) {
	d := newDemo(t, filepath.Join(t.TempDir(), "demo.json"), false)
	n := 0
	for _, route := range d.Routes() {
		if route.Access != server.Public || route.Path == "/" || route.Path == Root+"token" {
			continue
		}
		n++
		answer, problem := d.ask(t, route.Method, "http://localhost"+route.Path, contract.Caller{}, "")
		if problem != nil || answer.Header.Get("Content-Type") == "" || !strings.HasPrefix(answer.Header.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s: %v, %v", route.Path, answer.Header, problem)
		}
		if strings.HasSuffix(route.Path, "/") && (strings.Contains(string(answer.Body), "<script>") || strings.Contains(string(answer.Body), "style=")) {
			t.Errorf("%s has something inline, which its policy forbids", route.Path)
		}
	}
	if n < 5 {
		t.Errorf("%d files", n)
	}
}

func TestCrowd(t *testing.T) {
	members := crowdMembers()
	if len(members)+len(people) != crowdSize || members[0] != hostileMember {
		t.Errorf("%d members", len(members))
	}
}
