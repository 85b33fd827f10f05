package watch

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/seenby/seenby/services/pull"
)

// Terminal is what [Screen] needs to know of a terminal. The terminal has to be
// in raw mode, so that keys come at once and are not shown.
type Terminal struct {
	// Keys is read until it ends. A read that is under way when Screen returns is
	// not waited for: it ends with the next key, or with the process.
	Keys io.Reader
	// Size returns the width and height, in characters.
	Size func() (width, height int)
	// Resized tells of a new size; nil if nothing does.
	Resized <-chan os.Signal
}

// What is sent to the terminal. The alternate screen keeps what was there; lines
// that are longer than thought are cut by the terminal, not wrapped.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l\x1b[?7l"
	leaveScreen = "\x1b[?7h\x1b[?25h\x1b[?1049l"
	home        = "\x1b[H"
	clearLine   = "\x1b[K"
	clearBelow  = "\x1b[J"
)

const (
	ctrlC  = 0x03
	ctrlD  = 0x04
	escape = 0x1b
)

// Screen looks at the message and shows it on a terminal, until q, ctrl-C or
// ctrl-D is pressed, the keys end, or ctx does, which is returned as an error.
// Any other key looks again. It leaves the terminal as it was, but for one line
// that says how things stand.
func Screen(ctx context.Context, o Options, t Terminal) (err error) {
	w, err := begin(o)
	if err != nil {
		return err
	}
	defer w.close()
	if err := w.print(enterScreen); err != nil {
		return err
	}
	defer func() {
		if e := w.print(leaveScreen + summary(w.view()) + "\r\n"); err == nil {
			err = e
		}
	}()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	keys := make(chan []byte)
	go readKeys(ctx, t.Keys, keys)
	for {
		if err := w.draw(t); err != nil {
			return err
		}
		select {
		case <-w.changed:
		case <-t.Resized:
		case pressed, more := <-keys:
			if !more || quits(pressed) {
				return nil
			}
			w.watcher.Refresh(w.MessageID)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// readKeys sends what is read of keys, read by read: a key that sends several
// bytes sends them at once. It ends when reading fails, or at the first key after
// ctx.
func readKeys(ctx context.Context, keys io.Reader, to chan<- []byte) {
	defer close(to)
	for {
		buf := make([]byte, 64)
		n, err := keys.Read(buf)
		if n > 0 {
			select {
			case to <- buf[:n]:
			case <-ctx.Done():
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// quits says whether one of the keys ends it. Arrows and the like are an escape
// and letters, which are not keys by themselves.
func quits(pressed []byte) bool {
	for _, b := range pressed {
		switch b {
		case ctrlC, ctrlD:
			return true
		case 'q', 'Q':
			if pressed[0] != escape {
				return true
			}
		}
	}
	return false
}

func (w *watching) print(s string) error {
	if _, err := io.WriteString(w.Out, s); err != nil {
		return fmt.Errorf("writing to the terminal: %w", err)
	}
	return nil
}

func (w *watching) draw(t Terminal) error {
	columns, rows := t.Size()
	var b strings.Builder
	b.WriteString(home)
	for i, line := range frame(w.view(), w.Location, rows) {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(cut(line, columns))
		b.WriteString(clearLine)
	}
	b.WriteString(clearBelow)
	return w.print(b.String())
}

const frameTime = "2006-01-02 15:04:05"

// frame lays a view out in so many rows. Where they are few, readers give way
// first, then the heading, and last why nothing happens.
func frame(v pull.View, location *time.Location, rows int) []string {
	head := []string{heading(v, location), "", standing(v), ""}
	foot := []string{"", counters(v), status(v)}
	room := rows - len(head) - len(foot)
	if room < 1 {
		return []string{standing(v), status(v), counters(v)}[:min(max(rows, 1), 3)]
	}
	return append(append(head, newest(v.Readers, location, room)...), foot...)
}

func heading(v pull.View, location *time.Location) string {
	if v.Version == "" {
		return "message " + text(v.MessageID)
	}
	sender := "an erased user"
	if v.SenderID != "" {
		sender = text(v.SenderID)
	}
	// IDs are last, as they may be long and of scripts that run to the left.
	return fmt.Sprintf("sent %s by %s in %s: message %s", v.SentAt.In(location).Format(frameTime), sender, text(v.ConversationID), text(v.MessageID))
}

func standing(v pull.View) string {
	s := readBy(v)
	if v.Complete {
		s += ": complete"
	}
	if v.OptedOutCount != nil && *v.OptedOutCount > 0 {
		s += fmt.Sprintf(" (and %d who opted out)", *v.OptedOutCount)
	}
	return s
}

// newest lists the last readers, the newest first; the last row tells of those
// that have no room.
func newest(readers []pull.Reader, location *time.Location, room int) []string {
	shown := min(len(readers), room)
	if shown < len(readers) {
		shown--
	}
	var rows []string
	for i := range shown {
		r := readers[len(readers)-1-i]
		rows = append(rows, "  "+r.ReadAt.In(location).Format(frameTime)+"  "+text(r.ReaderID))
	}
	if rest := len(readers) - shown; rest > 0 {
		rows = append(rows, fmt.Sprintf("  … and %d before", rest))
	}
	return rows
}

func counters(v pull.View) string {
	return fmt.Sprintf("pulls %d, unchanged %d, bytes %d", v.Pulls, v.Unchanged, v.Bytes)
}

func status(v pull.View) string {
	switch {
	case v.Looking && v.Err != nil:
		return "no answer, trying again: " + failure(v.Err)
	case v.Looking:
		return "looking; a key looks again, q quits"
	}
	return "stopped: " + stopped(v) + "; press a key to look again, q quits"
}

// summary is what stays on the terminal.
func summary(v pull.View) string {
	s := standing(v) + "; " + counters(v)
	if v.Looking {
		return s
	}
	return s + "; stopped: " + stopped(v)
}
