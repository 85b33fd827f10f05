package materialize

import "fmt"

// Flush makes all that was applied durable, with its checkpoint. It does nothing
// if there is nothing new. After an error the partition has stopped, and nothing
// can be flushed any more: what the store holds shows when it is opened again.
func (p *Partition) Flush() error {
	if p.broken != nil {
		return p.broken
	}
	b := p.batch()
	if b == nil {
		return nil
	}
	// Readers go on meanwhile. Nothing that b points to changes: only this
	// goroutine applies, and nothing dirty is evicted.
	if err := p.store.Commit(p.number, b); err != nil {
		p.broken = fmt.Errorf("partition %d: flush of offsets %d to %d: %w: see to the disk, then start again; the records are still in the log",
			p.number, p.flushed.Position, b.Checkpoint.Position-1, err)
		p.Stop(p.broken)
		return p.broken
	}
	p.settle(b)
	p.memory.shrink()
	return nil
}

// batch is everything since the last flush, or nil.
func (p *Partition) batch() *Batch {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fold == nil || p.fold.Checkpoint() == p.flushed {
		return nil
	}
	b := &Batch{
		Checkpoint:       p.fold.Checkpoint(),
		Messages:         make([]Change, len(p.hot.dirty)),
		Undecodable:      p.undecodable,
		UndecodableTotal: p.total,
	}
	for i, e := range p.hot.dirty {
		b.Messages[i] = e.change()
	}
	b.WaitingAdded, b.WaitingRemoved = p.fold.Waiting().TakeChanges()
	return b
}

func (p *Partition) settle(b *Batch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hot.settle()
	p.committed, p.flushed = true, b.Checkpoint
	p.undecodable, p.pendingCost = nil, 0
	p.stats.Flushes++
	p.stats.FlushedMessages += int64(len(b.Messages))
	p.stats.FlushedBytes += int64(b.Size())
}
