package pull

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestRandom lets an app do whatever and a server answer whatever, and holds
// every request to the rules and every view to the truth.
func TestRandom(t *testing.T) {
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) { runRandom(t, seed) })
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

const randomPages = 3

func runRandom(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	server := &randomServer{t: t, rnd: rand.New(rand.NewPCG(seed, 2)), start: time.Now(), token: "t0", messages: make(map[string]*randomMessage)}
	var w *Watcher
	w, err := New(Config{
		BaseURL: "https://receipts.example", Transport: server, PageSize: randomPages, Random: rnd.Float64,
		Clock: &testClock{start: server.start},
		Token: func(context.Context, string) (string, error) {
			server.mu.Lock()
			defer server.mu.Unlock()
			return server.token, nil
		},
		OnChange: func(id string) { checkWhole(t, w.View(id)) },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	app := rand.New(rand.NewPCG(seed, 3))
	for range 150 {
		time.Sleep(time.Duration(app.IntN(1500)) * time.Millisecond)
		id := "m" + strconv.Itoa(app.IntN(6))
		other := "m" + strconv.Itoa(app.IntN(6))
		switch app.IntN(8) {
		case 0, 1, 2:
			server.look(id)
			server.look(other)
			w.Look(Message{ID: id}, Message{ID: other})
		case 3:
			server.leave(id)
			w.Leave(id)
		case 4:
			server.refresh(id)
			w.Refresh(id)
		default:
			server.happen(id)
		}
	}
	server.heal()
	// Whatever the server has asked for is over; every message is seen again.
	time.Sleep(time.Minute)
	for _, id := range server.ids() {
		server.leave(id)
		w.Leave(id)
	}
	ids := server.ids()
	for _, id := range ids {
		server.look(id)
		w.Look(Message{ID: id})
	}
	time.Sleep(time.Minute)
	synctest.Wait()
	for _, id := range ids {
		server.compare(w.View(id))
	}
}

// checkWhole: a view shows all pages of a version, and nobody twice.
func checkWhole(t *testing.T, v View) {
	seen := make(map[string]bool)
	for _, r := range v.Readers {
		if seen[r.ReaderID] {
			t.Errorf("%s: %s is there twice", v.MessageID, r.ReaderID)
		}
		seen[r.ReaderID] = true
	}
	if len(v.Readers) != v.ReadCount {
		t.Errorf("%s: %d readers of %d at version %s", v.MessageID, len(v.Readers), v.ReadCount, v.Version)
	}
}

// randomServer keeps the pulls of the contract, with failures, and judges its
// requests by its own knowledge of what the app does.
type randomServer struct {
	t     *testing.T
	start time.Time

	mu       sync.Mutex
	rnd      *rand.Rand
	healthy  bool
	token    string
	messages map[string]*randomMessage
	inFlight int
	quiet    time.Duration
	failures int
	broken   error
}

type randomMessage struct {
	beingRead bool
	lookStart time.Duration
	pulls     int // of this look
	requested bool
	last      time.Duration
	retry     bool // the last answer asks to try again at once

	readers  []string
	changes  int // with epoch, the version
	epoch    int // of erasures
	nextName int
}

func (m *randomMessage) version() string { return fmt.Sprintf("%d_%d", m.epoch, m.changes) }

func (s *randomServer) message(id string) *randomMessage {
	m := s.messages[id]
	if m == nil {
		m = &randomMessage{}
		s.messages[id] = m
	}
	return m
}

func (s *randomServer) ids() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for id := range s.messages {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func (s *randomServer) now() time.Duration { return time.Since(s.start) }

func (s *randomServer) look(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.message(id); !m.beingRead {
		m.beingRead, m.lookStart, m.pulls = true, s.now(), 0
	}
}

func (s *randomServer) refresh(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.message(id); m.beingRead {
		m.lookStart, m.pulls = s.now(), 0
	}
}

func (s *randomServer) leave(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.message(id).beingRead = false
}

// happen changes a message, or has the token expire.
func (s *randomServer) happen(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.message(id)
	switch n := s.rnd.IntN(20); {
	case n == 0 && len(m.readers) > 0:
		m.readers = slices.Delete(slices.Clone(m.readers), 0, 1)
		m.epoch++
		m.changes = len(m.readers)
	case n == 1:
		s.token += "x"
	default:
		for range 1 + s.rnd.IntN(2*randomPages) {
			m.nextName++
			m.readers = append(m.readers, "r"+strconv.Itoa(m.nextName))
		}
		m.changes = len(m.readers)
	}
}

func (s *randomServer) heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.healthy = true
}

func (s *randomServer) compare(v View) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.message(v.MessageID)
	var got []string
	for _, r := range v.Readers {
		got = append(got, r.ReaderID)
	}
	if v.Version != m.version() || !slices.Equal(got, m.readers) || v.Looking || v.Ended != WindowOver || v.Err != nil {
		s.t.Errorf("%s is %s %q, and the view is %+v", v.MessageID, m.version(), m.readers, v)
	}
}

func (s *randomServer) RoundTrip(r *http.Request) (*http.Response, error) {
	q := s.parse(r)
	latency := s.admit(q)
	defer s.release()
	timer := time.NewTimer(latency)
	defer timer.Stop()
	select {
	case <-timer.C:
		return s.answer(q), s.lost()
	case <-r.Context().Done():
		return nil, context.Cause(r.Context())
	}
}

// randomRequest is a batch, or a page of one message.
type randomRequest struct {
	what   string
	batch  bool
	items  []item
	cursor string
	token  string
}

func (s *randomServer) parse(r *http.Request) *randomRequest {
	q := &randomRequest{what: r.Method + " " + r.URL.String(), batch: r.Method == http.MethodPost, token: r.Header.Get("Authorization")}
	if !q.batch {
		id, _ := url.PathUnescape(strings.TrimSuffix(strings.TrimPrefix(r.URL.EscapedPath(), "/v1/messages/"), "/receipts"))
		q.items = []item{{id, r.URL.Query().Get("since")}}
		q.cursor = r.URL.Query().Get("cursor")
		return q
	}
	since, _ := asked(s.t, r)
	for id, version := range since {
		q.items = append(q.items, item{id, version})
	}
	slices.SortFunc(q.items, func(a, b item) int { return strings.Compare(a.id, b.id) })
	return q
}

func (s *randomServer) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight--
}

// admit holds a request to the rules.
func (s *randomServer) admit(q *randomRequest) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	breach := func(format string, args ...any) {
		s.t.Errorf("%s %s: %s", now, q.what, fmt.Sprintf(format, args...))
	}
	if s.inFlight++; s.inFlight > 1 {
		breach("another request is in flight")
	}
	if now < s.quiet {
		breach("nothing is to be requested before %s", s.quiet)
	}
	for _, it := range q.items {
		m := s.message(it.id)
		if !m.beingRead {
			breach("%s is not being read", it.id)
		}
		if now > m.lookStart+DefaultWindow {
			breach("the window of %s was over at %s", it.id, m.lookStart+DefaultWindow)
		}
		if q.cursor == "" && !m.retry {
			if m.requested && now < m.last+DefaultInterval {
				breach("the last pull of %s was at %s", it.id, m.last)
			}
			if m.pulls++; m.pulls > 11 {
				breach("more than 11 pulls in a look at %s", it.id)
			}
			m.requested, m.last = true, now
		}
		m.retry = false
	}
	if s.healthy || s.rnd.IntN(4) > 0 {
		return time.Duration(s.rnd.IntN(100)) * time.Millisecond
	}
	return time.Duration(s.rnd.IntN(12000)) * time.Millisecond
}

// lost is the error of a request whose answer answer has not given.
func (s *randomServer) lost() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.broken
	s.broken = nil
	return err
}

func (s *randomServer) answer(q *randomRequest) *http.Response {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q.token != "Bearer "+s.token {
		for _, it := range q.items {
			s.message(it.id).retry = true
		}
		s.failures = 0
		return httpResponse(http.StatusUnauthorized, nil, `{"code": "token_expired"}`)
	}
	if s.healthy || s.rnd.IntN(4) > 0 {
		if q.batch {
			return s.batch(q)
		}
		return s.page(q)
	}
	switch s.rnd.IntN(3) {
	case 0:
		seconds := s.rnd.IntN(5)
		s.quiet = s.now() + time.Duration(seconds)*time.Second
		return httpResponse(http.StatusTooManyRequests, http.Header{"Retry-After": {strconv.Itoa(seconds)}}, `{"code": "rate_limited"}`)
	case 1:
		s.backOff()
		return httpResponse(http.StatusInternalServerError, nil, ``)
	default:
		s.backOff()
		s.broken = errors.New("connection reset")
		return nil
	}
}

func (s *randomServer) backOff() {
	s.quiet = s.now() + backOffs[min(s.failures, len(backOffs)-1)]
	s.failures++
}

// batch answers for each message, some of which fail.
func (s *randomServer) batch(q *randomRequest) *http.Response {
	s.failures = 0
	var messages, unchanged, failed []string
	for _, it := range q.items {
		m := s.message(it.id)
		switch n := s.rnd.IntN(12); {
		case !s.healthy && n == 0:
			failed = append(failed, fmt.Sprintf(`{"message_id": %q, "code": "not_found"}`, it.id))
		case !s.healthy && n == 1:
			failed = append(failed, fmt.Sprintf(`{"message_id": %q, "code": "not_fresh"}`, it.id))
		case it.version == m.version():
			unchanged = append(unchanged, strconv.Quote(it.id))
		default:
			messages = append(messages, s.set(m, it, ""))
		}
	}
	return httpResponse(http.StatusOK, nil, fmt.Sprintf(`{"messages": [%s], "unchanged": [%s], "failed": [%s], "poll": {"interval_ms": 2000, "window_ms": 20000, "stop": false}}`,
		strings.Join(messages, ","), strings.Join(unchanged, ","), strings.Join(failed, ",")))
}

// page answers for a further page, or for the first one again.
func (s *randomServer) page(q *randomRequest) *http.Response {
	m := s.message(q.items[0].id)
	s.failures = 0
	body := s.set(m, q.items[0], q.cursor)
	if body == "" {
		m.retry = true
		return httpResponse(http.StatusGone, nil, `{"code": "cursor_gone"}`)
	}
	return httpResponse(http.StatusOK, nil, body)
}

// set answers as the contract says: the version and the pages of a pull are fixed by
// its cursor. It is empty if that is gone.
func (s *randomServer) set(m *randomMessage, it item, cursor string) string {
	epoch, to, from := m.epoch, m.changes, 0
	delta := false
	if cursor != "" {
		if _, err := fmt.Sscanf(cursor, "%d_%d_%d_%t", &epoch, &to, &from, &delta); err != nil {
			s.t.Errorf("cursor %q: %v", cursor, err)
		}
		if epoch != m.epoch {
			return ""
		}
	} else if it.version != "" {
		sinceEpoch, changes := 0, 0
		if _, err := fmt.Sscanf(it.version, "%d_%d", &sinceEpoch, &changes); err != nil {
			s.t.Errorf("since %q: %v", it.version, err)
		}
		if sinceEpoch == m.epoch {
			from, delta = changes, true
		}
	}
	end, next := min(to, from+1+s.rnd.IntN(randomPages)), "null"
	if end < to {
		next = fmt.Sprintf(`"%d_%d_%d_%t"`, epoch, to, end, delta)
	}
	var readers []string
	for _, name := range m.readers[from:end] {
		readers = append(readers, fmt.Sprintf(`{"reader_id": %q, "read_at": "2026-11-23T08:00:04.120Z"}`, name))
	}
	return fmt.Sprintf(
		`{"message_id": %q, "version": "%d_%d", "state": "active", "read_count": %d, "recipient_count": 100, "delta": %t, "readers": [%s], "next": %s}`,
		it.id, epoch, to, to, delta, strings.Join(readers, ","), next)
}

func httpResponse(status int, h http.Header, body string) *http.Response {
	if h == nil {
		h = http.Header{}
	}
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Header: h,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Body: io.NopCloser(strings.NewReader(body)),
	}
}
