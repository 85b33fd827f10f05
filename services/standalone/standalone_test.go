package standalone_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/seenby/seenby/services/auth"
	"github.com/seenby/seenby/services/projector"
	"github.com/seenby/seenby/services/standalone"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func config(data string) standalone.Config {
	return standalone.Config{
		Data: data, Listen: "127.0.0.1:0", Retention: projector.DefaultRetention, VisibleTo: projector.Sender,
		MaxWait: projector.DefaultMaxWait, PollInterval: projector.DefaultPollInterval, PollWindow: projector.DefaultPollWindow, PollSlowest: projector.DefaultPollSlowest,
		Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), Now: time.Now,
	}
}

// running is a standalone, and a client of it.
type running struct {
	t    *testing.T
	base string
	keys *auth.Keys
	http *http.Client
	stop func()
}

// run boots a standalone and waits until it is ready.
func run(t *testing.T, c standalone.Config) *running {
	t.Helper()
	s, err := standalone.New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	r := &running{t: t, base: "http://" + s.Addr().String(), http: &http.Client{Transport: &http.Transport{}}}
	stopped := false
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		r.http.CloseIdleConnections()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("standalone ended: %v", err)
		}
	}
	t.Cleanup(r.stop)
	if r.keys, err = auth.OpenKeys(standalone.AuthKey(c.Data)); err != nil {
		t.Fatal(err)
	}
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-again.C {
		answer := r.do("GET", "/readyz", "", "")
		if answer.status == http.StatusOK {
			return r
		}
		if time.Now().After(deadline) {
			t.Fatalf("not ready: %s", answer.body)
		}
	}
}

type answer struct {
	status int
	header http.Header
	body   string
}

// do asks as a subject, of whom "backend" is the backend and "" nobody.
func (r *running) do(method, path, subject, body string) answer {
	r.t.Helper()
	request, err := http.NewRequestWithContext(r.t.Context(), method, r.base+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	if subject != "" {
		grant := auth.Grant{Subject: subject, IssuedAt: time.Now(), TTL: time.Hour}
		if subject == "backend" {
			grant.Scope = auth.ScopeBackend
		}
		token, err := auth.Mint(r.keys, grant)
		if err != nil {
			r.t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+token)
		request.Header.Set("Content-Type", "application/json")
	}
	resp, err := r.http.Do(request)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // Nothing was written.
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(text)}
}

// write writes, and returns the position.
func (r *running) write(method, path, subject, body string) string {
	r.t.Helper()
	a := r.do(method, path, subject, body)
	var accepted struct{ Position string }
	if err := json.Unmarshal([]byte(a.body), &accepted); a.status != http.StatusAccepted || err != nil || accepted.Position == "" {
		r.t.Fatalf("%s %s: %d %s", method, path, a.status, a.body)
	}
	return accepted.Position
}

// TestWholePath sends and reads a message, pulls it, and finds the same after a
// restart: the same body under the same version.
func TestWholePath(t *testing.T) {
	c := config(t.TempDir())
	r := run(t, c)
	r.write("PUT", "/v1/messages/m1", "backend", `{"conversation_id":"c1","sender_id":"alice","recipients":["bob","carol","dave","erin"]}`)
	var position string
	for _, reader := range []string{"bob", "carol", "dave"} {
		position = r.write("POST", "/v1/receipts", reader, `{"receipts":[{"message_id":"m1"}]}`)
	}
	pull := r.do("GET", "/v1/messages/m1/receipts?min_position="+position, "alice", "")
	if pull.status != http.StatusOK || !strings.Contains(pull.body, `"read_count":3,"recipient_count":4`) {
		t.Fatalf("%d %s", pull.status, pull.body)
	}
	if a := r.do("GET", "/v1/messages/m1/receipts", "bob", ""); a.status != http.StatusNotFound {
		t.Errorf("a recipient sees %d %s", a.status, a.body)
	}
	if a := r.do("GET", "/v1/messages/m1/receipts", "", ""); a.status != http.StatusUnauthorized {
		t.Errorf("nobody sees %d %s", a.status, a.body)
	}
	metrics := r.do("GET", "/metrics", "", "")
	for _, of := range []string{"seenby_http_requests_total", "seenby_ingest_", "seenby_projector_", "seenby_query_", "seenby_keys"} {
		if !strings.Contains(metrics.body, "\n"+of) {
			t.Errorf("no metric begins with %s", of)
		}
	}
	r.stop()

	c.Registry = prometheus.NewRegistry()
	again := run(t, c).do("GET", "/v1/messages/m1/receipts?min_position="+position, "alice", "")
	if again.status != http.StatusOK || again.body != pull.body || again.header.Get("ETag") != pull.header.Get("ETag") {
		t.Errorf("after a restart: %d %s %s\nbefore: %s %s", again.status, again.header.Get("ETag"), again.body, pull.header.Get("ETag"), pull.body)
	}
}

func TestRefusesASecondOne(t *testing.T) {
	c := config(t.TempDir())
	s, err := standalone.New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	second := config(c.Data)
	if _, err := standalone.New(t.Context(), second); !errors.Is(err, standalone.ErrInUse) {
		t.Errorf("a second one: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	run(t, second)
}

func TestRefusesOthersState(t *testing.T) {
	c := config(t.TempDir())
	run(t, c).stop()
	c.Retention *= 2
	c.Registry = prometheus.NewRegistry()
	s, err := standalone.New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "retention") {
		t.Errorf("state of another retention: %v", err)
	}
}

func TestConfigNamesFlags(t *testing.T) {
	good := config(t.TempDir())
	if err := good.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	for flag, change := range map[string]func(*standalone.Config){
		"--data":          func(c *standalone.Config) { c.Data = "" },
		"--listen":        func(c *standalone.Config) { c.Listen = "x" },
		"--allow-remote":  func(c *standalone.Config) { c.Listen = "0.0.0.0:0" },
		"--retention":     func(c *standalone.Config) { c.Retention = time.Second },
		"--max-wait":      func(c *standalone.Config) { c.MaxWait = -1 },
		"--poll-interval": func(c *standalone.Config) { c.PollInterval = 0 },
		"--poll-window":   func(c *standalone.Config) { c.PollWindow = 0 },
		"--visible-to":    func(c *standalone.Config) { c.VisibleTo = "all" },
	} {
		c := good
		change(&c)
		if err := c.Validate(t.Context()); !errors.Is(err, standalone.ErrConfig) || !strings.Contains(fmt.Sprint(err), flag) {
			t.Errorf("%s: %v", flag, err)
		}
	}
}
