package projector

import (
	"context"
	"errors"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/seenby/seenby/projections/verify"
	"github.com/seenby/seenby/services/projector/protocol"
)

// checks are the partitions that were to be held to themselves since the node's
// start, and what was found. One is checked at a time.
type checks struct {
	mu     sync.Mutex
	last   map[int32]*protocol.Check
	show   map[int32]int
	queue  []int32
	wanted chan struct{}
}

func (c *checks) begin() {
	c.last, c.show = make(map[int32]*protocol.Check), make(map[int32]int)
	c.wanted = make(chan struct{}, 1)
}

// want queues a partition, unless it is in the queue or being checked.
func (c *checks) want(partition int32, show int) protocol.Check {
	c.mu.Lock()
	defer c.mu.Unlock()
	if last := c.last[partition]; last == nil || last.State == protocol.CheckDone {
		c.last[partition] = &protocol.Check{Partition: partition, State: protocol.CheckWaiting}
		c.show[partition] = show
		c.queue = append(c.queue, partition)
		select {
		case c.wanted <- struct{}{}:
		default:
		}
	}
	return *c.last[partition]
}

func (c *checks) of(partition int32) protocol.Check {
	c.mu.Lock()
	defer c.mu.Unlock()
	if last := c.last[partition]; last != nil {
		return *last
	}
	return protocol.Check{Partition: partition, State: protocol.CheckNone}
}

// next takes one from the queue.
func (c *checks) next() (partition int32, show int, found bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 {
		return 0, 0, false
	}
	partition = c.queue[0]
	c.queue = c.queue[1:]
	c.last[partition].State = protocol.CheckRunning
	return partition, c.show[partition], true
}

// change is told how the check of a partition is.
func (c *checks) change(partition int32, f func(*protocol.Check)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(c.last[partition])
}

// check holds partitions to themselves as they are wanted, until ctx ends.
func (n *node) check(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.checks.wanted:
		}
		// The tables are those of all partitions.
		damaged, err := n.disk.DamagedTables(n.resting(ctx))
		for partition, show, found := n.checks.next(); found && ctx.Err() == nil; partition, show, found = n.checks.next() {
			n.checkOne(ctx, partition, show, damaged, err)
		}
	}
}

// maxCheckRest bounds how long a check rests at a time.
const maxCheckRest = 50 * time.Millisecond

// resting returns a function that rests as long as it was not called.
func (n *node) resting(ctx context.Context) func() error {
	since := n.config.Now()
	return func() error {
		pause(ctx, min(maxCheckRest, n.config.Now().Sub(since)))
		since = n.config.Now()
		return ctx.Err()
	}
}

// checkOne reads a whole partition from disk. It rests as long as it reads: pulls
// and the log come first.
func (n *node) checkOne(ctx context.Context, partition int32, show int, damaged []verify.Damage, unread error) {
	snapshot := n.disk.Snapshot(partition)
	defer snapshot.Close()
	rest := n.resting(ctx)
	checked, err := verify.Check(ctx, snapshot, n.lineage, partition, verify.Options{Show: show, Step: func(read int) error {
		n.checks.change(partition, func(c *protocol.Check) { c.Messages += int64(read) })
		return rest()
	}})
	err = errors.Join(err, unread)
	n.checks.change(partition, func(c *protocol.Check) {
		c.State, c.Checked, c.Damaged = protocol.CheckDone, &checked, damaged
		if err != nil {
			c.Error = err.Error()
		}
	})
}

func (s *Service) checkOf(_ context.Context, n *node, o *owned, _ url.Values) (any, error) {
	return n.checks.of(o.number), nil
}

func (s *Service) beginCheck(_ context.Context, n *node, o *owned, params url.Values) (any, error) {
	show, err := strconv.Atoi(params.Get("show"))
	if err != nil || show < 0 || show > 1000 {
		show = 10
	}
	return n.checks.want(o.number, show), nil
}
