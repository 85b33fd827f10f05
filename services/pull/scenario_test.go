package pull

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// scenario is one of testdata/scenarios.json, where the format is described.
type scenario struct {
	Name     string
	Rule     string
	Random   []float64
	Until    int64
	Steps    []scenarioStep
	Answers  map[string][]scenarioAnswer
	Requests []string
	Views    []scenarioView
}

type scenarioStep struct {
	At                   int64
	Look, Leave, Refresh []string
	Positions            []string
	Sleep                int64
}

type scenarioAnswer struct {
	Status         int
	After          int64
	Network        bool
	Body           *string
	MessageID      *string `json:"message_id"`
	Version        string
	Readers        []string
	ReadCount      *int `json:"read_count"`
	RecipientCount *int `json:"recipient_count"`
	State          *string
	Delta          bool
	Complete       bool
	Next           *string
	Poll           map[string]int
	Failed         string
	Code           string
	Errors         []map[string]any
	RetryAfter     string `json:"retry_after"`
	Date           string
}

type scenarioView struct {
	At        int64
	Message   string
	Looking   *bool
	Ended     *Ended
	Error     *string
	Version   *string
	State     *State
	Readers   *[]string
	ReadCount *int `json:"read_count"`
	Complete  *bool
	Pulls     *int64
	Unchanged *int64
}

func TestScenarios(t *testing.T) {
	for _, s := range readScenarios(t) {
		t.Run(s.Name, func(t *testing.T) {
			if s.Rule == "" || len(s.Requests) == 0 {
				t.Fatal("a scenario has a rule, and requests")
			}
			synctest.Test(t, func(t *testing.T) { runScenario(t, s) })
		})
	}
}

func readScenarios(t *testing.T) []scenario {
	t.Helper()
	f, err := os.Open("testdata/scenarios.json")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var file struct {
		About     []string
		Scenarios []scenario
	}
	d := json.NewDecoder(f)
	// A misspelled expectation is one that cannot fail.
	d.DisallowUnknownFields()
	if err := d.Decode(&file); err != nil {
		t.Fatal(err)
	}
	return file.Scenarios
}

func runScenario(t *testing.T, s scenario) {
	clock := &testClock{start: time.Now()}
	server := &scriptedServer{clock: clock, answers: s.Answers, asked: make(map[string]int)}
	tokens := 1
	draws := 0
	w, err := New(Config{
		BaseURL: "https://receipts.example", Transport: server, Clock: clock,
		Token: func(_ context.Context, refused string) (string, error) {
			if refused != "" {
				tokens++
			}
			return fmt.Sprint("t", tokens), nil
		},
		Random: func() float64 {
			if len(s.Random) == 0 {
				return 0
			}
			draws++
			return s.Random[(draws-1)%len(s.Random)]
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	type event struct {
		at time.Duration
		do func()
	}
	var events []event
	for _, step := range s.Steps {
		events = append(events, event{milli(step.At), func() { takeStep(w, clock, step) }})
	}
	for _, v := range s.Views {
		// After everything that happens at that time.
		events = append(events, event{milli(v.At) + time.Microsecond, func() { v.check(t, w.View(v.Message)) }})
	}
	events = append(events, event{milli(s.Until), func() {}})
	slices.SortStableFunc(events, func(a, b event) int { return cmp.Compare(a.at, b.at) })
	for _, e := range events {
		time.Sleep(e.at - clock.Now())
		synctest.Wait()
		e.do()
		synctest.Wait()
	}
	server.mu.Lock()
	defer server.mu.Unlock()
	for _, problem := range server.problems {
		t.Error(problem)
	}
	if want := expandLines(s.Requests); !slices.Equal(server.log, want) {
		t.Errorf("requests:\n%s\nwant:\n%s", strings.Join(server.log, "\n"), strings.Join(want, "\n"))
	}
}

func milli(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

func takeStep(w *Watcher, clock *testClock, step scenarioStep) {
	switch {
	case step.Look != nil:
		var messages []Message
		for _, id := range expandAll(step.Look) {
			messages = append(messages, Message{ID: id, Positions: step.Positions})
		}
		w.Look(messages...)
	case step.Leave != nil:
		w.Leave(expandAll(step.Leave)...)
	case step.Refresh != nil:
		w.Refresh(expandAll(step.Refresh)...)
	default:
		clock.sleep(milli(step.Sleep))
	}
}

var rangePattern = regexp.MustCompile(`\[(\d+)-(\d+)\]`)

// expandAll writes m[3-1] out as m3, m2, m1.
func expandAll(texts []string) []string {
	var all []string
	for _, text := range texts {
		loc := rangePattern.FindStringSubmatchIndex(text)
		if loc == nil {
			all = append(all, text)
			continue
		}
		from, _ := strconv.Atoi(text[loc[2]:loc[3]])
		to, _ := strconv.Atoi(text[loc[4]:loc[5]])
		for step := cmp.Compare(to, from); ; from += step {
			all = append(all, text[:loc[0]]+strconv.Itoa(from)+text[loc[1]:])
			if from == to {
				break
			}
		}
	}
	return all
}

// expandLines writes the items of requests out.
func expandLines(lines []string) []string {
	var all []string
	for _, line := range lines {
		at, request, _ := strings.Cut(line, " ")
		all = append(all, at+" "+strings.Join(expandAll(strings.Split(request, ", ")), ", "))
	}
	return all
}

func (want *scenarioView) check(t *testing.T, got View) {
	t.Helper()
	readers := []string{}
	for _, r := range got.Readers {
		readers = append(readers, r.ReaderID)
	}
	code := ""
	var problem *Error
	if errors.As(got.Err, &problem) {
		code = problem.Code
	} else if got.Err != nil {
		code = got.Err.Error()
	}
	compare(t, want, "looking", want.Looking, got.Looking)
	compare(t, want, "ended", want.Ended, got.Ended)
	compare(t, want, "error", want.Error, code)
	compare(t, want, "version", want.Version, got.Version)
	compare(t, want, "state", want.State, got.State)
	compare(t, want, "read_count", want.ReadCount, got.ReadCount)
	compare(t, want, "complete", want.Complete, got.Complete)
	compare(t, want, "pulls", want.Pulls, got.Pulls)
	compare(t, want, "unchanged", want.Unchanged, got.Unchanged)
	if want.Readers != nil && !slices.Equal(*want.Readers, readers) {
		t.Errorf("%d %s: readers are %q, want %q", want.At, want.Message, readers, *want.Readers)
	}
}

func compare[T comparable](t *testing.T, v *scenarioView, name string, want *T, got T) {
	t.Helper()
	if want != nil && *want != got {
		t.Errorf("%d %s: %s is %v, want %v", v.At, v.Message, name, got, *want)
	}
}

// testClock is the bubble's time, and the sleep that its device had.
type testClock struct {
	start time.Time
	mu    sync.Mutex
	slept time.Duration
}

func (c *testClock) Now() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Since(c.start) + c.slept
}

func (c *testClock) AfterFunc(d time.Duration, f func()) func() bool {
	return time.AfterFunc(d, f).Stop
}

func (c *testClock) sleep(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.slept += d
}

// scriptedServer is a transport that gives a scenario's answers and writes down
// what it is asked.
type scriptedServer struct {
	clock   *testClock
	answers map[string][]scenarioAnswer

	mu       sync.Mutex
	asked    map[string]int
	inFlight int
	log      []string
	problems []string
}

func (s *scriptedServer) RoundTrip(r *http.Request) (*http.Response, error) {
	ids, line := s.describe(r)
	answers := s.enter(ids, line, r.Method == http.MethodPost)
	defer s.leave()
	after := int64(0)
	for _, a := range answers {
		after = max(after, a.After)
	}
	if after > 0 {
		timer := time.NewTimer(milli(after))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
			s.note("aborted")
			return nil, context.Cause(r.Context())
		}
	}
	switch a := answers[0]; {
	case a.Network:
		return nil, errors.New("connection reset")
	case r.Method == http.MethodPost && !a.whole():
		return respond(http.StatusOK, batchBody(ids, answers), &scenarioAnswer{}), nil
	default:
		return a.response(ids[0]), nil
	}
}

// whole says whether an answer is one to the whole request.
func (a *scenarioAnswer) whole() bool {
	return a.Network || a.Body != nil || a.Status != 0 && a.Status != http.StatusNotModified && a.Code != "not_found"
}

func (s *scriptedServer) describe(r *http.Request) (ids []string, line string) {
	if r.Method == http.MethodPost {
		ids, line = s.describeBatch(r)
	} else {
		ids, line = s.describePage(r)
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		s.problem("%s: no bearer token", line)
	}
	if token != "t1" {
		line += " token=" + token
	}
	return ids, line
}

func (s *scriptedServer) describeBatch(r *http.Request) (ids []string, line string) {
	var body struct {
		Messages []struct {
			MessageID string `json:"message_id"`
			Since     string
		}
		Limit     int
		Positions []string `json:"min_position"`
	}
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&body); err != nil || r.URL.Path != "/v1/pulls" || body.Limit != 200 || r.Header.Get("Content-Type") != "application/json" {
		s.problem("%s %s: no batch: %v", r.Method, r.URL, err)
	}
	var items []string
	for _, m := range body.Messages {
		ids = append(ids, m.MessageID)
		if m.Since != "" {
			m.MessageID += " since=" + m.Since
		}
		items = append(items, m.MessageID)
	}
	line = strings.Join(items, ", ")
	if len(body.Positions) > 0 {
		line += " position=" + strings.Join(body.Positions, ",")
	}
	return ids, line
}

func (s *scriptedServer) describePage(r *http.Request) (ids []string, line string) {
	segment := strings.TrimSuffix(strings.TrimPrefix(r.URL.EscapedPath(), "/v1/messages/"), "/receipts")
	id, err := url.PathUnescape(segment)
	if err != nil || r.Method != http.MethodGet {
		s.problem("%s %s: no page", r.Method, r.URL)
	}
	query := r.URL.Query()
	line = "page " + id
	for _, name := range []string{"since", "cursor"} {
		if value := query.Get(name); value != "" {
			line += " " + name + "=" + value
		}
	}
	if limit := query.Get("limit"); limit != strconv.Itoa(DefaultPageSize) {
		s.problem("%s: limit is %q", line, limit)
	}
	for name := range query {
		if !slices.Contains([]string{"since", "cursor", "limit"}, name) {
			s.problem("%s: there is no parameter %q", line, name)
		}
	}
	return []string{id}, line
}

// enter takes the answers to a request: one to the whole, or one for each message.
func (s *scriptedServer) enter(ids []string, line string, batch bool) (answers []*scenarioAnswer) {
	s.note(line)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inFlight++; s.inFlight > 1 {
		s.problems = append(s.problems, line+": another request is in flight")
	}
	for _, id := range ids {
		scripted, ok := s.answers[id]
		if !ok {
			scripted = s.answers["*"]
		}
		a := &scripted[min(s.asked[id], len(scripted)-1)]
		if batch && a.whole() {
			s.asked[id]++
			return []*scenarioAnswer{a}
		}
		answers = append(answers, a)
	}
	for _, id := range ids {
		s.asked[id]++
	}
	return answers
}

func (s *scriptedServer) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight--
}

func (s *scriptedServer) note(line string) {
	at := s.clock.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, fmt.Sprint(float64(at)/float64(time.Millisecond), " ", line))
}

func (s *scriptedServer) problem(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.problems = append(s.problems, fmt.Sprintf(format, args...))
}

// response is the answer to a request for a page, or to a whole batch.
func (a *scenarioAnswer) response(id string) *http.Response {
	status := cmp.Or(a.Status, http.StatusOK)
	body := ""
	switch {
	case status == http.StatusOK:
		body = string(a.message(id))
	case a.Code != "":
		problem := map[string]any{"type": "about:blank", "title": "No", "status": status, "code": a.Code, "detail": "as scripted"}
		if a.Errors != nil {
			problem["errors"] = a.Errors
		}
		b, err := json.Marshal(problem)
		if err != nil {
			panic(err)
		}
		body = string(b)
	}
	return respond(status, valueOr(a.Body, body), a)
}

func respond(status int, body string, a *scenarioAnswer) *http.Response {
	h := http.Header{"Content-Type": {"application/json"}}
	if a.RetryAfter != "" {
		h.Set("Retry-After", a.RetryAfter)
	}
	if a.Date != "" {
		h.Set("Date", a.Date)
	}
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Header: h,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Body: io.NopCloser(strings.NewReader(body)),
	}
}

// batchBody puts the messages' answers together.
func batchBody(ids []string, answers []*scenarioAnswer) string {
	messages, unchanged, failed := []json.RawMessage{}, []string{}, []map[string]string{}
	poll := map[string]int{"interval": 2000, "window": 20000}
	for i, a := range answers {
		if a.Poll != nil {
			poll = a.Poll
		}
		switch {
		case a.Failed != "":
			failed = append(failed, map[string]string{"message_id": ids[i], "code": a.Failed})
		case a.Status == http.StatusNotFound:
			failed = append(failed, map[string]string{"message_id": ids[i], "code": "not_found"})
		case a.Status == http.StatusNotModified:
			unchanged = append(unchanged, ids[i])
		default:
			messages = append(messages, a.message(ids[i]))
		}
	}
	asked := map[string]any{"stop": false, "added_in_a_later_v1": 1}
	for name, value := range poll {
		asked[name+"_ms"] = value
	}
	b, err := json.Marshal(map[string]any{"messages": messages, "unchanged": unchanged, "failed": failed, "poll": asked})
	if err != nil {
		panic(err)
	}
	return string(b)
}

// message is what is told of one message.
func (a *scenarioAnswer) message(id string) json.RawMessage {
	readers := []map[string]any{}
	for _, r := range a.Readers {
		readers = append(readers, map[string]any{"reader_id": r, "read_at": "2026-11-23T08:00:04.120Z"})
	}
	body, err := json.Marshal(map[string]any{
		"message_id": valueOr(a.MessageID, id), "conversation_id": "c1", "sender_id": "alice", "sent_at": "2026-11-23T08:00:00.000Z",
		"state": valueOr(a.State, "active"), "version": a.Version, "read_count": valueOr(a.ReadCount, len(a.Readers)),
		"recipient_count": valueOr(a.RecipientCount, 5), "opted_out_count": 0, "complete": a.Complete, "truncated": false,
		"delta": a.Delta, "readers": readers, "next": a.Next, "added_in_a_later_v1": true,
	})
	if err != nil {
		panic(err)
	}
	return body
}

func valueOr[T any](p *T, otherwise T) T {
	if p != nil {
		return *p
	}
	return otherwise
}
