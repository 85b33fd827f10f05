package server_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/seenby/seenby/services/server"
)

func TestHealth(t *testing.T) {
	var reason atomic.Value
	s := start(t, table, func(c *server.Config) {
		c.Ready = func() error {
			if text, _ := reason.Load().(string); text != "" {
				return errors.New(text)
			}
			return nil
		}
	})
	expect := func(path string, status int, body string) {
		t.Helper()
		got := s.ask(t, "GET", path, "")
		if got.status != status || got.body != body || got.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: got %d %v %q", path, got.status, got.header, got.body)
		}
		if needs, has := status == 503, got.header.Get("Retry-After") != ""; needs != has {
			t.Errorf("%s: Retry-After is %q", path, got.header.Get("Retry-After"))
		}
		if head := s.ask(t, "HEAD", path, ""); head.status != status || head.body != "" {
			t.Errorf("HEAD %s: got %d %q", path, head.status, head.body)
		}
	}
	expect("/livez", 200, "alive\n")
	expect("/readyz", 200, "ready\n")
	reason.Store("Kafka is out of reach")
	expect("/livez", 200, "alive\n")
	expect("/readyz", 503, "not ready: Kafka is out of reach\n")
}

func TestMetrics(t *testing.T) {
	s := start(t, table, nil)
	s.ask(t, "GET", "/v1/messages/a/receipts", "user")
	s.ask(t, "GET", "/v1/messages/b/receipts", "user")
	s.ask(t, "GET", "/v1/messages/b/receipts", "")
	s.ask(t, "GET", "/v1/messages/../receipts", "user")
	s.ask(t, "BREW", "/v1/receipts", "user")
	s.ask(t, "GET", "/wp-login.php", "")
	s.ask(t, "PUT", "/v1/messages/a/", "")
	if err := testutil.GatherAndCompare(s.registry, strings.NewReader(`
# HELP seenby_http_problems_total Requests answered with a problem document, by route and the document's code: failed authentication, rate limits and overload among them.
# TYPE seenby_http_problems_total counter
seenby_http_problems_total{code="bad_id",route="/v1/messages/{message_id}/receipts"} 1
seenby_http_problems_total{code="method_not_allowed",route="none"} 1
seenby_http_problems_total{code="no_such_route",route="none"} 2
seenby_http_problems_total{code="no_token",route="/v1/messages/{message_id}/receipts"} 1
`), "seenby_http_problems_total"); err != nil {
		t.Error(err)
	}
	got := s.ask(t, "GET", "/metrics", "").body
	for _, line := range []string{
		`seenby_http_requests_total{code="200",method="GET",route="/v1/messages/{message_id}/receipts"} 2`,
		`seenby_http_requests_total{code="401",method="GET",route="/v1/messages/{message_id}/receipts"} 1`,
		`seenby_http_requests_total{code="202",method="POST",route="/v1/receipts"} 0`,
		`seenby_http_requests_total{code="405",method="other",route="none"} 1`,
		`seenby_http_requests_total{code="404",method="PUT",route="none"} 1`,
		`seenby_http_request_seconds_count{method="GET",route="/v1/messages/{message_id}/receipts"} 4`,
		`seenby_http_requests_in_flight{method="GET",route="/v1/messages/{message_id}/receipts"} 0`,
	} {
		if !strings.Contains(got, line+"\n") {
			t.Errorf("no %s in\n%s", line, got)
		}
	}
}
