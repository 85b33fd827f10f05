// Package materialize keeps a node's partitions in memory and on disk: it runs
// the fold over records as they come, keeps hot messages in bounded memory,
// flushes what changed together with its checkpoint, and answers who has read a
// message, as of a position that callers can wait for.
package materialize

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/projections"
)

// Config is what a Partition is made of. All fields are required.
type Config struct {
	Lineage   projections.Lineage
	Partition int32
	Store     Store
	// Memory is one for all partitions of the node.
	Memory *Memory
	// FlushBytes bounds what is dirty. It is flushed sooner where the store's
	// MaxBatch leaves less room beside the largest single record.
	FlushBytes int
}

// minFlushBytes is the least room for a flush that is worth its transaction.
const minFlushBytes = 64 << 10

func (c Config) validate() error {
	switch {
	case c.Store == nil || c.Memory == nil:
		return errors.New("store and memory are required")
	case c.Partition < 0 || c.Partition >= c.Lineage.Partitions:
		return fmt.Errorf("partition %d is none of the %d", c.Partition, c.Lineage.Partitions)
	case c.FlushBytes <= 0:
		return errors.New("a flush needs a size")
	}
	if largest, most := LargestRecord(c.Lineage.Limits.Waiting), c.Store.MaxBatch(); most-largest < minFlushBytes {
		return fmt.Errorf("where %d events may wait, one record may change %d bytes, and the store's transactions hold %d, of which a flush needs %d more: "+
			"let fewer events wait, or give the store larger memtables", c.Lineage.Limits.Waiting, largest, most, minFlushBytes)
	}
	return nil
}

// Partition is one partition of a node. What it promises:
//
//   - State and checkpoint are durable together: each Store.Commit has all that
//     changed since the last one, and the checkpoint of exactly that prefix.
//   - View shows the state at the position it tells, neither earlier nor later.
//     It may not be durable yet; the log makes that safe.
//   - Nothing dirty is evicted. What is in memory is bounded by [Memory], and
//     what is dirty by FlushBytes and Store.MaxBatch, whatever the records are.
//   - Readers never wait for a disk to sync.
//   - An error stops the partition: nothing is applied after a record that could
//     not be, nothing is flushed after a flush that failed.
//
// StartAt, Apply, Flush and Prune are for one goroutine at a time, the
// partition's own; everything else is for any.
type Partition struct {
	lineage projections.Lineage
	number  int32
	store   Store
	memory  *Memory
	// flushAt is from which cost on a flush is due, and most what one may cost.
	flushAt, most int
	waiters       waiters

	// Only the partition's own goroutine uses these.
	broken error // why there must be no more flushes
	scrub  scrub

	// mu guards what follows. Apply holds it for a few records at a time; it is
	// not held during a commit, while the own goroutine changes nothing.
	mu          sync.RWMutex
	fold        *projections.Fold // nil before StartAt
	committed   bool
	flushed     projections.Checkpoint
	hot         hotSet
	undecodable []Undecodable // since the last flush
	total       int64         // of undecodable records, ever
	pendingCost int           // bounds the batch's cost beside its messages
	prunedAt    int64         // messages whose hour was over then are gone
	forgotten   int64         // the Next of the last erasure to be forgotten by the store
	digests     digestWaiters
	stats       Stats
}

// Open restores a partition from its store.
func Open(c Config) (*Partition, error) {
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("partition %d: %w", c.Partition, err)
	}
	saved, found, err := c.Store.Restore(c.Partition)
	if err != nil {
		return nil, fmt.Errorf("partition %d: restore: %w", c.Partition, err)
	}
	p := &Partition{
		lineage:  c.Lineage,
		number:   c.Partition,
		store:    c.Store,
		memory:   c.Memory,
		flushAt:  min(c.FlushBytes, c.Store.MaxBatch()-smallRecord(c.Lineage.Limits.Waiting)),
		most:     c.Store.MaxBatch(),
		hot:      newHotSet(c.Memory),
		prunedAt: never,
	}
	p.stats.Outcomes = make([]int64, len(projections.Outcomes()))
	p.waiters.position = Nowhere
	if found {
		p.committed, p.total = true, saved.Undecodable
		p.begin(saved.Restored)
	}
	c.Memory.join(p)
	return p, nil
}

const (
	// Nowhere is the position of a partition that was never committed and has no
	// start yet.
	Nowhere = -1
	// never is before any message was sent.
	never = -1 << 62
)

// Checkpoint is where to read on from; found is false if nothing was ever
// committed: then it is read from the log's start, which StartAt is told.
func (p *Partition) Checkpoint() (_ projections.Checkpoint, found bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if !p.committed {
		return projections.Checkpoint{}, false
	}
	return p.fold.Checkpoint(), true
}

// StartAt begins a partition that was never committed at the log's first offset.
func (p *Partition) StartAt(position int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fold == nil {
		p.begin(projections.Restored{Checkpoint: projections.Checkpoint{Position: position, LeaderEpoch: -1}})
	}
}

func (p *Partition) begin(from projections.Restored) {
	p.fold = projections.NewFold(p.lineage, p.number, from)
	p.flushed = from.Checkpoint
	p.waiters.advance(from.Position)
}

// Position is the next offset to apply, or Nowhere. A View that follows is of
// this position or a later one.
func (p *Partition) Position() int64 { return p.waiters.now() }

// Saved is the position that is on disk: what is below it is read from the log
// no more, whatever happens. It is Nowhere before there is one.
func (p *Partition) Saved() int64 {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.fold == nil {
		return Nowhere
	}
	return p.flushed.Position
}

// Wait returns nil as soon as Position is at least position. It returns an error
// when ctx ends, or when the partition stops short of it.
func (p *Partition) Wait(ctx context.Context, position int64) error {
	return p.waiters.wait(ctx, position)
}

// Stop says that the partition goes no further, and why. Views still answer.
func (p *Partition) Stop(err error) { p.waiters.stop(err) }

// Stopped is why the partition goes no further, or nil.
func (p *Partition) Stopped() error { return p.waiters.stoppedBy() }

// applyAtOnce bounds how many records are applied while readers wait.
const applyAtOnce = 128

// Apply folds records, which come in log order, and flushes where that is due by
// size. After an error, which names the partition and what to do, the partition
// has stopped: before the record if it could not be folded
// ([projections.ErrMustStop]) or its message not be read, after it if the flush
// failed. The records' bytes are not kept.
func (p *Partition) Apply(recs []events.Record) error {
	for len(recs) > 0 {
		if err := p.Stopped(); err != nil {
			return err
		}
		n, full, err := p.applySome(recs)
		recs = recs[n:]
		if err != nil {
			p.Stop(err)
			return err
		}
		if full {
			if err := p.Flush(); err != nil {
				return err
			}
		}
		p.memory.shrink()
	}
	return nil
}

// applySome applies up to applyAtOnce records, less where a flush is due (full)
// or memory short, and returns how many.
func (p *Partition) applySome(recs []events.Record) (n int, full bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fold == nil {
		return 0, false, fmt.Errorf("partition %d: nobody has said where its log starts", p.number)
	}
	for n < min(len(recs), applyAtOnce) && !full {
		if full = p.tooLarge(recs[n]); full {
			break
		}
		if err = p.applyOne(recs[n]); err != nil {
			break
		}
		n++
		full = p.full()
		if p.memory.over() {
			break
		}
	}
	p.hot.count()
	p.waiters.advance(p.fold.Checkpoint().Position)
	return n, full, err
}

func (p *Partition) applyOne(rec events.Record) error {
	if p.digests.due(rec.Offset) {
		p.digests.answer(p.fold, rec.Offset)
	}
	waiting := p.fold.Waiting().Len()
	outcome, reason, err := p.fold.Apply(rec, (*messages)(p))
	if errors.Is(err, projections.ErrMustStop) {
		return fmt.Errorf("%w (if all else fails: --skip-record %v, on every copy)", err, projections.Skip{Partition: p.number, Offset: rec.Offset})
	}
	if err != nil {
		return err
	}
	p.stats.Outcomes[outcome]++
	switch outcome {
	case projections.Waits:
		p.pendingCost += waitingSize(projections.WaitingEvent{MessageID: string(rec.Key)}) + events.MaxIDLen
		waiting++
	case projections.Erased:
		// The rosters to be stored may lose the person before they are.
		p.pendingCost += erasureSize(projections.Erasure{UserID: string(rec.Value)}) + len(p.hot.rosters.dirty)*goneSize
	case projections.Undecodable, projections.Misplaced:
		p.keep(rec, outcome, reason)
	}
	if gone := waiting - p.fold.Waiting().Len(); gone > 0 {
		p.pendingCost += gone * (RecordSize + offsetSize)
	}
	return nil
}

// tooLarge says that what the record may change does not fit what is left of a
// flush, so that one must come before it.
func (p *Partition) tooLarge(rec events.Record) bool {
	limit := p.lineage.Limits.Waiting
	bound := smallRecord(limit)
	if len(rec.Value) > smallValue || p.fold.Waiting().For(rec.Key) {
		bound = LargestRecord(limit)
	}
	return p.dirtyBytes()+bound > p.most
}

// full says that the partition must be flushed before the next record.
func (p *Partition) full() bool {
	return p.dirtyBytes() >= p.flushAt ||
		p.memory.over() && p.hot.pinned > p.memory.share()/2
}

// dirtyBytes bounds what a flush would cost.
func (p *Partition) dirtyBytes() int {
	return checkpointSize + RecordSize + p.hot.cost + p.pendingCost + p.fold.ChangedDigests()*digestSize
}

func (p *Partition) keep(rec events.Record, outcome projections.Outcome, reason error) {
	u := Undecodable{
		Offset:    rec.Offset,
		Timestamp: rec.Timestamp,
		Outcome:   outcome,
		Reason:    cut(reason.Error(), maxReasonBytes),
		Key:       slices.Clone(cut(rec.Key, MaxUndecodableBytes)),
		Value:     slices.Clone(cut(rec.Value, MaxUndecodableBytes)),
		KeySize:   len(rec.Key),
		ValueSize: len(rec.Value),
	}
	p.total++
	p.pendingCost += u.size()
	p.undecodable = append(p.undecodable, u)
	if len(p.undecodable) > MaxUndecodable {
		p.pendingCost -= p.undecodable[0].size()
		p.undecodable = p.undecodable[1:]
	}
}

// cut returns the first n bytes of b, which nobody may append to.
func cut[T ~string | ~[]byte](b T, n int) T {
	return b[:min(len(b), n)]
}

// messages is the partition as the fold sees it, under mu.
type messages Partition

// Message is the fold's way to a message; one lookup if it is hot.
func (m *messages) Message(id []byte) (*projections.Message, error) {
	e, err := m.entry(id)
	if err != nil || e == nil {
		return nil, err
	}
	m.hot.last = e
	return e.message, nil
}

// entry finds a message, in the store if it is not hot, and settles it.
func (m *messages) entry(id []byte) (*entry, error) {
	e := m.hot.last
	if e == nil || e.message.ID != string(id) {
		e = m.hot.find(id)
	}
	if e != nil {
		m.settle(e)
		return e, nil
	}
	found, ref, err := m.store.Message(m.number, id)
	if err != nil || found == nil || projections.HourEnded(projections.Hour(found.SentAt), m.prunedAt) {
		return nil, err
	}
	if e, err = m.loaded(found, ref); err == nil {
		// The fold needs only who is in.
		m.hot.drop(e)
	}
	return e, err
}

// Create takes the fold's new message.
func (m *messages) Create(message *projections.Message) { m.hot.create(message) }

// Changed is told what the fold changed.
func (m *messages) Changed(message *projections.Message) { m.hot.changed(message) }

// evict drops stored chunks and clean messages; see hotSet.evict. It reports
// whether there were any.
func (p *Partition) evict(bytes int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, freed := p.hot.evict(bytes)
	p.stats.Evicted += int64(n)
	return freed
}
