package contract_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/seenby/seenby/services/contract"
)

// The table of the contract: what clients are built to.
var statuses = map[int][]contract.Code{
	400: {"bad_json", "invalid_body", "bad_id", "bad_parameter", "bad_version", "bad_cursor", "bad_position"},
	401: {"no_token", "invalid_token", "token_expired"},
	403: {"backend_only", "foreign_reader"},
	404: {"not_found", "no_such_route"},
	405: {"method_not_allowed"},
	410: {"cursor_gone", "position_gone"},
	413: {"body_too_large", "roster_too_large"},
	415: {"unsupported_media_type"},
	429: {"rate_limited"},
	431: {"headers_too_large"},
	500: {"internal"},
	503: {"kafka_unavailable", "not_fresh", "owner_unavailable", "overloaded", "starting", "timeout"},
}

type problemDocument struct {
	Type, Title, Detail string
	Status              int
	Code                contract.Code
	Errors              []map[string]any
}

// checkProblem checks what holds of the answer to any problem.
func checkProblem(t *testing.T, p *contract.Problem) (contract.Answer, problemDocument) {
	t.Helper()
	a := p.Answer()
	var d problemDocument
	if err := json.Unmarshal(a.Body, &d); err != nil {
		t.Fatalf("%v: %s", err, a.Body)
	}
	if a.Status != p.Code.Status() || d.Status != a.Status || d.Code != p.Code || d.Title == "" ||
		d.Type != "urn:seenby:problem:"+string(p.Code) || a.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%v: got %d, %v, %s", p, a.Status, a.Header, a.Body)
	}
	if needs, has := a.Status == 429 || a.Status == 503, a.Header.Get("Retry-After") != ""; needs != has {
		t.Errorf("%v: Retry-After is %q", p, a.Header.Get("Retry-After"))
	}
	if needs, has := a.Status == 401, a.Header.Get("WWW-Authenticate") != ""; needs != has {
		t.Errorf("%v: WWW-Authenticate is %q", p, a.Header.Get("WWW-Authenticate"))
	}
	return a, d
}

func TestProblems(t *testing.T) {
	for status, codes := range statuses {
		for _, code := range codes {
			a, d := checkProblem(t, contract.NewProblem(code, "because of %d", 7).Because(errors.New("secret")))
			if a.Status != status || d.Detail != "because of 7" {
				t.Errorf("%s: %d, %s", code, a.Status, a.Body)
			}
		}
	}
	if got := contract.NewProblem(contract.NoToken, "").Answer().Header.Get("WWW-Authenticate"); got != `Bearer realm="seenby"` {
		t.Errorf("a request without a token is told %s", got)
	}
	if got := contract.NewProblem(contract.TokenExpired, "").Answer().Header.Get("WWW-Authenticate"); got != `Bearer realm="seenby", error="invalid_token"` {
		t.Errorf("a request with an old token is told %s", got)
	}
}

func TestRetryAfterIsWholeSeconds(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "1", -time.Second: "1", time.Millisecond: "1", time.Second: "1",
		time.Second + 1: "2", 90 * time.Second: "90"} {
		a := contract.NewProblem(contract.RateLimited, "").After(d).Answer()
		if got := a.Header.Get("Retry-After"); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

// An item's index is there when it is 0, and not there outside lists.
func TestFieldErrors(t *testing.T) {
	zero := 0
	p := &contract.Problem{Code: contract.InvalidBody, Errors: []contract.FieldError{
		{Index: &zero, Field: "message_id", Code: contract.Required, Detail: "d"},
		{Field: "receipts", Code: contract.TooMany, Detail: "d"},
	}}
	_, d := checkProblem(t, p)
	if index, found := d.Errors[0]["index"]; !found || index != 0.0 || len(d.Errors[0]) != 4 {
		t.Errorf("got %v", d.Errors[0])
	}
	if _, found := d.Errors[1]["index"]; found || len(d.Errors[1]) != 3 {
		t.Errorf("got %v", d.Errors[1])
	}
}

// A detail that cannot be told does not lose the problem.
func TestProblemWithoutUTF8(t *testing.T) {
	a, _ := checkProblem(t, contract.NewProblem(contract.BadParameter, "\xff"))
	if a.Status != http.StatusBadRequest {
		t.Errorf("got %d", a.Status)
	}
}

func TestPathID(t *testing.T) {
	good := map[string]string{
		"m1": "m1", "a%2Fb": "a/b", "a%252Fb": "a%2Fb", "a%20b": "a b", "a+b": "a+b", "a;b": "a;b", "*": "*", "...": "...",
		"%F0%9F%98%80": "😀", "a%2F": "a/", "%2e%2e%2e": "...", ".a": ".a", "%C2%A0": "\u00a0",
	}
	for escaped, want := range good {
		if got, problem := contract.PathID(escaped); problem != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", escaped, got, problem, want)
		}
	}
	for _, escaped := range []string{"", ".", "..", "%2E", "%2e%2E", "%00", "a%00b", "%7F", "%C2%85", "%FF", "%", "%2", "%zz", "%ED%A0%80",
		"a\nb", string(make([]byte, 129))} {
		if got, problem := contract.PathID(escaped); told(problem) != "bad_id" {
			t.Errorf("%q: %q, %v, want bad_id", escaped, got, problem)
		}
	}
}
