package materialize

import "fmt"

// pruneSlackMillis is how far the record timestamps of a partition may run back
// when its leader changes, and how far the brokers' clocks may be behind ours.
const pruneSlackMillis = 3_600_000

// CaughtUp is told a time, in Unix milliseconds, at which the partition had
// applied everything that was in the log.
func (p *Partition) CaughtUp(at int64) { p.caughtUp = max(p.caughtUp, at) }

// Prune removes the messages that have expired by now (Unix milliseconds) and
// can matter to no record to come, and returns how many. It takes as long as
// there are many of them, and nothing is applied meanwhile; readers go on.
//
// That a message has expired by the wall clock does not say that it is done
// with. While an old log is folded, long after it was written, every message has
// expired, but its receipts are still to come; without the message they would
// wait for it, and press out what rightly waits. What decides is the earliest
// timestamp that a record to come may have. It is not much earlier than that of
// the latest applied record. Nor, in a log that stood still, than the time at
// which everything in it was applied, because its records get their timestamps
// from the broker when they are appended.
func (p *Partition) Prune(now int64) (int, error) {
	if err := p.Stopped(); err != nil {
		return 0, err
	}
	before, begun := p.pruneBefore(now)
	if !begun {
		return 0, nil
	}
	if err := p.Flush(); err != nil {
		return 0, err
	}
	p.forget(before)
	n, err := p.store.Prune(p.number, before)
	p.countPruned(n)
	if err != nil {
		err = fmt.Errorf("partition %d: prune: %w", p.number, err)
		p.Stop(err)
	}
	return n, err
}

func (p *Partition) pruneBefore(now int64) (before int64, begun bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.fold == nil {
		return 0, false
	}
	reached := max(p.fold.Checkpoint().Timestamp, p.caughtUp)
	return min(now, reached) - p.lineage.Retention.Milliseconds() - pruneSlackMillis, true
}

// forget drops from memory what the store is about to remove. Nothing is dirty.
// From here on these messages are not found, whether the store still has them or
// not: to the fold that is the same as finding them expired.
func (p *Partition) forget(before int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if Hour(before) > Hour(p.prunedAt) {
		p.hot.removeEnded(before)
		p.prunedAt = before
	}
}

func (p *Partition) countPruned(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stats.Pruned += int64(n)
}
