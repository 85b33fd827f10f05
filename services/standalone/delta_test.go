package standalone_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seenby/seenby/services/auth"
	"github.com/seenby/seenby/services/projector"
	"github.com/seenby/seenby/services/pull"
	"github.com/seenby/seenby/services/standalone"
)

// handClock is a client's clock that goes on only when a test says so.
type handClock struct {
	mu     sync.Mutex
	now    time.Duration
	timers []*handTimer
}

type handTimer struct {
	at time.Duration
	f  func()
}

func (c *handClock) Now() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *handClock) AfterFunc(d time.Duration, f func()) func() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	timer := &handTimer{c.now + d, f}
	c.timers = append(c.timers, timer)
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		i := slices.Index(c.timers, timer)
		if i >= 0 {
			c.timers = slices.Delete(c.timers, i, i+1)
		}
		return i >= 0
	}
}

// advance lets time pass, and calls what is due.
func (c *handClock) advance(d time.Duration) {
	c.mu.Lock()
	c.now += d
	var due []*handTimer
	c.timers = slices.DeleteFunc(c.timers, func(t *handTimer) bool {
		if t.at > c.now {
			return false
		}
		due = append(due, t)
		return true
	})
	c.mu.Unlock()
	for _, timer := range due {
		timer.f()
	}
}

// hour is a chat that a client pulls for an hour of its own clock.
type hour struct {
	t       *testing.T
	rnd     *rand.Rand
	config  standalone.Config
	stop    func()
	backend string
	clock   *handClock
	watcher *pull.Watcher
	// inFlight counts the client's requests, pulls those that were made.
	inFlight, pulls atomic.Int64
	// erased are those who have to be sent no more events of.
	erased map[string]bool
	// era is in the messages' names: recalled ones cannot be used again.
	era int
}

func (h *hour) start() {
	h.t.Helper()
	h.config.Registry = prometheus.NewRegistry()
	s, err := standalone.New(h.t.Context(), h.config)
	if err != nil {
		h.t.Fatal(err)
	}
	h.config.Listen = s.Addr().(*net.TCPAddr).String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	h.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			h.t.Error(err)
		}
	})
}

func (h *hour) token(g auth.Grant) string {
	h.t.Helper()
	keys, err := auth.OpenKeys(standalone.AuthKey(h.config.Data))
	if err != nil {
		h.t.Fatal(err)
	}
	g.IssuedAt, g.TTL = time.Now(), time.Hour
	token, err := auth.Mint(keys, g)
	if err != nil {
		h.t.Fatal(err)
	}
	return token
}

// call makes a request as the backend, until it is answered.
func (h *hour) call(method, path, body string) (status int, answer []byte) {
	h.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		r, err := http.NewRequestWithContext(h.t.Context(), method, "http://"+h.config.Listen+path, strings.NewReader(body))
		if err != nil {
			h.t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+h.backend)
		if body != "" {
			r.Header.Set("Content-Type", "application/json")
		}
		rsp, err := http.DefaultTransport.RoundTrip(r)
		if err == nil {
			b, err := io.ReadAll(rsp.Body)
			if rsp.Body.Close() == nil && err == nil && rsp.StatusCode < 500 {
				return rsp.StatusCode, b
			}
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("%s %s: no answer: %v", method, path, err)
		}
	}
}

func (h *hour) write(method, path, body string) {
	h.t.Helper()
	if status, answer := h.call(method, path, body); status != http.StatusAccepted {
		h.t.Fatalf("%s %s: %d %s", method, path, status, answer)
	}
}

const (
	hourMessages = 6
	hourReaders  = 300
)

func (h *hour) id(i int) string { return fmt.Sprintf("m%d-%d", h.era, i) }

func (h *hour) reader() string {
	for {
		if id := fmt.Sprintf("r%03d", h.rnd.IntN(hourReaders)); !h.erased[id] {
			return id
		}
	}
}

// send begins an era: messages that nobody has read.
func (h *hour) send() {
	h.era++
	for i := range hourMessages {
		var recipients []string
		for r := range hourReaders {
			if id := fmt.Sprintf("r%03d", r); !h.erased[id] {
				recipients = append(recipients, id)
			}
		}
		body, err := json.Marshal(map[string]any{"conversation_id": "c1", "sender_id": "alice", "recipients": recipients})
		if err != nil {
			h.t.Fatal(err)
		}
		h.write(http.MethodPut, "/v1/messages/"+h.id(i), string(body))
	}
}

// happen is what happens in an interval.
func (h *hour) happen() {
	switch n := h.rnd.IntN(600); {
	case n < 2:
		h.stop()
		h.start()
	case n < 3:
		h.recreate()
	case n < 12 && len(h.erased) < hourReaders/3:
		id := h.reader()
		h.erased[id] = true
		h.write(http.MethodDelete, "/v1/users/"+id, "")
	case n < 15:
		h.write(http.MethodDelete, "/v1/messages/"+h.id(h.rnd.IntN(hourMessages)), "")
	case n < 20:
		h.watcher.Leave(h.id(h.rnd.IntN(hourMessages)))
	case n < 30:
		h.lookAt()
	case n < 330:
		var receipts []string
		for range 1 + h.rnd.IntN(h.rnd.IntN(30)+1) {
			receipts = append(receipts, fmt.Sprintf(`{"message_id": %q, "reader_id": %q}`, h.id(h.rnd.IntN(hourMessages)), h.reader()))
		}
		h.write(http.MethodPost, "/v1/receipts", `{"receipts": [`+strings.Join(receipts, ",")+`]}`)
	}
}

// recreate takes the log and everything that was made of it away, but not the keys. The
// backend sends its messages again.
func (h *hour) recreate() {
	h.t.Helper()
	h.stop()
	for _, name := range []string{"log", "state"} {
		if err := os.RemoveAll(filepath.Join(h.config.Data, name)); err != nil {
			h.t.Fatal(err)
		}
	}
	h.start()
	h.era--
	h.send()
}

func (h *hour) lookAt() {
	for i := range hourMessages {
		h.watcher.Look(pull.Message{ID: h.id(i)})
		h.watcher.Refresh(h.id(i))
	}
}

// tick lets an interval pass, and the client do what it does then.
func (h *hour) tick() {
	before := h.pulls.Load()
	h.clock.advance(2 * time.Second)
	// A pull that is due is begun, and ended, by other goroutines; there may be none.
	for range 100 {
		time.Sleep(50 * time.Microsecond)
		if h.pulls.Load() > before && h.inFlight.Load() == 0 {
			break
		}
	}
}

// check: the client comes to the server's sets, exactly, and in log order.
func (h *hour) check(when int) {
	h.t.Helper()
	for i := range hourMessages {
		id := h.id(i)
		var differs string
		for range 2000 {
			h.lookAt()
			h.tick()
			if differs = h.differs(id); differs == "" {
				break
			}
		}
		if differs != "" {
			h.t.Fatalf("after %d intervals, %s: %s", when, id, differs)
		}
	}
}

// differs says how the client's view of a message is not the server's set.
func (h *hour) differs(id string) string {
	var ids []string
	var version string
	for cursor := ""; ; {
		path := "/v1/messages/" + id + "/receipts?limit=2000"
		if cursor != "" {
			path += "&cursor=" + cursor
		}
		status, answer := h.call(http.MethodGet, path, "")
		var page struct {
			Version string
			Readers []struct {
				ReaderID string `json:"reader_id"`
			}
			Next *string
		}
		if err := json.Unmarshal(answer, &page); err != nil || status != http.StatusOK {
			return fmt.Sprintf("the server says %d %s", status, answer)
		}
		for _, r := range page.Readers {
			ids = append(ids, r.ReaderID)
		}
		if version = page.Version; page.Next == nil {
			break
		}
		cursor = *page.Next
	}
	v := h.watcher.View(id)
	var known []string
	for _, r := range v.Readers {
		known = append(known, r.ReaderID)
	}
	if v.Version != version || !slices.Equal(known, ids) {
		return fmt.Sprintf("the view is of %s with %d readers, the set of %s with %d; %v", v.Version, len(known), version, len(ids), v.Err)
	}
	return ""
}

func (h *hour) RoundTrip(r *http.Request) (*http.Response, error) {
	h.inFlight.Add(1)
	defer h.inFlight.Add(-1)
	h.pulls.Add(1)
	return http.DefaultTransport.RoundTrip(r)
}

// TestAnHourOfDeltas: a client that pulls by deltas for an hour of its own time, through
// restarts, erasures, recalls and recreated topics, ends with exactly the server's set.
func TestAnHourOfDeltas(t *testing.T) {
	h := &hour{t: t, rnd: rand.New(rand.NewPCG(1, 2)), clock: new(handClock), erased: make(map[string]bool), config: standalone.Config{
		Data: t.TempDir(), Listen: "127.0.0.1:0", Retention: 24 * time.Hour, VisibleTo: projector.Sender,
		MaxWait: projector.DefaultMaxWait, PollInterval: projector.DefaultPollInterval, PollWindow: projector.DefaultPollWindow, PollSlowest: projector.DefaultPollSlowest,
		Logger: slog.New(slog.DiscardHandler), Now: time.Now,
	}}
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	h.start()
	defer func() { h.stop() }()
	h.backend = h.token(auth.Grant{Subject: "chat", Scope: auth.ScopeBackend})
	alice := h.token(auth.Grant{Subject: "alice"})
	var err error
	h.watcher, err = pull.New(pull.Config{
		BaseURL: "http://" + h.config.Listen, Clock: h.clock, Transport: h, PageSize: 37, Random: func() float64 { return 0 },
		Token: func(context.Context, string) (string, error) { return alice, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer h.watcher.Close()
	h.send()
	h.lookAt()
	for interval := range 1800 {
		h.happen()
		if interval%9 == 0 {
			h.lookAt()
		}
		h.tick()
		if interval%200 == 199 {
			h.check(interval + 1)
			h.send()
			h.lookAt()
		}
	}
	if n := h.pulls.Load(); n < 1000 {
		t.Errorf("the client made %d requests", n)
	}
	t.Logf("%d requests, %d erasures, %d eras", h.pulls.Load(), len(h.erased), h.era)
}
