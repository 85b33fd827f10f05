package pull

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"
)

const (
	// maxPositions is how many positions a request may present.
	maxPositions = 8
	// maxBatchReaders is how many readers of each message a batch may ask for.
	maxBatchReaders = 200
)

// wireBatch is the body of POST /v1/pulls.
type wireBatch struct {
	Messages  []wireItem `json:"messages"`
	Limit     int        `json:"limit"`
	Positions []string   `json:"min_position,omitempty"`
}

type wireItem struct {
	MessageID string `json:"message_id"`
	Since     string `json:"since,omitempty"`
}

// wireAnswer is its answer.
type wireAnswer struct {
	Messages  []json.RawMessage `json:"messages"`
	Unchanged []string          `json:"unchanged"`
	Failed    []struct {
		MessageID string `json:"message_id"`
		Code      string `json:"code"`
	} `json:"failed"`
	Poll struct {
		Interval json.Number `json:"interval_ms"`
		Window   json.Number `json:"window_ms"`
	} `json:"poll"`
}

// session is the requests of one pull. They share the token, which is refreshed once
// if it is refused.
type session struct {
	*fetcher
	// spent is told of each request, and of its answer's bytes.
	spent     func(bytes int64)
	token     string
	refreshed bool
}

// authorized makes a request with the token, and once again with a fresh one if that
// is refused and again allows it. A response of 401 is never returned: it is an
// outcome.
func (s *session) authorized(ctx context.Context, request func(ctx context.Context) (*http.Request, error), again func() bool) (*response, *outcome) {
	if s.token == "" {
		token, err := s.authorize(ctx, "")
		if err != nil {
			return nil, s.lost(ctx, err)
		}
		s.token = token
	}
	for {
		r, err := s.send(ctx, request)
		if err != nil {
			return nil, s.lost(ctx, err)
		}
		if r.status != http.StatusUnauthorized {
			return r, nil
		}
		var problem error = decodeError(r.status, r.body)
		if s.refreshed {
			return nil, &outcome{verdict: unauthorized, err: problem}
		}
		token, err := s.authorize(ctx, s.token)
		if err != nil {
			return nil, s.unless(ctx, &outcome{verdict: unauthorized, err: fmt.Errorf("%w (and then: %w)", problem, err)})
		}
		s.token, s.refreshed = token, true
		if !again() {
			return nil, &outcome{verdict: dropped, err: problem}
		}
	}
}

// lost is the outcome of a request that has no answer.
func (s *session) lost(ctx context.Context, err error) *outcome {
	return s.unless(ctx, &outcome{verdict: broken, err: err})
}

// unless is an outcome, unless nobody waits for it any more.
func (*session) unless(ctx context.Context, o *outcome) *outcome {
	if ctx.Err() != nil {
		return &outcome{verdict: dropped, err: o.err}
	}
	return o
}

// post pulls a batch. Where the token or positions are refused it is asked again with
// another or without them: that is still the same pull. Before that, again says what
// is still to be asked for, or false.
func (s *session) post(ctx context.Context, a ask, again func() (ask, bool)) *batchAnswer {
	b := &batchAnswer{presented: a.positions}
	request := func(ctx context.Context) (*http.Request, error) { return s.batchRequest(ctx, &a, b.gone) }
	still := func() (ok bool) {
		a, ok = again()
		return ok
	}
	for {
		r, failed := s.authorized(ctx, request, still)
		if failed != nil {
			b.outcome = *failed
			return b
		}
		if r.status == http.StatusOK {
			if err := b.take(r, a.items, s.pageSize); err != nil {
				b.answers, b.polled = nil, false
				b.outcome = *s.lost(ctx, fmt.Errorf("the answer cannot be understood: %w", err))
			}
			return b
		}
		problem := decodeError(r.status, r.body)
		if r.status == http.StatusGone && problem.Code == codePositionGone && !b.gone && len(b.presented) > 0 {
			if b.gone = true; still() {
				continue
			}
			b.outcome = outcome{verdict: dropped, err: problem}
			return b
		}
		b.refuse(r, problem, len(a.items))
		return b
	}
}

func (s *session) batchRequest(ctx context.Context, a *ask, withoutPositions bool) (*http.Request, error) {
	w := wireBatch{Limit: min(s.pageSize, maxBatchReaders)}
	for _, it := range a.items {
		w.Messages = append(w.Messages, wireItem{it.id, it.version})
	}
	if !withoutPositions {
		w.Positions = a.positions
	}
	body, err := json.Marshal(w)
	if err != nil {
		return nil, err
	}
	u := *s.base
	u.Path, u.RawPath = s.base.Path+"/v1/pulls", s.base.EscapedPath()+"/v1/pulls"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	return req, nil
}

// take takes a 200: an answer for each item.
func (b *batchAnswer) take(r *response, items []item, pageSize int) error {
	var w wireAnswer
	if err := json.Unmarshal(r.body, &w); err != nil {
		return err
	}
	b.answers = make([]*answer, len(items))
	at := func(id string) (int, error) {
		i := slices.IndexFunc(items, func(it item) bool { return it.id == id })
		if i < 0 || b.answers[i] != nil {
			return 0, fmt.Errorf("it is about message %q, which was not asked for, or is there twice", id)
		}
		return i, nil
	}
	for _, raw := range w.Messages {
		page, err := decodePage(raw)
		if err != nil {
			return err
		}
		i, err := at(page.MessageID)
		if err != nil {
			return err
		}
		if page.Delta && items[i].version == "" {
			return errDifference
		}
		if len(page.Readers) > min(pageSize, maxBatchReaders) {
			return fmt.Errorf("message %q has %d readers, more than were asked for", page.MessageID, len(page.Readers))
		}
		b.answers[i] = &answer{message: page.wireMessage, readers: page.Readers, bytes: int64(len(raw))}
		if page.Next != nil {
			b.answers[i].next = *page.Next
		}
	}
	for _, id := range w.Unchanged {
		i, err := at(id)
		if err != nil {
			return err
		}
		if items[i].version == "" {
			return errors.New("a message is unchanged that nothing was presented of")
		}
		b.answers[i] = &answer{unchanged: true, bytes: int64(len(id) + len(`"",`))}
	}
	for _, f := range w.Failed {
		i, err := at(f.MessageID)
		if err != nil {
			return err
		}
		o := outcome{verdict: failed, err: &Error{Status: http.StatusOK, Code: f.Code}}
		if f.Code == codeNotFound {
			o.verdict = absent
		}
		b.answers[i] = &answer{outcome: o}
	}
	if i := slices.Index(b.answers, nil); i >= 0 {
		return fmt.Errorf("it says nothing of message %q", items[i].id)
	}
	b.poll, b.polled = poll{interval: number(w.Poll.Interval), window: number(w.Poll.Window)}, true
	b.lag = lag(r.header)
	return nil
}

func number(n json.Number) time.Duration {
	ms, err := n.Int64()
	if err != nil || ms <= 0 {
		return 0
	}
	return time.Duration(min(ms, maxPoll.Milliseconds())) * time.Millisecond
}

// refuse takes an answer that is not a success. A 400 that names items ends their
// looks alone; the others are asked for again at the next tick.
func (b *batchAnswer) refuse(r *response, problem *Error, items int) {
	b.outcome = refusal(r, problem)
	if b.verdict != refused {
		return
	}
	b.gone = b.gone || problem.Code == codeBadPosition
	if len(problem.items) == 0 {
		return
	}
	b.answers = make([]*answer, items)
	for i := range b.answers {
		b.answers[i] = &answer{outcome: outcome{verdict: failed, err: problem}}
	}
	for _, e := range problem.items {
		if e.index >= 0 && e.index < items {
			// Presented again, it would be refused again, look after look.
			b.answers[e.index].verdict, b.answers[e.index].afresh = refused, e.code == codeBadVersion
		}
	}
}

// refusal is what an answer of 4xx or 5xx means to whatever it was for.
func refusal(r *response, problem *Error) outcome {
	o := outcome{verdict: refused, err: problem}
	switch {
	case r.status == http.StatusTooManyRequests, r.status == http.StatusServiceUnavailable:
		if wait, ok := retryAfter(r.header); ok {
			o.verdict, o.wait = delayed, wait
		} else {
			o.verdict = broken
		}
	case r.status >= 500 || r.status < 400:
		o.verdict = broken
	}
	return o
}
