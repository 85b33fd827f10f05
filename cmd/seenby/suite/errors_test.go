package suite

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// TestErrors asks the public ports for everything that the contract refuses.
func TestErrors(t *testing.T) {
	s := newSystem(t, theKafka(t), 4).small()
	position := s.send(putMessage("m1", "alice", "bob", "carol"))
	s.send(readMessages("bob", "m1"))

	ingest, query := s.client.ingest[0], s.client.query
	t.Run("tokens", func(t *testing.T) { testBadTokens(t, s) })
	t.Run("ingest", func(t *testing.T) { testRefusals(t, s, ingest, refusedByIngest()) })
	t.Run("query", func(t *testing.T) { testRefusals(t, s, query, refusedByQuery(position)) })
	t.Run("nothing was written", func(t *testing.T) {
		p, err := s.client.pullAll(t.Context(), "alice", "m1", nil)
		if err != nil || p.ReadCount != 1 {
			t.Errorf("after requests that were refused: %+v, %v", p, err)
		}
	})
	t.Run("a message that one may not see is one that does not exist", func(t *testing.T) { testHidden(t, s) })
	t.Run("headers too large", func(t *testing.T) {
		r := pullMessage(backend, "m1", nil)
		r.header = http.Header{"X-Large": {strings.Repeat("x", 1<<20)}}
		for _, base := range []string{ingest, query} {
			if a, err := s.client.ask(t.Context(), base, r); err != nil || a.status != http.StatusRequestHeaderFieldsTooLarge {
				t.Errorf("%s: %d, %v", base, a.status, err)
			}
		}
	})
}

// refusal is a request and what it must be answered with.
type refusal struct {
	name    string
	request request
	status  int
	code    string
	// field is the first of the document's errors: index, or -1, field and code.
	field string
}

func testRefusals(t *testing.T, s *system, base string, refusals []refusal) {
	for _, r := range refusals {
		t.Run(r.name, func(t *testing.T) {
			a, err := s.client.ask(t.Context(), base, r.request)
			if err != nil {
				t.Fatal(err)
			}
			p := a.problem()
			if a.status != r.status || p.Status != r.status || p.Code != r.code || p.Title == "" || p.Type == "" || a.code() != r.code {
				t.Fatalf("%s: answered %d %v %s, not %d %s", a.request, a.status, a.header, a.body, r.status, r.code)
			}
			field := ""
			if len(p.Errors) > 0 {
				index := -1
				if p.Errors[0].Index != nil {
					index = *p.Errors[0].Index
				}
				field = fmt.Sprint(index, " ", p.Errors[0].Field, " ", p.Errors[0].Code)
			}
			if field != r.field {
				t.Errorf("%s: errors begin with %q, not %q", a.request, field, r.field)
			}
			if strings.HasPrefix(r.request.path, "/v1/") && a.header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s: Cache-Control is %q", a.request, a.header.Get("Cache-Control"))
			}
			if (a.status == http.StatusUnauthorized) != (a.header.Get("WWW-Authenticate") != "") {
				t.Errorf("%s: WWW-Authenticate is %q", a.request, a.header.Get("WWW-Authenticate"))
			}
			if r.status == http.StatusMethodNotAllowed && a.header.Get("Allow") == "" {
				t.Errorf("%s: no Allow", a.request)
			}
		})
	}
}

func testBadTokens(t *testing.T, s *system) {
	sign := func(method jwt.SigningMethod, key any, claims jwt.MapClaims) string {
		token, err := jwt.NewWithClaims(method, claims).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return "Bearer " + token
	}
	with := func(name string, value any) jwt.MapClaims {
		claims := s.client.claims(backend)
		claims[name] = value
		if value == nil {
			delete(claims, name)
		}
		return claims
	}
	good := s.client.claims(backend)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().Unix()
	for _, c := range []struct{ name, header, code string }{
		{"none", "", "no_token"},
		{"other scheme", "Basic YTpi", "no_token"},
		{"garbage", "Bearer x.y.z", "invalid_token"},
		{"other key", sign(jwt.SigningMethodHS256, bytes.Repeat([]byte{7}, 32), good), "invalid_token"},
		{"HS512", sign(jwt.SigningMethodHS512, s.authKey, good), "invalid_token"},
		{"RS256", sign(jwt.SigningMethodRS256, rsaKey, good), "invalid_token"},
		{"ES256", sign(jwt.SigningMethodES256, ecKey, good), "invalid_token"},
		{"algorithm none", sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, good), "invalid_token"},
		{"expired", sign(jwt.SigningMethodHS256, s.authKey, with("exp", now-60)), "token_expired"},
		{"no exp", sign(jwt.SigningMethodHS256, s.authKey, with("exp", nil)), "invalid_token"},
		{"not yet", sign(jwt.SigningMethodHS256, s.authKey, with("nbf", now+600)), "invalid_token"},
		{"no sub", sign(jwt.SigningMethodHS256, s.authKey, with("sub", nil)), "invalid_token"},
		{"bad sub", sign(jwt.SigningMethodHS256, s.authKey, with("sub", "a\nb")), "invalid_token"},
	} {
		header := http.Header{"Authorization": {c.header}}
		if c.header == "" {
			header = nil
		}
		put, pull := putMessage("m2", "alice", "bob"), pullMessage("", "m1", nil)
		put.who, put.header, pull.header = "", header, header
		testRefusals(t, s, s.client.ingest[0], []refusal{{c.name + ", ingest", put, 401, c.code, ""}})
		testRefusals(t, s, s.client.query, []refusal{{c.name + ", query", pull, 401, c.code, ""}})
	}
}

func refusedByIngest() []refusal {
	receipts := func(who caller, json string) request {
		return request{method: "POST", path: "/v1/receipts", who: who, body: []byte(json)}
	}
	put := func(json string) request {
		return request{method: "PUT", path: "/v1/messages/m9", who: backend, body: []byte(json)}
	}
	path := func(p string) request {
		return request{method: "PUT", path: p, who: backend, body: []byte(`{"conversation_id":"c","sender_id":"s","recipients":["r"]}`)}
	}
	foreign := postReceipts("bob", receiptBody{Message: "m1", Reader: "bob"}, receiptBody{Message: "m1", Reader: "carol"})
	userPut, userRecall := putMessage("m9", "bob", "alice"), recallMessage("m1")
	userPut.who, userRecall.who = "bob", "bob"
	userErases := eraseUser("bob")
	userErases.who = "bob"
	text := readMessages("carol", "m1")
	text.header = http.Header{"Content-Type": {"text/plain"}}
	unknownParameter := readMessages("carol", "m1")
	unknownParameter.query = url.Values{"x": {"y"}}
	var crowd []string
	for i := range 10_001 {
		crowd = append(crowd, fmt.Sprint("p", i))
	}
	return []refusal{
		{"unknown route", request{method: "GET", path: "/v1/nothing", who: backend}, 404, "no_such_route", ""},
		{"route of another process", pullMessage(backend, "m1", nil), 404, "no_such_route", ""},
		{"wrong method", request{method: "GET", path: "/v1/receipts", who: backend}, 405, "method_not_allowed", ""},
		{"wrong method before the token", request{method: "PATCH", path: "/v1/receipts"}, 405, "method_not_allowed", ""},
		{"put by a user", userPut, 403, "backend_only", ""},
		{"recall by a user", userRecall, 403, "backend_only", ""},
		{"erasure by a user", userErases, 403, "backend_only", ""},
		{"not JSON by its type", text, 415, "unsupported_media_type", ""},
		{"a body over 256 KiB", receipts(backend, strings.Repeat(" ", 256<<10+1)), 413, "body_too_large", ""},
		{"a put over 2 MiB", put(strings.Repeat(" ", 2<<20+1)), 413, "body_too_large", ""},
		{"10,001 recipients", putMessage("m9", "alice", crowd...), 413, "roster_too_large", ""},
		{"unknown parameter", unknownParameter, 400, "bad_parameter", ""},
		{"not JSON", receipts(backend, `{"receipts":[`), 400, "bad_json", ""},
		{"two bodies", receipts(backend, `{"receipts":[{"message_id":"m1","reader_id":"carol"}]}{}`), 400, "bad_json", ""},
		{"a name twice", receipts(backend, `{"receipts":[],"receipts":[]}`), 400, "bad_json", ""},
		{"half a surrogate pair", receipts(backend, `{"receipts":[{"message_id":"\ud800","reader_id":"carol"}]}`), 400, "bad_json", ""},
		{"depth", receipts(backend, `{"receipts":[{"x":`+strings.Repeat("[", 20)+strings.Repeat("]", 20)+`}]}`), 400, "bad_json", ""},
		{"unknown field", receipts(backend, `{"receipts":[{"message_id":"m1","reader_id":"carol","mood":"good"}]}`), 400, "invalid_body", "0 mood unknown_field"},
		{"no receipts", receipts(backend, `{}`), 400, "invalid_body", "-1 receipts required"},
		{"501 receipts", readMessages("carol", strings.Split(strings.Repeat("m1,", 500)+"m1", ",")...), 400, "invalid_body", "-1 receipts too_many"},
		{"a bad ID, second of two", postReceipts("carol", receiptBody{Message: "m1"}, receiptBody{Message: "."}), 400, "invalid_body", "1 message_id bad_id"},
		{"a bad time", receipts("carol", `{"receipts":[{"message_id":"m1","read_at":"yesterday"}]}`), 400, "invalid_body", "0 read_at bad_time"},
		{"a backend that names no reader", receipts(backend, `{"receipts":[{"message_id":"m1"}]}`), 400, "invalid_body", "0 reader_id reader_required"},
		{"another's reader_id", foreign, 403, "foreign_reader", ""},
		{"a control character in the path", path("/v1/messages/a%00b"), 400, "bad_id", ""},
		{"129 bytes in the path", path("/v1/messages/" + strings.Repeat("x", 129)), 400, "bad_id", ""},
		{"dots in the path", path("/v1/messages/%2E%2E"), 400, "bad_id", ""},
		{"a control character in the path of an erasure", eraseUser("a\x00b"), 400, "bad_id", ""},
		{"no sender", put(`{"conversation_id":"c","recipients":[]}`), 400, "invalid_body", "-1 sender_id required"},
		{"a list and a count", put(`{"conversation_id":"c","sender_id":"s","recipients":[],"recipient_count":3}`), 400, "invalid_body", "-1 recipient_count conflicting"},
		{"neither", put(`{"conversation_id":"c","sender_id":"s"}`), 400, "invalid_body", "-1 recipients required"},
		{"a count below 0", put(`{"conversation_id":"c","sender_id":"s","recipient_count":-1}`), 400, "invalid_body", "-1 recipient_count out_of_range"},
		{"a string for a list", put(`{"conversation_id":"c","sender_id":"s","recipients":"r"}`), 400, "invalid_body", "-1 recipients wrong_type"},
		{"sent tomorrow", put(`{"conversation_id":"c","sender_id":"s","recipients":[],"sent_at":"` + time.Now().Add(day).Format(time.RFC3339) + `"}`), 400, "invalid_body", "-1 sent_at bad_time"},
		{"sent before the retention", put(`{"conversation_id":"c","sender_id":"s","recipients":[],"sent_at":"` + time.Now().Add(-31*day).Format(time.RFC3339) + `"}`), 400, "invalid_body", "-1 sent_at bad_time"},
	}
}

func refusedByQuery(position string) []refusal {
	ask := func(query string) request {
		q, err := url.ParseQuery(query)
		if err != nil {
			panic(err) // A mistake below.
		}
		return pullMessage("alice", "m1", q)
	}
	write := putMessage("m1", "alice", "bob")
	return []refusal{
		{"route of another process", readMessages("carol", "m1"), 404, "no_such_route", ""},
		{"wrong method", request{method: "POST", path: receiptsPath("m1"), who: backend, body: []byte(`{}`)}, 405, "method_not_allowed", ""},
		{"a put", write, 404, "no_such_route", ""},
		{"unknown parameter", ask("x=y"), 400, "bad_parameter", ""},
		{"limit over 2000", ask("limit=2001"), 400, "bad_parameter", ""},
		{"limit that is none", ask("limit=many"), 400, "bad_parameter", ""},
		{"two limits", ask("limit=1&limit=2"), 400, "bad_parameter", ""},
		{"a version that is none", ask("since=AAAA"), 400, "bad_version", ""},
		{"a position as a version", ask("since=" + position), 400, "bad_version", ""},
		{"a time that is none", ask("at=yesterday"), 400, "bad_parameter", ""},
		{"an at_version that is none", ask("at_version=AAAA"), 400, "bad_version", ""},
		{"two times", ask("at=2026-11-23T08:00:00Z&at=2026-11-23T08:00:00Z"), 400, "bad_parameter", ""},
		{"a cursor that is none", ask("cursor=AAAA"), 400, "bad_cursor", ""},
		{"a position that is none", ask("min_position=AAAA"), 400, "bad_position", ""},
		{"nine positions", ask(strings.Repeat("&min_position="+position, 9)), 400, "bad_parameter", ""},
		{"a bad ID", request{method: "GET", path: "/v1/messages/a%0Ab/receipts", who: "alice"}, 400, "bad_id", ""},
		{"no such message", pullMessage("alice", "m404", nil), 404, "not_found", ""},
		{"another's message", pullMessage("bob", "m1", nil), 404, "not_found", ""},
	}
}

// testHidden compares the 404 of a stranger with that of a message that was never
// sent: nothing in it may tell the two apart.
func testHidden(t *testing.T, s *system) {
	ask := func(id string) answer {
		a, err := s.client.ask(t.Context(), s.client.query, pullMessage("mallory", id, nil))
		if err != nil {
			t.Fatal(err)
		}
		a.header.Del("Date")
		return a
	}
	hidden, absent := ask("m1"), ask("m1-no")
	if hidden.status != http.StatusNotFound || hidden.status != absent.status || !bytes.Equal(hidden.body, absent.body) || !reflect.DeepEqual(hidden.header, absent.header) {
		t.Errorf("hidden: %d %v %s\nabsent: %d %v %s", hidden.status, hidden.header, hidden.body, absent.status, absent.header, absent.body)
	}
	if bytes.Contains(hidden.body, []byte("m1")) {
		t.Errorf("the 404 names the message: %s", hidden.body)
	}
}

// TestRateLimit has one user ask more than a user may, and another, and the
// backend, not notice.
func TestRateLimit(t *testing.T) {
	s := newSystem(t, theKafka(t), 1)
	s.addIngest("--user-rate", "1", "--user-burst", "3")
	s.start()
	ask := func(who caller, reader string) answer {
		a, err := s.client.ask(t.Context(), s.client.ingest[0], postReceipts(who, receiptBody{Message: "m1", Reader: reader}))
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	var refused answer
	await(t, func() (bool, string) {
		refused = ask("greedy", "")
		return refused.status != http.StatusAccepted, "no request was refused"
	})
	s.expect(refused, http.StatusTooManyRequests, "rate_limited")
	if seconds, err := strconv.Atoi(refused.header.Get("Retry-After")); err != nil || seconds < 1 {
		t.Errorf("Retry-After: %q", refused.header.Get("Retry-After"))
	}
	s.expect(ask("modest", ""), http.StatusAccepted, "")
	for range 20 {
		s.expect(ask(backend, "greedy"), http.StatusAccepted, "")
	}
}
