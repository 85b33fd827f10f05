package watch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/seenby/seenby/services/pull"
)

// server is a transport that answers one pull after the other; the last answer
// is repeated.
type server struct {
	answers []answer
	pulls   int
}

type answer struct {
	status  int
	body    string
	network bool
}

func (s *server) RoundTrip(r *http.Request) (*http.Response, error) {
	a := s.answers[min(s.pulls, len(s.answers)-1)]
	s.pulls++
	if a.network {
		return nil, errors.New("connection \x1b[31mrefused")
	}
	status, body := a.status, a.body
	switch {
	case status == http.StatusOK:
		body = `{"messages": [` + body + `], "unchanged": [], "failed": [],` + pollText
	case status == http.StatusNotModified:
		status, body = http.StatusOK, `{"messages": [], "unchanged": ["m1"], "failed": [],`+pollText
	case status == http.StatusNotFound:
		status, body = http.StatusOK, `{"messages": [], "unchanged": [], "failed": [{"message_id": "m1", "code": "not_found"}],`+pollText
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

const pollText = `"poll": {"interval_ms": 2000, "window_ms": 20000, "stop": false}}`

// set is an answer with readers, who have read a second after each other.
func set(version string, delta bool, count int, readers ...string) answer {
	return setOf(version, delta, count, "", readers...)
}

// setOf is set with members of its own.
func setOf(version string, delta bool, count int, members string, readers ...string) answer {
	var list []string
	for i, r := range readers {
		n := count - len(readers) + i
		list = append(list, fmt.Sprintf(`{"reader_id": "%s", "read_at": "2026-11-23T08:%02d:%02d.120Z"}`, r, n/60, n%60))
	}
	if members == "" {
		members = `"state": "active", "complete": false`
	}
	return answer{status: http.StatusOK, body: fmt.Sprintf(
		`{"message_id": "m1", "conversation_id": "c1", "sender_id": "alice", "sent_at": "2026-11-23T08:00:00.000Z", "version": %q,
		"read_count": %d, "recipient_count": 5, "opted_out_count": 1, "delta": %t, "readers": [%s], "next": null, %s}`,
		version, count, delta, strings.Join(list, ","), members)}
}

func problem(status int, code string) answer {
	return answer{status: status, body: fmt.Sprintf(`{"code": %q, "detail": "as\u001b[2Jscripted"}`, code)}
}

var unchanged = answer{status: http.StatusNotModified}

func options(out io.Writer, answers ...answer) Options {
	start := time.Now()
	return Options{
		MessageID: "m1", Out: out,
		Pull: pull.Config{
			BaseURL: "https://receipts.example", Transport: &server{answers: answers},
			Token:  func(context.Context, string) (string, error) { return "t", nil },
			Random: func() float64 { return 0 }, Clock: bubbleClock{start},
		},
	}
}

// bubbleClock is the time of a test's bubble.
type bubbleClock struct{ start time.Time }

func (c bubbleClock) Now() time.Duration { return time.Since(c.start) }

func (bubbleClock) AfterFunc(d time.Duration, f func()) func() bool { return time.AfterFunc(d, f).Stop }

func mustBe(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\n%s\nwant:\n%s", what, got, want)
	}
}
