package pull

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// wireMessage is an answer's body, as far as it is the same on every page.
type wireMessage struct {
	MessageID      string    `json:"message_id"`
	ConversationID string    `json:"conversation_id"`
	SenderID       *string   `json:"sender_id"`
	SentAt         time.Time `json:"sent_at"`
	State          State     `json:"state"`
	Version        string    `json:"version"`
	ReadCount      int       `json:"read_count"`
	RecipientCount int       `json:"recipient_count"`
	OptedOutCount  *int      `json:"opted_out_count"`
	Complete       bool      `json:"complete"`
	Truncated      bool      `json:"truncated"`
	Delta          bool      `json:"delta"`
}

type wirePage struct {
	wireMessage
	Readers []Reader `json:"readers"`
	Next    *string  `json:"next"`
}

// decodePage decodes what is told of one message, and checks what the client relies
// on.
func decodePage(body []byte) (*wirePage, error) {
	var p wirePage
	if err := json.Unmarshal(body, &p); err != nil {
		return nil, err
	}
	switch {
	case !opaque(p.Version):
		return nil, errors.New("it has no version")
	case p.Next != nil && !opaque(*p.Next):
		return nil, errors.New("its next is not a cursor")
	case p.ReadCount < 0 || p.RecipientCount < 0:
		return nil, errors.New("a count is negative")
	case slices.ContainsFunc(p.Readers, func(r Reader) bool { return r.ReaderID == "" }):
		return nil, errors.New("a reader has no ID")
	}
	return &p, nil
}

// opaque says whether s has the form of versions and cursors, which is safe in
// headers and queries.
func opaque(s string) bool {
	return s != "" && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") == ""
}

// Error is an answer of the server that is not a success, or what it says of one
// message of a batch. It is what [View.Err] wraps then.
type Error struct {
	// Status is the HTTP status; 200 where other messages were answered.
	Status int
	// Code is the problem's code, such as "not_found", to branch on; empty if the
	// answer was no problem document.
	Code string
	// Title and Detail are the problem's, for people.
	Title, Detail string

	// items are the items of a batch that it names.
	items []badItem
}

// badItem is an item that a problem names.
type badItem struct {
	index int
	code  string
}

func (e *Error) Error() string {
	text := strconv.Itoa(e.Status)
	if e.Code != "" {
		text += " " + e.Code
	} else if name := http.StatusText(e.Status); name != "" {
		text += " " + name
	}
	if e.Detail != "" {
		return text + ": " + e.Detail
	}
	if e.Title != "" {
		return text + ": " + e.Title
	}
	return text
}

// The codes that this client tells apart.
const (
	codeNotFound     = "not_found"
	codeNoSuchRoute  = "no_such_route"
	codeCursorGone   = "cursor_gone"
	codePositionGone = "position_gone"
	codeBadPosition  = "bad_position"
	codeBadVersion   = "bad_version"
)

// decodeError makes an Error of whatever body came with the status: proxies
// answer too.
func decodeError(status int, body []byte) *Error {
	var p struct {
		Code, Title, Detail string
		Errors              []struct {
			Index *int
			Code  string
		}
	}
	// Where it is no JSON, or its fields are no strings, the status has to do.
	if err := json.Unmarshal(body, &p); err != nil {
		return &Error{Status: status}
	}
	e := &Error{Status: status, Code: p.Code, Title: p.Title, Detail: p.Detail}
	for _, item := range p.Errors {
		if item.Index != nil {
			e.items = append(e.items, badItem{*item.Index, item.Code})
		}
	}
	return e
}

// retryAfter returns how long Retry-After asks to wait, and whether it does. A
// date is taken relative to the answer's own Date: clocks differ.
func retryAfter(h http.Header) (time.Duration, bool) {
	value := strings.TrimSpace(h.Get("Retry-After"))
	if value != "" && strings.Trim(value, "0123456789") == "" {
		seconds, err := strconv.ParseInt(value, 10, 64)
		if err != nil || seconds > int64(maxPoll/time.Second) {
			return maxPoll, true
		}
		return time.Duration(seconds) * time.Second, true
	}
	until, err := http.ParseTime(value)
	if err != nil {
		return 0, false
	}
	answered, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return 0, false
	}
	return min(max(0, until.Sub(answered)), maxPoll), true
}

// lag returns Seenby-Lag-Ms, or 0 where there is none.
func lag(h http.Header) time.Duration {
	ms, err := strconv.ParseInt(h.Get("Seenby-Lag-Ms"), 10, 64)
	if err != nil || ms < 0 {
		return 0
	}
	return time.Duration(min(ms, int64(1<<62)/int64(time.Millisecond))) * time.Millisecond
}
