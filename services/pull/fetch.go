package pull

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

const (
	// maxPositions is how many positions a request may present.
	maxPositions = 8
	// maxBody bounds a page: 2,000 readers whose IDs' every byte is escaped.
	maxBody = 4 << 20
	// maxPull bounds all pages together: 20,000 such readers, three times.
	maxPull = 64 << 20
	// maxErrorBody bounds what is read of an answer that is not a success.
	maxErrorBody = 64 << 10
)

var (
	errTimeout  = errors.New("no answer in time")
	errTooLarge = errors.New("the answer is too large")
)

// fetcher turns items into requests.
type fetcher struct {
	base     *url.URL
	client   *http.Client
	token    func(ctx context.Context, refused string) (string, error)
	pageSize int
	timeout  time.Duration
	clock    Clock
}

// response is an answer's end: body read, connection released.
type response struct {
	status int
	header http.Header
	body   []byte
}

// fetch pulls an item, all pages of it, and tries again where the contract says
// so: that is still the same pull. Before each further request it asks wanted
// whether it may.
func (f *fetcher) fetch(ctx context.Context, it item, wanted func() bool) *answer {
	p := &pulling{fetcher: f, item: it, positions: it.positions, wanted: wanted}
	if err := p.run(ctx); err != nil {
		p.answer.err = err
		if p.answer.verdict == answered {
			p.answer.verdict = broken
		}
	}
	if ctx.Err() != nil {
		p.answer.verdict = dropped
	}
	return &p.answer
}

// pulling is one fetch under way.
type pulling struct {
	*fetcher
	item   item
	wanted func() bool

	token     string
	refreshed bool
	// positions are what the first page presents: none after position_gone.
	positions []string
	cursor    string
	cursors   map[string]struct{}
	// restarted: a 410 cursor_gone was answered by beginning again.
	restarted bool
	answer    answer
}

func (p *pulling) run(ctx context.Context) error {
	token, err := p.authorize(ctx, "")
	if err != nil {
		return err
	}
	p.token = token
	for {
		r, err := p.get(ctx)
		if err != nil {
			return err
		}
		p.answer.bytes += int64(len(r.body))
		done, err := p.take(ctx, r)
		if done || err != nil {
			return err
		}
		if !p.wanted() {
			p.answer.verdict = dropped
			return nil
		}
	}
}

// take looks at a response. It returns false if the pull goes on with another
// request. An error without a verdict is one of the network's kind.
func (p *pulling) take(ctx context.Context, r *response) (done bool, err error) {
	switch {
	case r.status == http.StatusOK:
		return p.page(r)
	case r.status == http.StatusNotModified && p.item.version != "" && p.cursor == "":
		p.answer.unchanged = true
		p.succeed(r)
		return true, nil
	case r.status >= 400:
		return p.problem(ctx, r, decodeError(r.status, r.body))
	}
	return true, fmt.Errorf("the answer is not one that a pull can have: %w", decodeError(r.status, nil))
}

// page takes a 200. What its pages say is kept back until the last is there.
func (p *pulling) page(r *response) (done bool, err error) {
	page, err := decodePage(r.body, p.item.id)
	if err != nil {
		return true, fmt.Errorf("the answer cannot be understood: %w", err)
	}
	a := &p.answer
	switch {
	case len(page.Readers) > p.pageSize:
		return true, fmt.Errorf("a page has %d readers, of %d that were asked for", len(page.Readers), p.pageSize)
	case p.cursor == "":
		if page.Delta && p.item.version == "" {
			return true, errors.New("the answer is a difference to what was not presented")
		}
		a.message, a.readers, p.cursors = page.wireMessage, page.Readers, make(map[string]struct{})
	case page.Version != a.message.Version:
		return true, fmt.Errorf("a page is of version %s, the first was of %s", page.Version, a.message.Version)
	default:
		a.readers = append(a.readers, page.Readers...)
	}
	if a.bytes > maxPull {
		return true, errTooLarge
	}
	if page.Next == nil {
		p.succeed(r)
		return true, nil
	}
	if _, again := p.cursors[*page.Next]; again {
		return true, errors.New("a page continues with a cursor that was followed already")
	}
	p.cursor = *page.Next
	p.cursors[p.cursor] = struct{}{}
	return false, nil
}

func (p *pulling) succeed(r *response) {
	a := &p.answer
	a.poll, a.polled = parsePoll(r.header.Values("Seenby-Poll"))
	a.lag = lag(r.header)
	a.spent, a.presented = len(p.item.positions), len(p.positions) > 0
}

// problem takes an answer that is not a success.
func (p *pulling) problem(ctx context.Context, r *response, problem *Error) (done bool, err error) {
	a := &p.answer
	switch {
	case r.status == http.StatusUnauthorized:
		return p.refresh(ctx, problem)
	case r.status == http.StatusGone && p.again(problem.Code):
		return false, nil
	case r.status == http.StatusTooManyRequests, r.status == http.StatusServiceUnavailable:
		if wait, ok := retryAfter(r.header); ok {
			a.verdict, a.wait = delayed, wait
		} else {
			a.verdict = broken
		}
	case r.status >= 500:
		a.verdict = broken
	case r.status == http.StatusNotFound && problem.Code != codeNoSuchRoute:
		a.verdict = absent
		if len(p.positions) > 0 || p.item.presented {
			a.verdict, a.spent, a.presented = refused, len(p.item.positions), true
		}
	default:
		a.verdict = refused
		// Presented again, they would be refused again, look after look.
		a.afresh = problem.Code == codeBadVersion
		if problem.Code == codeBadPosition {
			a.spent = len(p.item.positions)
		}
	}
	return true, problem
}

// refresh has a refused token replaced, once.
func (p *pulling) refresh(ctx context.Context, problem *Error) (done bool, err error) {
	p.answer.verdict = unauthorized
	if p.refreshed {
		return true, problem
	}
	token, err := p.authorize(ctx, p.token)
	if err != nil {
		return true, fmt.Errorf("%w (and then: %w)", problem, err)
	}
	p.token, p.refreshed, p.answer.verdict = token, true, answered
	return false, nil
}

// again begins the pull anew, without what a 410 says is gone. It returns false
// where that has been done already, and for a code that nothing is known of.
func (p *pulling) again(code string) bool {
	switch {
	case code == codeCursorGone && !p.restarted:
		p.restarted = true
	case code == codePositionGone && len(p.positions) > 0:
		p.positions, p.answer.spent = nil, len(p.item.positions)
	default:
		return false
	}
	p.cursor = ""
	return true
}

// authorize returns a token: another than refused, unless that is empty.
func (f *fetcher) authorize(ctx context.Context, refused string) (string, error) {
	ctx, release := f.limited(ctx)
	defer release()
	token, err := f.token(ctx, refused)
	if err != nil {
		return "", fmt.Errorf("no token: %w", explained(ctx, err))
	}
	return token, nil
}

// get makes one request and reads its answer.
func (p *pulling) get(ctx context.Context) (*response, error) {
	ctx, release := p.limited(ctx)
	defer release()
	req, err := p.request(ctx)
	if err != nil {
		return nil, err
	}
	rsp, err := p.client.Do(req)
	if err != nil {
		return nil, explained(ctx, err)
	}
	defer func() { _ = rsp.Body.Close() }() // all that is needed of it has been read
	limit := int64(maxErrorBody)
	if rsp.StatusCode == http.StatusOK {
		limit = maxBody
	}
	body, err := io.ReadAll(io.LimitReader(rsp.Body, limit+1))
	if err != nil {
		return nil, explained(ctx, err)
	}
	if int64(len(body)) > limit {
		if rsp.StatusCode == http.StatusOK {
			return nil, errTooLarge
		}
		body = nil
	}
	return &response{status: rsp.StatusCode, header: rsp.Header, body: body}, nil
}

func (p *pulling) request(ctx context.Context) (*http.Request, error) {
	query := url.Values{"limit": {strconv.Itoa(p.pageSize)}}
	if p.cursor != "" {
		// The cursor stands for the rest. A condition would apply to the page.
		query.Set("cursor", p.cursor)
	} else {
		if p.item.version != "" {
			query.Set("since", p.item.version)
		}
		if len(p.positions) > 0 {
			query["min_position"] = slices.Clone(p.positions)
		}
	}
	u := messageURL(p.base, p.item.id)
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Authorization", "Bearer "+p.token)
	if p.cursor == "" && p.item.version != "" {
		req.Header.Set("If-None-Match", `W/"`+p.item.version+`"`)
	}
	return req, nil
}

// messageURL returns where a message's receipts are. The ID is one segment,
// whatever is in it.
func messageURL(base *url.URL, id string) *url.URL {
	u := *base
	u.Path = base.Path + "/v1/messages/" + id + "/receipts"
	u.RawPath = base.EscapedPath() + "/v1/messages/" + url.PathEscape(id) + "/receipts"
	return &u
}

// limited returns a context that ends with the time for one request.
func (f *fetcher) limited(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := f.clock.AfterFunc(f.timeout, func() { cancel(errTimeout) })
	return ctx, func() { stop(); cancel(nil) }
}

// explained tells a time-out from other errors, which name only the context.
func explained(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errTimeout) {
		return errTimeout
	}
	return err
}
