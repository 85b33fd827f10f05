package contract

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/seenby/seenby/events"
)

// MaxDepth is how deep a body may nest.
const MaxDepth = 16

// body reads one strict JSON object: jsontext refuses invalid UTF-8, unpaired
// surrogate escapes and duplicate names by itself. Bad fields are collected, so
// that a client learns of all of them at once; bad syntax ends the reading.
type body struct {
	dec    *jsontext.Decoder
	seen   []string
	errors []FieldError
	buffer []byte
}

// What a problem document lists at most: enough that each bad one of 500 items
// is named, and not so much that a bad request gets a huge answer.
const (
	maxErrors       = 1000
	maxErrorsAnItem = 2
)

// errSyntax wraps whatever makes the body no strict JSON object.
var errSyntax = errors.New("not a strict JSON object")

// readBody reads b; it calls member for the name of each member of the top
// object, and member must consume the value.
func readBody(b []byte, member func(d *body, name string) error) (*body, *Problem) {
	d := &body{dec: jsontext.NewDecoder(bytes.NewBuffer(b)), buffer: make([]byte, 0, len(b))}
	err := d.object(-1, "", func(d *body, name string) error {
		d.seen = append(d.seen, name)
		return member(d, name)
	})
	if err == nil {
		if _, err = d.dec.ReadToken(); err == nil {
			err = fmt.Errorf("%w: something follows the object", errSyntax)
		} else if errors.Is(err, io.EOF) {
			err = nil
		}
	}
	if err != nil {
		return nil, NewProblem(BadJSON, "the body must be one JSON object in strict form: %s", syntaxDetail(err))
	}
	return d, nil
}

// has says whether the top object has the member, bad or not.
func (d *body) has(name string) bool { return slices.Contains(d.seen, name) }

// require notes each of the names that the top object lacks.
func (d *body) require(names ...string) {
	for _, name := range names {
		if !d.has(name) {
			d.bad(-1, name, Required, "%s is required", name)
		}
	}
}

// problem returns what is wrong with the fields, or nil.
func (d *body) problem() *Problem {
	if len(d.errors) == 0 {
		return nil
	}
	return &Problem{Code: InvalidBody, Detail: d.errors[0].Detail, Errors: d.errors}
}

// syntaxDetail says what is wrong without quoting what the client sent.
func syntaxDetail(err error) string {
	var at *jsontext.SyntacticError
	switch {
	case errors.As(err, &at):
		// Some of jsontext's errors quote the body behind a back quote.
		what, _, _ := strings.Cut(at.Err.Error(), "`")
		return fmt.Sprintf("%s at byte %d", strings.TrimSpace(what), at.ByteOffset)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "it ends too early"
	}
	return err.Error()
}

// bad notes a bad field, within the limits of what is listed. Index is -1
// outside lists.
func (d *body) bad(index int, field string, code Code, detail string, args ...any) {
	n := len(d.errors)
	if n == maxErrors || index >= 0 && n >= maxErrorsAnItem && d.errors[n-maxErrorsAnItem].at(index) {
		return
	}
	e := FieldError{Field: field, Code: code, Detail: fmt.Sprintf(detail, args...)}
	if index >= 0 {
		e.Index = &index
	}
	d.errors = append(d.errors, e)
}

func (e FieldError) at(index int) bool { return e.Index != nil && *e.Index == index }

// object reads an object. What is none is a syntax error at the top, and a bad
// field elsewhere.
func (d *body) object(index int, name string, member func(d *body, name string) error) error {
	if d.dec.PeekKind() != '{' {
		if d.dec.StackDepth() == 0 {
			if err := d.skip(); err != nil {
				return err
			}
			return fmt.Errorf("%w: not an object", errSyntax)
		}
		return d.wrongType(index, name, "an object")
	}
	if _, err := d.dec.ReadToken(); err != nil {
		return err
	}
	for d.dec.PeekKind() == '"' {
		raw, err := d.str()
		if err != nil {
			return err
		}
		name, known := fieldNames[string(raw)]
		if !known {
			name = string(raw)
		}
		if err := member(d, name); err != nil {
			return err
		}
	}
	_, err := d.dec.ReadToken()
	return err
}

// fieldNames has the names that requests have, so that reading one allocates
// nothing.
var fieldNames = func() map[string]string {
	names := make(map[string]string)
	for _, name := range []string{"receipts", "message_id", "reader_id", "read_at", "conversation_id", "sender_id", "sent_at",
		"recipients", "opted_out", "recipient_count", "messages", "since", "limit", "readers", "min_position"} {
		names[name] = name
	}
	return names
}()

// str reads a string, or the name of a member. It is valid until the next reading.
func (d *body) str() ([]byte, error) {
	raw, err := d.dec.ReadValue()
	if err != nil {
		return nil, err
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1], nil
	}
	return jsontext.AppendUnquote(nil, raw)
}

// array calls item for each element of a member of the request, which must consume it.
func (d *body) array(name string, item func(d *body, i int) error) error {
	if d.dec.PeekKind() != '[' {
		return d.wrongType(-1, name, "a list")
	}
	if _, err := d.dec.ReadToken(); err != nil {
		return err
	}
	for i := 0; ; i++ {
		switch d.dec.PeekKind() {
		case ']', 0:
			_, err := d.dec.ReadToken()
			return err
		}
		if err := item(d, i); err != nil {
			return err
		}
	}
}

// unknown refuses a member that the request does not have.
func (d *body) unknown(index int, name string) error {
	name = short(name)
	d.bad(index, name, UnknownField, "there is no field %q here", name)
	return d.skip()
}

// short cuts off a name that a client made up, so that it does not get it back
// at any length.
func short(name string) string {
	const most = 64
	if len(name) <= most {
		return name
	}
	return strings.ToValidUTF8(name[:most], "") + "…"
}

func (d *body) wrongType(index int, name, want string) error {
	d.bad(index, name, WrongType, "%s must be %s", name, want)
	return d.skip()
}

// skip consumes one value of any kind.
func (d *body) skip() error {
	depth := d.dec.StackDepth()
	for {
		if _, err := d.dec.ReadToken(); err != nil {
			return err
		}
		if d.dec.StackDepth() > MaxDepth {
			return fmt.Errorf("%w: nested deeper than %d", errSyntax, MaxDepth)
		}
		if d.dec.StackDepth() <= depth {
			return nil
		}
	}
}

// text reads a string, which is valid until the next reading; ok is false if it was
// something else.
func (d *body) text(index int, name string) (s []byte, ok bool, err error) {
	if d.dec.PeekKind() != '"' {
		return nil, false, d.wrongType(index, name, "a string")
	}
	s, err = d.str()
	return s, err == nil, err
}

// id reads an ID.
func (d *body) id(index int, name string, to *[]byte) error {
	s, ok, err := d.text(index, name)
	if err != nil || !ok {
		return err
	}
	if err := events.CheckID(s); err != nil {
		d.bad(index, name, BadID, "%s: %v", name, err)
		return nil
	}
	// Those of a body lie in one buffer, where it has room: what they were read from
	// does not outlive the decoder.
	from := len(d.buffer)
	d.buffer = append(d.buffer, s...)
	*to = d.buffer[from:len(d.buffer):len(d.buffer)]
	return nil
}

// time reads a time into Unix milliseconds.
func (d *body) time(index int, name string, to *int64) error {
	s, ok, err := d.text(index, name)
	if err != nil || !ok {
		return err
	}
	ms, err := ParseTime(string(s))
	if err != nil {
		d.bad(index, name, BadTime, "%s: %v", name, err)
		return nil
	}
	*to = ms
	return nil
}

// count reads an integer from 0 to most.
func (d *body) count(name string, most uint32, to *uint32) error {
	if d.dec.PeekKind() != '0' {
		return d.wrongType(-1, name, "an integer")
	}
	tok, err := d.dec.ReadToken()
	if err != nil {
		return err
	}
	// Any spelling of an integer is one: 3, 3.0, 3e0.
	f, err := strconv.ParseFloat(tok.String(), 64)
	switch {
	case err == nil && f != math.Trunc(f):
		d.bad(-1, name, WrongType, "%s must be an integer", name)
	case err != nil || f < 0 || f > float64(most):
		d.bad(-1, name, OutOfRange, "%s must be from 0 to %d", name, most)
	default:
		*to = uint32(f)
	}
	return nil
}
