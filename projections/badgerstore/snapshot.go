package badgerstore

import (
	"bytes"
	"slices"

	"github.com/dgraph-io/badger/v4"

	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/materialize"
	"github.com/seenby/seenby/projections/verify"
)

// Snapshot is a partition as it lies on disk at one moment. It is a
// verify.Snapshot. While there is one, what is replaced meanwhile stays on disk; it
// must be closed before the store is.
type Snapshot struct {
	store     *Store
	txn       *badger.Txn
	partition int32
}

var _ verify.Snapshot = (*Snapshot)(nil)

// kindNames are the kinds of records as tools spell them.
var kindNames = map[byte]string{
	kindCheckpoint: "checkpoint", kindDigest: "digest", kindErasure: "erasure", kindHour: "hour's list", kindMessage: "message",
	kindCrowd: "count-only mark", kindRoster: "roster", kindUndecodable: "undecodable record", kindWaiting: "waiting event",
	kindRemoved: "removed waiting events",
}

// Snapshot begins one.
func (o *Offline) Snapshot(partition int32) *Snapshot { return o.store.Snapshot(partition) }

// Snapshot begins one.
func (s *Store) Snapshot(partition int32) *Snapshot {
	return &Snapshot{store: s, txn: s.db.NewTransaction(false), partition: partition}
}

// Close ends it.
func (s *Snapshot) Close() { s.txn.Discard() }

// Restore is as in [materialize.Store].
func (s *Snapshot) Restore() (materialize.Saved, bool, error) {
	saved, found, err := restore(s.txn, s.partition)
	return saved, found, s.store.explain(s.partition, err)
}

// Roster is as in [materialize.Store].
func (s *Snapshot) Roster(ref projections.RosterRef) (*materialize.StoredRoster, error) {
	return readRoster(s.txn, s.partition, ref)
}

// Message is as in [materialize.Store].
func (s *Snapshot) Message(id []byte) (*projections.Message, projections.RosterRef, error) {
	return readMessage(s.txn, s.partition, id)
}

// Has implements verify.Snapshot.
func (s *Snapshot) Has(id []byte) (bool, error) {
	return read(s.txn, messageKey(s.partition, id), func([]byte) error { return nil })
}

// Messages implements verify.Snapshot. It reads only heads; in order of the keys.
func (s *Snapshot) Messages(after []byte, f func(verify.Stored) (bool, error)) error {
	prefix := key(s.partition, kindMessage)
	from := prefix
	if after != nil {
		// A message's chunks come right after it.
		from = append(append(slices.Clone(prefix), after...), 0)
	}
	opts := badger.DefaultIteratorOptions
	opts.Prefix, opts.PrefetchValues = prefix, false
	it := s.txn.NewIterator(opts)
	defer it.Close()
	for it.Seek(from); it.Valid(); it.Next() {
		k := it.Item().Key()
		id, chunk, ok := parseMessageKey(k)
		if ok && chunk >= 0 {
			continue
		}
		stored := verify.Stored{Key: bytes.Clone(k[prefixLen:]), ID: id}
		if !ok {
			stored.ID, stored.Err = bytes.Clone(k[prefixLen:]), corrupt(k, errLong)
		} else {
			stored.SentAt, stored.Err = sentAt(it.Item(), id)
		}
		if more, err := f(stored); err != nil || !more {
			return err
		}
	}
	return nil
}

func sentAt(item *badger.Item, id []byte) (at int64, err error) {
	err = item.Value(func(sealed []byte) error {
		value, err := unseal(item.Key(), sealed)
		if err != nil {
			return err
		}
		h, err := decodeMessage(value, id)
		if err == nil {
			at = h.message.SentAt
		}
		return err
	})
	if err != nil {
		return 0, corrupt(item.Key(), err)
	}
	return at, nil
}

// Listed implements verify.Snapshot: it reads the hours' lists.
func (s *Snapshot) Listed(f func(hour int64, id []byte) error) error {
	return scan(s.txn, key(s.partition, kindHour), func(k, value []byte) error {
		hour, ok := parseHour(k)
		l, err := decodeHourList(value, hour)
		if err == nil && !ok {
			err = errShort
		}
		if err != nil {
			return corrupt(k, err)
		}
		for _, id := range l.messages {
			if err := f(hour, []byte(id)); err != nil {
				return err
			}
		}
		return nil
	})
}

// Marked implements verify.Snapshot.
func (s *Snapshot) Marked(id []byte) (bool, error) {
	return read(s.txn, crowdKey(s.partition, id), func([]byte) error { return nil })
}

// Records implements verify.Snapshot: it holds each record to its checksum, and
// goes on after one that fails.
func (s *Snapshot) Records(f func(verify.Record) error) error {
	opts := badger.DefaultIteratorOptions
	opts.Prefix, opts.PrefetchValues = key(s.partition, 0)[:prefixLen-1], false
	it := s.txn.NewIterator(opts)
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		item := it.Item()
		k := item.Key()
		r := verify.Record{What: describe(k), Kind: kindNames[k[prefixLen-1]], Bytes: int64(len(k)) + item.ValueSize()}
		if _, chunk, ok := parseMessageKey(k); ok && chunk >= 0 && k[prefixLen-1] == kindMessage {
			r.Kind = "chunk"
		}
		r.Err = item.Value(func(sealed []byte) error {
			_, err := unseal(k, sealed)
			return err
		})
		if r.Kind == "" && r.Err == nil {
			r.Err = errRange
		}
		if err := f(r); err != nil {
			return err
		}
	}
	return nil
}
