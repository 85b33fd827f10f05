package projector

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/materialize"
	"github.com/seenby/seenby/services/contract"
)

// source is what a pull needs of the partition of its message.
type source interface {
	// Number is the partition's.
	Number() int32
	// Stopped is why the partition cannot go on, or nil.
	Stopped() error
	// CaughtUp is as of when everything was applied; zero: never yet.
	CaughtUp() time.Time
	// Position is the next offset to apply.
	Position() int64
	// Wait returns nil when Position is at least position, and an error when ctx
	// ends or the partition has stopped.
	Wait(ctx context.Context, position int64) error
	// View returns a message as of one position, which is no less than any
	// position that was returned before; with all its receipts if they are wanted.
	View(id []byte, receipts bool) (materialize.View, error)
}

// answers decides what a pull is answered with.
type answers struct {
	paging
	retention time.Duration
	visibleTo VisibleTo
	wait      time.Duration
	pace      *pollPace
	waits     *waits
	now       func() time.Time
}

func newAnswers(c *Config, l projections.Lineage) answers {
	return answers{
		paging:    paging{log: l.LogID(), lineage: l.ID(), sealer: c.Secret},
		retention: c.Retention,
		visibleTo: c.VisibleTo,
		wait:      c.MaxWait,
		pace:      newPollPace(contract.Poll{Interval: c.PollInterval, Window: c.PollWindow}, c.PollSlowest),
		waits:     new(waits),
		now:       c.Now,
	}
}

// The result of a pull, as metrics name it, is the problem's code, or one of
// these.
const (
	resultFull        = "full"
	resultDelta       = "delta"
	resultRestricted  = "restricted"
	resultNotModified = "not_modified"
)

const (
	pollStop = "stop"
	jsonType = "application/json"
)

// receipts answers a pull, or says why not; result is for metrics. The order of
// the checks is the contract's, and what makes a caller wait comes before what
// asks who the caller is, so that the time an answer takes does not tell whether
// a message exists.
func (a *answers) receipts(ctx context.Context, src source, pull *contract.Pull, caller contract.Caller) (answer contract.Answer, result string, problem *contract.Problem) {
	need, problem := a.presented(src.Number(), pull)
	if problem != nil {
		return contract.Answer{}, "", problem
	}
	// What is told about freshness was known before the view is taken, so that it
	// is true of it.
	patience := a.patience(ctx)
	defer patience.end()
	caughtUp, problem := a.fresh(&patience, src, need)
	if problem != nil {
		return contract.Answer{}, "", problem
	}
	// The receipts may have to come from disk. Most pulls need none, and it shows
	// only with the message whether one does.
	for receipts := false; ; receipts = true {
		view, err := src.View([]byte(pull.MessageID), receipts)
		if err != nil {
			return contract.Answer{}, "", unavailable().Because(err)
		}
		answer, result, problem, done := a.show(src.Number(), &view, caughtUp, pull, caller)
		if done || problem != nil {
			return answer, result, problem
		}
	}
}

// show answers a pull by a view. It is not done if it needs the receipts and the
// view has not all.
func (a *answers) show(partition int32, view *materialize.View, caughtUp time.Time, pull *contract.Pull, caller contract.Caller) (answer contract.Answer, result string, problem *contract.Problem, done bool) {
	m, now := &view.Message, a.now()
	if !a.shows(view, caller, now) {
		return answer, "", notFound(), true
	}
	pg, problem := a.page(m, pull)
	if problem != nil {
		return answer, "", problem, true
	}
	// A restricted page has no entity tag to match.
	if !pg.restricted && (pull.AnyMatch || matches(pull.IfNoneMatch, pg.version)) {
		return a.notModified(partition, view, pg, lagSince(caughtUp, now)), resultNotModified, nil, true
	}
	if pg.needs(pull.Limit) {
		if !m.Receipts.Whole() {
			return answer, "", nil, false
		}
		if err := a.fill(pg, m, pull.Limit, pull.Limit); err != nil {
			return answer, "", unavailable().Because(err), true
		}
	}
	answer = contract.Answer{Status: http.StatusOK, Header: a.header(partition, view, pg, lagSince(caughtUp, now))}
	answer.Body = appendBody(make([]byte, 0, bodySize(m, pg)), m, pg)
	switch {
	case pg.delta:
		return answer, resultDelta, nil, true
	case pg.restricted:
		return answer, resultRestricted, nil, true
	}
	return answer, resultFull, nil, true
}

// presented is the position that the caller must see at least: that of every
// version and position of this log that was presented. A version of another log
// says nothing here, and as at_version it is refused, as it is of another lineage;
// a position of another log promised something that cannot be kept.
func (a *answers) presented(partition int32, pull *contract.Pull) (need int64, problem *contract.Problem) {
	part := pull.Part
	if v := part.Version; pull.Cursor == nil && part.Kind == contract.PartAtVersion && (v.Log != a.log || v.Lineage != a.lineage) {
		return 0, contract.NewProblem(contract.BadVersion, "at_version is of another topic, generation or lineage: what it showed cannot be told from here")
	}
	if problem := a.kept(pull.MinPositions); problem != nil {
		return 0, problem
	}
	need = max(a.tagged(pull.MessageID, pull.IfNoneMatch), positioned(partition, pull.MinPositions))
	if v := part.Version; v.Log == a.log {
		need = max(need, v.Next)
	}
	if c := pull.Cursor; c != nil && c.Log == a.log {
		need = max(need, c.Next)
	}
	return need, nil
}

// kept refuses positions of another log.
func (a *answers) kept(positions []contract.Position) *contract.Problem {
	for _, p := range positions {
		if p.Log != a.log {
			return contract.NewProblem(contract.PositionGone, "min_position is of another topic or generation: pull again without it")
		}
	}
	return nil
}

// positioned is what positions say of a partition.
func positioned(partition int32, positions []contract.Position) (need int64) {
	for _, p := range positions {
		need = max(need, p.Next[partition])
	}
	return need
}

// tagged is what the versions of this log among entity tags say.
func (a *answers) tagged(messageID string, tags []string) (need int64) {
	for _, tag := range tags {
		if v, err := contract.ParseVersion(tag, messageID); err == nil && v.Log == a.log {
			need = max(need, v.Next)
		}
	}
	return need
}

// fresh returns, once the partition answers pulls and has got to need, as of when
// it had applied everything; or it says why it does not.
func (a *answers) fresh(p *patience, src source, need int64) (time.Time, *contract.Problem) {
	if src.Stopped() != nil {
		return time.Time{}, unavailable()
	}
	caughtUp := src.CaughtUp()
	if caughtUp.IsZero() {
		return caughtUp, contract.NewProblem(contract.Starting, "the message's owner has not caught up with the log yet").After(time.Second)
	}
	if src.Position() >= need {
		return caughtUp, nil
	}
	err := p.wait(src, need)
	switch {
	case err == nil:
		return src.CaughtUp(), nil
	case src.Stopped() != nil:
		return caughtUp, unavailable()
	case errors.Is(p.ctx.Err(), context.DeadlineExceeded):
		return caughtUp, contract.NewProblem(contract.Timeout, "the presented position was waited for until the request's time was over").After(time.Second)
	}
	return caughtUp, contract.NewProblem(contract.NotFresh, "what was presented is not applied yet").After(time.Second)
}

func unavailable() *contract.Problem {
	return contract.NewProblem(contract.OwnerUnavailable, "the message's owner does not answer").After(time.Second)
}

// shows says whether there is a message for the caller to see.
func (a *answers) shows(view *materialize.View, caller contract.Caller, now time.Time) bool {
	return view.Found && !a.expired(&view.Message, now) && a.maySee(&view.Message, caller)
}

func notFound() *contract.Problem {
	return contract.NewProblem(contract.NotFound, "there is no such message, or it is not yours to see")
}

// expired goes by the wall clock.
func (a *answers) expired(m *projections.Message, now time.Time) bool {
	return now.UnixMilli() >= m.SentAt+a.retention.Milliseconds()
}

func (a *answers) maySee(m *projections.Message, caller contract.Caller) bool {
	if sender, known := m.SenderID(); caller.Backend || known && caller.Subject == sender {
		return true
	}
	return a.visibleTo == Participants && m.IsRecipient(caller.Subject)
}

// matches is If-None-Match's weak comparison.
func matches(tags []string, version string) bool {
	for _, tag := range tags {
		if tag == version {
			return true
		}
	}
	return false
}

func (a *answers) notModified(partition int32, view *materialize.View, pg *page, lag time.Duration) contract.Answer {
	answer := contract.Answer{Status: http.StatusNotModified, Header: a.header(partition, view, pg, lag)}
	delete(answer.Header, "Content-Type")
	return answer
}

// header returns the headers of a 200; a 304 has them but Content-Type. A
// restricted page does not change with the message's version, and nobody polls
// for it: it has no entity tag and no Seenby-Poll.
func (a *answers) header(partition int32, view *materialize.View, pg *page, lag time.Duration) http.Header {
	poll := a.pace.now().text
	if pg.complete || view.Message.Recalled {
		poll = pollStop
	}
	// One array holds all values.
	values := [...]string{
		jsonType,
		`W/"` + pg.version + `"`,
		contract.Position{Log: a.log, Next: map[int32]int64{partition: view.Position}}.Encode(),
		strconv.FormatInt(lag.Milliseconds(), 10),
		poll,
	}
	v := values[:]
	h := http.Header{
		"Content-Type":    v[0:1:1],
		"Seenby-Position": v[2:3:3],
		"Seenby-Lag-Ms":   v[3:4:4],
	}
	if !pg.restricted {
		h["Etag"], h["Seenby-Poll"] = v[1:2:2], v[4:5:5]
	}
	return h
}
