// Package memstore is the store in memory: the simplest thing that keeps the
// contract of materialize.Store, for tests of what stands on a store, and the
// model that package storetest judges other stores by.
package memstore

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
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
	saved       materialize.Saved
	messages    map[string]*message
	rosters     map[projections.RosterRef]*materialize.StoredRoster
	waiting     map[int64]projections.WaitingEvent
	digests     map[int64]projections.HourDigest
	undecodable []materialize.Undecodable
}

// message is a message as it was stored, which no fold changes any more. Its
// receipts are whole.
type message struct {
	projections.Message
	ref projections.RosterRef
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
		found, saved = true, p.saved
		saved.Erasures = slices.Clone(saved.Erasures)
		saved.Waiting = slices.SortedFunc(maps.Values(p.waiting), func(a, b projections.WaitingEvent) int { return cmp.Compare(a.Offset, b.Offset) })
		for _, hour := range slices.Sorted(maps.Keys(p.digests)) {
			saved.Digests = append(saved.Digests, p.digests[hour])
		}
	})
	return saved, found, err
}

// Message implements [materialize.Store].
func (s *Store) Message(number int32, id []byte) (m *projections.Message, ref projections.RosterRef, err error) {
	err = s.read(number, func(p *partition) {
		if p == nil {
			return
		}
		if stored := p.messages[string(id)]; stored != nil {
			m, ref = stored.clone(), stored.ref
		}
	})
	return m, ref, err
}

// Chunks implements [materialize.Store].
func (s *Store) Chunks(number int32, id []byte, n int) (chunks [][]byte, err error) {
	err = s.read(number, func(p *partition) {
		if p == nil || p.messages[string(id)] == nil {
			return
		}
		r := &p.messages[string(id)].Receipts
		for i := range min(n, r.Sealed()) {
			chunks = append(chunks, slices.Clone(r.Chunk(i).Bytes))
		}
	})
	return chunks, err
}

// Roster implements [materialize.Store].
func (s *Store) Roster(number int32, ref projections.RosterRef) (r *materialize.StoredRoster, err error) {
	err = s.read(number, func(p *partition) {
		if p != nil && p.rosters[ref] != nil {
			r = cloneRoster(p.rosters[ref])
		}
	})
	return r, err
}

// Rosters implements [materialize.Store].
func (s *Store) Rosters(number int32, from projections.RosterRef, limit int) (rosters []*materialize.StoredRoster, err error) {
	err = s.read(number, func(p *partition) {
		if p == nil {
			return
		}
		for _, ref := range slices.Sorted(maps.Keys(p.rosters)) {
			if ref >= from && len(rosters) < limit {
				rosters = append(rosters, cloneRoster(p.rosters[ref]))
			}
		}
	})
	return rosters, err
}

// Crowds implements [materialize.Store].
func (s *Store) Crowds(number int32, after []byte, limit int) (ids [][]byte, err error) {
	err = s.read(number, func(p *partition) {
		if p == nil {
			return
		}
		for _, id := range slices.Sorted(maps.Keys(p.messages)) {
			if p.messages[id].Crowd != nil && id > string(after) && len(ids) < limit {
				ids = append(ids, []byte(id))
			}
		}
	})
	return ids, err
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
		p = &partition{messages: make(map[string]*message), rosters: make(map[projections.RosterRef]*materialize.StoredRoster),
			waiting: make(map[int64]projections.WaitingEvent), digests: make(map[int64]projections.HourDigest)}
	}
	changed := make([]*message, len(b.Messages))
	for i, c := range b.Messages {
		var err error
		if changed[i], err = p.apply(c, b.Rosters); err != nil {
			return fmt.Errorf("message %q: %w", c.Message.ID, err)
		}
	}
	// From here on nothing fails.
	for _, m := range changed {
		p.messages[m.ID] = m
	}
	for _, r := range b.Rosters {
		p.rosters[r.Roster.Ref] = cloneRoster(&r.StoredRoster)
	}
	for _, w := range b.WaitingAdded {
		p.waiting[w.Offset] = w
	}
	for _, offset := range b.WaitingRemoved {
		delete(p.waiting, offset)
	}
	for _, h := range b.Digests {
		p.digests[h.Hour] = h
	}
	p.saved.Erasures = slices.DeleteFunc(append(p.saved.Erasures, b.ErasuresAdded...), func(e projections.Erasure) bool { return e.Next() <= b.ErasuresForgotten })
	for _, u := range b.Undecodable {
		p.undecodable = append(p.undecodable, cloneUndecodable(u))
	}
	p.undecodable = p.undecodable[max(0, len(p.undecodable)-materialize.MaxUndecodable):]
	p.saved.Checkpoint, p.saved.Undecodable = b.Checkpoint, b.UndecodableTotal
	if s.medium.partitions == nil {
		s.medium.partitions = make(map[int32]*partition)
	}
	s.medium.partitions[number] = p
	return nil
}

// apply returns what is stored after a change, of which only what is said to be
// new is taken.
func (p *partition) apply(c materialize.Change, rosters []materialize.RosterChange) (*message, error) {
	m := c.Message
	chunks := make([][]byte, m.Receipts.Sealed())
	if !c.Stored {
		if c.Sealed > 0 || len(c.Rewritten) > 0 {
			return nil, errors.New("a new message has stored chunks")
		}
	} else if err := p.keep(chunks, c); err != nil {
		return nil, err
	}
	for i := c.Sealed; i < len(chunks); i++ {
		chunks[i] = bytes.Clone(m.Receipts.Chunk(i).Bytes)
	}
	for _, i := range c.Rewritten {
		if i >= c.Sealed || i >= len(chunks) {
			return nil, fmt.Errorf("a change says that chunk %d is written again, and it is not stored", i)
		}
		chunks[i] = bytes.Clone(m.Receipts.Chunk(i).Bytes)
	}
	next := &message{Message: bare(m, chunks)}
	if m.Roster == nil {
		return next, nil
	}
	next.ref = m.Roster.Ref
	isIt := func(r materialize.RosterChange) bool { return r.Roster.Ref == next.ref }
	if p.rosters[next.ref] == nil && !slices.ContainsFunc(rosters, isIt) {
		return nil, fmt.Errorf("its roster %016x is not stored", uint64(next.ref))
	}
	return next, nil
}

// bare is what a store on disk would have of a message, with these chunks.
func bare(m *projections.Message, chunks [][]byte) projections.Message {
	c := projections.Message{ID: m.ID, ConversationID: m.ConversationID, SentAt: m.SentAt, Sent: m.Sent, Changed: m.Changed, Recalled: m.Recalled,
		Sender: m.Sender, Receipts: projections.RestoreReceipts(chunks, bytes.Clone(m.Receipts.Open().Bytes))}
	if m.Crowd != nil {
		c.Crowd = &projections.Crowd{Sender: m.Crowd.Sender, Given: m.Crowd.Given, Taken: slices.Clone(m.Crowd.Taken), TakenCount: m.Crowd.TakenCount,
			TakenAt: m.Crowd.TakenAt, Lost: m.Crowd.Lost, Settled: m.Crowd.Settled}
	}
	return c
}

// keep fills in the chunks that were stored before.
func (p *partition) keep(chunks [][]byte, c materialize.Change) error {
	stored := p.messages[c.Message.ID]
	switch {
	case stored == nil:
		return errors.New("a change says that it is stored, and it is not")
	case stored.Receipts.Sealed() != c.Sealed:
		return fmt.Errorf("a change says that %d chunks are stored, and %d are", c.Sealed, stored.Receipts.Sealed())
	case stored.Sent != c.Message.Sent:
		return fmt.Errorf("a change says that it is stored, and it is the message of offset %d that is", stored.Sent-1)
	}
	for i := range min(len(chunks), c.Sealed) {
		chunks[i] = stored.Receipts.Chunk(i).Bytes
	}
	return nil
}

// Prune implements [materialize.Store]. A step is one message.
func (s *Store) Prune(number int32, before int64) (removed int, done bool, err error) {
	s.medium.mu.Lock()
	defer s.medium.mu.Unlock()
	if s.closed {
		return 0, false, ErrClosed
	}
	p := s.medium.partitions[number]
	if p == nil {
		return 0, true, nil
	}
	for id, m := range p.messages {
		if projections.HourEnded(projections.Hour(m.SentAt), before) {
			delete(p.messages, id)
			return 1, false, nil
		}
	}
	maps.DeleteFunc(p.digests, func(hour int64, _ projections.HourDigest) bool { return projections.HourEnded(hour, before) })
	maps.DeleteFunc(p.rosters, func(_ projections.RosterRef, r *materialize.StoredRoster) bool {
		return projections.HourEnded(r.KeepUntil, before)
	})
	return 0, true, nil
}

// clone shares no memory that anybody changes.
func (m *message) clone() *projections.Message {
	var chunks [][]byte
	for i := range m.Receipts.Sealed() {
		chunks = append(chunks, bytes.Clone(m.Receipts.Chunk(i).Bytes))
	}
	return new(bare(&m.Message, chunks))
}

// cloneRoster leaves out who was taken out, as a store must.
func cloneRoster(r *materialize.StoredRoster) *materialize.StoredRoster {
	names, gone := r.Roster.Names, r.Roster.Gone()
	if gone == nil {
		return &materialize.StoredRoster{KeepUntil: r.KeepUntil,
			Roster: projections.RestoreRoster(names, r.Roster.Ref, r.Roster.Settled(), nil)}
	}
	left := make([]string, names.Len())
	for i := range left {
		left[i] = names.Name(uint32(i))
	}
	for _, p := range gone.People {
		left[p.Number] = ""
	}
	return &materialize.StoredRoster{KeepUntil: r.KeepUntil,
		Roster: projections.RestoreRoster(projections.RestoreNames(left, names.OptedOut, names.Hash(), true), r.Roster.Ref, r.Roster.Settled(), slices.Clone(gone.People))}
}

func cloneUndecodable(u materialize.Undecodable) materialize.Undecodable {
	u.Key, u.Value = bytes.Clone(u.Key), bytes.Clone(u.Value)
	return u
}
