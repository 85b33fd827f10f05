// Package memstore is the store in memory: the simplest thing that keeps the
// contract of materialize.Store, for tests of what stands on a store, and the
// model that package storetest judges other stores by.
package memstore

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/materialize"
)

// ErrClosed is what a closed store returns.
var ErrClosed = errors.New("the store is closed")

// Medium is what outlives a store that is closed, or given up: its disk. The
// zero Medium is empty.
type Medium struct {
	mu         sync.RWMutex
	partitions map[int32]*partition
}

type partition struct {
	checkpoint  projections.Checkpoint
	messages    map[string]*projections.Message
	waiting     map[int64]projections.WaitingEvent
	undecodable []materialize.Undecodable
	total       int64
}

// Store is a [materialize.Store] on a Medium.
type Store struct {
	medium   *Medium
	maxBatch int
	closed   bool // under medium.mu
}

var _ materialize.Store = (*Store)(nil)

// Open returns a store with what others have committed to the medium. A batch
// may have up to maxBatch bytes.
func Open(m *Medium, maxBatch int) *Store { return &Store{medium: m, maxBatch: maxBatch} }

// MaxBatch is the largest Batch.Size that Commit takes.
func (s *Store) MaxBatch() int { return s.maxBatch }

// Close makes every other call fail.
func (s *Store) Close() error {
	s.medium.mu.Lock()
	defer s.medium.mu.Unlock()
	s.closed = true
	return nil
}

// read calls f with a partition, or nil if it was never committed.
func (s *Store) read(number int32, f func(*partition)) error {
	s.medium.mu.RLock()
	defer s.medium.mu.RUnlock()
	if s.closed {
		return ErrClosed
	}
	f(s.medium.partitions[number])
	return nil
}

// Restore implements [materialize.Store].
func (s *Store) Restore(number int32) (saved materialize.Saved, found bool, err error) {
	err = s.read(number, func(p *partition) {
		if p == nil {
			return
		}
		found = true
		saved = materialize.Saved{Checkpoint: p.checkpoint, Undecodable: p.total}
		for _, w := range p.waiting {
			saved.Waiting = append(saved.Waiting, w)
		}
		slices.SortFunc(saved.Waiting, func(a, b projections.WaitingEvent) int { return cmp.Compare(a.Offset, b.Offset) })
	})
	return saved, found, err
}

// Message implements [materialize.Store].
func (s *Store) Message(number int32, id []byte) (m *projections.Message, err error) {
	err = s.read(number, func(p *partition) {
		if p == nil {
			return
		}
		if stored := p.messages[string(id)]; stored != nil {
			m = clone(stored)
		}
	})
	if m != nil {
		m.Rebuild()
	}
	return m, err
}

// Undecodable implements [materialize.Store].
func (s *Store) Undecodable(number int32) (kept []materialize.Undecodable, err error) {
	err = s.read(number, func(p *partition) {
		if p == nil {
			return
		}
		for _, u := range p.undecodable {
			kept = append(kept, cloneUndecodable(u))
		}
	})
	return kept, err
}

// Commit implements [materialize.Store]. It is stricter than a store on disk can
// afford to be: a Change must say truly what is stored.
func (s *Store) Commit(number int32, b *materialize.Batch) error {
	if size := b.Size(); size > s.maxBatch {
		return fmt.Errorf("%w: %d bytes, at most %d", materialize.ErrTooLarge, size, s.maxBatch)
	}
	s.medium.mu.Lock()
	defer s.medium.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	p := s.medium.partitions[number]
	if p == nil {
		p = &partition{messages: make(map[string]*projections.Message), waiting: make(map[int64]projections.WaitingEvent)}
	}
	changed := make([]*projections.Message, len(b.Messages))
	for i, c := range b.Messages {
		var err error
		if changed[i], err = apply(p.messages[c.Message.ID], c); err != nil {
			return fmt.Errorf("message %q: %w", c.Message.ID, err)
		}
	}
	// From here on nothing fails.
	for _, m := range changed {
		p.messages[m.ID] = m
	}
	for _, w := range b.WaitingAdded {
		p.waiting[w.Offset] = w
	}
	for _, offset := range b.WaitingRemoved {
		delete(p.waiting, offset)
	}
	for _, u := range b.Undecodable {
		p.undecodable = append(p.undecodable, cloneUndecodable(u))
	}
	p.undecodable = p.undecodable[max(0, len(p.undecodable)-materialize.MaxUndecodable):]
	p.checkpoint, p.total = b.Checkpoint, b.UndecodableTotal
	if s.medium.partitions == nil {
		s.medium.partitions = make(map[int32]*partition)
	}
	s.medium.partitions[number] = p
	return nil
}

// apply returns what is stored after a change, of which only what is said to be
// new is taken.
func apply(stored *projections.Message, c materialize.Change) (*projections.Message, error) {
	m := clone(c.Message)
	if !c.Stored {
		return m, nil
	}
	if stored == nil {
		return nil, errors.New("a change says that it is stored, and it is not")
	}
	if len(stored.Receipts) != c.Receipts || len(stored.Unlisted) != c.Unlisted {
		return nil, fmt.Errorf("a change says that %d receipts and %d hashes are stored, and %d and %d are",
			c.Receipts, c.Unlisted, len(stored.Receipts), len(stored.Unlisted))
	}
	next := clone(stored)
	next.Version, next.Recalled = m.Version, m.Recalled
	if m.Recalled {
		next.Receipts, next.Readers, next.Unlisted = nil, nil, nil
		return next, nil
	}
	next.Receipts = append(next.Receipts, m.Receipts[c.Receipts:]...)
	next.Unlisted = append(next.Unlisted, m.Unlisted[c.Unlisted:]...)
	if m.CountOnly() {
		next.Readers = append(next.Readers, m.Readers[c.Receipts:]...)
	}
	return next, nil
}

// Prune implements [materialize.Store].
func (s *Store) Prune(number int32, before int64) (removed int, err error) {
	s.medium.mu.Lock()
	defer s.medium.mu.Unlock()
	if s.closed {
		return 0, ErrClosed
	}
	p := s.medium.partitions[number]
	if p == nil {
		return 0, nil
	}
	for id, m := range p.messages {
		if materialize.HourEnded(materialize.Hour(m.SentAt), before) {
			delete(p.messages, id)
			removed++
		}
	}
	return removed, nil
}

// clone copies everything but the roster, which is immutable.
func clone(m *projections.Message) *projections.Message {
	return &projections.Message{
		ID:              m.ID,
		ConversationID:  m.ConversationID,
		SentAt:          m.SentAt,
		Version:         m.Version,
		Recalled:        m.Recalled,
		Roster:          m.Roster,
		Sender:          m.Sender,
		SenderName:      m.SenderName,
		RecipientsGiven: m.RecipientsGiven,
		Receipts:        slices.Clone(m.Receipts),
		Readers:         slices.Clone(m.Readers),
		Unlisted:        slices.Clone(m.Unlisted),
	}
}

func cloneUndecodable(u materialize.Undecodable) materialize.Undecodable {
	u.Key, u.Value = bytes.Clone(u.Key), bytes.Clone(u.Value)
	return u
}
