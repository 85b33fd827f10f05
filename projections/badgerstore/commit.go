package badgerstore

import (
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/materialize"
)

// Commit implements [materialize.Store]. All of a batch, its checkpoint included,
// is one Badger transaction: Badger writes it to its log with a mark at its end,
// syncs that, and passes over what has no mark when it reads the log again.
//
// After a write that failed, the store takes no more: what Badger appended behind
// a hole in its log would be lost although it was synced.
func (s *Store) Commit(partition int32, b *materialize.Batch) error {
	e := encoder{partition: partition}
	lists := e.batch(b)
	s.freshOf(partition).add(e.created)
	if err := s.commit(e.writes); err != nil {
		return s.explain(partition, err)
	}
	if b.ErasuresForgotten > 0 {
		// If a crash leaves them, their people are looked for again.
		if err := s.deleteErasures(partition, b.ErasuresForgotten); err != nil {
			return s.explain(partition, err)
		}
	}
	if lists == 0 {
		return nil
	}
	return s.explain(partition, s.deleteRemoved(partition))
}

// pending is a transaction that waits to be written.
type pending struct {
	writes []write
	done   bool
	err    error
}

// commit writes one transaction and makes it durable. Those that wait while another
// is being written are written together, as one: a sync costs as much as thousands
// of records do.
func (s *Store) commit(writes []write) error {
	p := &pending{writes: writes}
	s.queueMu.Lock()
	s.queue = append(s.queue, p)
	s.queueMu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	for !p.done {
		group := s.nextGroup()
		err := s.write(group)
		for _, one := range group {
			one.done, one.err = true, err
		}
	}
	return p.err
}

// nextGroup takes from the queue what is sure to fit one transaction, or else one.
func (s *Store) nextGroup() []*pending {
	s.queueMu.Lock()
	defer s.queueMu.Unlock()
	n, size := 0, 0
	for n < len(s.queue) {
		for _, w := range s.queue[n].writes {
			size += max(materialize.RecordSize, len(w.key)+len(w.value)+16)
		}
		if n > 0 && size > s.maxBatch {
			break
		}
		n++
	}
	group := s.queue[:n:n]
	s.queue = s.queue[n:]
	return group
}

// write writes a group as one transaction and makes it durable.
func (s *Store) write(group []*pending) error {
	if err := s.writable(); err != nil {
		return err
	}
	txn := s.db.NewTransaction(true)
	defer txn.Discard()
	for _, p := range group {
		if err := s.fill(txn, p.writes); err != nil {
			return err
		}
	}
	err := txn.Commit()
	if err == nil {
		// Badger syncs what is in its log's file, but not the file's name, when
		// it begins a new one.
		err = s.dir.Sync()
	}
	if err != nil {
		s.fail(err)
	}
	return err
}

func (s *Store) fill(txn *badger.Txn, writes []write) error {
	entries := make([]badger.Entry, len(writes))
	for i, w := range writes {
		var err error
		if w.value == nil {
			err = txn.Delete(w.key)
		} else {
			entries[i].Key, entries[i].Value = w.key, w.value
			err = txn.SetEntry(&entries[i])
		}
		if errors.Is(err, badger.ErrTxnTooBig) {
			return fmt.Errorf("%w: %d records; the limit is %d bytes or %d records", materialize.ErrTooLarge, len(writes), s.db.MaxBatchSize(), s.db.MaxBatchCount())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// deleter deletes any number of records, in their order, in transactions of a
// moderate size: after a crash a first part of them is deleted.
type deleter struct {
	store  *Store
	writes []write
}

const deletesAtOnce = 4096

func (d *deleter) delete(key []byte) error {
	d.writes = append(d.writes, remove(key))
	if len(d.writes) < min(deletesAtOnce, int(d.store.db.MaxBatchCount())/2) {
		return nil
	}
	return d.flush()
}

func (d *deleter) flush() error {
	if len(d.writes) == 0 {
		return nil
	}
	err := d.store.commit(d.writes)
	d.writes = d.writes[:0]
	return err
}

// deleteRemoved works off the lists of removed offsets: first the waiting
// events, then the list.
func (s *Store) deleteRemoved(partition int32) error {
	var lists [][]int64
	err := s.db.View(func(txn *badger.Txn) (err error) {
		lists, err = readRemoved(txn, partition)
		return err
	})
	if err != nil {
		return err
	}
	d := deleter{store: s}
	for _, offsets := range lists {
		for _, offset := range offsets {
			if err := d.delete(numberKey(partition, kindWaiting, offset)); err != nil {
				return err
			}
		}
		if err := d.delete(numberKey(partition, kindRemoved, offsets[0])); err != nil {
			return err
		}
	}
	return d.flush()
}

// deleteErasures deletes the erasures up to the one whose Next this is.
func (s *Store) deleteErasures(partition int32, upTo int64) error {
	var erasures []projections.Erasure
	err := s.db.View(func(txn *badger.Txn) (err error) {
		erasures, err = restoreErasures(txn, partition)
		return err
	})
	if err != nil {
		return err
	}
	d := deleter{store: s}
	for _, e := range erasures {
		if e.Next() > upTo {
			break
		}
		if err := d.delete(numberKey(partition, kindErasure, e.Offset)); err != nil {
			return err
		}
	}
	return d.flush()
}
