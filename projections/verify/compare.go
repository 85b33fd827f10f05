package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/seenby/seenby/projections"
)

// Side is one of two partitions that are compared.
type Side struct {
	Snapshot Snapshot
	// Checked is what Check returned for the snapshot.
	Checked Checked
}

// Difference is in what two partitions differ that claim to be the same.
type Difference struct {
	Partition int32 `json:"partition"`
	// Message is the message's ID, empty if it is about none.
	Message string   `json:"message,omitempty"`
	What    []string `json:"what"`
}

// Compared is what came of comparing two partitions.
type Compared struct {
	Partition int32    `json:"partition"`
	Positions [2]int64 `json:"positions"`
	// Promised is false if waiting events had to give way in one of them: then they
	// need not be equal.
	Promised bool `json:"promised"`
	// Hours is how many hours were compared, and Differing how many differ. Where the
	// positions differ hours cannot be compared, and Messages are those that did not
	// change between them.
	Hours       int          `json:"hours"`
	Differing   int          `json:"differing_hours"`
	Messages    int64        `json:"messages"`
	Differences []Difference `json:"differences"`
	Total       int          `json:"differences_total"`
	limit       int
}

func (c *Compared) add(message string, what ...string) {
	if c.Total++; len(c.Differences) < c.limit {
		c.Differences = append(c.Differences, Difference{c.Partition, message, what})
	}
}

// Compare compares two partitions of one lineage, by the hours that have not begun
// to expire by the clock (Unix milliseconds) nor by either's log: at one position
// by what each hour adds up to, and message by message only where that differs; at
// different positions by all messages that did not change between the two.
func Compare(ctx context.Context, a, b *Side, lineage projections.Lineage, now int64, o Options) (Compared, error) {
	c := Compared{
		Partition: a.Checked.Partition, Positions: [2]int64{a.Checked.Position, b.Checked.Position},
		Promised: a.Checked.Evicted == 0 && b.Checked.Evicted == 0, limit: o.Show,
	}
	if !a.Checked.Committed || !b.Checked.Committed {
		// One that was never committed is at the position where everything begins.
		return c, nil
	}
	clock := max(now, a.Checked.Timestamp, b.Checked.Timestamp)
	w := &walk{Compared: &c, ctx: ctx, step: o.Step, upTo: min(a.Checked.Position, b.Checked.Position), found: make(map[int64]int)}
	same := a.Checked.Position == b.Checked.Position
	var differing []int64
	if same {
		differing = w.hours(a, b, func(hour int64) bool { return Intact(hour, clock, lineage.Retention) })
		if len(differing) == 0 {
			return c, nil
		}
		w.wanted = func(hour int64) bool { return slices.Contains(differing, hour) }
	} else {
		w.wanted = func(hour int64) bool { return Intact(hour, clock, lineage.Retention) }
	}
	if err := w.walk(a, b, lineage); err != nil {
		return c, err
	}
	if same {
		w.unexplained(differing)
	}
	return c, nil
}

// walk goes through two partitions in the order of their keys.
type walk struct {
	*Compared
	ctx    context.Context //nolint:containedctx // It lives as long as one call.
	step   func(int) error
	wanted func(hour int64) bool
	// upTo is up to which position both are known.
	upTo    int64
	found   map[int64]int // differences by hour
	readers [2]*Reader
}

// hours compares what the hours add up to.
func (w *walk) hours(a, b *Side, compared func(int64) bool) (differing []int64) {
	type pair struct{ a, b Hour }
	all := make(map[int64]*pair)
	for i, side := range []*Side{a, b} {
		for _, h := range side.Checked.Hours {
			if all[h.Hour] == nil {
				all[h.Hour] = new(pair)
			}
			if i == 0 {
				all[h.Hour].a = h
			} else {
				all[h.Hour].b = h
			}
		}
	}
	for hour, p := range all {
		if !compared(hour) {
			continue
		}
		w.Hours++
		w.Messages += max(p.a.Messages, p.b.Messages)
		if p.a.Digest != p.b.Digest || p.a.Shown != p.b.Shown {
			differing = append(differing, hour)
		}
	}
	slices.Sort(differing)
	w.Differing = len(differing)
	return differing
}

// unexplained tells of hours that differ though no message does.
func (w *walk) unexplained(differing []int64) {
	for _, hour := range differing {
		if w.found[hour] > 0 {
			continue
		}
		what := []string{hourName(hour) + ": its erasures differ"}
		list := func(i int) (names []string) {
			for _, e := range w.readers[i].Saved().Erasures {
				if projections.Hour(e.Timestamp) == hour {
					names = append(names, fmt.Sprintf("%q by offset %d", e.UserID, e.Offset))
				}
			}
			return names
		}
		w.add("", append(what, only("erasures not scrubbed yet,", list(0), list(1))...)...)
	}
}

func (w *walk) walk(a, b *Side, lineage projections.Lineage) error {
	var pages [2]*pages
	for i, side := range []*Side{a, b} {
		r, found, err := NewReader(side.Snapshot, lineage, w.Partition)
		if err == nil && !found {
			err = errors.New("it is there no more")
		}
		if err != nil {
			return fmt.Errorf("partition %d: %w", w.Partition, err)
		}
		w.readers[i] = r
		pages[i] = newPages(side.Snapshot, w.wanted)
	}
	for {
		x, err := pages[0].peek()
		if err != nil {
			return err
		}
		y, err := pages[1].peek()
		if err != nil {
			return err
		}
		if x == nil && y == nil {
			return nil
		}
		if err := w.pace(pages[0], pages[1]); err != nil {
			return err
		}
		var order int
		switch {
		case x == nil:
			order = 1
		case y == nil:
			order = -1
		default:
			order = bytes.Compare(x.Key, y.Key)
		}
		if order <= 0 {
			pages[0].next()
		}
		if order >= 0 {
			pages[1].next()
		}
		switch {
		case order < 0:
			w.one(0, *x)
		case order > 0:
			w.one(1, *y)
		default:
			w.both(*x, *y)
		}
	}
}

func (w *walk) pace(a, b *pages) error {
	n := a.seen + b.seen
	if n < stepEvery {
		return nil
	}
	a.seen, b.seen = 0, 0
	if err := w.ctx.Err(); err != nil || w.step == nil {
		return err
	}
	return w.step(n)
}

func (w *walk) differ(hour int64, id string, what ...string) {
	w.found[hour]++
	w.add(id, what...)
}

// one is told a message that only one side has, at least in these hours.
func (w *walk) one(side int, s Stored) {
	sides := [2]string{"first", "second"}
	hour := projections.Hour(s.SentAt)
	l, err := w.readers[side].Message(s.ID)
	switch {
	case err != nil:
		w.differ(hour, string(s.ID), fmt.Sprintf("it is only in the %s, and cannot be read: %v", sides[side], err))
	case l != nil && l.Sent <= w.upTo:
		// Sent in another hour it is another message of the same ID.
		if other, err := w.readers[1-side].Message(s.ID); err == nil && other != nil {
			w.differ(hour, string(s.ID), w.diff(side, l, other)...)
			return
		}
		w.differ(hour, string(s.ID), fmt.Sprintf("it is only in the %s: sent by offset %d, version %d, %d have read it", sides[side], l.Sent-1, l.Version(), l.ReadCount()))
	}
}

func (w *walk) diff(side int, l, other *Loaded) []string {
	a, b := l, other
	if side == 1 {
		a, b = b, a
	}
	x, err1 := StateOf(a.Message)
	y, err2 := StateOf(b.Message)
	if err := errors.Join(err1, err2); err != nil {
		return []string{err.Error()}
	}
	return Diff(x, y)
}

func (w *walk) both(x, y Stored) {
	hour := projections.Hour(x.SentAt)
	a, err1 := w.readers[0].Message(x.ID)
	b, err2 := w.readers[1].Message(y.ID)
	for i, err := range []error{err1, err2} {
		if err != nil {
			w.differ(hour, string(x.ID), fmt.Sprintf("it cannot be read in the %s: %v", [2]string{"first", "second"}[i], err))
			return
		}
	}
	if a == nil || b == nil {
		w.differ(hour, string(x.ID), "it is there, and is not found")
		return
	}
	if a.Version() > w.upTo || b.Version() > w.upTo {
		return
	}
	if w.Positions[0] != w.Positions[1] {
		w.Messages++
	}
	if a.Stored == b.Stored && a.Shown == b.Shown {
		return
	}
	w.differ(hour, string(x.ID), w.diff(0, a, b)...)
}

// pages reads a snapshot's messages a few at a time.
type pages struct {
	from   Snapshot
	wanted func(hour int64) bool
	after  []byte
	page   []Stored
	done   bool
	seen   int
}

const pageLength = 256

func newPages(from Snapshot, wanted func(int64) bool) *pages {
	return &pages{from: from, wanted: wanted}
}

// peek returns the next message, or nil.
func (p *pages) peek() (*Stored, error) {
	if len(p.page) == 0 && !p.done {
		p.page = nil
		p.done = true
		err := p.from.Messages(p.after, func(s Stored) (bool, error) {
			p.seen++
			p.after = s.Key
			if s.Err != nil || !p.wanted(projections.Hour(s.SentAt)) {
				return true, nil
			}
			p.page = append(p.page, s)
			p.done = len(p.page) < pageLength
			return p.done, nil
		})
		if err != nil {
			return nil, err
		}
	}
	if len(p.page) == 0 {
		return nil, nil
	}
	return &p.page[0], nil
}

func (p *pages) next() { p.page = p.page[1:] }
