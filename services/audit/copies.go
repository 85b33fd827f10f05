package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/seenby/seenby/projections/verify"
	"github.com/seenby/seenby/services/projector/protocol"
)

// Copy is some nodes of a running copy.
type Copy []*protocol.Client

// running is a copy that was asked how it is.
type running struct {
	name  string
	first protocol.Status
	// owner is who has which partition.
	owner map[int32]*protocol.Client
}

func (c Copy) ask(ctx context.Context) (*running, error) {
	r := &running{owner: make(map[int32]*protocol.Client)}
	var names []string
	for i, client := range c {
		s, err := client.Status(ctx)
		if err != nil {
			return nil, err
		}
		names = append(names, client.Address())
		if i == 0 {
			r.first = s
		} else if err := sameLineage(r.first, s); err != nil {
			return nil, fmt.Errorf("%s and %s: %w", names[0], client.Address(), err)
		}
		for _, p := range s.Owned {
			if r.owner[p.Partition] != nil {
				return nil, fmt.Errorf("%s: partition %d is another's too: name the nodes of one copy", client.Address(), p.Partition)
			}
			r.owner[p.Partition] = client
		}
	}
	r.name = strings.Join(names, ",")
	return r, nil
}

// sameLineage refuses what cannot be compared, by name.
func sameLineage(a, b protocol.Status) error {
	for _, c := range []struct {
		what string
		a, b any
	}{
		{"topic ID", a.TopicID, b.TopicID}, {"number of partitions", a.Partitions, b.Partitions},
		{"generation", a.Generation, b.Generation}, {"lineage (limits, retention, skips or fold version)", a.Lineage, b.Lineage},
	} {
		if c.a != c.b {
			return fmt.Errorf("they cannot be compared: the %s is %v, and %v", c.what, c.a, c.b)
		}
	}
	return nil
}

func (r *running) partitions() (all []int32) {
	for p := range r.owner {
		all = append(all, p)
	}
	slices.Sort(all)
	return all
}

// Running has a running copy hold itself to what it must be, from what it has on
// disk.
func Running(ctx context.Context, c Copy, o Options) (r Report, err error) {
	copied, err := c.ask(ctx)
	if err != nil {
		return r, err
	}
	r.Sides = []string{copied.name}
	if err := r.check(ctx, copied, o); err != nil {
		return r, err
	}
	r.conclude()
	return r, nil
}

// pollEvery is how often a copy is asked how far it is.
const pollEvery = 200 * time.Millisecond

// check has a copy check all its partitions, and adds what it found.
func (r *Report) check(ctx context.Context, c *running, o Options) error {
	partitions := c.partitions()
	for _, p := range partitions {
		params := protocol.Of(p)
		params.Set("show", strconv.Itoa(o.Show))
		if err := c.owner[p].Post(ctx, protocol.CheckPath, params, new(protocol.Check)); err != nil {
			return err
		}
	}
	var before int64
	for _, p := range partitions {
		done, err := c.await(ctx, p, before, o)
		if err != nil {
			return err
		}
		before += done.Messages
		r.checked(p, *done.Checked)
		for _, d := range done.Damaged {
			// Each partition of a node tells of all the node's files.
			side := c.owner[p].Address()
			if !slices.ContainsFunc(r.Damaged, func(known Damaged) bool { return known.Side == side && known.File == d.File }) {
				r.Damaged = append(r.Damaged, Damaged{side, d})
			}
		}
	}
	return nil
}

func (r *running) await(ctx context.Context, p int32, before int64, o Options) (done protocol.Check, err error) {
	for {
		if err := r.owner[p].Get(ctx, protocol.CheckPath, protocol.Of(p), &done); err != nil {
			return done, err
		}
		o.Progress(r.name+": reading its disk", before+done.Messages)
		switch {
		case done.State == protocol.CheckNone:
			return done, fmt.Errorf("%s: partition %d: it was restarted meanwhile: call it again", r.name, p)
		case done.Error != "":
			return done, fmt.Errorf("%s: partition %d: %s", r.name, p, done.Error)
		case done.State == protocol.CheckDone && done.Checked != nil:
			return done, nil
		}
		if err := rest(ctx, pollEvery); err != nil {
			return done, err
		}
		done = protocol.Check{}
	}
}

func rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

func (r *Report) checked(p int32, c verify.Checked) {
	i := slices.IndexFunc(r.Partitions, func(one Partition) bool { return one.Partition == p })
	if i < 0 {
		i = len(r.Partitions)
		r.Partitions = append(r.Partitions, Partition{Partition: p})
	}
	r.Partitions[i].Checked = append(r.Partitions[i].Checked, c)
}

// Copies compares two running copies by their digests at common positions, and
// where hours differ message by message; then, unless quick, each is held to what
// it has on disk.
func Copies(ctx context.Context, first, second Copy, quick Quick, o Options) (r Report, err error) {
	var sides [2]*running
	for i, c := range []Copy{first, second} {
		if sides[i], err = c.ask(ctx); err != nil {
			return r, err
		}
		r.Sides = append(r.Sides, sides[i].name)
	}
	if err := sameLineage(sides[0].first, sides[1].first); err != nil {
		return r, fmt.Errorf("%s and %s: %w", sides[0].name, sides[1].name, err)
	}
	for _, p := range sides[0].partitions() {
		if sides[1].owner[p] == nil {
			r.note("partition %d is only in %s", p, sides[0].name)
			continue
		}
		o.Progress(fmt.Sprintf("comparing partition %d", p), 0)
		compared, err := compareRunning(ctx, sides, p, o)
		if err != nil {
			return r, err
		}
		r.Partitions = append(r.Partitions, Partition{Partition: p, Compared: &compared})
	}
	for _, p := range sides[1].partitions() {
		if sides[0].owner[p] == nil {
			r.note("partition %d is only in %s", p, sides[1].name)
		}
	}
	for _, s := range sides {
		if quick == FromMemory {
			r.note("what they have on disk was not read")
			break
		}
		if err := r.check(ctx, s, o); err != nil {
			return r, err
		}
	}
	r.conclude()
	return r, nil
}

// Quick says whether running copies read their disks too.
type Quick int

// The values of Quick.
const (
	// FromDisk has them read all that they have.
	FromDisk Quick = iota
	// FromMemory compares the digests that they keep up to date.
	FromMemory
)

// errNoCommon is for copies of a log that is written to faster than they can be
// asked.
var errNoCommon = errors.New("the copies could not be asked at a common position: one does not follow the log, or it is written to too fast: try again")

// common asks both for the digests as of one position.
func common(ctx context.Context, sides [2]*running, p int32) (both [2]protocol.Digests, err error) {
	ahead := int64(0)
	for range 30 {
		var at int64
		for _, s := range sides {
			var now protocol.Digests
			if err := s.owner[p].Get(ctx, protocol.DigestsPath, positioned(p, 0), &now); err != nil {
				return both, err
			}
			at = max(at, now.Position)
		}
		at += ahead
		var wg sync.WaitGroup
		var errs [2]error
		for i, s := range sides {
			wg.Go(func() { errs[i] = s.owner[p].Get(ctx, protocol.DigestsPath, positioned(p, at), &both[i]) })
		}
		wg.Wait()
		if err := errors.Join(errs[0], errs[1]); err != nil {
			return both, err
		}
		switch {
		case both[0].Reached && both[1].Reached && both[0].Position == both[1].Position:
			return both, nil
		case both[0].Reached && both[1].Reached:
			// One was past it: ask for one that is to come.
			ahead = 2*ahead + 16
		default:
			// It does not come: the log is not written to any more.
			ahead = 0
		}
		both = [2]protocol.Digests{}
	}
	return both, fmt.Errorf("partition %d: %w", p, errNoCommon)
}

func positioned(p int32, position int64) map[string][]string {
	params := protocol.Of(p)
	params.Set("position", strconv.FormatInt(position, 10))
	return params
}

func compareRunning(ctx context.Context, sides [2]*running, p int32, o Options) (c verify.Compared, err error) {
	both, err := common(ctx, sides, p)
	if err != nil {
		return c, err
	}
	c = verify.Compared{Partition: p, Positions: [2]int64{both[0].Position, both[1].Position}, Promised: both[0].Evicted == 0 && both[1].Evicted == 0}
	var byHour [2]map[int64]string
	var all []int64
	for i := range both {
		byHour[i] = make(map[int64]string)
		for _, h := range both[i].Hours {
			byHour[i][h.Hour] = h.Digest
			all = append(all, h.Hour)
		}
	}
	slices.Sort(all)
	clock := max(o.Now().UnixMilli(), both[0].Timestamp, both[1].Timestamp)
	for _, hour := range slices.Compact(all) {
		if !verify.Intact(hour, clock, time.Duration(both[0].RetentionMS)*time.Millisecond) {
			continue
		}
		c.Hours++
		if sameDigest(byHour[0][hour], byHour[1][hour]) {
			continue
		}
		c.Differing++
		if err := messagesOf(ctx, sides, p, hour, &c, o); err != nil {
			return c, err
		}
	}
	return c, nil
}

// none is the digest of nothing, which a copy need not keep.
const none = "00000000000000000000000000000000"

func sameDigest(a, b string) bool { return a == b || a == "" && b == none || a == none && b == "" }

// messagesOf names the messages of an hour that differ, of those that did not change
// after what both have on disk.
func messagesOf(ctx context.Context, sides [2]*running, p int32, hour int64, c *verify.Compared, o Options) error {
	var lists [2]*listing
	for i, s := range sides {
		lists[i] = &listing{client: s.owner[p], partition: p, hour: hour}
	}
	found, changing := 0, 0
	for {
		x, err := lists[0].peek(ctx)
		if err != nil {
			return err
		}
		y, err := lists[1].peek(ctx)
		if err != nil {
			return err
		}
		if x == nil && y == nil {
			break
		}
		upTo := min(lists[0].position, lists[1].position)
		order := 0
		switch {
		case x == nil:
			order = 1
		case y == nil:
			order = -1
		default:
			order = bytes.Compare(x.Key, y.Key)
		}
		if order <= 0 {
			lists[0].next()
		}
		if order >= 0 {
			lists[1].next()
		}
		one := x
		if order > 0 {
			one = y
		}
		o.Progress(fmt.Sprintf("comparing the messages of partition %d, hour %d", p, hour), 1)
		switch {
		case order == 0 && x.Error == "" && y.Error == "" && x.Digest == y.Digest && x.Shown == y.Shown:
			continue
		case order == 0 && (x.Version > upTo || y.Version > upTo), order != 0 && one.Sent > upTo:
			changing++
			continue
		}
		found++
		if c.Total++; len(c.Differences) < o.Show {
			c.Differences = append(c.Differences, difference(ctx, sides, p, order, x, y))
		}
	}
	if found == 0 {
		what := fmt.Sprintf("hour %d: its digests differ, and no message that is on disk does", hour)
		if changing > 0 {
			what += fmt.Sprintf("; %d messages that changed meanwhile may: try again when they are saved", changing)
		}
		if c.Total++; len(c.Differences) < o.Show {
			c.Differences = append(c.Differences, verify.Difference{Partition: p, What: []string{what}})
		}
	}
	return nil
}

func difference(ctx context.Context, sides [2]*running, p int32, order int, x, y *protocol.MessageDigest) verify.Difference {
	d := verify.Difference{Partition: p}
	switch {
	case order < 0:
		d.Message, d.What = x.ID, []string{"it is only in the first" + broken(x)}
		return d
	case order > 0:
		d.Message, d.What = y.ID, []string{"it is only in the second" + broken(y)}
		return d
	}
	d.Message = x.ID
	if x.Error != "" || y.Error != "" {
		d.What = []string{"it cannot be read:" + broken(x) + broken(y)}
		return d
	}
	var states [2]verify.State
	for i, s := range sides {
		var m protocol.Message
		if err := s.owner[p].Get(ctx, protocol.MessagePath, map[string][]string{"id": {x.ID}}, &m); err != nil || m.Message == nil {
			d.What = []string{fmt.Sprintf("digest: %s, and %s (%v)", x.Digest, y.Digest, err)}
			return d
		}
		states[i] = *m.Message
	}
	if d.What = verify.Diff(states[0], states[1]); len(d.What) == 0 {
		d.What = []string{fmt.Sprintf("digest: %s, and %s on disk; what they have in memory is equal", x.Digest, y.Digest)}
	}
	return d
}

func broken(m *protocol.MessageDigest) string {
	if m.Error == "" {
		return ""
	}
	return " " + m.Error
}

// listing reads a copy's messages of an hour a page at a time.
type listing struct {
	client    *protocol.Client
	partition int32
	hour      int64
	page      []protocol.MessageDigest
	after     []byte
	begun     bool
	// position is that of the current page.
	position int64
}

func (l *listing) peek(ctx context.Context) (*protocol.MessageDigest, error) {
	for len(l.page) == 0 && (!l.begun || l.after != nil) {
		params := protocol.Of(l.partition)
		params.Set("hour", strconv.FormatInt(l.hour, 10))
		if l.after != nil {
			params.Set("after", string(l.after))
		}
		var d protocol.MessageDigests
		if err := l.client.Get(ctx, protocol.MessageDigestsPath, params, &d); err != nil {
			return nil, err
		}
		l.page, l.after, l.begun, l.position = d.Messages, d.Next, true, d.Position
	}
	if len(l.page) == 0 {
		return nil, nil
	}
	return &l.page[0], nil
}

func (l *listing) next() { l.page = l.page[1:] }
