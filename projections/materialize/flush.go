package materialize

import (
	"fmt"
	"slices"

	"github.com/seenby/seenby/projections"
)

// sealFrom is how many receipts an open chunk must have to be sealed by a flush.
// A flush writes an open chunk again with each message that changed, so that it is
// to be short; and each chunk costs a key, so that it is not to be too short.
const sealFrom = 32

// flush is a batch on its way to the store, and what it was made of.
type flush struct {
	batch   Batch
	entries []*entry
	cells   []*cell
}

// Flush makes all that was applied durable, with its checkpoint. It does nothing
// if there is nothing new. After an error the partition has stopped, and nothing
// can be flushed any more: what the store holds shows when it is opened again.
func (p *Partition) Flush() error {
	if p.broken != nil {
		return p.broken
	}
	f := p.begun()
	if f == nil {
		return nil
	}
	// Readers go on meanwhile. Nothing that the batch points to changes: it has
	// snapshots, only this goroutine applies, and nothing dirty is evicted.
	if err := p.store.Commit(p.number, &f.batch); err != nil {
		p.broken = fmt.Errorf("partition %d: flush of offsets %d to %d: %w: see to the disk, then start again; the records are still in the log",
			p.number, p.flushed.Position, f.batch.Checkpoint.Position-1, err)
		p.Stop(p.broken)
		return p.broken
	}
	p.settle(f)
	p.memory.shrink()
	return nil
}

// begun is everything since the last flush, or nil.
func (p *Partition) begun() *flush {
	p.mu.Lock()
	defer p.mu.Unlock()
	unchanged := p.fold != nil && p.fold.Checkpoint() == p.flushed && p.forgotten == 0
	if p.fold == nil || unchanged && len(p.hot.dirty)+len(p.hot.rosters.dirty) == 0 {
		return nil
	}
	f := &flush{entries: p.hot.dirty, cells: p.hot.rosters.dirty}
	b := &f.batch
	b.Checkpoint = p.fold.Checkpoint()
	b.Undecodable, b.UndecodableTotal = p.undecodable, p.total
	b.Messages = make([]Change, len(f.entries))
	snapshots := make([]projections.Message, len(f.entries))
	for i, e := range f.entries {
		if e.message.Receipts.Open().Len >= sealFrom {
			e.message.Receipts.Seal()
		}
		snapshots[i] = e.message.Snapshot()
		b.Messages[i] = Change{Message: &snapshots[i], Stored: e.stored, Sealed: e.sealed}
		for _, chunk := range e.message.Receipts.TakeRewritten() {
			if chunk < e.sealed {
				b.Messages[i].Rewritten = append(b.Messages[i].Rewritten, chunk)
			}
		}
	}
	for _, c := range f.cells {
		// What is stored names nobody who was erased.
		p.fold.SettleRoster(c.roster)
		roster := *c.roster
		b.Rosters = append(b.Rosters, RosterChange{StoredRoster{&roster, c.keepUntil}, c.extended})
	}
	b.Digests = p.fold.TakeDigests()
	p.pendingCost += len(b.Digests) * digestSize
	b.ErasuresAdded, b.ErasuresForgotten = p.newErasures(), p.forgotten
	b.WaitingAdded, b.WaitingRemoved = p.fold.Waiting().TakeChanges()
	p.hot.dirty, p.hot.rosters.dirty, p.hot.flushing = nil, nil, true
	return f
}

// newErasures are those that the store does not have.
func (p *Partition) newErasures() (added []projections.Erasure) {
	for _, e := range p.fold.Erasures() {
		if e.Next() > p.flushed.LastErasure {
			added = append(added, e)
		}
	}
	return added
}

// finished says that a message that is stored has hardly anything to come: all have
// read it, or it was recalled. Nobody looks at it, else it would be whole. It makes
// room for those that are being read. More may read a count-only message than it
// was sent to.
func finished(c *Change) bool {
	m := c.Message
	return m.Recalled || !m.CountOnly() && m.ReadCount() >= m.RecipientCount()
}

// settle is told that a flush is stored.
func (p *Partition) settle(f *flush) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := &p.hot
	h.flushing, h.pinned, h.cost = false, 0, 0
	clear(h.hours)
	for i, e := range f.entries {
		e.dirty, e.stored, e.sealed = false, true, f.batch.Messages[i].Message.Receipts.Sealed()
		switch {
		case e.whole:
		case finished(&f.batch.Messages[i]) && !slices.Contains(h.again, e):
			h.remove(e)
		default:
			h.drop(e)
		}
	}
	h.rosters.settled(f.cells)
	for _, e := range h.again {
		h.touch(e)
	}
	h.again = nil
	h.count()
	p.committed, p.flushed, p.forgotten = true, f.batch.Checkpoint, 0
	p.undecodable, p.pendingCost = nil, 0
	p.stats.Flushes++
	p.stats.FlushedMessages += int64(len(f.batch.Messages))
}
