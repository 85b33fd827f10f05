package verify

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/materialize"
)

// Finding is one thing that is not as it must be.
type Finding struct {
	Partition int32 `json:"partition"`
	// Message is the ID of the message that it is about, if it is about one.
	Message string `json:"message,omitempty"`
	// What says what is wrong, in a line.
	What string `json:"what"`
}

// Findings are the first of them, and how many there are in all.
type Findings struct {
	Shown []Finding `json:"findings"`
	Total int       `json:"findings_total"`
	limit int
}

func (f *Findings) add(one Finding) {
	if f.Total++; len(f.Shown) < f.limit {
		f.Shown = append(f.Shown, one)
	}
}

// Options say how to go about it.
type Options struct {
	// Show is how many findings of a partition are told; the others are counted.
	Show int
	// Step is called now and then with how many messages were read since it was
	// last called; an error ends it all. It may take its time.
	Step func(messages int) error
}

// stepEvery is how many messages there are between two steps.
const stepEvery = 64

// Hour is what the messages of one hour of sent_at add up to.
type Hour struct {
	Hour     int64 `json:"hour"`
	Messages int64 `json:"messages"`
	Receipts int64 `json:"receipts"`
	// Digest is of the messages' parts and the hour's erasures; Shown of what of
	// them anybody can be shown.
	Digest projections.Digest `json:"-"`
	Shown  projections.Digest `json:"-"`
}

// Checked is what a partition is by its bytes.
type Checked struct {
	Partition int32 `json:"partition"`
	// Committed is false if the partition holds nothing yet.
	Committed bool `json:"committed"`
	// Position is the next offset to apply; Evicted is not 0 if waiting events had to
	// give way: then another copy need not be equal.
	Position  int64 `json:"position"`
	Timestamp int64 `json:"timestamp"`
	Evicted   int64 `json:"evicted"`
	Messages  int64 `json:"messages"`
	Receipts  int64 `json:"receipts"`
	// Compared is how many hours were held to their digest. The others have begun to
	// expire.
	Compared int    `json:"hours"`
	Hours    []Hour `json:"-"`
	Findings
}

// Check holds a partition to itself: every record to its checksum, every message and
// roster to what every fold does, and the hours to their digests. It returns an
// error only for what Step returns, or a ctx that ended.
func Check(ctx context.Context, s Snapshot, lineage projections.Lineage, partition int32, o Options) (c Checked, err error) {
	c = Checked{Partition: partition, Findings: Findings{limit: o.Show}}
	defer func() {
		// What reads damaged files may not be prepared for it.
		if p := recover(); p != nil {
			c.note("", fmt.Errorf("it could not be read to its end: %v", p))
		}
	}()
	k := &checker{Checked: &c, ctx: ctx, from: s, step: o.Step, hours: make(map[int64]*Hour)}
	err = k.run(lineage)
	return c, err
}

func (c *Checked) note(message string, err error) {
	c.add(Finding{Partition: c.Partition, Message: message, What: err.Error()})
}

type checker struct {
	*Checked
	ctx    context.Context //nolint:containedctx // It lives as long as one call.
	from   Snapshot
	reader *Reader
	hours  map[int64]*Hour
	step   func(int) error
	since  int
}

func (k *checker) run(lineage projections.Lineage) error {
	if err := k.records(); err != nil {
		return err
	}
	var err error
	if k.reader, k.Committed, err = NewReader(k.from, lineage, k.Partition); err != nil {
		k.note("", err)
		return nil
	}
	if !k.Committed {
		if k.Total > 0 {
			k.note("", fmt.Errorf("it has no checkpoint"))
		}
		return nil
	}
	saved := k.reader.Saved()
	k.Position, k.Timestamp, k.Evicted = saved.Position, saved.Timestamp, saved.Evicted
	k.waiting(saved)
	if err := k.messages(); err != nil {
		return err
	}
	if err := k.listed(); err != nil {
		return err
	}
	k.erasures(saved)
	k.digests(saved, lineage)
	return nil
}

// pace counts what was read.
func (k *checker) pace() error {
	if k.since++; k.since < stepEvery {
		return nil
	}
	n := k.since
	k.since = 0
	if err := k.ctx.Err(); err != nil {
		return err
	}
	if k.step == nil {
		return nil
	}
	return k.step(n)
}

func (k *checker) records() error {
	n := 0
	return k.from.Records(func(r Record) error {
		if r.Err != nil {
			k.note("", fmt.Errorf("%s: %w", r.What, r.Err))
		}
		if n++; n%(16*stepEvery) > 0 {
			return nil
		}
		if err := k.ctx.Err(); err != nil || k.step == nil {
			return err
		}
		return k.step(0)
	})
}

func (k *checker) hour(of int64) *Hour {
	h := k.hours[of]
	if h == nil {
		h = &Hour{Hour: of}
		k.hours[of] = h
	}
	return h
}

func (k *checker) messages() error {
	return k.from.Messages(nil, func(s Stored) (bool, error) {
		err := s.Err
		if err == nil {
			err = k.message(s.ID)
		}
		if err != nil {
			k.note(string(s.ID), err)
		}
		return true, k.pace()
	})
}

func (k *checker) message(id []byte) error {
	l, err := k.reader.Message(id)
	if err != nil {
		return err
	}
	if l == nil {
		return fmt.Errorf("%w: it is there, and is not found", materialize.ErrCorrupt)
	}
	h := k.hour(projections.Hour(l.SentAt))
	h.Messages++
	h.Receipts += int64(l.Receipts.Len())
	h.Digest, h.Shown = h.Digest.Add(l.Stored), h.Shown.Add(l.Shown)
	k.Messages++
	k.Receipts += int64(l.Receipts.Len())
	if l.Crowd != nil {
		if marked, err := k.from.Marked(id); err != nil {
			return err
		} else if !marked {
			return fmt.Errorf("it is count-only, and erasing somebody would pass it over")
		}
	}
	return k.reader.check(l)
}

// listed finds messages that are there no more.
func (k *checker) listed() error {
	err := k.from.Listed(func(hour int64, id []byte) error {
		if err := k.pace(); err != nil {
			return err
		}
		if !k.intact(hour) {
			return nil
		}
		// What cannot be read was told.
		if has, err := k.from.Has(id); err == nil && !has {
			k.note(string(id), fmt.Errorf("it was stored, and is there no more"))
		}
		return nil
	})
	if err != nil && k.ctx.Err() == nil {
		k.note("", err)
		return nil
	}
	return err
}

// intact says whether nothing of the hour can have been removed or replaced, by the
// log's clock, which decides that.
func (k *checker) intact(hour int64) bool {
	return Intact(hour, k.Timestamp, k.reader.lineage.Retention)
}

// Intact says whether an hour has not begun to expire at a time in Unix
// milliseconds.
func Intact(hour, at int64, retention time.Duration) bool {
	return at <= hour*hourMillis+retention.Milliseconds()
}

const hourMillis = 3_600_000

func (k *checker) waiting(saved *materialize.Saved) {
	if n, limit := len(saved.Waiting), k.reader.lineage.Limits.Waiting; n > limit {
		k.note("", fmt.Errorf("%d events wait, and %d may", n, limit))
	}
	before := int64(-1)
	for _, w := range saved.Waiting {
		if w.Offset <= before || w.Offset >= saved.Position {
			k.note(w.MessageID, fmt.Errorf("the waiting event of offset %d is out of its place", w.Offset))
		}
		before = w.Offset
	}
}

// erasures adds those that the store still has.
func (k *checker) erasures(saved *materialize.Saved) {
	kept := make(map[int64]projections.HourDigest, len(saved.Digests))
	for _, d := range saved.Digests {
		kept[d.Hour] = d
		if d.ForgottenTo > 0 {
			h := k.hour(d.Hour)
			h.Digest = h.Digest.Add(d.Forgotten)
		}
	}
	for _, e := range saved.Erasures {
		if e.Next() > saved.LastErasure {
			k.note("", fmt.Errorf("the erasure of offset %d is later than the last", e.Offset))
		}
		hour := projections.Hour(e.Timestamp)
		// After a crash, one that was forgotten may still be there.
		if e.Next() > kept[hour].ForgottenTo {
			h := k.hour(hour)
			h.Digest = h.Digest.Add(e.Digest())
		}
	}
}

func (k *checker) digests(saved *materialize.Saved, lineage projections.Lineage) {
	kept := make(map[int64]projections.Digest, len(saved.Digests))
	for _, d := range saved.Digests {
		kept[d.Hour] = d.Digest
		k.hour(d.Hour)
	}
	for _, h := range k.hours {
		k.Hours = append(k.Hours, *h)
	}
	slices.SortFunc(k.Hours, func(a, b Hour) int { return int(a.Hour - b.Hour) })
	for _, h := range k.Hours {
		if !Intact(h.Hour, saved.Timestamp, lineage.Retention) {
			continue
		}
		k.Compared++
		if h.Digest != kept[h.Hour] {
			k.note("", fmt.Errorf("%s: its %d messages and its erasures sum up to %s, and its digest is %s", hourName(h.Hour), h.Messages, h.Digest, kept[h.Hour]))
		}
	}
}
