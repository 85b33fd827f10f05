package projector

import (
	"math"

	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/services/contract"
)

// page is what one answer tells of a message: as of which version, and which
// receipts.
type page struct {
	// at is the version that the page is of, as a number and as its string.
	at      int64
	version string

	readCount int
	complete  bool
	truncated bool
	// delta says that the pages hold what was added since a version, not the
	// whole set.
	delta bool
	// restricted says that the page is not about the whole set of its version.
	restricted bool
	receipts   []projections.Receipt
	// next is the cursor of the next page, or empty.
	next string

	// part is what was asked for, and cut is where to find it; uncounted says that
	// the counts are not those of the part yet.
	part      contract.Part
	cut       cut
	uncounted bool
}

// paging is what turns a message and a pull into a page.
type paging struct {
	log, lineage uint32
	sealer       contract.Sealer
}

// page decides what the pull is answered with, all but what takes looking at
// receipts, which fill does: whoever has the version already does not need them.
// The order of receipts in a message is that of their offsets, so a version is a
// cut through them: a message changes only by appending, or by what takes
// something away, after which pages of an older version cannot be had.
func (s *paging) page(m *projections.Message, pull *contract.Pull) (*page, *contract.Problem) {
	pg := &page{part: pull.Part, restricted: pull.Part.Restricted()}
	if pull.Cursor != nil {
		if problem := s.continues(pg, m, pull.Cursor); problem != nil {
			return nil, problem
		}
	} else {
		s.begin(pg, m)
	}
	pg.version = contract.Version{Log: s.log, Lineage: s.lineage, Next: pg.at}.Encode(m.ID)
	pg.complete = isComplete(m, pg.readCount)
	return pg, nil
}

func isComplete(m *projections.Message, readCount int) bool {
	return !m.Recalled && readCount >= m.RecipientCount()
}

// begin has pg be the first page of the current version.
func (s *paging) begin(pg *page, m *projections.Message) {
	pg.at = m.Version()
	pg.cut = cutOf(pg.part, pg.at)
	pg.uncounted = pg.restricted
	pg.readCount, pg.truncated = m.ReadCount(), m.Truncated()
	if s.countsFrom(m, pg.part) {
		pg.delta, pg.cut.after = true, pg.part.Version.Next
	}
}

// countsFrom says whether what was added since the version of part is all that
// changed since.
func (s *paging) countsFrom(m *projections.Message, part contract.Part) bool {
	v := part.Version
	return part.Kind == contract.PartSince && v.Log == s.log && v.Lineage == s.lineage && v.Next >= m.Sent && v.Next >= m.TakenAway()
}

// continues has pg be the page that the cursor leads to. It is of the cursor's
// version although the message may have gone on.
func (s *paging) continues(pg *page, m *projections.Message, c *contract.Cursor) *contract.Problem {
	switch {
	case c.Log != s.log || c.Lineage != s.lineage:
		return contract.NewProblem(contract.CursorGone, "the cursor is of another topic, generation or lineage: pull again without it")
	case m.TakenAway() > c.Next || m.Sent > c.Next:
		return contract.NewProblem(contract.CursorGone, "something was taken away since the first page: pull again without the cursor")
	}
	pg.at, pg.readCount, pg.truncated, pg.delta = c.Next, c.ReadCount, c.Truncated, c.Delta
	pg.cut = cutOf(pg.part, pg.at)
	pg.cut.index = c.Index
	return nil
}

// needs says whether fill has to look at receipts.
func (pg *page) needs(limit int) bool {
	// To most messages nothing was added since.
	return pg.uncounted || limit > 0 && pg.cut.after < pg.at
}

// fill counts what only receipts tell, selects those of the page, and says where
// the next page begins if there are more. Limit is how many were asked for, and
// room how many there may be now, which is no more.
func (s *paging) fill(pg *page, m *projections.Message, limit, room int) (err error) {
	if pg.uncounted {
		if pg.readCount, pg.truncated, err = pg.cut.count(m); err != nil {
			return err
		}
		pg.complete = isComplete(m, pg.readCount)
	}
	if limit == 0 {
		return nil
	}
	pg.receipts = make([]projections.Receipt, 0, min(room, max(0, m.Receipts.Len()-pg.cut.index)))
	return pg.cut.each(m, func(r projections.Receipt) bool {
		if _, listed := m.Shown(r); !listed {
			return true
		}
		if len(pg.receipts) == room {
			pg.next = contract.Cursor{Log: s.log, Lineage: s.lineage, Next: pg.at, Part: pg.part, Delta: pg.delta,
				Index: r.Index, ReadCount: pg.readCount, Truncated: pg.truncated}.Encode(m.ID, s.sealer)
			return false
		}
		pg.receipts = append(pg.receipts, r)
		return true
	})
}

// cut says which of a message's receipts are meant: from an index on those with
// offsets from after to below before, read at latest or earlier.
type cut struct {
	index         int
	after, before int64
	latest        int64
}

// cutOf is the part of a set as of a version, but for what since leaves out.
func cutOf(part contract.Part, version int64) cut {
	c := cut{before: version, latest: math.MaxInt64}
	switch part.Kind {
	case contract.PartAt:
		c.latest = part.At
	case contract.PartAtVersion:
		// What is below it had been applied before any page was given out.
		c.before = part.Version.Next
	case contract.WholeSet, contract.PartSince:
	}
	return c
}

// each calls f with the receipts that are meant, until f returns false.
func (c cut) each(m *projections.Message, f func(projections.Receipt) bool) error {
	return m.EachReceipt(max(c.index, m.Receipts.FirstSince(c.after)), func(r projections.Receipt) bool {
		switch {
		case r.Offset >= c.before:
			return false
		case r.Offset < c.after || r.ReadAt > c.latest:
			return true
		}
		return f(r)
	})
}

// count is how many of the receipts that are meant count, and whether some of
// those are not listed.
func (c cut) count(m *projections.Message) (n int, truncated bool, err error) {
	err = c.each(m, func(r projections.Receipt) bool {
		counts, listed := m.Shown(r)
		if counts {
			n++
		}
		truncated = truncated || counts && !listed
		return true
	})
	return n, truncated, err
}
