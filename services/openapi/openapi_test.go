package openapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/services/auth"
	"github.com/seenby/seenby/services/contract"
	"github.com/seenby/seenby/services/openapi"
	"github.com/seenby/seenby/services/projector"
	"github.com/seenby/seenby/services/standalone"
)

// elsewhere are codes that a healthy standalone does not come to; tests of the package
// provoke them on what does.
var elsewhere = map[contract.Code]string{
	contract.KafkaUnavailable: "../ingest", contract.Overloaded: "../server", contract.Timeout: "../server", contract.Internal: "../server",
	contract.OwnerUnavailable: "../query", contract.Starting: "../projector", contract.RateLimited: "../server",
}

func TestProvokedElsewhere(t *testing.T) {
	names := map[contract.Code]string{
		contract.KafkaUnavailable: "KafkaUnavailable", contract.Overloaded: "Overloaded", contract.Timeout: "Timeout", contract.Internal: "Internal",
		contract.OwnerUnavailable: "OwnerUnavailable", contract.Starting: "Starting", contract.RateLimited: "RateLimited",
	}
	for code, dir := range elsewhere {
		files, err := filepath.Glob(dir + "/*_test.go")
		if err != nil {
			t.Fatal(err)
		}
		mentioned := regexp.MustCompile(`contract\.` + names[code] + `\b|"` + string(code) + `"|\b` + string(code) + `\b`)
		if !slices.ContainsFunc(files, func(file string) bool {
			b, err := os.ReadFile(file)
			return err == nil && mentioned.Match(b)
		}) {
			t.Errorf("no test of %s provokes %s", dir, code)
		}
	}
}

// api is a running standalone, and what its description says.
type api struct {
	t       *testing.T
	base    string
	tokens  map[string]string
	schemas *jsonschema.Compiler
	// seen has what was provoked: operation, status and code.
	seen map[string]bool
}

func newAPI(t *testing.T) *api {
	dir := t.TempDir()
	s, err := standalone.New(t.Context(), standalone.Config{
		Data: dir, Listen: "127.0.0.1:0", Retention: 24 * time.Hour, VisibleTo: projector.Sender,
		MaxWait: 50 * time.Millisecond, PollInterval: projector.DefaultPollInterval, PollWindow: projector.DefaultPollWindow, PollSlowest: projector.DefaultPollSlowest,
		Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	a := &api{t: t, base: "http://" + s.Addr().String(), tokens: make(map[string]string), schemas: compiler(t), seen: make(map[string]bool)}
	var want, got []string
	for _, r := range s.Routes() {
		got = append(got, r.Method+" "+r.Path)
	}
	for _, o := range openapi.Operations() {
		want = append(want, o.Method+" "+o.Path)
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		t.Errorf("the server has %q, the description %q", got, want)
	}
	keys, err := auth.OpenKeys(standalone.AuthKey(dir))
	if err != nil {
		t.Fatal(err)
	}
	for name, grant := range map[string]auth.Grant{
		"alice": {Subject: "alice"}, "bob": {Subject: "bob"}, "backend": {Subject: "chat", Scope: auth.ScopeBackend},
		"expired": {Subject: "alice", IssuedAt: time.Now().Add(-3 * time.Hour)},
	} {
		if grant.IssuedAt.IsZero() {
			grant.IssuedAt = time.Now()
		}
		grant.TTL = time.Hour
		if a.tokens[name], err = auth.Mint(keys, grant); err != nil {
			t.Fatal(err)
		}
	}
	a.tokens["invalid"] = a.tokens["alice"] + "x"
	for deadline := time.Now().Add(30 * time.Second); ; {
		r, err := http.Get(a.base + "/readyz")
		if err == nil && r.Body.Close() == nil && r.StatusCode == http.StatusOK {
			return a
		}
		if time.Now().After(deadline) {
			t.Fatal("it does not become ready")
		}
	}
}

// compiler has the description's schemas, with its formats.
func compiler(t *testing.T) *jsonschema.Compiler {
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(openapi.Document()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	for name, valid := range map[string]func(string) error{
		"seenby-id":       func(s string) error { return events.CheckID(s) },
		"seenby-position": func(s string) error { _, err := contract.ParsePosition(s); return err },
		"seenby-version":  func(string) error { return nil }, // it is of a message that the format does not know
		"seenby-cursor":   func(string) error { return nil },
	} {
		c.RegisterFormat(&jsonschema.Format{Name: name, Validate: func(v any) error {
			if s, ok := v.(string); ok {
				return valid(s)
			}
			return nil
		}})
	}
	if err := c.AddResource("openapi.json", document); err != nil {
		t.Fatal(err)
	}
	return c
}

// document is the description as the server serves it.
func (a *api) document() map[string]any {
	a.t.Helper()
	r, err := http.Get(a.base + "/openapi.json")
	if err != nil {
		a.t.Fatal(err)
	}
	defer r.Body.Close()
	var d map[string]any
	if err := json.NewDecoder(r.Body).Decode(&d); err != nil || r.StatusCode != http.StatusOK {
		a.t.Fatal(r.Status, err)
	}
	return d
}

type request struct {
	method, path, token, body, contentType string
	header                                 http.Header
}

// ask makes a request and holds its answer to the description of the operation.
func (a *api) ask(operation string, r request) (body map[string]any, header http.Header, what string) {
	a.t.Helper()
	req, err := http.NewRequest(r.method, a.base+r.path, strings.NewReader(r.body))
	if err != nil {
		a.t.Fatal(err)
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	if r.token != "" {
		req.Header.Set("Authorization", "Bearer "+a.tokens[r.token])
	}
	if r.body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.contentType != "" {
		req.Header.Set("Content-Type", r.contentType)
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	method, path, _ := strings.Cut(operation, " ")
	at := []any{"paths", path, strings.ToLower(method), "responses", fmt.Sprint(answer.StatusCode)}
	var documented any = a.document()
	for _, step := range at {
		m, _ := documented.(map[string]any)
		documented = m[step.(string)]
	}
	what = fmt.Sprint(answer.StatusCode)
	if documented == nil {
		a.t.Errorf("%s %s: %s is not documented: %s", r.method, r.path, answer.Status, b)
		return nil, answer.Header, what
	}
	if len(b) > 0 {
		mediaType, _, _ := strings.Cut(answer.Header.Get("Content-Type"), ";")
		schema := "openapi.json#/" + pointer(append(at, "content", mediaType, "schema"))
		compiled, err := a.schemas.Compile(schema)
		if err != nil {
			a.t.Errorf("%s %s: %s of %s: %v", r.method, r.path, answer.Status, mediaType, err)
			return nil, answer.Header, what
		}
		if mediaType != "text/plain" {
			value, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
			if err == nil {
				err = compiled.Validate(value)
			}
			if err != nil {
				a.t.Errorf("%s %s: %s is not as documented: %v\n%s", r.method, r.path, answer.Status, err, b)
			}
			if err := json.Unmarshal(b, &body); err != nil {
				a.t.Error(err)
			}
		}
	}
	if h, _ := documented.(map[string]any)["headers"].(map[string]any); h != nil {
		for name := range h {
			// The past has no entity tag, and what nobody looked at no position.
			if answer.Header.Get(name) == "" && !strings.HasPrefix(name, "Seenby-") && !strings.Contains(r.path, "?at") {
				a.t.Errorf("%s %s: %s lacks %s", r.method, r.path, answer.Status, name)
			}
		}
	}
	if code, _ := body["code"].(string); code != "" {
		what = code
	}
	a.seen[operation+" "+what] = true
	return body, answer.Header, what
}

func pointer(steps []any) string {
	var parts []string
	for _, s := range steps {
		parts = append(parts, url.PathEscape(strings.NewReplacer("~", "~0", "/", "~1").Replace(s.(string))))
	}
	return strings.Join(parts, "/")
}

// TestDescription: every route, status and code of the server is documented, every
// documented one is provoked, and every answer is as documented.
func TestDescription(t *testing.T) {
	a := newAPI(t)
	const (
		put, recall, erase = "PUT /v1/messages/{message_id}", "DELETE /v1/messages/{message_id}", "DELETE /v1/users/{user_id}"
		receipts, get      = "POST /v1/receipts", "GET /v1/messages/{message_id}/receipts"
		unread, pulls      = "GET /v1/messages/{message_id}/unread", "POST /v1/pulls"
	)
	expect := func(operation, want string, r request) (map[string]any, http.Header) {
		t.Helper()
		r.method, _, _ = strings.Cut(operation, " ")
		body, header, got := a.ask(operation, r)
		if got != want {
			t.Errorf("%s %s: %s, want %s: %v", operation, r.path, got, want, body)
		}
		return body, header
	}
	const message = `{"conversation_id": "c1", "sender_id": "alice", "recipients": ["bob", "carol", "dan"]}`
	m1, _ := expect(put, "202", request{path: "/v1/messages/m1", token: "backend", body: message})
	expect(put, "202", request{path: "/v1/messages/crowd", token: "backend", body: `{"conversation_id": "c1", "sender_id": "alice", "recipient_count": 9}`})
	expect(put, "202", request{path: "/v1/messages/gone", token: "backend", body: message})
	expect(recall, "202", request{path: "/v1/messages/gone", token: "backend"})
	read, _ := expect(receipts, "202", request{path: "/v1/receipts", token: "backend", body: `{"receipts": [{"message_id": "m1", "reader_id": "bob"}, {"message_id": "m1", "reader_id": "carol"}]}`})
	expect(receipts, "202", request{path: "/v1/receipts", token: "bob", body: `{"receipts": [{"message_id": "m1", "read_at": "2026-01-02T03:04:05Z"}]}`})
	position := url.QueryEscape(read["position"].(string))
	fresh := "min_position=" + position
	set, header := expect(get, "200", request{path: "/v1/messages/m1/receipts?limit=1&" + fresh, token: "alice"})
	if set["read_count"] != 2.0 || set["next"] == nil {
		t.Errorf("the set is %v", set)
	}
	version, cursor := set["version"].(string), set["next"].(string)
	expect(get, "200", request{path: "/v1/messages/m1/receipts?cursor=" + cursor, token: "alice"})
	expect(get, "200", request{path: "/v1/messages/m1/receipts?since=" + version, token: "alice"})
	expect(get, "200", request{path: "/v1/messages/m1/receipts?at=2026-01-01T00:00:00Z", token: "alice"})
	expect(get, "200", request{path: "/v1/messages/m1/receipts?at_version=" + version, token: "alice"})
	expect(get, "200", request{path: "/v1/messages/gone/receipts", token: "alice"})
	expect(get, "304", request{path: "/v1/messages/m1/receipts", token: "alice", header: http.Header{"If-None-Match": {header.Get("ETag")}}})
	left, header := expect(unread, "200", request{path: "/v1/messages/m1/unread?limit=1&" + fresh, token: "alice"})
	if left["unread_count"] != 1.0 {
		t.Errorf("unread: %v", left)
	}
	expect(unread, "304", request{path: "/v1/messages/m1/unread", token: "alice", header: http.Header{"If-None-Match": {header.Get("ETag")}}})
	expect(unread, "no_roster", request{path: "/v1/messages/crowd/unread", token: "alice"})
	expect(unread, "recalled", request{path: "/v1/messages/gone/unread", token: "alice"})
	pulled, _ := expect(pulls, "200", request{path: "/v1/pulls", token: "alice", body: fmt.Sprintf(
		`{"messages": [{"message_id": "m1", "since": %q}, {"message_id": "crowd"}, {"message_id": "nothing"}], "limit": 1}`, version)})
	if len(pulled["unchanged"].([]any)) != 1 || len(pulled["messages"].([]any)) != 1 || len(pulled["failed"].([]any)) != 1 {
		t.Errorf("pulled %v", pulled)
	}
	expect(pulls, "200", request{path: "/v1/pulls", token: "alice", body: `{"messages": [{"message_id": "m1"}], "readers": ["bob", "zoe"]}`})

	// What all operations have in common.
	paths := map[string]string{
		put: "/v1/messages/m1", recall: "/v1/messages/x", erase: "/v1/users/zoe", receipts: "/v1/receipts",
		get: "/v1/messages/m1/receipts", unread: "/v1/messages/m1/unread", pulls: "/v1/pulls",
	}
	bodies := map[string]string{put: message, receipts: `{"receipts": [{"message_id": "m1"}]}`, pulls: `{"messages": [{"message_id": "m1"}]}`}
	owner := map[string]string{put: "backend", recall: "backend", erase: "backend", receipts: "bob", get: "alice", unread: "alice", pulls: "alice"}
	for operation, path := range paths {
		body := bodies[operation]
		expect(operation, "no_token", request{path: path, body: body})
		expect(operation, "invalid_token", request{path: path, token: "invalid", body: body})
		expect(operation, "token_expired", request{path: path, token: "expired", body: body})
		expect(operation, "bad_parameter", request{path: path + "?nonsense=1", token: owner[operation], body: body})
		expect(operation, "431", request{path: path, token: owner[operation], body: body, header: http.Header{"X-Padding": {strings.Repeat("x", 256<<10)}}})
		if owner[operation] == "backend" {
			expect(operation, "backend_only", request{path: path, token: "alice", body: body})
		}
		if strings.Contains(operation, "{") {
			expect(operation, "bad_id", request{path: regexp.MustCompile("/(m1|x|zoe)").ReplaceAllString(path, "/%01"), token: owner[operation], body: body})
		}
		if body != "" {
			expect(operation, "bad_json", request{path: path, token: owner[operation], body: "{"})
			expect(operation, "invalid_body", request{path: path, token: owner[operation], body: `{"nonsense": 1}`})
			expect(operation, "unsupported_media_type", request{path: path, token: owner[operation], body: body, contentType: "text/plain"})
			expect(operation, "body_too_large", request{path: path, token: owner[operation], body: body + strings.Repeat(" ", contract.MaxPutBody)})
		}
	}
	expect(erase, "202", request{path: "/v1/users/dan", token: "backend"})
	expect(receipts, "foreign_reader", request{path: "/v1/receipts", token: "bob", body: `{"receipts": [{"message_id": "m1", "reader_id": "carol"}]}`})
	many, err := json.Marshal(map[string]any{"conversation_id": "c1", "sender_id": "alice", "recipients": func() (ids []string) {
		for i := range events.MaxRecipients + 1 {
			ids = append(ids, fmt.Sprint("r", i))
		}
		return ids
	}()})
	if err != nil {
		t.Fatal(err)
	}
	expect(put, "roster_too_large", request{path: "/v1/messages/many", token: "backend", body: string(many)})

	foreign := contract.Position{Log: 1, Next: map[int32]int64{0: 1}}.Encode()
	at, err := contract.ParsePosition(m1["position"].(string))
	if err != nil {
		t.Fatal(err)
	}
	for partition := range at.Next {
		at.Next[partition] += 1000
	}
	future := at.Encode()
	for _, operation := range []string{get, unread} {
		path := paths[operation]
		expect(operation, "not_found", request{path: strings.Replace(path, "m1", "nothing", 1), token: "alice"})
		expect(operation, "bad_cursor", request{path: path + "?cursor=x", token: "alice"})
		expect(operation, "bad_position", request{path: path + "?min_position=x", token: "alice"})
		expect(operation, "position_gone", request{path: path + "?min_position=" + foreign, token: "alice"})
		expect(operation, "not_fresh", request{path: path + "?min_position=" + future, token: "alice"})
	}
	expect(get, "bad_version", request{path: paths[get] + "?since=x", token: "alice"})
	expect(pulls, "bad_position", request{path: "/v1/pulls", token: "alice", body: `{"messages": [{"message_id": "m1"}], "min_position": ["x"]}`})
	expect(pulls, "position_gone", request{path: "/v1/pulls", token: "alice", body: `{"messages": [{"message_id": "m1"}], "min_position": ["` + foreign + `"]}`})
	// Something is taken away from m1, and pages from before cannot be continued.
	a.pagesAreGone(expect, put, erase, get, unread)

	for _, o := range openapi.Operations() {
		operation := o.Method + " " + o.Path
		for status, codes := range o.Statuses {
			for _, code := range codes {
				what := string(code)
				if code == contract.HeadersTooLarge {
					what = fmt.Sprint(status) // it may lack the document
				}
				if _, other := elsewhere[code]; !other && !a.seen[operation+" "+what] && !a.seen[operation+" "+string(code)] {
					t.Errorf("%s: %s is documented, and nothing provokes it", operation, code)
				}
			}
		}
	}
}

// pagesAreGone: an erasure between two pages.
func (a *api) pagesAreGone(expect func(operation, want string, r request) (map[string]any, http.Header), put, erase, get, unread string) {
	a.t.Helper()
	expect(put, "202", request{path: "/v1/messages/m3", token: "backend", body: `{"conversation_id": "c1", "sender_id": "alice", "recipients": ["u1", "u2", "u3", "u4"]}`})
	read, _ := expect("POST /v1/receipts", "202", request{path: "/v1/receipts", token: "backend", body: `{"receipts": [{"message_id": "m3", "reader_id": "u1"}, {"message_id": "m3", "reader_id": "u2"}]}`})
	fresh := "min_position=" + read["position"].(string)
	set, _ := expect(get, "200", request{path: "/v1/messages/m3/receipts?limit=1&" + fresh, token: "alice"})
	rest, _ := expect(unread, "200", request{path: "/v1/messages/m3/unread?limit=1&" + fresh, token: "alice"})
	erased, _ := expect(erase, "202", request{path: "/v1/users/u1", token: "backend"})
	fresh = "&min_position=" + erased["position"].(string)
	expect(get, "cursor_gone", request{path: "/v1/messages/m3/receipts?cursor=" + set["next"].(string) + fresh, token: "alice"})
	expect(unread, "cursor_gone", request{path: "/v1/messages/m3/unread?cursor=" + rest["next"].(string) + fresh, token: "alice"})
}

// TestPage: the readable page has every operation and every schema.
func TestPage(t *testing.T) {
	a := newAPI(t)
	r, err := http.Get(a.base + "/openapi.html")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	page, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatal(r.Status, err)
	}
	for _, o := range openapi.Operations() {
		if !bytes.Contains(page, []byte(o.Path+"</code></h2>")) {
			t.Errorf("the page lacks %s", o.Path)
		}
	}
	for _, name := range []string{"/livez", "/readyz", "/metrics", "/openapi.json"} {
		answer, err := http.Get(a.base + name)
		if err != nil || answer.StatusCode != http.StatusOK || answer.Body.Close() != nil {
			t.Errorf("%s: %v %v", name, answer, err)
		}
	}
	if paths := a.document()["paths"].(map[string]any); len(paths) != 11 {
		t.Errorf("%d paths", len(paths))
	}
}
