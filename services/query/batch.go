package query

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/services/contract"
	"github.com/seenby/seenby/services/projector/protocol"
)

// Batch asks the owners of a batch's messages, all at once, and puts together what
// they answer. A message whose owner does not answer is named as failed, and the
// others are answered; a problem is of all of them.
func (s *Service) Batch(ctx context.Context, batch *contract.Batch, caller contract.Caller) (contract.Answer, *contract.Problem) {
	g := gathering{results: make([]protocol.BatchResult, len(batch.Items))}
	parts := s.scatter(batch, &g)
	if len(parts) == 1 {
		s.askPart(ctx, &parts[0], caller)
	} else {
		var wg sync.WaitGroup
		for i := range parts {
			wg.Go(func() { s.askPart(ctx, &parts[i], caller) })
		}
		wg.Wait()
	}
	for i := range parts {
		if problem := g.take(&parts[i]); problem != nil {
			return contract.Answer{}, problem
		}
	}
	return g.answer(batch), nil
}

// part is what one node is asked of a batch, and what it answers.
type part struct {
	node  int
	log   Log
	batch *contract.Batch
	// readers is how many there may be in the answer.
	readers int
	// at has the indexes of the messages in the whole batch; nil: they are all of it.
	at []int

	answer  *protocol.BatchAnswer
	problem *contract.Problem
}

// scatter divides a batch by owner. Messages that nobody can be asked for are
// failed at once.
func (s *Service) scatter(batch *contract.Batch, g *gathering) []part {
	r := s.routing.Load()
	if !r.known {
		s.metrics.asked(noNode, 0, r.unknown(), 0)
		g.fail(contract.OwnerUnavailable, len(batch.Items), nil)
		return nil
	}
	if len(s.nodes) == 1 && r.nodes[0].refused == nil {
		return []part{{node: 0, log: r.log, batch: batch, readers: contract.MaxBatchReaders}}
	}
	of := make([][]int, len(s.nodes))
	for i := range batch.Items {
		node := int(events.Partition(batch.Items[i].MessageID, r.log.Partitions)) % len(s.nodes)
		of[node] = append(of[node], i)
	}
	var parts []part
	for node, at := range of {
		if len(at) == 0 {
			continue
		}
		if problem := r.nodes[node].problem(); problem != nil {
			s.metrics.asked(noNode, 0, problem, 0)
			g.fail(itemCode(problem.Code), len(at), at)
			continue
		}
		some := *batch
		some.Items = make([]contract.BatchItem, len(at))
		for i, index := range at {
			some.Items[i] = batch.Items[index]
		}
		// Readers are shared out before it is known who has how many. What does not fit
		// is on the next page, wherever it is cut off.
		share := contract.MaxBatchReaders * len(at) / len(batch.Items)
		parts = append(parts, part{node: node, log: r.log, batch: &some, readers: share, at: at})
	}
	return parts
}

// itemCode is a problem's code as an item has it: not every code is one of those.
func itemCode(code contract.Code) contract.Code {
	if code == contract.Starting {
		return contract.OwnerUnavailable
	}
	return code
}

func (s *Service) askPart(ctx context.Context, p *part, caller contract.Caller) {
	begun := s.config.Now()
	within, cancel := context.WithTimeout(ctx, s.config.OwnerTimeout)
	defer cancel()
	var err error
	p.answer, p.problem, err = s.nodes[p.node].Owner.Batch(within, &AskBatch{Batch: p.batch, Caller: caller, Readers: p.readers, Log: p.log})
	if err != nil {
		p.problem = s.lost(ctx, within, p.node, err)
		s.warnings.Do(func() { s.config.Logger.Warn("part of a batch is not answered", "err", p.problem) })
	}
	s.metrics.asked(p.node, http.StatusOK, p.problem, s.config.Now().Sub(begun))
}

// gathering is what the owners' answers add up to.
type gathering struct {
	results  []protocol.BatchResult
	position contract.Position
	lag      int64 // milliseconds
	poll     contract.Poll
	// answered is set once a node has answered, looked once it has looked at a
	// message: one that no message was fresh for has no position to tell.
	answered, looked bool
}

// fail fails the messages at these indexes; nil: all.
func (g *gathering) fail(code contract.Code, n int, at []int) {
	for i := range n {
		g.results[index(at, i)] = protocol.BatchResult{Failed: code}
	}
}

func index(at []int, i int) int {
	if at == nil {
		return i
	}
	return at[i]
}

// take adds what came of a part. A problem of what was presented is one of the whole
// batch.
func (g *gathering) take(p *part) *contract.Problem {
	if p.problem != nil {
		if p.problem.Code.Status() < http.StatusInternalServerError {
			return p.problem
		}
		g.fail(itemCode(p.problem.Code), len(p.batch.Items), p.at)
		return nil
	}
	for i, result := range p.answer.Results {
		g.results[index(p.at, i)] = result
	}
	g.lag = max(g.lag, p.answer.Lag.Milliseconds())
	g.looked = g.looked || len(p.answer.Position.Next) > 0
	if !g.answered {
		g.answered, g.position, g.poll = true, p.answer.Position, p.answer.Poll
		return nil
	}
	for partition, next := range p.answer.Position.Next {
		g.position.Next[partition] = next
	}
	g.poll.Interval = max(g.poll.Interval, p.answer.Poll.Interval)
	g.poll.Window = min(g.poll.Window, p.answer.Poll.Window)
	return nil
}

// answer renders it. The headers of freshness are there if a message was looked at.
func (g *gathering) answer(batch *contract.Batch) contract.Answer {
	if !g.answered {
		g.poll = contract.DefaultPoll
	}
	size, stop := 128, true
	for i := range g.results {
		size += len(g.results[i].Body) + len(batch.Items[i].MessageID) + 8
		stop = stop && g.results[i].Done
	}
	b := append(make([]byte, 0, size), `{"messages":[`...)
	b = g.each(b, func(b []byte, i int) ([]byte, bool) {
		return append(b, g.results[i].Body...), g.results[i].Body != nil
	})
	b = append(b, `],"unchanged":[`...)
	b = g.each(b, func(b []byte, i int) ([]byte, bool) {
		if g.results[i].Body != nil || g.results[i].Failed != "" {
			return b, false
		}
		return contract.AppendString(b, batch.Items[i].MessageID), true
	})
	b = append(b, `],"failed":[`...)
	b = g.each(b, func(b []byte, i int) ([]byte, bool) {
		if g.results[i].Failed == "" {
			return b, false
		}
		b = contract.AppendString(append(b, `{"message_id":`...), batch.Items[i].MessageID)
		b = append(append(b, `,"code":"`...), g.results[i].Failed...)
		return append(b, `"}`...), true
	})
	interval, window := g.poll.Interval.Milliseconds(), g.poll.Window.Milliseconds()
	b = append(b, `],"poll":{"interval_ms":`...)
	b = strconv.AppendInt(b, interval, 10)
	b = append(b, `,"window_ms":`...)
	b = strconv.AppendInt(b, window, 10)
	b = append(b, `,"stop":`...)
	b = append(strconv.AppendBool(b, stop), `}}`...)
	h := http.Header{"Content-Type": {"application/json"}}
	if g.looked {
		h["Seenby-Position"] = []string{g.position.Encode()}
		h["Seenby-Lag-Ms"] = []string{strconv.FormatInt(g.lag, 10)}
	}
	poll := "stop"
	if !stop {
		poll = fmt.Sprintf("interval=%d, window=%d", interval, window)
	}
	h["Seenby-Poll"] = []string{poll}
	return contract.Answer{Status: http.StatusOK, Header: h, Body: b}
}

// each appends an item for each result that has one, with commas between.
func (g *gathering) each(b []byte, item func(b []byte, i int) ([]byte, bool)) []byte {
	first := true
	for i := range g.results {
		before := len(b)
		if !first {
			b = append(b, ',')
		}
		var has bool
		if b, has = item(b, i); !has {
			b = b[:before]
			continue
		}
		first = false
	}
	return b
}
