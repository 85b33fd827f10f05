package suite

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// client is seenby's public ports as a chat product uses them: the backend, and
// any of its users.
type client struct {
	http *http.Client
	key  []byte
	// ingest are the ingest processes' addresses, which take turns.
	ingest []string
	query  string

	turn   atomic.Uint32
	tokens sync.Map // by caller
}

// caller is who asks: a user, or the backend.
type caller string

const backend caller = "\x00backend"

func newClient(t *testing.T, key []byte) *client {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: 5 * time.Second}
	t.Cleanup(transport.CloseIdleConnections)
	return &client{http: &http.Client{Transport: transport, Timeout: 30 * time.Second}, key: key}
}

// token returns a token that is good for the whole test.
func (c *client) token(who caller) string {
	if token, found := c.tokens.Load(who); found {
		return token.(string)
	}
	token := c.mint(c.claims(who))
	c.tokens.Store(who, token)
	return token
}

func (c *client) claims(who caller) jwt.MapClaims {
	claims := jwt.MapClaims{"sub": string(who), "exp": time.Now().Add(time.Hour).Unix()}
	if who == backend {
		claims["sub"], claims["scope"] = "chat", "other backend"
	}
	return claims
}

func (c *client) mint(claims jwt.MapClaims) string {
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(c.key)
	if err != nil {
		panic(err) // A map of strings and numbers, and a key of bytes.
	}
	return token
}

// request is one HTTP request.
type request struct {
	method, path string
	query        url.Values
	header       http.Header
	who          caller
	body         any // nil, []byte, or what is made JSON of
}

func (r request) String() string {
	s := r.method + " " + r.path
	if len(r.query) > 0 {
		s += "?" + r.query.Encode()
	}
	return s
}

// answer is one whole HTTP answer.
type answer struct {
	request string
	status  int
	header  http.Header
	body    []byte
}

// code is that of a problem document, or empty.
func (a answer) code() string {
	if a.header.Get("Content-Type") != "application/problem+json" {
		return ""
	}
	return a.problem().Code
}

// problem is the document of an answer that is one.
func (a answer) problem() (p problem) {
	if json.Unmarshal(a.body, &p) != nil {
		return problem{Code: "no problem document"}
	}
	return p
}

type problem struct {
	Type, Title, Code, Detail string
	Status                    int
	Errors                    []fieldError
}

type fieldError struct {
	Index               *int
	Field, Code, Detail string
}

// position is what a write was answered with.
func (a answer) position() string {
	var body struct{ Position string }
	_ = json.Unmarshal(a.body, &body) // Then it has none, which will not go well.
	return body.Position
}

// ask sends a request once.
func (c *client) ask(ctx context.Context, base string, r request) (answer, error) {
	var body []byte
	switch b := r.body.(type) {
	case nil:
	case []byte:
		body = b
	default:
		var err error
		if body, err = json.Marshal(b); err != nil {
			return answer{}, err
		}
	}
	u := base + r.path
	if len(r.query) > 0 {
		u += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, u, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.who != "" {
		req.Header.Set("Authorization", "Bearer "+c.token(r.who))
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close() //nolint:errcheck // It was read.
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, err
	}
	return answer{request: r.String(), status: resp.StatusCode, header: resp.Header, body: b}, nil
}

// write sends a write until it has an answer that stays: the same request may
// always be sent again, after a 503 or 429 as after a connection that broke.
func (c *client) write(ctx context.Context, r request) (answer, error) {
	for {
		a, err := c.ask(ctx, c.ingest[int(c.turn.Add(1))%len(c.ingest)], r)
		wait := pollEvery
		switch {
		case ctx.Err() != nil:
			return answer{}, fmt.Errorf("%v: %w", r, context.Cause(ctx))
		case err != nil:
		case a.status == http.StatusServiceUnavailable, a.status == http.StatusTooManyRequests:
			seconds, err := strconv.Atoi(a.header.Get("Retry-After"))
			if err != nil || seconds < 1 {
				return a, fmt.Errorf("%v: %d %s without a Retry-After of whole seconds", r, a.status, a.body)
			}
			wait = time.Duration(seconds) * time.Second
		default:
			return a, nil
		}
		if err := pause(ctx, wait); err != nil {
			return answer{}, fmt.Errorf("%v: %w", r, err)
		}
	}
}

func messagePath(id string) string  { return "/v1/messages/" + url.PathEscape(id) }
func receiptsPath(id string) string { return messagePath(id) + "/receipts" }

// putBody is that of PUT /v1/messages/{message_id}.
type putBody struct {
	Conversation string   `json:"conversation_id"`
	Sender       string   `json:"sender_id"`
	SentAt       string   `json:"sent_at,omitempty"`
	Recipients   []string `json:"recipients,omitempty"`
	OptedOut     []string `json:"opted_out,omitempty"`
	Count        *int     `json:"recipient_count,omitempty"`
}

// receiptBody is one item of POST /v1/receipts.
type receiptBody struct {
	Message string `json:"message_id"`
	ReadAt  string `json:"read_at,omitempty"`
	Reader  string `json:"reader_id,omitempty"`
}

func putMessage(id, sender string, recipients ...string) request {
	return request{method: http.MethodPut, path: messagePath(id), who: backend, body: putBody{Conversation: "room", Sender: sender, Recipients: recipients}}
}

func recallMessage(id string) request {
	return request{method: http.MethodDelete, path: messagePath(id), who: backend}
}

func eraseUser(id string) request {
	return request{method: http.MethodDelete, path: "/v1/users/" + url.PathEscape(id), who: backend}
}

// readMessages is what the backend sends for a reader.
func readMessages(reader string, ids ...string) request {
	var items []receiptBody
	for _, id := range ids {
		items = append(items, receiptBody{Message: id, Reader: reader})
	}
	return postReceipts(backend, items...)
}

func postReceipts(who caller, items ...receiptBody) request {
	return request{method: http.MethodPost, path: "/v1/receipts", who: who, body: map[string]any{"receipts": items}}
}

func pullMessage(who caller, id string, query url.Values) request {
	return request{method: http.MethodGet, path: receiptsPath(id), who: who, query: query}
}

// pull is the body of a pull: one page, or all of them put together.
type pull struct {
	MessageID      string  `json:"message_id"`
	Conversation   string  `json:"conversation_id"`
	Sender         *string `json:"sender_id"`
	SentAt         string  `json:"sent_at"`
	State          string  `json:"state"`
	Version        string  `json:"version"`
	ReadCount      int     `json:"read_count"`
	RecipientCount int     `json:"recipient_count"`
	OptedOutCount  *int    `json:"opted_out_count"`
	Complete       bool    `json:"complete"`
	Truncated      bool    `json:"truncated"`
	Delta          bool    `json:"delta"`
	Readers        []entry `json:"readers"`
	Next           *string `json:"next"`
}

type entry struct {
	Reader string `json:"reader_id"`
	ReadAt string `json:"read_at"`
}

// errUnanswered is for a pull that may be tried again: a connection that broke,
// or a 503.
var errUnanswered = errors.New("no answer")

// errGone is for pages that cannot be continued: pull again from the first.
var errGone = errors.New("cursor gone")

// errHidden is for a 404.
var errHidden = errors.New("not found")

// pullAll pulls a message and follows its pages. The error wraps errUnanswered,
// errGone or errHidden, unless the answer is one that must not be.
func (c *client) pullAll(ctx context.Context, who caller, id string, query url.Values) (*pull, error) {
	limit, all := 200, (*pull)(nil)
	if l := query.Get("limit"); l != "" {
		limit, _ = strconv.Atoi(l) // The tests' own.
	}
	for {
		a, err := c.ask(ctx, c.query, pullMessage(who, id, query))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errUnanswered, err)
		}
		page, err := parsePull(a, id, limit)
		if err != nil {
			return nil, err
		}
		if all == nil {
			all = page
		} else if err := all.append(page); err != nil {
			return nil, fmt.Errorf("%s: %w", a.request, err)
		}
		if page.Next == nil {
			all.Next = nil
			return all, nil
		}
		query = url.Values{"limit": query["limit"], "since": query["since"], "cursor": {*page.Next}}
		for name, values := range query {
			if len(values) == 0 {
				delete(query, name)
			}
		}
	}
}

// parsePull reads one page.
func parsePull(a answer, id string, limit int) (*pull, error) {
	switch {
	case a.status == http.StatusServiceUnavailable:
		return nil, fmt.Errorf("%w: %s", errUnanswered, a.code())
	case a.code() == "cursor_gone":
		return nil, errGone
	case a.code() == "not_found":
		return nil, errHidden
	case a.status != http.StatusOK:
		return nil, fmt.Errorf("%s: answered %d %s", a.request, a.status, a.body)
	}
	p := new(pull)
	if err := json.Unmarshal(a.body, p); err != nil {
		return nil, fmt.Errorf("%s: %w in %s", a.request, err, a.body)
	}
	switch {
	case p.MessageID != id:
		return nil, fmt.Errorf("%s: answered for message %q", a.request, p.MessageID)
	case len(p.Readers) > limit:
		return nil, fmt.Errorf("%s: %d readers where at most %d were asked for", a.request, len(p.Readers), limit)
	case a.header.Get("ETag") != `W/"`+p.Version+`"`:
		return nil, fmt.Errorf("%s: ETag %s of version %s", a.request, a.header.Get("ETag"), p.Version)
	}
	for _, name := range []string{"Seenby-Position", "Seenby-Lag-Ms", "Seenby-Poll"} {
		if a.header.Get(name) == "" {
			return nil, fmt.Errorf("%s: answered without %s", a.request, name)
		}
	}
	return p, nil
}

// append puts a page behind the earlier ones, of whose version it must be.
func (p *pull) append(page *pull) error {
	head := func(p *pull) string {
		q := *p
		q.Readers, q.Next = nil, nil
		b, _ := json.Marshal(q) // It was just decoded.
		return string(b)
	}
	if was, is := head(p), head(page); was != is {
		return fmt.Errorf("pages of one pull differ: %s, then %s", was, is)
	}
	p.Readers = append(p.Readers, page.Readers...)
	return nil
}
