package server

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seenby/seenby/services/contract"
)

// discard is a ResponseWriter that costs nothing.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}

// newForTest returns a server that is never run, of one route.
func newForTest(t *testing.T, h Handler) *Server {
	t.Helper()
	s, err := New(Config{Listen: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(),
		Ready: func() error { return nil },
		Authenticate: func(*http.Request) (contract.Caller, *contract.Problem) {
			return contract.Caller{Subject: "alice"}, nil
		},
		UserRate: 1e9,
		Routes:   []Route{{Method: "GET", Path: "/v1/messages/{message_id}/receipts", Handler: h}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func newRequest(t *testing.T) *http.Request {
	t.Helper()
	r, err := http.NewRequest("GET", "/v1/messages/m1/receipts", nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// The way to a handler and back allocates the request with its context, and
// nothing else. (The race detector makes pools forget, which allocates some.)
func TestAllocations(t *testing.T) {
	answer := contract.Answer{Status: http.StatusNotModified, Header: http.Header{"Etag": {`W/"x"`}}}
	s := newForTest(t, func(_ context.Context, r *Request) (contract.Answer, *contract.Problem) {
		_, problem := r.PathID("message_id")
		return answer, problem
	})
	r, w := newRequest(t), discard{make(http.Header)}
	if n := testing.AllocsPerRun(100, func() { s.serveHTTP(w, r) }); n > 3 {
		t.Errorf("%v allocations", n)
	}
}

// A context that somebody keeps has ended with its request.
func TestContextEndsWithItsRequest(t *testing.T) {
	var kept context.Context
	s := newForTest(t, func(ctx context.Context, _ *Request) (contract.Answer, *contract.Problem) {
		kept = ctx
		return contract.Answer{Status: http.StatusOK}, nil
	})
	s.serveHTTP(discard{make(http.Header)}, newRequest(t))
	<-kept.Done()
	if !errors.Is(kept.Err(), context.Canceled) {
		t.Errorf("ended with %v", kept.Err())
	}
}
