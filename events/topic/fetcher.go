package topic

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/seenby/seenby/events"
)

// fetcher fetches partitions that one node leads: one request at a time, and the
// next one as soon as Poll has taken what the last one brought. So a caller that
// is slow to Poll slows the fetching down.
//
// A node has two, so that one fetches while the other decodes and hands out. Each
// claims partitions for itself, and has them until what it fetched of them has
// been handed out; so each partition is still fetched by one at a time.
//
// franz-go's own consumer is not used, because it decides by itself what to do
// when a log does not continue: it goes on after an unclean election whose
// leader does not know the last epoch, and it does not tell of offsets that hold
// nothing to hand out. What it is good at, connections, is used.
type fetcher struct {
	r       *Reader
	node    int32
	wake    chan struct{}
	decoder *decoder
	// cancel ends the request in flight. The Reader's mutex guards it.
	cancel context.CancelFunc
}

// impatience is how long a request may wait for something to be written while
// the node's other fetcher is at work, whose next request waits behind it.
const impatience = 5 * time.Millisecond

func (f *fetcher) run(ctx context.Context) {
	for ctx.Err() == nil {
		claims, alone, wait := f.claim()
		if len(claims) == 0 {
			f.rest(ctx, wait)
			continue
		}
		patience := f.r.config.Watch
		if !alone {
			patience = min(patience, impatience)
		}
		round, end := f.interruptible(ctx)
		ready, broken := f.check(round, claims)
		if len(ready) > 0 {
			f.deliver(ctx, f.fetch(round, ready, patience))
		}
		end()
		if len(broken) > 0 {
			f.conclude(ctx, broken)
		}
		f.release(claims)
	}
}

// claim takes the partitions that the node leads and that are due. If there is
// none, wait is when one will be, or 0 if nobody knows. alone says that the
// other fetcher has none now. While it has some, it is up to this one to read on
// where there is known to be more, but not to wait for more to be written: the
// other's next request would wait behind that. What it leaves, the other takes.
func (f *fetcher) claim() (claims []claim, alone bool, wait time.Duration) {
	f.r.mu.Lock()
	defer f.r.mu.Unlock()
	now := time.Now()
	alone, more := true, false
	for _, p := range f.r.partitions {
		if by := p.claimedBy; by != nil && by.node == f.node {
			alone = false
		}
		if p.leader.node != f.node || p.claimedBy != nil || p.ended {
			continue
		}
		if due := p.retryAt.Sub(now); due > 0 {
			if wait == 0 || due < wait {
				wait = due
			}
			continue
		}
		more = more || p.position < p.end.Offset
		claims = append(claims, claim{p, p.leader.epoch})
	}
	if !alone && !more {
		return nil, false, 0
	}
	for _, c := range claims {
		c.claimedBy = f
	}
	// An answer has room for some partitions only; shuffled, all get their turn.
	rand.Shuffle(len(claims), func(i, j int) { claims[i], claims[j] = claims[j], claims[i] })
	return claims, alone, wait
}

// release gives back those of the claims that the fetcher still has.
func (f *fetcher) release(claims []claim) {
	f.r.mu.Lock()
	defer f.r.mu.Unlock()
	for _, c := range claims {
		if c.claimedBy != f {
			continue
		}
		c.claimedBy = nil
		if c.leader.node != f.node {
			f.r.fetchers[c.leader.node].nudge()
		}
	}
}

// rest waits until there may be something to do.
func (f *fetcher) rest(ctx context.Context, wait time.Duration) {
	var due <-chan time.Time
	if wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		due = t.C
	}
	select {
	case <-ctx.Done():
	case <-f.wake:
	case <-due:
	}
}

// fetchers are those of one node.
type fetchers []*fetcher

const fetchersPerNode = 2

// nudge has the fetchers look for partitions to claim.
func (fs fetchers) nudge() {
	for _, f := range fs {
		select {
		case f.wake <- struct{}{}:
		default:
		}
	}
}

// interrupt ends the requests in flight. The Reader's mutex is held.
func (fs fetchers) interrupt() {
	for _, f := range fs {
		if f.cancel != nil {
			f.cancel()
		}
	}
}

// interruptible returns a context for one round of requests, which fetchers'
// interrupt ends.
func (f *fetcher) interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	f.r.mu.Lock()
	f.cancel = cancel
	f.r.mu.Unlock()
	return ctx, cancel
}

func (f *fetcher) deliver(ctx context.Context, batches []Batch) {
	if len(batches) == 0 {
		return
	}
	select {
	case f.r.out <- batches:
	case <-ctx.Done():
	}
}

// retry has partitions tried again after a while, longer each time in a row.
func (f *fetcher) retry(ctx context.Context, err error, claims ...claim) {
	if ctx.Err() != nil {
		return // interrupted: there is nothing wrong with them
	}
	f.r.mu.Lock()
	defer f.r.mu.Unlock()
	for _, c := range claims {
		f.r.failed(c.partition, err)
	}
}

// request sends a request to the fetcher's node.
func (f *fetcher) request(ctx context.Context, req kmsg.Request) (kmsg.Response, error) {
	resp, err := f.r.client.Broker(int(f.node)).Request(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("broker %d: %s: %w", f.node, kmsg.NameForKey(req.Key()), err)
	}
	return resp, nil
}

// fetch fetches claims once. Their ends are as of just before the request: a
// leader answers with its offsets when it answers. That its high watermark
// covers all that earlier leaders acknowledged, check has made sure of. Claims
// that nothing came of are released before the others are decoded.
func (f *fetcher) fetch(ctx context.Context, claims []claim, patience time.Duration) []Batch {
	asOf := f.r.config.Now()
	kresp, err := f.request(ctx, f.fetchRequest(claims, patience, f.r.config.FetchBytes, f.r.config.PartitionBytes))
	if err != nil {
		f.retry(ctx, err, claims...)
		return nil
	}
	resp := kresp.(*kmsg.FetchResponse)
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		f.retry(ctx, fmt.Errorf("broker %d: Fetch: %w", f.node, err), claims...)
		return nil
	}
	answers := f.fetched(resp)
	var batches []Batch
	var idle, filled []claim
	for _, c := range claims {
		answer := answers[c.id]
		switch {
		case answer == nil: // it had no room in the answer
			idle = append(idle, c)
		case len(answer.RecordBatches) > 0:
			filled = append(filled, c)
		default:
			if b, ok := f.take(ctx, c, answer, asOf); ok {
				batches = append(batches, b)
			} else {
				idle = append(idle, c)
			}
		}
	}
	if len(filled) > 0 {
		f.leave(idle)
	}
	for _, c := range filled {
		if b, ok := f.take(ctx, c, answers[c.id], asOf); ok {
			batches = append(batches, b)
		}
	}
	return batches
}

// leave leaves claims to the other fetcher of the node. Nothing of them may be
// on its way to Poll, or what the other fetches might overtake it.
func (f *fetcher) leave(claims []claim) {
	f.release(claims)
	f.r.mu.Lock()
	defer f.r.mu.Unlock()
	f.r.fetchers[f.node].nudge()
}

func (f *fetcher) fetchRequest(claims []claim, wait time.Duration, bytes, partitionBytes int32) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID = -1
	req.MaxWaitMillis = int32(wait.Milliseconds())
	req.MinBytes = 1
	req.MaxBytes = bytes
	req.IsolationLevel = 1
	// No fetch session: every request says all that it asks for, so that no
	// answer can be about an earlier one.
	req.SessionEpoch = -1
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID = f.r.config.Topic, f.r.config.Identity.ID
	for _, c := range claims {
		p := kmsg.NewFetchRequestTopicPartition()
		p.Partition, p.FetchOffset, p.CurrentLeaderEpoch, p.PartitionMaxBytes = c.id, c.position, c.leaderEpoch, partitionBytes
		t.Partitions = append(t.Partitions, p)
	}
	req.Topics = []kmsg.FetchRequestTopic{t}
	return req
}

// fetched returns the answers by partition; those of another topic ID, which
// were not asked for, are left out.
func (f *fetcher) fetched(resp *kmsg.FetchResponse) map[int32]*kmsg.FetchResponseTopicPartition {
	answers := make(map[int32]*kmsg.FetchResponseTopicPartition)
	for i := range resp.Topics {
		if resp.Topics[i].TopicID != f.r.config.Identity.ID {
			continue
		}
		for j := range resp.Topics[i].Partitions {
			p := &resp.Topics[i].Partitions[j]
			answers[p.Partition] = p
		}
	}
	return answers
}

// take takes what a leader answered for one partition.
func (f *fetcher) take(ctx context.Context, c claim, answer *kmsg.FetchResponseTopicPartition, asOf time.Time) (Batch, bool) {
	switch err := kerr.ErrorForCode(answer.ErrorCode); {
	case errors.Is(err, kerr.OffsetOutOfRange):
		// Whether that is for good, and why, is for check to find out.
		f.again(c)
		f.retry(ctx, fmt.Errorf("broker %d: offset %d: %w", f.node, c.position, err), c)
		return Batch{}, false
	case err != nil:
		f.retry(ctx, fmt.Errorf("broker %d: %w", f.node, err), c)
		return Batch{}, false
	}
	m, next, err := f.decoder.decode(c.position, answer)
	f.r.mu.Lock()
	defer f.r.mu.Unlock()
	// A broker notes its last stable offset before it reads the records, which may
	// therefore go beyond it. What was handed out is stable.
	c.end.Offset = max(c.end.Offset, answer.LastStableOffset, next)
	if answer.LastStableOffset >= answer.HighWatermark {
		c.end.AsOf = asOf
	}
	switch {
	case len(m.records) > 0:
		c.position, c.epoch, c.fresh = next, m.records[len(m.records)-1].LeaderEpoch, false
	case c.fresh && c.position > c.announced:
		// The log begins here and is empty. It stays fresh: nothing was read.
		m.records = []events.Record{{Offset: c.position - 1, LeaderEpoch: noEpoch, Control: true}}
		c.announced = c.position
	}
	if err != nil {
		f.r.failed(c.partition, err)
	} else {
		f.r.fine(c.partition)
	}
	if len(m.records) == 0 {
		m.free()
		return Batch{}, false
	}
	return Batch{Partition: c.id, Records: m.records, memory: m}, true
}

// again has the continuity of a partition checked before it is fetched next.
func (f *fetcher) again(c claim) {
	f.r.mu.Lock()
	defer f.r.mu.Unlock()
	c.checkedIn = unchecked
}
