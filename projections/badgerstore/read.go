package badgerstore

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/dgraph-io/badger/v4"

	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/materialize"
)

// corrupt says what is wrong with the record of a key.
func corrupt(key []byte, err error) error {
	return fmt.Errorf("%w: %s: %w", materialize.ErrCorrupt, describe(key), err)
}

// read calls f with the value of a record, valid until f returns; what f returns
// says what is wrong with it. A record that there is not is found false.
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
		if err == nil {
			err = f(value)
		}
		if err != nil {
			return corrupt(key, err)
		}
		return nil
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
				return corrupt(item.Key(), err)
			}
			return f(item.Key(), value)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func restore(txn *badger.Txn, partition int32) (saved materialize.Saved, found bool, err error) {
	found, err = read(txn, key(partition, kindCheckpoint), func(value []byte) (err error) {
		saved.Checkpoint, saved.Undecodable, err = decodeCheckpoint(value)
		return err
	})
	if err == nil {
		saved.Waiting, err = restoreWaiting(txn, partition)
	}
	if err == nil {
		saved.Erasures, err = restoreErasures(txn, partition)
	}
	if err == nil {
		saved.Digests, err = restoreDigests(txn, partition)
	}
	return saved, found, err
}

func restoreWaiting(txn *badger.Txn, partition int32) (waiting []projections.WaitingEvent, err error) {
	lists, err := readRemoved(txn, partition)
	if err != nil {
		return nil, err
	}
	gone := make(map[int64]struct{})
	for _, offsets := range lists {
		for _, offset := range offsets {
			gone[offset] = struct{}{}
		}
	}
	err = scanNumbers(txn, partition, kindWaiting, func(offset int64, value []byte) error {
		if _, removed := gone[offset]; removed {
			return nil
		}
		w, err := decodeWaiting(value, offset)
		waiting = append(waiting, w)
		return err
	})
	return waiting, err
}

func restoreErasures(txn *badger.Txn, partition int32) (erasures []projections.Erasure, err error) {
	err = scanNumbers(txn, partition, kindErasure, func(offset int64, value []byte) error {
		e, err := decodeErasure(value, offset)
		erasures = append(erasures, e)
		return err
	})
	return erasures, err
}

func restoreDigests(txn *badger.Txn, partition int32) (digests []projections.HourDigest, err error) {
	err = scan(txn, key(partition, kindDigest), func(key, value []byte) error {
		hour, ok := parseHour(key)
		if !ok {
			return corrupt(key, errShort)
		}
		h, err := decodeDigest(value, hour)
		if err != nil {
			return corrupt(key, err)
		}
		digests = append(digests, h)
		return nil
	})
	return digests, err
}

// scanNumbers calls f with the records of a kind whose keys end with a number; what
// f returns says what is wrong with one.
func scanNumbers(txn *badger.Txn, partition int32, kind byte, f func(number int64, value []byte) error) error {
	return scan(txn, key(partition, kind), func(key, value []byte) error {
		number, ok := parseNumberKey(key)
		if !ok {
			return corrupt(key, errShort)
		}
		if err := f(number, value); err != nil {
			return corrupt(key, err)
		}
		return nil
	})
}

func readRemoved(txn *badger.Txn, partition int32) (lists [][]int64, err error) {
	err = scanNumbers(txn, partition, kindRemoved, func(_ int64, value []byte) error {
		offsets, err := decodeRemoved(value)
		if err == nil && len(offsets) == 0 {
			err = errShort
		}
		lists = append(lists, offsets)
		return err
	})
	return lists, err
}

func readUndecodable(txn *badger.Txn, partition int32) (kept []materialize.Undecodable, err error) {
	err = scan(txn, key(partition, kindUndecodable), func(key, value []byte) error {
		u, err := decodeUndecodable(value)
		if err != nil {
			return corrupt(key, err)
		}
		kept = append(kept, u)
		return nil
	})
	slices.SortFunc(kept, func(a, b materialize.Undecodable) int { return cmp.Compare(a.Offset, b.Offset) })
	return kept, err
}

// readCrowds returns up to limit IDs of count-only messages, after one.
func readCrowds(txn *badger.Txn, partition int32, after []byte, limit int) (ids [][]byte, err error) {
	prefix := key(partition, kindCrowd)
	from := prefix
	if after != nil {
		from = append(crowdKey(partition, after), 0)
	}
	opts := badger.DefaultIteratorOptions
	opts.Prefix, opts.PrefetchValues = prefix, false
	it := txn.NewIterator(opts)
	defer it.Close()
	for it.Seek(from); it.Valid() && len(ids) < limit; it.Next() {
		id, rest, ok := cutKeyID(it.Item().Key()[prefixLen:])
		if !ok || len(rest) > 0 {
			return nil, corrupt(it.Item().Key(), errShort)
		}
		ids = append(ids, id)
	}
	return ids, nil
}
