package badgerstore

import (
	"bytes"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"github.com/seenby/seenby/projections/materialize"
)

// pruneAtOnce is how many messages are listed before they are removed.
const pruneAtOnce = 1000

// Prune implements [materialize.Store]. Of each message the head goes first, then
// the rest, then its place in the hour: wherever it is interrupted, the message
// is there whole or not at all, and what is left is found again.
func (s *Store) Prune(partition int32, before int64) (removed int, err error) {
	for {
		due, err := s.due(partition, before)
		if err != nil || len(due) == 0 {
			return removed, s.explain(partition, err)
		}
		d := deleter{store: s}
		for _, one := range due {
			gone, err := s.prune(&d, partition, one)
			if err != nil {
				return removed, s.explain(partition, fmt.Errorf("message %q: %w", one.id, err))
			}
			removed += gone
		}
		if err := d.flush(); err != nil {
			return removed, s.explain(partition, err)
		}
	}
}

// placed is a message's place in an hour.
type placed struct {
	hour int64
	id   []byte
}

// due is the next messages whose hour has ended, the oldest first.
func (s *Store) due(partition int32, before int64) (due []placed, err error) {
	err = s.db.View(func(txn *badger.Txn) error {
		opts := badger.DefaultIteratorOptions
		opts.Prefix, opts.PrefetchValues = key(partition, kindHour), false
		it := txn.NewIterator(opts)
		defer it.Close()
		for it.Rewind(); it.Valid() && len(due) < pruneAtOnce; it.Next() {
			hour, id, ok := parseHourKey(it.Item().Key())
			if !ok {
				return corrupt("hours", errShort)
			}
			if !materialize.HourEnded(hour, before) {
				return nil
			}
			due = append(due, placed{hour, bytes.Clone(id)})
		}
		return nil
	})
	return due, err
}

// prune removes a message whose hour has ended. If the message under its ID is a
// later one, that stays, and what the earlier left behind is removed.
func (s *Store) prune(d *deleter, partition int32, one placed) (removed int, err error) {
	err = s.db.View(func(txn *badger.Txn) error {
		h, found, err := readHead(txn, partition, one.id)
		if err != nil {
			return err
		}
		if found && materialize.Hour(h.sentAt) == one.hour {
			removed = 1
			if err := d.delete(headKey(partition, one.id)); err != nil {
				return err
			}
			h, found = head{}, false
		}
		return deleteParts(txn, d, partition, one.id, func(part byte, index int) bool {
			return found && h.has(part, index)
		})
	})
	if err != nil {
		return 0, err
	}
	return removed, d.delete(hourKey(partition, one.hour, string(one.id)))
}

// deleteParts deletes all records of a message but those to stay.
func deleteParts(txn *badger.Txn, d *deleter, partition int32, id []byte, stays func(part byte, index int) bool) error {
	opts := badger.DefaultIteratorOptions
	opts.Prefix, opts.PrefetchValues = messageKey(partition, id), false
	it := txn.NewIterator(opts)
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		k := it.Item().KeyCopy(nil)
		part, index, ok := parsePartKey(k, len(opts.Prefix))
		if !ok {
			return corrupt("key", errLong)
		}
		if stays(part, index) {
			continue
		}
		if err := d.delete(k); err != nil {
			return err
		}
	}
	return nil
}
