package server

import (
	"context"
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

// The way to a handler and back allocates the request with its context, and the
// contract's header map is the handler's.
func TestAllocations(t *testing.T) {
	answer := contract.Answer{Status: http.StatusNotModified, Header: http.Header{"Etag": {`W/"x"`}}}
	s, err := New(Config{Listen: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(),
		Ready: func() error { return nil },
		Authenticate: func(*http.Request) (contract.Caller, *contract.Problem) {
			return contract.Caller{Subject: "alice"}, nil
		},
		UserRate: 1e9,
		Routes: []Route{{Method: "GET", Path: "/v1/messages/{message_id}/receipts", Handler: func(_ context.Context, r *Request) (contract.Answer, *contract.Problem) {
			_, problem := r.PathID("message_id")
			return answer, problem
		}}}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // It never ran.
	r, err := http.NewRequest("GET", "/v1/messages/m1/receipts", nil)
	if err != nil {
		t.Fatal(err)
	}
	w := discard{make(http.Header)}
	if n := testing.AllocsPerRun(100, func() { s.serveHTTP(w, r) }); n > 1 {
		t.Errorf("%v allocations", n)
	}
}
