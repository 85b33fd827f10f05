package materialize

import (
	"fmt"

	"github.com/seenby/seenby/projections"
)

// pruneSlackMillis is how far the record timestamps of a partition may run back
// when its leader changes.
const pruneSlackMillis = 3_600_000

// Prune removes some of the messages that have expired by now (Unix milliseconds)
// and can matter to no record to come; it returns how many, and is done when there
// are no more. It takes a bounded time, in which nothing is applied; readers go on.
//
// That a message has expired by the wall clock does not say that it is done
// with. While an old log is folded, long after it was written, every message has
// expired, but its receipts are still to come; without the message they would
// wait for it, and press out what rightly waits. And a wall clock can be wrong:
// one that jumps ahead, and back, must not cost a copy its state. What decides
// is the earliest timestamp that a record to come may have, which is not much
// earlier than that of the latest applied record. So a partition that nothing is
// written to keeps what has expired until its next record; nobody is shown it.
func (p *Partition) Prune(now int64) (removed int, done bool, err error) {
	if err := p.Stopped(); err != nil {
		return 0, false, err
	}
	before, begun := p.pruneBefore(now)
	if !begun {
		return 0, true, nil
	}
	if err := p.Flush(); err != nil {
		return 0, false, err
	}
	p.forget(before)
	removed, done, err = p.store.Prune(p.number, before)
	p.countPruned(removed)
	if err != nil {
		err = fmt.Errorf("partition %d: prune: %w", p.number, err)
		p.Stop(err)
	}
	return removed, done, err
}

func (p *Partition) pruneBefore(now int64) (before int64, begun bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.fold == nil {
		return 0, false
	}
	return min(now, p.fold.Checkpoint().Timestamp) - p.lineage.Retention.Milliseconds() - pruneSlackMillis, true
}

// forget drops from memory what the store is about to remove. Nothing is dirty.
// From here on these messages are not found, whether the store still has them or
// not: to the fold that is the same as finding them expired.
func (p *Partition) forget(before int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if projections.Hour(before) > projections.Hour(p.prunedAt) {
		p.hot.removeEnded(before)
		p.fold.DropDigests(before)
		p.prunedAt = before
	}
}

func (p *Partition) countPruned(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stats.Pruned += int64(n)
}
