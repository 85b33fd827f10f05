package server_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/seenby/seenby/services/contract"
	"github.com/seenby/seenby/services/server"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// syncBuffer is a log that is written and read at the same time.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// running is a server that runs until the test ends, or stop.
type running struct {
	*server.Server
	log      *syncBuffer
	registry *prometheus.Registry
	// wait returns what Run returned; stop ends the server before.
	wait, stop func() error
}

// authenticate knows the tokens "user", "user2" and "backend".
func authenticate(r *http.Request) (contract.Caller, *contract.Problem) {
	switch token := r.Header.Get("Authorization"); token {
	case "":
		return contract.Caller{}, contract.NewProblem(contract.NoToken, "no token")
	case "user", "user2", "backend":
		return contract.Caller{Subject: token, Backend: token == "backend"}, nil
	}
	return contract.Caller{}, contract.NewProblem(contract.InvalidToken, "bad token")
}

// start runs a server of these routes; change may alter its configuration.
func start(t *testing.T, routes []server.Route, change func(*server.Config)) *running {
	t.Helper()
	r := &running{log: new(syncBuffer), registry: prometheus.NewRegistry()}
	config := server.Config{
		Listen: "127.0.0.1:0", Service: "test", Registry: r.registry, Routes: routes, Authenticate: authenticate,
		Logger: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Ready:  func() error { return nil },
	}
	if change != nil {
		change(&config)
	}
	s, err := server.New(config)
	if err != nil {
		t.Fatal(err)
	}
	r.Server = s
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	r.wait = sync.OnceValue(func() error { return <-ended })
	r.stop = func() error {
		cancel()
		return r.wait()
	}
	t.Cleanup(func() { _ = r.stop() })
	return r
}

// result is an answer that was read.
type result struct {
	status int
	header http.Header
	body   string
	// last says that the connection ends with it.
	last bool
}

// code is the problem's.
func (r result) code(t *testing.T) contract.Code {
	t.Helper()
	if r.status < 400 {
		return ""
	}
	var d struct {
		Code   contract.Code
		Status int
	}
	if err := json.Unmarshal([]byte(r.body), &d); err != nil || d.Status != r.status || r.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("no problem document: %d %v %s", r.status, r.header, r.body)
	}
	return d.Code
}

// raw sends bytes as they are, and reads the answer to them.
func (r *running) raw(t *testing.T, request string) result {
	t.Helper()
	conn, err := net.Dial("tcp", r.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(request, " ")
	return read(t, bufio.NewReader(conn), method)
}

func read(t *testing.T, from *bufio.Reader, method string) result {
	t.Helper()
	answer, err := http.ReadResponse(from, &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return result{answer.StatusCode, answer.Header, string(body), answer.Close}
}

// ask sends a request without a body.
func (r *running) ask(t *testing.T, method, path, token string) result {
	t.Helper()
	return r.raw(t, fmt.Sprintf("%s %s HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\n\r\n", method, path, token))
}

// echoID answers with the message ID that it was asked for.
func echoID(_ context.Context, r *server.Request) (contract.Answer, *contract.Problem) {
	id, problem := r.PathID("message_id")
	return text(id), problem
}

func text(s string) contract.Answer {
	return contract.Answer{Status: http.StatusOK, Header: http.Header{"Content-Type": {"text/plain"}}, Body: []byte(s)}
}

// echoBody answers with the body, unless it is "bad".
func echoBody(_ context.Context, r *server.Request) (contract.Answer, *contract.Problem) {
	if string(r.Body) == "bad" {
		return contract.Answer{}, contract.NewProblem(contract.InvalidBody, "bad")
	}
	return text(string(r.Body)), nil
}

var table = []server.Route{
	{Method: "GET", Path: "/v1/messages/{message_id}/receipts", Handler: echoID},
	{Method: "PUT", Path: "/v1/messages/{message_id}", Access: server.BackendOnly, MaxBody: 10, Handler: echoBody},
	{Method: "DELETE", Path: "/v1/messages/{message_id}", Access: server.BackendOnly, Handler: echoID},
	{Method: "POST", Path: "/v1/receipts", MaxBody: 10, Handler: echoBody},
	{Method: "GET", Path: "/public", Access: server.Public, Handler: func(context.Context, *server.Request) (contract.Answer, *contract.Problem) {
		return text("public"), nil
	}},
}

// tables are that one, and each of the services' parts of it alone: what a path
// means does not depend on which others there are.
var tables = map[string][]server.Route{"all": table, "query": table[:1], "ingest": table[1:]}

func TestPaths(t *testing.T) {
	for name, routes := range tables {
		t.Run(name, func(t *testing.T) {
			s := start(t, routes, nil)
			if name != "query" {
				for escaped, id := range ids {
					if got := s.ask(t, "DELETE", "/v1/messages/"+escaped, "backend"); got.body != id && (id != "" || got.code(t) != contract.BadID) {
						t.Errorf("DELETE %s: got %d %s, want %q", escaped, got.status, got.body, id)
					}
				}
			}
			if name != "ingest" {
				for escaped, id := range ids {
					if got := s.ask(t, "GET", "/v1/messages/"+escaped+"/receipts", "user"); got.body != id && (id != "" || got.code(t) != contract.BadID) {
						t.Errorf("GET %s: got %d %s, want %q", escaped, got.status, got.body, id)
					}
				}
			}
			for _, path := range []string{"/", "/v1", "/v1/", "/v1/messages", "/v1/messages/", "/v1/messages//", "/v1/messages//receipts", "/v1/messages/a/",
				"/v1/messages/a/b", "/v1/messages/a/receipts/", "/v1/messages/a/receipts/b", "/v1/messages/a/b/receipts", "//v1/messages/a/receipts",
				"/v1//messages/a/receipts", "/v1/messages/a//receipts", "/v1/messages/a/Receipts", "/v1/mess%61ges/a/receipts", "/v1/messages/a%2Freceipts/x",
				"/v1/receipts/", "/v1/../v1/receipts", "/v2/receipts", "/livez/", "/metrics/x", "/receipts", "/v1/messages/a/receipts;x", "*",
				"/v1/messages/:message_id/x"} {
				for _, method := range []string{"GET", "PUT", "DELETE", "POST", "OPTIONS", "PATCH", "FOO"} {
					if path == "*" && method != "OPTIONS" {
						continue // Malformed.
					}
					if got := s.ask(t, method, path, "user"); got.status != 404 || got.code(t) != contract.NoSuchRoute {
						t.Errorf("%s %s: got %d %s", method, path, got.status, got.body)
					}
				}
			}
		})
	}
}

// ids are segments of a path and the ID that each is, "" for none.
var ids = map[string]string{
	"m1": "m1", "a%2Fb": "a/b", "a%252Fb": "a%2Fb", "a%20b": "a b", "a%2520b": "a%20b", "a+b": "a+b", "a;b": "a;b", "*": "*", "...": "...", "%2A": "*",
	"receipts": "receipts", ":message_id": ":message_id", "{message_id}": "{message_id}", "a%3Fb": "a?b", "a%23b": "a#b", "%2F": "/", "%F0%9F%98%80": "😀", "é": "é",
	"a:b@c": "a:b@c", "a%3Ab": "a:b", "a,b=c&d": "a,b=c&d", "'": "'", `"`: `"`, "[a]": "[a]", "a%5Cb": `a\b`, "%41": "A", "~": "~", "%7E": "~", "%25": "%",
	// Raw where clients should have escaped, beside %2F.
	"é%2Fb": "é/b", `a%2F"b`: `a/"b`, "a|b%2fc^": "a|b/c^", `é%252F`: "é%2F",
	"%2E%2E": "", "%2e": "", "..": "", ".": "", "%00": "", "%0A": "", "%FF": "", "%C2%85": "",
}

func TestMethods(t *testing.T) {
	s := start(t, table, nil)
	for path, allow := range map[string]string{
		"/v1/messages/a%2Fb":            "DELETE, PUT",
		"/v1/messages/a/receipts":       "GET",
		"/v1/messages/receipts":         "DELETE, PUT",
		"/v1/receipts":                  "POST",
		"/livez":                        "GET, HEAD",
		"/readyz":                       "GET, HEAD",
		"/metrics":                      "GET, HEAD",
		"/v1/messages/a/receipts?limit": "GET",
	} {
		for _, method := range []string{"GET", "HEAD", "PUT", "DELETE", "POST", "OPTIONS", "PATCH", "TRACE", "PROPFIND", "FOO"} {
			if strings.Contains(allow, method) {
				continue
			}
			got := s.ask(t, method, path, "")
			if got.status != 405 || got.header.Get("Allow") != allow || method != "HEAD" && got.code(t) != contract.MethodNotAllowed {
				t.Errorf("%s %s: got %d %v %s", method, path, got.status, got.header, got.body)
			}
		}
	}
}

// Of several mistakes, the first in the contract's order is told.
func TestOrderOfErrors(t *testing.T) {
	const big, badJSON = "12345678901", "bad"
	s := start(t, table, func(c *server.Config) {
		// user2 has used up its rate; "user" never comes near it.
		c.UserRate, c.UserBurst = 1e-9, 100
	})
	for range 100 {
		s.ask(t, "POST", "/v1/receipts", "user2")
	}
	tests := []struct {
		name, method, path, token, media, body string
		want                                   contract.Code
	}{
		{"everything wrong", "FOO", "/v1/message", "", "text/plain", big, contract.NoSuchRoute},
		{"all but the route", "FOO", "/v1/messages/..", "", "text/plain", big, contract.MethodNotAllowed},
		{"all but the method, no token", "PUT", "/v1/messages/..", "", "text/plain", big, contract.NoToken},
		{"all but the method, bad token", "PUT", "/v1/messages/..", "x", "text/plain", big, contract.InvalidToken},
		{"token good, too often", "PUT", "/v1/messages/..", "user2", "text/plain", big, contract.RateLimited},
		{"not too often", "PUT", "/v1/messages/..", "user", "text/plain", big, contract.BackendOnly},
		{"role good", "PUT", "/v1/messages/..", "backend", "text/plain", big, contract.UnsupportedMediaType},
		{"type good", "PUT", "/v1/messages/..", "backend", "application/json", big, contract.BodyTooLarge},
		{"size good", "PUT", "/v1/messages/..", "backend", "application/json", badJSON, contract.InvalidBody},
		{"a user, another route", "POST", "/v1/receipts", "user", "text/plain", big, contract.UnsupportedMediaType},
		{"a user too often, another route", "POST", "/v1/receipts", "user2", "text/plain", big, contract.RateLimited},
		{"all good", "POST", "/v1/receipts", "user", "application/json", "{}", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := s.raw(t, fmt.Sprintf("%s %s HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s",
				test.method, test.path, test.token, test.media, len(test.body), test.body))
			if code := got.code(t); code != test.want {
				t.Errorf("got %s: %s", code, got.body)
			}
			if needs, has := got.status == 429 || got.status == 503, got.header.Get("Retry-After") != ""; needs != has {
				t.Errorf("Retry-After is %q", got.header.Get("Retry-After"))
			}
			if needs, has := got.status == 401, got.header.Get("WWW-Authenticate") != ""; needs != has {
				t.Errorf("WWW-Authenticate is %q", got.header.Get("WWW-Authenticate"))
			}
			for name, want := range map[string]string{"Cache-Control": "no-store", "Vary": "Origin, Accept-Encoding", "X-Content-Type-Options": "nosniff"} {
				if got.header.Get(name) != want {
					t.Errorf("%s is %q", name, got.header.Get(name))
				}
			}
		})
	}
}

func TestPanicsAndBrokenHandlers(t *testing.T) {
	fail := func(p *contract.Problem) server.Handler {
		return func(context.Context, *server.Request) (contract.Answer, *contract.Problem) {
			return contract.Answer{}, p
		}
	}
	s := start(t, []server.Route{
		{Method: "GET", Path: "/panic", Handler: func(context.Context, *server.Request) (contract.Answer, *contract.Problem) { panic("oh no") }},
		{Method: "GET", Path: "/internal", Handler: fail(contract.NewProblem(contract.Internal, "").Because(errors.New("the cause")))},
		{Method: "GET", Path: "/kafka", Handler: fail(contract.NewProblem(contract.KafkaUnavailable, "gone").Because(errors.New("the reason")))},
		{Method: "GET", Path: "/name", Handler: echoID},
	}, nil)
	for path, want := range map[string]struct {
		code contract.Code
		log  string
	}{
		"/panic":    {contract.Internal, "server_test.go"},
		"/internal": {contract.Internal, "the cause"},
		"/kafka":    {contract.KafkaUnavailable, "the reason"},
		"/name":     {contract.Internal, "{message_id}"},
	} {
		got := s.ask(t, "GET", path, "user")
		if got.code(t) != want.code || strings.Contains(got.body, want.log) || strings.Contains(got.body, "oh no") {
			t.Errorf("%s: got %d %s", path, got.status, got.body)
		}
		if !strings.Contains(s.log.String(), want.log) {
			t.Errorf("%s: the log does not have %q: %s", path, want.log, s.log)
		}
	}
}

func TestLogsTellNoSecrets(t *testing.T) {
	s := start(t, table, nil)
	s.raw(t, "POST /v1/receipts HTTP/1.1\r\nHost: x\r\nAuthorization: secret-token\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\nsec-body")
	s.raw(t, "POST /v1/receipts HTTP/1.1\r\nHost: x\r\nAuthorization: user\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\nsec-body")
	if log := s.log.String(); strings.Contains(log, "sec") || strings.Count(log, "path=/v1/receipts") != 2 {
		t.Errorf("log: %s", log)
	}
}

func TestRequestTimeout(t *testing.T) {
	s := start(t, []server.Route{
		{Method: "GET", Path: "/waits", Handler: func(ctx context.Context, _ *server.Request) (contract.Answer, *contract.Problem) {
			<-ctx.Done()
			return contract.Answer{}, contract.NewProblem(contract.Internal, "").Because(fmt.Errorf("waiting: %w", ctx.Err()))
		}},
	}, func(c *server.Config) { c.RequestTimeout = 20 * time.Millisecond })
	if got := s.ask(t, "GET", "/waits", "user"); got.code(t) != contract.Timeout || got.header.Get("Retry-After") == "" {
		t.Errorf("got %d %v %s", got.status, got.header, got.body)
	}
}

// A handler's context ends when the client goes.
func TestClientGone(t *testing.T) {
	entered, left := make(chan struct{}), make(chan error, 1)
	s := start(t, []server.Route{
		{Method: "GET", Path: "/waits", Handler: func(ctx context.Context, _ *server.Request) (contract.Answer, *contract.Problem) {
			close(entered)
			<-ctx.Done()
			left <- ctx.Err()
			return text(""), nil
		}},
	}, nil)
	conn, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "GET /waits HTTP/1.1\r\nHost: x\r\nAuthorization: user\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-entered
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// gate is a handler that says when it was entered, and waits to be let go.
type gate struct {
	entered, let chan struct{}
}

func newGate() gate { return gate{make(chan struct{}, 100), make(chan struct{})} }

func (g gate) handle(context.Context, *server.Request) (contract.Answer, *contract.Problem) {
	g.entered <- struct{}{}
	<-g.let
	return text("done"), nil
}

func TestOverload(t *testing.T) {
	g := newGate()
	s := start(t, append([]server.Route{{Method: "GET", Path: "/waits", Handler: g.handle}}, table...), func(c *server.Config) { c.MaxInFlight = 2 })
	done := make(chan result, 2)
	for range 2 {
		go func() { done <- s.ask(t, "GET", "/waits", "user") }()
		<-g.entered
	}
	// Nobody is authenticated while there is too much to do, and no route is
	// looked at that is not there.
	for path, want := range map[string]contract.Code{"/v1/messages/a/receipts": contract.Overloaded, "/public": contract.Overloaded, "/nowhere": contract.NoSuchRoute} {
		if got := s.ask(t, "GET", path, ""); got.code(t) != want {
			t.Errorf("%s: got %d %s", path, got.status, got.body)
		}
	}
	for _, path := range []string{"/livez", "/readyz", "/metrics"} {
		if got := s.ask(t, "GET", path, ""); got.status != 200 {
			t.Errorf("%s: got %d %s", path, got.status, got.body)
		}
	}
	close(g.let)
	for range 2 {
		if got := <-done; got.body != "done" {
			t.Errorf("got %d %s", got.status, got.body)
		}
	}
	if got := s.ask(t, "GET", "/v1/messages/a/receipts", "user"); got.body != "a" {
		t.Errorf("afterwards: got %d %s", got.status, got.body)
	}
}

func TestRateLimit(t *testing.T) {
	s := start(t, table, func(c *server.Config) { c.UserRate, c.UserBurst = 1e-3, 2 })
	for i, want := range []contract.Code{"", "", contract.RateLimited} {
		got := s.ask(t, "GET", "/v1/messages/a/receipts", "user")
		wait, _ := strconv.Atoi(got.header.Get("Retry-After"))
		if got.code(t) != want || want != "" && (wait < 500 || wait > 1000) {
			t.Errorf("%d: got %d %v %s", i, got.status, got.header, got.body)
		}
	}
	for range 5 {
		if got := s.ask(t, "GET", "/v1/messages/a/receipts", "backend"); got.status != 200 {
			t.Errorf("backend: got %d %s", got.status, got.body)
		}
		if got := s.ask(t, "GET", "/public", ""); got.status != 200 {
			t.Errorf("public: got %d %s", got.status, got.body)
		}
	}
	if got := s.ask(t, "GET", "/v1/messages/a/receipts", "user2"); got.status != 200 {
		t.Errorf("another user: got %d %s", got.status, got.body)
	}
}

// What may not be told apart is not, headers included.
func TestNotFoundIsOneAnswer(t *testing.T) {
	s := start(t, []server.Route{{Method: "GET", Path: "/v1/messages/{message_id}/receipts",
		Handler: func(context.Context, *server.Request) (contract.Answer, *contract.Problem) {
			return contract.Answer{Header: http.Header{"Etag": {"x"}}}, contract.NewProblem(contract.NotFound, "no such message")
		}}}, nil)
	a, b := s.ask(t, "GET", "/v1/messages/a/receipts", "user"), s.ask(t, "GET", "/v1/messages/bb/receipts", "backend")
	a.header.Del("Date")
	b.header.Del("Date")
	if fmt.Sprint(a) != fmt.Sprint(b) || a.header.Get("Etag") != "" || strings.Contains(b.body, "bb") {
		t.Errorf("%v\n%v", a, b)
	}
}
