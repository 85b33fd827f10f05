package projector

import (
	"sort"

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
	delta    bool
	receipts []projections.Receipt
	// next is the cursor of the next page, or empty.
	next string
}

// paging is what turns a message and a pull into a page.
type paging struct {
	log, lineage uint32
	sealer       contract.Sealer
}

// page selects what the pull is answered with. The order of receipts in a
// message is that of their offsets, so a version, and a page, is a cut through
// them: a message changes only by appending, or by a recall, after which pages
// of an older version cannot be had.
func (s *paging) page(m *projections.Message, pull *contract.Pull) (*page, *contract.Problem) {
	if pull.Cursor != nil {
		return s.continued(m, pull)
	}
	pg := &page{at: m.Version, readCount: m.ReadCount(), truncated: m.Truncated()}
	since, presented := int64(0), int64(0)
	first := 0
	if v := pull.Since; v != nil {
		presented = v.Next
		if s.countsFrom(m, v) {
			since, first = v.Next, addedBefore(m, v.Next)
		}
	}
	s.fill(pg, m, contract.Cursor{Since: since, Presented: presented, Index: first}, pull.Limit, len(m.Receipts))
	return pg, nil
}

// countsFrom says whether what was added since v is all that changed since v.
func (s *paging) countsFrom(m *projections.Message, v *contract.Version) bool {
	return v.Log == s.log && v.Lineage == s.lineage && (!m.Recalled || m.Version <= v.Next)
}

// continued is page for a pull that presents a cursor. The page is of the
// cursor's version although the message may have gone on.
func (s *paging) continued(m *projections.Message, pull *contract.Pull) (*page, *contract.Problem) {
	c := *pull.Cursor
	last := addedBefore(m, c.Next)
	switch {
	case c.Log != s.log || c.Lineage != s.lineage:
		return nil, contract.NewProblem(contract.CursorGone, "the cursor is of another topic, generation or lineage: pull again without it")
	case m.Recalled || c.Index > last:
		// The latter: an ID that was used again after its message expired.
		return nil, contract.NewProblem(contract.CursorGone, "something was taken away since the first page: pull again without the cursor")
	}
	pg := &page{at: c.Next, readCount: c.ReadCount, truncated: c.ReadCount > last}
	s.fill(pg, m, c, pull.Limit, last)
	return pg, nil
}

// fill sets what all pages of a pull have in common, and the receipts from
// c.Index on, of which there are last at the page's version.
func (s *paging) fill(pg *page, m *projections.Message, c contract.Cursor, limit, last int) {
	pg.version = contract.Version{Log: s.log, Lineage: s.lineage, Next: pg.at}.Encode(m.ID)
	pg.complete = !m.Recalled && pg.readCount >= m.RecipientCount()
	pg.delta = c.Since > 0
	if limit == 0 {
		return
	}
	end := min(c.Index+limit, last)
	pg.receipts = m.Receipts[c.Index:end]
	if end < last {
		c.Log, c.Lineage, c.Next, c.Index, c.ReadCount = s.log, s.lineage, pg.at, end, pg.readCount
		pg.next = c.Encode(m.ID, s.sealer)
	}
}

// addedBefore is how many of the message's receipts have offsets below next.
func addedBefore(m *projections.Message, next int64) int {
	return sort.Search(len(m.Receipts), func(i int) bool { return m.Receipts[i].Offset >= next })
}
