package bench

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/seenby/seenby/events"
)

// TestRequests has the load generator speak with net/http.
func TestRequests(t *testing.T) {
	long := strings.Repeat("long ", 10_000)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Header.Get("Authorization") != "Bearer token" || r.Host != "bench" {
			t.Errorf("%+v", r)
		}
		switch r.URL.Path {
		case "/long":
			_, _ = io.WriteString(w, long)
		case "/chunks":
			w.WriteHeader(http.StatusTeapot)
			_, _ = io.WriteString(w, "one ")
			w.(http.Flusher).Flush()
			_, _ = io.WriteString(w, "two")
		case "/nothing":
			w.WriteHeader(http.StatusNoContent)
		default:
			w.WriteHeader(http.StatusAccepted)
			fmt.Fprintf(w, "%s %s %s %s", r.Method, r.URL, r.Header.Get("Content-Type"), body)
		}
	}))
	defer s.Close()
	c, err := dial(t.Context(), s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	for _, x := range []struct {
		method, path string
		body         []byte
		status       int
		answer       string
	}{
		{"POST", "/echo?a=b", []byte(`{"a":1}`), 202, `POST /echo?a=b application/json {"a":1}`},
		{"GET", "/long", nil, 200, long},
		{"GET", "/chunks", nil, 418, "one two"},
		{"GET", "/nothing", nil, 204, ""},
		{"GET", "/again", nil, 202, "GET /again  "},
	} {
		status, answer, err := c.ask(request(x.method, x.path, "token", x.body))
		if err != nil || status != x.status || string(answer) != x.answer {
			t.Errorf("%s: %d %.40q, %v", x.path, status, answer, err)
		}
	}
}

func TestMember(t *testing.T) {
	body := []byte(`{"accepted":1,"position":"abc","version":""}`)
	for name, want := range map[string]string{"position": "abc", "version": "", "none": ""} {
		if got := member(body, name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestReceiptsBody(t *testing.T) {
	reads := []events.MessageRead{
		{MessageID: []byte("m1"), ReaderID: []byte("bob"), ReadAt: 1_795_600_000_120},
		{MessageID: []byte("m2"), ReaderID: []byte("carol"), ReadAt: 1_795_600_000_000},
	}
	if got, want := string(receiptsBody(reads, true)), `{"receipts":[{"message_id":"m1","reader_id":"bob","read_at":"2026-11-25T09:46:40.120Z"},`+
		`{"message_id":"m2","reader_id":"carol","read_at":"2026-11-25T09:46:40.000Z"}]}`; got != want {
		t.Error(got)
	}
	if got, want := string(receiptsBody(reads[:1], false)), `{"receipts":[{"message_id":"m1","read_at":"2026-11-25T09:46:40.120Z"}]}`; got != want {
		t.Error(got)
	}
}
