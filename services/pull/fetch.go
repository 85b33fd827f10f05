package pull

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

const (
	// maxBody bounds an answer: 5,000 readers whose IDs' every byte is escaped.
	maxBody = 8 << 20
	// maxPull bounds all pages together: 20,000 such readers, three times.
	maxPull = 64 << 20
	// maxErrorBody bounds what is read of an answer that is not a success.
	maxErrorBody = 64 << 10
)

var (
	errTimeout  = errors.New("no answer in time")
	errTooLarge = errors.New("the answer is too large")
)

// fetcher is what all requests have in common.
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

// errDifference is for an answer that has only what was added, to nothing.
var errDifference = errors.New("the answer is a difference to what was not presented")

// follow gets the pages that a set goes on with, and begins it again where the
// contract says so: that is still the same pull. Before each further request it asks
// wanted whether it may. What pages say is kept back until the last is there.
func (s *session) follow(ctx context.Context, c *continued, wanted func() bool) *answer {
	p := &pages{session: s, item: c.item, answer: answer{message: c.first.message, readers: c.first.readers}}
	p.to(c.first.next)
	for {
		r, lost := s.authorized(ctx, p.request, wanted)
		if lost != nil {
			p.answer.outcome = *lost
			return &p.answer
		}
		p.answer.bytes += int64(len(r.body))
		done, err := p.take(r)
		if err != nil {
			p.answer.outcome = *s.lost(ctx, err)
		}
		if done || err != nil {
			return &p.answer
		}
		if !wanted() {
			p.answer.verdict = dropped
			return &p.answer
		}
	}
}

// pages is the following of one set's pages.
type pages struct {
	*session
	item    item
	cursor  string
	cursors map[string]struct{}
	// restarted: a 410 cursor_gone was answered by beginning again.
	restarted bool
	answer    answer
}

func (p *pages) to(cursor string) {
	if p.cursors == nil {
		p.cursors = make(map[string]struct{})
	}
	p.cursor = cursor
	p.cursors[cursor] = struct{}{}
}

// take looks at a response. It returns false if there is another request to make. An
// error is one of the network's kind.
func (p *pages) take(r *response) (done bool, err error) {
	switch {
	case r.status == http.StatusOK:
		return p.page(r)
	case r.status >= 400:
		problem := decodeError(r.status, r.body)
		if r.status == http.StatusGone && problem.Code == codeCursorGone && !p.restarted {
			p.restarted, p.cursor = true, ""
			return false, nil
		}
		p.answer.outcome = refusal(r, problem)
		if r.status == http.StatusNotFound && problem.Code != codeNoSuchRoute {
			// It was there a moment ago: it has expired, or the next tick will tell.
			p.answer.verdict = absent
		}
		return true, nil
	}
	return true, fmt.Errorf("the answer is not one that a page can have: %w", decodeError(r.status, nil))
}

func (p *pages) page(r *response) (done bool, err error) {
	page, err := decodePage(r.body)
	if err != nil {
		return true, fmt.Errorf("the answer cannot be understood: %w", err)
	}
	a := &p.answer
	switch {
	case page.MessageID != p.item.id:
		return true, fmt.Errorf("the answer is about message %q", page.MessageID)
	case len(page.Readers) > p.pageSize:
		return true, fmt.Errorf("a page has %d readers, of %d that were asked for", len(page.Readers), p.pageSize)
	case p.cursor == "" && page.Delta && p.item.version == "":
		return true, errDifference
	case p.cursor == "":
		a.message, a.readers, p.cursors = page.wireMessage, page.Readers, nil
	case page.Version != a.message.Version:
		return true, fmt.Errorf("a page is of version %s, the first was of %s", page.Version, a.message.Version)
	default:
		a.readers = append(a.readers, page.Readers...)
	}
	if a.bytes > maxPull {
		return true, errTooLarge
	}
	if page.Next == nil {
		return true, nil
	}
	if _, again := p.cursors[*page.Next]; again {
		return true, errors.New("a page continues with a cursor that was followed already")
	}
	p.to(*page.Next)
	return false, nil
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

// send makes one request and reads its answer.
func (s *session) send(ctx context.Context, request func(context.Context) (*http.Request, error)) (*response, error) {
	ctx, release := s.limited(ctx)
	defer release()
	req, err := request(ctx)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Authorization", "Bearer "+s.token)
	var read int64
	defer func() { s.spent(read) }()
	rsp, err := s.client.Do(req)
	if err != nil {
		return nil, explained(ctx, err)
	}
	defer func() { _ = rsp.Body.Close() }() // all that is needed of it has been read
	limit := int64(maxErrorBody)
	if rsp.StatusCode == http.StatusOK {
		limit = maxBody
	}
	body, err := io.ReadAll(io.LimitReader(rsp.Body, limit+1))
	read = int64(len(body))
	if err != nil {
		return nil, explained(ctx, err)
	}
	if read > limit {
		if rsp.StatusCode == http.StatusOK {
			return nil, errTooLarge
		}
		body = nil
	}
	return &response{status: rsp.StatusCode, header: rsp.Header, body: body}, nil
}

// request is that of the page that the cursor leads to, or without one of the first.
func (p *pages) request(ctx context.Context) (*http.Request, error) {
	query := url.Values{"limit": {strconv.Itoa(p.pageSize)}}
	if p.cursor != "" {
		query.Set("cursor", p.cursor)
	} else if p.item.version != "" {
		query.Set("since", p.item.version)
	}
	u := messageURL(p.base, p.item.id)
	u.RawQuery = query.Encode()
	return http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
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
