package projector

import (
	"context"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/materialize"
	"github.com/seenby/seenby/services/contract"
)

// resultUnread is, in metrics, a page of who has not read.
const resultUnread = "unread"

// unread answers a pull of who has not read a message, or says why not; result is
// for metrics.
func (a *answers) unread(ctx context.Context, src source, u *contract.Unread, caller contract.Caller) (answer contract.Answer, result string, problem *contract.Problem) {
	if problem := a.kept(u.MinPositions); problem != nil {
		return contract.Answer{}, "", problem
	}
	need := max(positioned(src.Number(), u.MinPositions), a.tagged(u.MessageID, u.IfNoneMatch))
	if c := u.Cursor; c != nil && c.Log == a.log {
		need = max(need, c.Next)
	}
	patience := a.patience(ctx)
	defer patience.end()
	caughtUp, problem := a.fresh(&patience, src, need)
	if problem != nil {
		return contract.Answer{}, "", problem
	}
	for receipts := false; ; receipts = true {
		view, err := src.View([]byte(u.MessageID), receipts)
		if err != nil {
			return contract.Answer{}, "", unavailable().Because(err)
		}
		answer, result, problem, done := a.showUnread(src.Number(), &view, caughtUp, u, caller)
		if done || problem != nil {
			return answer, result, problem
		}
	}
}

// showUnread answers by a view. It is not done if it needs receipts that the view
// has not.
func (a *answers) showUnread(partition int32, view *materialize.View, caughtUp time.Time, u *contract.Unread, caller contract.Caller) (answer contract.Answer, result string, problem *contract.Problem, done bool) {
	m, now := &view.Message, a.now()
	if !a.shows(view, caller, now) {
		return answer, "", notFound(), true
	}
	if problem := listsUnread(m); problem != nil {
		return answer, "", problem, true
	}
	pg, number, problem := a.unreadPage(m, u.Cursor)
	if problem != nil {
		return answer, "", problem, true
	}
	if u.AnyMatch || matches(u.IfNoneMatch, pg.version) {
		return a.notModified(partition, view, pg, lagSince(caughtUp, now)), resultNotModified, nil, true
	}
	body := append(make([]byte, 0, 512), `{"message_id":`...)
	body = contract.AppendString(body, m.ID)
	body = append(body, `,"version":"`...)
	body = append(body, pg.version...)
	body = append(body, `","unread_count":`...)
	body = strconv.AppendInt(body, int64(m.RecipientCount()-pg.readCount), 10)
	body = append(body, `,"members":[`...)
	if u.Limit > 0 && pg.readCount < m.RecipientCount() {
		if !m.Receipts.Whole() {
			return answer, "", nil, false
		}
		var err error
		if body, err = a.appendUnread(body, pg, m, number, u.Limit); err != nil {
			return answer, "", unavailable().Because(err), true
		}
	}
	body = append(appendNext(append(body, ']'), pg.next), '}')
	answer = contract.Answer{Status: http.StatusOK, Header: a.header(partition, view, pg, lagSince(caughtUp, now)), Body: body}
	return answer, resultUnread, nil, true
}

// listsUnread says why it is not told who has not read m.
func listsUnread(m *projections.Message) *contract.Problem {
	switch {
	case m.CountOnly():
		return contract.NewProblem(contract.NoRoster, "the message was sent with recipient_count: who should read it is not known by name")
	case m.Recalled:
		return contract.NewProblem(contract.Recalled, "the message was recalled: nobody should read it")
	}
	return nil
}

// unreadPage is the page that begins at a number in the roster: the first one
// without a cursor.
func (s *paging) unreadPage(m *projections.Message, c *contract.UnreadCursor) (pg *page, number uint32, problem *contract.Problem) {
	pg = &page{at: m.Version(), readCount: m.ReadCount()}
	if c != nil {
		if c.Log != s.log || c.Lineage != s.lineage {
			return nil, 0, contract.NewProblem(contract.CursorGone, "the cursor is of another topic, generation or lineage: pull again without it")
		}
		if m.TakenAway() > c.Next || m.Sent > c.Next {
			return nil, 0, contract.NewProblem(contract.CursorGone, "something was taken away since the first page: pull again without the cursor")
		}
		pg.at, pg.readCount, number = c.Next, m.RecipientCount()-c.Count, c.From
	}
	pg.version = contract.Version{Log: s.log, Lineage: s.lineage, Next: pg.at}.Encode(m.ID)
	pg.complete = isComplete(m, pg.readCount)
	return pg, number, nil
}

// appendUnread appends who had not read m as of the page's version, from a number
// in the roster on, limit at most; numbers ascend as the IDs do.
func (s *paging) appendUnread(b []byte, pg *page, m *projections.Message, number uint32, limit int) ([]byte, error) {
	read := make([]uint64, m.Roster.Names.Len()/64+1)
	all := cut{before: pg.at, latest: math.MaxInt64}
	if err := all.each(m, func(r projections.Receipt) bool {
		read[r.Person/64] |= 1 << (r.Person % 64)
		return true
	}); err != nil {
		return b, err
	}
	n := 0
	for ; int(number) < m.Roster.Names.Len(); number++ {
		if read[number/64]>>(number%64)&1 == 1 || !m.ShouldRead(number) {
			continue
		}
		if n == limit {
			pg.next = contract.UnreadCursor{Log: s.log, Lineage: s.lineage, Next: pg.at, From: number,
				Count: m.RecipientCount() - pg.readCount}.Encode(m.ID, s.sealer)
			break
		}
		if n++; n > 1 {
			b = append(b, ',')
		}
		b = contract.AppendString(b, m.Roster.Names.Name(number))
	}
	return b, nil
}
