package projector

import (
	"cmp"
	"context"
	"time"

	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/materialize"
	"github.com/seenby/seenby/services/contract"
	"github.com/seenby/seenby/services/projector/protocol"
)

// batch answers one batch: its messages one after the other, in their order.
type batch struct {
	*answers
	asked  *contract.Batch
	caller contract.Caller
	// room is how many readers there may be in what is not answered yet.
	room int
	// patience is that of all messages together.
	patience patience
	// body holds the bodies of all messages.
	body   []byte
	answer protocol.BatchAnswer
	// cause is why the first of the messages that could not be read could not be.
	cause error
	// came counts what came of the messages, by what metrics name it.
	came map[string]int
}

// batch answers a batch; owner finds the partition of a message. Its problem is of
// all messages.
func (a *answers) batch(ctx context.Context, owner func(messageID string) source, asked *contract.Batch, room int, caller contract.Caller) (*batch, *contract.Problem) {
	if problem := a.kept(asked.MinPositions); problem != nil {
		return nil, problem
	}
	b := &batch{answers: a, asked: asked, caller: caller, room: room, patience: a.patience(ctx), came: make(map[string]int)}
	defer b.patience.end()
	b.answer.Poll = a.pace.now().Poll
	b.answer.Position = contract.Position{Log: a.log, Next: make(map[int32]int64)}
	b.answer.Results = make([]protocol.BatchResult, len(asked.Items))
	for i := range asked.Items {
		if ctx.Err() != nil {
			return nil, contract.NewProblem(contract.Timeout, "the batch was not answered in the time that it had").After(time.Second)
		}
		src := owner(asked.Items[i].MessageID)
		if src == nil {
			return nil, unavailable().Because(errNotOwner)
		}
		result, came, problem := b.one(src, &asked.Items[i])
		if problem != nil {
			result, came = failed(problem), string(problem.Code)
			b.cause = cmp.Or(b.cause, problem.Cause)
		}
		b.answer.Results[i] = result
		b.came[came]++
	}
	return b, nil
}

// failed is the result of a message that is not answered. Not every code is one of
// those that an item has.
func failed(problem *contract.Problem) protocol.BatchResult {
	code := problem.Code
	if code == contract.Starting {
		code = contract.OwnerUnavailable
	}
	return protocol.BatchResult{Failed: code}
}

// one answers for one message.
func (b *batch) one(src source, item *contract.BatchItem) (protocol.BatchResult, string, *contract.Problem) {
	need := positioned(src.Number(), b.asked.MinPositions)
	if item.Since.Log == b.log {
		need = max(need, item.Since.Next)
	}
	caughtUp, problem := b.fresh(&b.patience, src, need)
	if problem != nil {
		return protocol.BatchResult{}, "", problem
	}
	for receipts := false; ; receipts = true {
		view, err := src.View([]byte(item.MessageID), receipts)
		if err != nil {
			return protocol.BatchResult{}, "", unavailable().Because(err)
		}
		now := b.now()
		b.tell(src.Number(), &view, lagSince(caughtUp, now))
		if !b.shows(&view, b.caller, now) {
			return protocol.BatchResult{Failed: contract.NotFound}, string(contract.NotFound), nil
		}
		result, came, done, problem := b.show(&view.Message, item)
		if problem != nil {
			return protocol.BatchResult{}, "", problem
		}
		if done {
			return result, came, nil
		}
	}
}

// show renders a message. It is not done if that needs receipts that m lacks.
func (b *batch) show(m *projections.Message, item *contract.BatchItem) (_ protocol.BatchResult, came string, done bool, _ *contract.Problem) {
	if v := item.Since; !b.asked.Named && v.Log == b.log && v.Lineage == b.lineage && v.Next == m.Version() {
		return protocol.BatchResult{Done: m.Recalled || isComplete(m, m.ReadCount())}, resultNotModified, true, nil
	}
	pull := contract.Pull{MessageID: item.MessageID}
	if item.Since != (contract.Version{}) {
		pull.Part = contract.Part{Kind: contract.PartSince, Version: item.Since}
	}
	pg, problem := b.page(m, &pull)
	if problem != nil {
		return protocol.BatchResult{}, "", true, problem
	}
	if (b.asked.Named || pg.needs(b.asked.Limit)) && !m.Receipts.Whole() {
		return protocol.BatchResult{}, "", false, nil
	}
	if pg.needs(b.asked.Limit) {
		if err := b.fill(pg, m, b.asked.Limit, min(b.asked.Limit, b.room)); err != nil {
			return protocol.BatchResult{}, "", true, unavailable().Because(err)
		}
		b.room -= len(pg.receipts)
	}
	body, err := b.render(m, pg)
	if err != nil {
		return protocol.BatchResult{}, "", true, unavailable().Because(err)
	}
	came = resultFull
	if pg.delta {
		came = resultDelta
	}
	return protocol.BatchResult{Body: body, Done: pg.complete || m.Recalled}, came, true, nil
}

func (b *batch) render(m *projections.Message, pg *page) ([]byte, error) {
	from := len(b.body)
	b.body = appendMembers(b.body, m, pg)
	if b.asked.Named {
		var err error
		if b.body, err = appendReadBy(b.body, m, b.asked.Readers); err != nil {
			return nil, err
		}
	}
	b.body = append(b.body, '}')
	return b.body[from:len(b.body):len(b.body)], nil
}

// tell notes of which position what is said of a message is, be it that nobody may
// see it, and how old that may be.
func (b *batch) tell(partition int32, view *materialize.View, lag time.Duration) {
	next := b.answer.Position.Next
	next[partition] = max(next[partition], view.Position)
	b.answer.Lag = max(b.answer.Lag, lag)
}

// appendReadBy appends which of some people, who are distinct, have read m, whose
// receipts are whole, in log order. Those beyond the readers that are listed count.
func appendReadBy(b []byte, m *projections.Message, people []string) ([]byte, error) {
	asked := make(map[string]struct{}, len(people))
	byHash := make(map[projections.ReaderHash]string)
	for _, id := range people {
		asked[id] = struct{}{}
		if m.Truncated() {
			byHash[projections.HashReader([]byte(id))] = id
		}
	}
	b = append(b, `,"read_by":[`...)
	n := 0
	err := m.EachReceipt(0, func(r projections.Receipt) bool {
		counts, listed := m.Shown(r)
		if !counts {
			return true
		}
		var id string
		var found bool
		if listed {
			id = m.Reader(r)
			_, found = asked[id]
		} else if hash, known := r.ReaderHash(); known {
			id, found = byHash[hash]
		}
		if found {
			b = appendReader(b, n, id, r.ReadAt)
			n++
		}
		return n < len(people)
	})
	return append(b, ']'), err
}
