package watch

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/seenby/seenby/services/pull"
)

const lineTime = "2006-01-02T15:04:05.000Z07:00"

// lines writes what changes from view to view.
type lines struct {
	out      io.Writer
	location *time.Location

	version string
	// seen are the readers of the last view.
	seen    map[string]struct{}
	failure string
}

// write writes the changes since the last view, a line each, all at once.
func (l *lines) write(v pull.View) error {
	var b strings.Builder
	if v.Version != l.version {
		l.version = v.Version
		l.changes(&b, v)
	}
	failed := ""
	if v.Err != nil {
		failed = failure(v.Err)
	}
	if failed != l.failure && failed != "" && v.Looking {
		fmt.Fprintf(&b, "no answer, trying again: %s\n", failed)
	}
	l.failure = failed
	if !v.Looking {
		fmt.Fprintf(&b, "stopped: %s\n", stopped(v))
	}
	if b.Len() == 0 {
		return nil
	}
	_, err := io.WriteString(l.out, b.String())
	return err
}

// changes writes a line for each reader who was not in the last view; where there
// is none, how things stand.
func (l *lines) changes(b *strings.Builder, v pull.View) {
	var added []pull.Reader
	seen := make(map[string]struct{}, len(v.Readers))
	for _, r := range v.Readers {
		if _, found := l.seen[r.ReaderID]; !found {
			added = append(added, r)
		}
		seen[r.ReaderID] = struct{}{}
	}
	l.seen = seen
	for i, r := range added {
		count := v.ReadCount - len(added) + i + 1
		if v.Truncated {
			// Readers that are counted and not listed may be before this one.
			count = len(v.Readers) - len(added) + i + 1
		}
		fmt.Fprintf(b, "read by %d of %d: %s %s\n", count, v.RecipientCount, r.ReadAt.In(l.location).Format(lineTime), text(r.ReaderID))
	}
	if len(added) == 0 || v.Truncated {
		fmt.Fprintln(b, readBy(v))
	}
}
