// Package watch is the proactive pull for people at a terminal: it looks at one
// message, as a sender's client would, and shows who has read it. [Screen] draws
// on a terminal, where a key press looks again; [Lines] writes a line for each
// change, and ends with the look.
//
// Names are other people's choice: whatever is in them, they are shown as text
// and move nothing else on the screen.
package watch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/seenby/seenby/services/pull"
)

// Options is what to look at, and how.
type Options struct {
	// Pull is how to reach the server. OnChange is this package's to set.
	Pull      pull.Config
	MessageID string
	// Positions are presented to the server: see [pull.Message].
	Positions []string
	Out       io.Writer
	// Location is where times are shown; nil is UTC.
	Location *time.Location
}

// watching is a look under way.
type watching struct {
	Options
	watcher *pull.Watcher
	// changed has something in it if the view may have changed.
	changed chan struct{}
}

// begin begins to look. The result has to be closed.
func begin(o Options) (*watching, error) {
	if o.Location == nil {
		o.Location = time.UTC
	}
	w := &watching{Options: o, changed: make(chan struct{}, 1)}
	w.Pull.OnChange = func(string) {
		select {
		case w.changed <- struct{}{}:
		default:
		}
	}
	watcher, err := pull.New(w.Pull)
	if err != nil {
		return nil, err
	}
	w.watcher = watcher
	watcher.Look(pull.Message{ID: o.MessageID, Positions: o.Positions})
	return w, nil
}

func (w *watching) view() pull.View { return w.watcher.View(w.MessageID) }

func (w *watching) close() { w.watcher.Close() }

// Lines looks at the message once, and writes one line for each change: a
// reader, a recall, a pull that failed, and at last why the look has ended. It
// returns an error if ctx ends before the look, if the look failed, and if its
// last pull did. What the server says in it is shown as text, too.
func Lines(ctx context.Context, o Options) error {
	w, err := begin(o)
	if err != nil {
		return err
	}
	defer w.close()
	l := &lines{out: o.Out, location: w.Location}
	for {
		v := w.view()
		if err := l.write(v); err != nil {
			return fmt.Errorf("writing what was read: %w", err)
		}
		if !v.Looking {
			return shown(v.Err)
		}
		select {
		case <-w.changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// shownError is an error whose text may go to a terminal: it has a server's words
// in it, or those of whoever answers in its place.
type shownError struct{ error }

func shown(err error) error {
	if err == nil {
		return nil
	}
	return shownError{err}
}

func (e shownError) Error() string { return text(e.error.Error()) }
func (e shownError) Unwrap() error { return e.error }

// notFound says whether err is that there is no such message to see.
func notFound(err error) bool {
	var problem *pull.Error
	return errors.As(err, &problem) && problem.Code == "not_found"
}

// failure is an error for people.
func failure(err error) string {
	if notFound(err) {
		return "not found: there is no such message, or it is not yours to see"
	}
	return text(err.Error())
}

// stopped says why a look has ended.
func stopped(v pull.View) string {
	switch {
	case v.Ended == pull.Stopped && v.State == pull.Recalled:
		return "recalled"
	case v.Ended == pull.Stopped:
		return "complete"
	case v.Ended == pull.Failed && v.Err != nil:
		return failure(v.Err)
	case v.Err != nil:
		return string(v.Ended) + "; " + failure(v.Err)
	}
	return string(v.Ended)
}

// readBy is the answer in short.
func readBy(v pull.View) string {
	if v.Version == "" {
		return "no answer yet"
	}
	if v.State == pull.Recalled {
		return "recalled"
	}
	return fmt.Sprintf("read by %d of %d", v.ReadCount, v.RecipientCount)
}
