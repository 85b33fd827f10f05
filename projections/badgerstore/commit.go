package badgerstore

import (
	"errors"
	"fmt"
	"slices"

	"github.com/dgraph-io/badger/v4"

	"github.com/seenby/seenby/projections/materialize"
)

// write is one record to set, or to delete if its value is nil.
type write struct {
	key, value []byte
}

func set(key, value []byte) write { return write{key, seal(key, value)} }
func remove(key []byte) write     { return write{key: key} }

// Commit implements [materialize.Store]. All of a batch, its checkpoint included,
// is one Badger transaction: Badger writes it to its log with a mark at its end,
// syncs that, and passes over what has no mark when it reads the log again.
//
// After a write that failed, the store takes no more: what Badger appended behind
// a hole in its log would be lost although it was synced.
func (s *Store) Commit(partition int32, b *materialize.Batch) error {
	writes, lists := encodeBatch(partition, b)
	if err := s.commit(writes); err != nil {
		return s.explain(partition, err)
	}
	if lists == 0 {
		return nil
	}
	return s.explain(partition, s.deleteRemoved(partition))
}

// encodeBatch returns the transaction, and how many lists of removed offsets are
// in it, which are to be worked off afterwards.
func encodeBatch(partition int32, b *materialize.Batch) (writes []write, lists int) {
	for _, c := range b.Messages {
		writes = appendChange(writes, partition, c)
	}
	for _, w := range b.WaitingAdded {
		writes = append(writes, set(numberKey(partition, kindWaiting, w.Offset), encodeWaiting(w)))
	}
	removed, lists := appendRemoved(writes, partition, b)
	writes = removed
	n := b.UndecodableTotal - int64(len(b.Undecodable))
	for i, u := range b.Undecodable {
		writes = append(writes, set(slotKey(partition, n+int64(i)), encodeUndecodable(u)))
	}
	return append(writes, set(key(partition, kindCheckpoint), encodeCheckpoint(b.Checkpoint, b.UndecodableTotal))), lists
}

// appendRemoved removes waiting events. One record can take very many; then the
// transaction has only a list of them, and they are deleted later: a waiting
// event that is in a list is gone.
func appendRemoved(writes []write, partition int32, b *materialize.Batch) (_ []write, lists int) {
	offsets := b.WaitingRemoved
	if len(offsets) <= materialize.MaxDeletes {
		for _, offset := range offsets {
			writes = append(writes, remove(numberKey(partition, kindWaiting, offset)))
		}
		return writes, 0
	}
	// A list may be as long as a piece, at ten bytes an offset.
	for list := range slices.Chunk(offsets, pieceSize/10) {
		writes = append(writes, set(numberKey(partition, kindRemoved, list[0]), encodeRemoved(list)))
		lists++
	}
	return writes, lists
}

func appendChange(writes []write, partition int32, c materialize.Change) []write {
	m := c.Message
	h := head{recalled: m.Recalled, sentAt: m.SentAt, version: m.Version, receipts: len(m.Receipts), unlisted: len(m.Unlisted)}
	h.pieces = pieces(birthLen(m))
	writes = append(writes, set(headKey(partition, m.ID), h.encode()))
	if !c.Stored {
		birth := encodeBirth(m)
		for i := range h.pieces {
			piece := birth[i*pieceSize : min(len(birth), (i+1)*pieceSize)]
			// Not in place: the checksum of one piece lies where the next begins.
			writes = append(writes, set(partKey(partition, m.ID, partBirth, i), slices.Clone(piece)))
		}
		writes = append(writes, set(hourKey(partition, materialize.Hour(m.SentAt), m.ID), nil))
	} else if m.Recalled {
		return appendRecall(writes, partition, c)
	}
	for i := c.Receipts / chunkLen; i < chunks(len(m.Receipts)) && c.Receipts < len(m.Receipts); i++ {
		to := min(len(m.Receipts), (i+1)*chunkLen)
		writes = append(writes, set(partKey(partition, m.ID, partReceipts, i), encodeReceipts(m, i*chunkLen, to)))
	}
	for i := c.Unlisted / chunkLen; i < chunks(len(m.Unlisted)) && c.Unlisted < len(m.Unlisted); i++ {
		to := min(len(m.Unlisted), (i+1)*chunkLen)
		writes = append(writes, set(partKey(partition, m.ID, partUnlisted, i), encodeUnlisted(m.Unlisted[i*chunkLen:to])))
	}
	return writes
}

// appendRecall deletes the receipts, and the hashes as far as one transaction
// should; what is left is out of reach, and goes when the message is pruned.
func appendRecall(writes []write, partition int32, c materialize.Change) []write {
	left := materialize.MaxDeletes
	for i := 0; i < chunks(c.Receipts) && left > 0; i, left = i+1, left-1 {
		writes = append(writes, remove(partKey(partition, c.Message.ID, partReceipts, i)))
	}
	for i := 0; i < chunks(c.Unlisted) && left > 0; i, left = i+1, left-1 {
		writes = append(writes, remove(partKey(partition, c.Message.ID, partUnlisted, i)))
	}
	return writes
}

// commit writes one transaction and makes it durable.
func (s *Store) commit(writes []write) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.writable(); err != nil {
		return err
	}
	txn := s.db.NewTransaction(true)
	defer txn.Discard()
	for _, w := range writes {
		var err error
		if w.value == nil {
			err = txn.Delete(w.key)
		} else {
			err = txn.Set(w.key, w.value)
		}
		if errors.Is(err, badger.ErrTxnTooBig) {
			return fmt.Errorf("%w: %d records; the limit is %d bytes or %d records", materialize.ErrTooLarge, len(writes), s.db.MaxBatchSize(), s.db.MaxBatchCount())
		}
		if err != nil {
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
	lists, err := s.removedLists(partition)
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
