package materialize

import (
	"context"
	"fmt"
	"slices"

	"github.com/seenby/seenby/projections"
)

// DigestsAt are a partition's digests as of a position.
type DigestsAt struct {
	Position int64
	Hours    []projections.HourDigest
	// Evicted is as in projections.Checkpoint: unless it is 0, another copy's
	// digests may differ although nothing is wrong.
	Evicted int64
}

// digestWaiters are those who want to know the digests as of a position to come.
// The partition's mu guards them.
type digestWaiters struct {
	waiting []digestWaiter
	first   int64 // the least position waited for, if there are any
}

type digestWaiter struct {
	position int64
	to       chan DigestsAt
}

// due says whether somebody waits for the position before a record of this offset,
// or an earlier one.
func (w *digestWaiters) due(offset int64) bool {
	return len(w.waiting) > 0 && w.first <= offset
}

// answer tells those who wait for positions up to the one that the next record has.
// All that is below the position waited for has been applied, and nothing else:
// offsets between may hold nothing to apply, and not every copy is told of them
// alike.
func (w *digestWaiters) answer(f *projections.Fold, next int64) {
	at := digestsOf(f)
	kept := w.waiting[:0]
	for _, one := range w.waiting {
		if one.position <= next {
			at.Position = one.position
			one.to <- at
			continue
		}
		if len(kept) == 0 || one.position < w.first {
			w.first = one.position
		}
		kept = append(kept, one)
	}
	w.waiting = kept
}

func digestsOf(f *projections.Fold) DigestsAt {
	c := f.Checkpoint()
	return DigestsAt{Position: c.Position, Hours: f.Digests(), Evicted: c.Evicted}
}

// Digests returns the digests as of a position: two copies that are asked for the
// same one tell what can be compared. It waits for it until ctx ends or the
// partition stops. A position that is behind is answered as of now.
func (p *Partition) Digests(ctx context.Context, position int64) (DigestsAt, error) {
	at, to := p.digestsOrWait(position)
	if to == nil {
		return at, nil
	}
	// The log may end right before the position: then no record comes to tell it.
	if err := p.waiters.wait(ctx, position); err != nil {
		p.leaveDigests(to)
		return DigestsAt{}, fmt.Errorf("partition %d: position %d: %w", p.number, position, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if at := p.fold.Checkpoint().Position; p.digests.due(at) {
		p.digests.answer(p.fold, at)
	}
	select {
	case at = <-to:
		return at, nil
	default:
		return digestsOf(p.fold), nil
	}
}

func (p *Partition) digestsOrWait(position int64) (DigestsAt, <-chan DigestsAt) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fold != nil && p.fold.Checkpoint().Position >= position {
		return digestsOf(p.fold), nil
	}
	w := &p.digests
	if len(w.waiting) == 0 || position < w.first {
		w.first = position
	}
	to := make(chan DigestsAt, 1)
	w.waiting = append(w.waiting, digestWaiter{position, to})
	return DigestsAt{}, to
}

func (p *Partition) leaveDigests(to <-chan DigestsAt) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.digests.waiting = slices.DeleteFunc(p.digests.waiting, func(one digestWaiter) bool { return one.to == to })
}
