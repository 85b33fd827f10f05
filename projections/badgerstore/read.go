package badgerstore

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/dgraph-io/badger/v4"

	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/materialize"
)

// corrupt says what is wrong with which record.
func corrupt(what string, err error) error {
	return fmt.Errorf("%w: %s: %w", materialize.ErrCorrupt, what, err)
}

// read calls f with the value of a record, valid until f returns. A record that
// there is not is found false.
func read(txn *badger.Txn, key []byte, f func(value []byte) error) (found bool, err error) {
	item, err := txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, item.Value(func(sealed []byte) error {
		value, err := unseal(key, sealed)
		if err != nil {
			return err
		}
		return f(value)
	})
}

// scan calls f with each record whose key begins with prefix, in order. Key and
// value are valid until f returns.
func scan(txn *badger.Txn, prefix []byte, f func(key, value []byte) error) error {
	opts := badger.DefaultIteratorOptions
	opts.Prefix = prefix
	it := txn.NewIterator(opts)
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		item := it.Item()
		err := item.Value(func(sealed []byte) error {
			value, err := unseal(item.Key(), sealed)
			if err != nil {
				return err
			}
			return f(item.Key(), value)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Restore implements [materialize.Store].
func (s *Store) Restore(partition int32) (saved materialize.Saved, found bool, err error) {
	err = s.db.View(func(txn *badger.Txn) error {
		saved, found, err = restore(txn, partition)
		return err
	})
	return saved, found, s.explain(partition, err)
}

func restore(txn *badger.Txn, partition int32) (saved materialize.Saved, found bool, err error) {
	found, err = read(txn, key(partition, kindCheckpoint), func(value []byte) (err error) {
		saved.Checkpoint, saved.Undecodable, err = decodeCheckpoint(value)
		return err
	})
	if err != nil {
		return saved, found, corrupt("checkpoint", err)
	}
	lists, err := readRemoved(txn, partition)
	if err != nil {
		return saved, found, err
	}
	gone := make(map[int64]struct{})
	for _, offsets := range lists {
		for _, offset := range offsets {
			gone[offset] = struct{}{}
		}
	}
	err = scan(txn, key(partition, kindWaiting), func(key, value []byte) error {
		offset, ok := parseNumberKey(key)
		if !ok {
			return errShort
		}
		if _, removed := gone[offset]; removed {
			return nil
		}
		w, err := decodeWaiting(value, offset)
		saved.Waiting = append(saved.Waiting, w)
		return err
	})
	if err != nil {
		return saved, found, corrupt("waiting events", err)
	}
	return saved, found, nil
}

func parseNumberKey(k []byte) (int64, bool) {
	if len(k) != 13 {
		return 0, false
	}
	return int64(binary.BigEndian.Uint64(k[5:])), true
}

func (s *Store) removedLists(partition int32) (lists [][]int64, err error) {
	err = s.db.View(func(txn *badger.Txn) error {
		lists, err = readRemoved(txn, partition)
		return err
	})
	return lists, err
}

func readRemoved(txn *badger.Txn, partition int32) (lists [][]int64, err error) {
	err = scan(txn, key(partition, kindRemoved), func(_, value []byte) error {
		offsets, err := decodeRemoved(value)
		if err == nil && len(offsets) == 0 {
			err = errShort
		}
		lists = append(lists, offsets)
		return err
	})
	if err != nil {
		return nil, corrupt("removed waiting events", err)
	}
	return lists, nil
}

// Message implements [materialize.Store].
func (s *Store) Message(partition int32, id []byte) (m *projections.Message, err error) {
	err = s.db.View(func(txn *badger.Txn) error {
		m, err = readMessage(txn, partition, id)
		return err
	})
	if err != nil {
		return nil, s.explain(partition, fmt.Errorf("message %q: %w", id, err))
	}
	if m != nil {
		m.Rebuild()
	}
	return m, nil
}

func readHead(txn *badger.Txn, partition int32, id []byte) (h head, found bool, err error) {
	found, err = read(txn, headKey(partition, id), func(value []byte) (err error) {
		h, err = decodeHead(value)
		return err
	})
	if err != nil {
		return h, found, corrupt("head", err)
	}
	return h, found, nil
}

// readMessage reads the records that the head says there are. They are read one
// by one, by their keys: most messages have very few, and an iterator would open
// every table first.
func readMessage(txn *badger.Txn, partition int32, id []byte) (*projections.Message, error) {
	h, found, err := readHead(txn, partition, id)
	if err != nil || !found {
		return nil, err
	}
	m := &projections.Message{ID: string(id), SentAt: h.sentAt, Version: h.version, Recalled: h.recalled}
	var birth []byte
	for i := range h.pieces {
		err := readPart(txn, partition, id, partBirth, i, func(value []byte) error {
			birth = append(birth, value...)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	if err := decodeBirth(birth, m); err != nil {
		return nil, corrupt("birth", err)
	}
	for i := range chunks(h.receipts) {
		err := readPart(txn, partition, id, partReceipts, i, func(value []byte) error {
			return decodeReceipts(value, m, min(chunkLen, h.receipts-i*chunkLen))
		})
		if err != nil {
			return nil, err
		}
	}
	for i := range chunks(h.unlisted) {
		err := readPart(txn, partition, id, partUnlisted, i, func(value []byte) error {
			return decodeUnlisted(value, m, min(chunkLen, h.unlisted-i*chunkLen))
		})
		if err != nil {
			return nil, err
		}
	}
	return m, nil
}

var partNames = map[byte]string{partBirth: "birth", partReceipts: "receipts", partUnlisted: "hashes"}

// readPart reads a record that must be there.
func readPart(txn *badger.Txn, partition int32, id []byte, part byte, index int, f func(value []byte) error) error {
	found, err := read(txn, partKey(partition, id, part, index), f)
	if err == nil && !found {
		err = errMissing
	}
	if err != nil {
		return corrupt(fmt.Sprintf("%s %d", partNames[part], index), err)
	}
	return nil
}

// Undecodable implements [materialize.Store].
func (s *Store) Undecodable(partition int32) (kept []materialize.Undecodable, err error) {
	err = s.db.View(func(txn *badger.Txn) error {
		return scan(txn, key(partition, kindUndecodable), func(_, value []byte) error {
			u, err := decodeUndecodable(value)
			kept = append(kept, u)
			return err
		})
	})
	if err != nil {
		return nil, s.explain(partition, corrupt("undecodable records", err))
	}
	slices.SortFunc(kept, func(a, b materialize.Undecodable) int { return cmp.Compare(a.Offset, b.Offset) })
	return kept, nil
}
