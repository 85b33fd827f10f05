// Package contract is the HTTP contract in Go, for the services that keep it:
// its error codes and problem documents, its strict JSON, its query parameters,
// and the opaque strings (versions, positions, cursors) that clients hand back.
// It knows no server and no state.
package contract

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
)

// Code is what clients branch on in a problem document.
type Code string

// The codes of problem documents.
const (
	BadJSON              Code = "bad_json"
	InvalidBody          Code = "invalid_body"
	BadID                Code = "bad_id"
	BadParameter         Code = "bad_parameter"
	BadVersion           Code = "bad_version"
	BadCursor            Code = "bad_cursor"
	BadPosition          Code = "bad_position"
	NoToken              Code = "no_token"
	InvalidToken         Code = "invalid_token"
	TokenExpired         Code = "token_expired"
	BackendOnly          Code = "backend_only"
	ForeignReader        Code = "foreign_reader"
	NotFound             Code = "not_found"
	NoSuchRoute          Code = "no_such_route"
	MethodNotAllowed     Code = "method_not_allowed"
	UnsupportedMediaType Code = "unsupported_media_type"
	NoRoster             Code = "no_roster"
	Recalled             Code = "recalled"
	CursorGone           Code = "cursor_gone"
	PositionGone         Code = "position_gone"
	BodyTooLarge         Code = "body_too_large"
	RosterTooLarge       Code = "roster_too_large"
	HeadersTooLarge      Code = "headers_too_large"
	RateLimited          Code = "rate_limited"
	Internal             Code = "internal"
	KafkaUnavailable     Code = "kafka_unavailable"
	NotFresh             Code = "not_fresh"
	OwnerUnavailable     Code = "owner_unavailable"
	Overloaded           Code = "overloaded"
	Starting             Code = "starting"
	Timeout              Code = "timeout"
)

// The codes of the internal protocol's own problems, between query and
// projector. No client sees them.
const (
	// BadSignature: the request is not signed with the internal secret.
	BadSignature Code = "bad_signature"
	// WrongPeer: the peer is of another topic, copy size or protocol version.
	WrongPeer Code = "wrong_peer"
)

// The codes of the errors inside an invalid_body problem; bad_id is one too.
const (
	Required       Code = "required"
	WrongType      Code = "wrong_type"
	UnknownField   Code = "unknown_field"
	BadTime        Code = "bad_time"
	OutOfRange     Code = "out_of_range"
	TooMany        Code = "too_many"
	Duplicate      Code = "duplicate"
	Conflicting    Code = "conflicting"
	ReaderRequired Code = "reader_required"
)

// kinds maps each problem code to its status and title, in one place.
var kinds = map[Code]struct {
	status int
	title  string
}{
	BadJSON:              {http.StatusBadRequest, "The body is not one strict JSON object"},
	InvalidBody:          {http.StatusBadRequest, "The body is not valid"},
	BadID:                {http.StatusBadRequest, "Not an ID"},
	BadParameter:         {http.StatusBadRequest, "A query parameter is not valid"},
	BadVersion:           {http.StatusBadRequest, "Not a version of this message"},
	BadCursor:            {http.StatusBadRequest, "Not a cursor of this message"},
	BadPosition:          {http.StatusBadRequest, "Not a position"},
	NoToken:              {http.StatusUnauthorized, "A bearer token is required"},
	InvalidToken:         {http.StatusUnauthorized, "The token is not valid"},
	TokenExpired:         {http.StatusUnauthorized, "The token has expired"},
	BackendOnly:          {http.StatusForbidden, "Only the chat backend may do this"},
	ForeignReader:        {http.StatusForbidden, "A user may read as nobody else"},
	NotFound:             {http.StatusNotFound, "No such message"},
	NoSuchRoute:          {http.StatusNotFound, "No such route"},
	MethodNotAllowed:     {http.StatusMethodNotAllowed, "The route does not have this method"},
	UnsupportedMediaType: {http.StatusUnsupportedMediaType, "The body must be application/json"},
	NoRoster:             {http.StatusConflict, "The message's recipients are not known by name"},
	Recalled:             {http.StatusConflict, "The message was recalled"},
	CursorGone:           {http.StatusGone, "The pages cannot be continued"},
	PositionGone:         {http.StatusGone, "The position is of another topic or generation"},
	BodyTooLarge:         {http.StatusRequestEntityTooLarge, "The body is too large"},
	RosterTooLarge:       {http.StatusRequestEntityTooLarge, "The roster is too large"},
	HeadersTooLarge:      {http.StatusRequestHeaderFieldsTooLarge, "The headers are too large"},
	RateLimited:          {http.StatusTooManyRequests, "Too many requests"},
	Internal:             {http.StatusInternalServerError, "Internal error"},
	KafkaUnavailable:     {http.StatusServiceUnavailable, "Kafka is out of reach"},
	NotFresh:             {http.StatusServiceUnavailable, "The presented position is not applied yet"},
	OwnerUnavailable:     {http.StatusServiceUnavailable, "The message's owner is out of reach"},
	Overloaded:           {http.StatusServiceUnavailable, "Too busy"},
	Starting:             {http.StatusServiceUnavailable, "Still starting"},
	Timeout:              {http.StatusServiceUnavailable, "The request took too long"},
	BadSignature:         {http.StatusUnauthorized, "The request is not signed with the internal secret"},
	WrongPeer:            {http.StatusMisdirectedRequest, "The peer does not belong to this copy"},
}

// Status is the HTTP status of a problem code.
func (c Code) Status() int { return kinds[c].status }

// Problem is an error as the contract tells it: an RFC 9457 document.
type Problem struct {
	Code   Code
	Detail string
	// Errors are the bad fields of an invalid_body.
	Errors []FieldError
	// RetryAfter is sent with 429 and 503, rounded up to whole seconds, and at
	// least one.
	RetryAfter time.Duration
	// Cause is for logs; clients never see it.
	Cause error
}

// FieldError is one bad field. Index, from 0, is set where the field is in, or
// is, an item of a list.
type FieldError struct {
	Index  *int   `json:"index,omitzero"`
	Field  string `json:"field"`
	Code   Code   `json:"code"`
	Detail string `json:"detail"`
}

// NewProblem returns a problem; detail is in the manner of fmt.Sprintf.
func NewProblem(code Code, detail string, args ...any) *Problem {
	return &Problem{Code: code, Detail: fmt.Sprintf(detail, args...)}
}

// Because returns p with a cause for logs.
func (p *Problem) Because(cause error) *Problem {
	p.Cause = cause
	return p
}

// After returns p with a Retry-After.
func (p *Problem) After(d time.Duration) *Problem {
	p.RetryAfter = d
	return p
}

func (p *Problem) Error() string {
	s := string(p.Code) + ": " + p.Detail
	if p.Cause != nil {
		s += ": " + p.Cause.Error()
	}
	return s
}

func (p *Problem) Unwrap() error { return p.Cause }

// document is the wire form of a Problem.
type document struct {
	Type   string       `json:"type"`
	Title  string       `json:"title"`
	Status int          `json:"status"`
	Code   Code         `json:"code"`
	Detail string       `json:"detail"`
	Errors []FieldError `json:"errors,omitempty"`
}

// Answer renders the problem: its status, its headers, its document.
func (p *Problem) Answer() Answer {
	kind, found := kinds[p.Code]
	if !found {
		kind = kinds[Internal]
	}
	body, err := json.Marshal(document{
		Type:   "urn:seenby:problem:" + string(p.Code),
		Title:  kind.title,
		Status: kind.status,
		Code:   p.Code,
		Detail: p.Detail,
		Errors: p.Errors,
	})
	if err != nil {
		// Only a detail that is not UTF-8 could do this.
		return NewProblem(p.Code, "").Answer()
	}
	h := http.Header{"Content-Type": {"application/problem+json"}}
	switch kind.status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", challenge(p.Code))
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		seconds := max(1, int((p.RetryAfter+time.Second-1)/time.Second))
		h.Set("Retry-After", strconv.Itoa(seconds))
	}
	return Answer{Status: kind.status, Header: h, Body: body}
}

// ParseProblem returns the problem that an answer of Answer's is. It has no title
// and status of its own: the code has.
func ParseProblem(a Answer) (*Problem, error) {
	var d document
	if err := json.Unmarshal(a.Body, &d); err != nil {
		return nil, fmt.Errorf("a problem document of status %d: %w", a.Status, err)
	}
	if _, found := kinds[d.Code]; !found {
		return nil, fmt.Errorf("a problem document of status %d: no known code", a.Status)
	}
	p := &Problem{Code: d.Code, Detail: d.Detail, Errors: d.Errors}
	if seconds, err := strconv.Atoi(a.Header.Get("Retry-After")); err == nil {
		p.RetryAfter = time.Duration(seconds) * time.Second
	}
	return p, nil
}

// challenge is RFC 6750's: without a token it names no error.
func challenge(c Code) string {
	switch c {
	case NoToken:
		return `Bearer realm="seenby"`
	case BadSignature:
		return `Seenby-Internal realm="seenby"`
	}
	return `Bearer realm="seenby", error="invalid_token"`
}

// Answer is a whole HTTP answer. Header has what belongs to the answer, not
// what every answer gets.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Caller is who a verified token speaks for.
type Caller struct {
	// Subject is the token's sub, an ID.
	Subject string
	// Backend says that the token is the chat backend's.
	Backend bool
}
