package badgerstore

import (
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/materialize"
)

// Reader reads one partition as of one moment: what it tells is of one commit, the
// checkpoint included, whatever is committed meanwhile. One goroutine at a time may
// use it, until what it was given to returns.
type Reader struct {
	txn       *badger.Txn
	partition int32
}

// View calls f with a Reader of the partition. What f returns it returns, with the
// store and the partition before it. While f runs, the store keeps what is replaced.
func (s *Store) View(partition int32, f func(Reader) error) error {
	return s.explain(partition, s.db.View(func(txn *badger.Txn) error { return f(Reader{txn, partition}) }))
}

// Partition is the number of the partition.
func (r Reader) Partition() int32 { return r.partition }

// Restore is [materialize.Store.Restore].
func (r Reader) Restore() (saved materialize.Saved, found bool, err error) {
	return restore(r.txn, r.partition)
}

// Message is [materialize.Store.Message].
func (r Reader) Message(id []byte) (*projections.Message, projections.RosterRef, error) {
	return readMessage(r.txn, r.partition, id)
}

// Roster is [materialize.Store.Roster].
func (r Reader) Roster(ref projections.RosterRef) (*materialize.StoredRoster, error) {
	return readRoster(r.txn, r.partition, ref)
}

// Undecodable is [materialize.Store.Undecodable].
func (r Reader) Undecodable() ([]materialize.Undecodable, error) {
	return readUndecodable(r.txn, r.partition)
}

// EachMessage calls f with all messages, as Message returns them, in the order of
// their keys, until it returns an error, which EachMessage then returns.
func (r Reader) EachMessage(f func(*projections.Message, projections.RosterRef) error) error {
	return eachMessage(r.txn, r.partition, f)
}

// EachRoster calls f with all rosters, ascending by ref, until it returns an error,
// which EachRoster then returns.
func (r Reader) EachRoster(f func(*materialize.StoredRoster) error) error {
	return eachRoster(r.txn, r.partition, 0, func(s *materialize.StoredRoster) (bool, error) { return true, f(s) })
}

// Restore implements [materialize.Store].
func (s *Store) Restore(partition int32) (saved materialize.Saved, found bool, err error) {
	err = s.View(partition, func(r Reader) error {
		saved, found, err = r.Restore()
		return err
	})
	if err == nil && !found {
		s.noteEmpty(partition)
	}
	return saved, found, err
}

// Message implements [materialize.Store].
func (s *Store) Message(partition int32, id []byte) (m *projections.Message, ref projections.RosterRef, err error) {
	if s.freshOf(partition).lacks(messageKey(partition, id)) {
		return nil, 0, nil
	}
	err = s.View(partition, func(r Reader) error {
		m, ref, err = r.Message(id)
		return err
	})
	return m, ref, err
}

// Chunks implements [materialize.Store].
func (s *Store) Chunks(partition int32, id []byte, n int) (chunks [][]byte, err error) {
	err = s.View(partition, func(r Reader) error {
		h, found, err := readHead(r.txn, partition, id)
		if err != nil || !found {
			return err
		}
		chunks, err = readChunks(r.txn, partition, id, min(n, h.sealed))
		return err
	})
	return chunks, err
}

// Roster implements [materialize.Store].
func (s *Store) Roster(partition int32, ref projections.RosterRef) (roster *materialize.StoredRoster, err error) {
	if s.freshOf(partition).lacks(rosterKey(partition, ref, 0)) {
		return nil, nil
	}
	err = s.View(partition, func(r Reader) error {
		roster, err = r.Roster(ref)
		return err
	})
	return roster, err
}

// Rosters implements [materialize.Store].
func (s *Store) Rosters(partition int32, from projections.RosterRef, limit int) (rosters []*materialize.StoredRoster, err error) {
	err = s.View(partition, func(r Reader) error {
		return eachRoster(r.txn, partition, from, func(roster *materialize.StoredRoster) (bool, error) {
			rosters = append(rosters, roster)
			return len(rosters) < limit, nil
		})
	})
	return rosters, err
}

// Crowds implements [materialize.Store].
func (s *Store) Crowds(partition int32, after []byte, limit int) (ids [][]byte, err error) {
	err = s.View(partition, func(r Reader) error {
		ids, err = readCrowds(r.txn, partition, after, limit)
		return err
	})
	return ids, err
}

// Undecodable implements [materialize.Store].
func (s *Store) Undecodable(partition int32) (kept []materialize.Undecodable, err error) {
	err = s.View(partition, func(r Reader) error {
		kept, err = r.Undecodable()
		return err
	})
	return kept, err
}

// explain says where an error happened.
func (s *Store) explain(partition int32, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("store %s: partition %d: %w", s.dirPath, partition, err)
}
