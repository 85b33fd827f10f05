package badgerstore

import (
	"github.com/dgraph-io/badger/v4"

	"github.com/seenby/seenby/projections"
)

// pruneAtOnce is from how many messages and rosters on a step ends.
const pruneAtOnce = 1000

// Prune implements [materialize.Store]. It works off the lists of the hours that
// ended, the oldest first, then the digests. Of each message the head goes first,
// then the rest, and the list last: wherever it is interrupted, the message is there
// whole or not at all, and what is left is found again.
func (s *Store) Prune(partition int32, before int64) (removed int, done bool, err error) {
	p := pruner{deleter: deleter{store: s}, partition: partition, seen: make(map[string]struct{})}
	err = s.db.View(func(txn *badger.Txn) error {
		p.txn = txn
		done, err = p.lists(before)
		if err == nil && done {
			err = p.digests(before)
		}
		return err
	})
	if err == nil {
		err = p.flush()
	}
	return p.removed, done, s.explain(partition, err)
}

// pruner is one step. It reads as of its beginning, whatever it has deleted since.
type pruner struct {
	deleter
	txn       *badger.Txn
	partition int32
	removed   int // messages
	visited   int
	// seen are the messages of the hour: one whose ID was used again within the hour
	// is listed twice.
	hour int64
	seen map[string]struct{}
}

func (p *pruner) lists(before int64) (done bool, err error) {
	opts := badger.DefaultIteratorOptions
	opts.Prefix, opts.PrefetchValues = key(p.partition, kindHour), false
	it := p.txn.NewIterator(opts)
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		k := it.Item().KeyCopy(nil)
		hour, ok := parseHour(k)
		if !ok {
			return false, corrupt(k, errShort)
		}
		if !projections.HourEnded(hour, before) {
			break
		}
		if p.visited >= pruneAtOnce {
			return false, nil
		}
		var l hourList
		if _, err := read(p.txn, k, func(value []byte) (err error) {
			l, err = decodeHourList(value, hour)
			return err
		}); err != nil {
			return false, err
		}
		if err := p.list(l); err != nil {
			return false, err
		}
		if err := p.delete(k); err != nil {
			return false, err
		}
	}
	return true, nil
}

func (p *pruner) list(l hourList) error {
	if l.hour != p.hour {
		clear(p.seen)
		p.hour = l.hour
	}
	for _, id := range l.messages {
		if err := p.message([]byte(id)); err != nil {
			return err
		}
	}
	for _, ref := range l.rosters {
		if err := p.roster(ref); err != nil {
			return err
		}
	}
	p.visited += len(l.messages) + len(l.rosters)
	return nil
}

// message removes a message whose hour has ended. If the message under its ID is a
// later one, that stays, and what the earlier left behind is removed.
func (p *pruner) message(id []byte) error {
	if _, again := p.seen[string(id)]; again {
		return p.replaced(id, head{})
	}
	p.seen[string(id)] = struct{}{}
	h, found, err := readHead(p.txn, p.partition, id)
	if err != nil {
		return err
	}
	if !found || projections.Hour(h.message.SentAt) != p.hour {
		return p.replaced(id, h)
	}
	p.removed++
	if err := p.delete(messageKey(p.partition, id)); err != nil {
		return err
	}
	if h.message.Crowd != nil {
		if err := p.delete(crowdKey(p.partition, id)); err != nil {
			return err
		}
	}
	if h.message.Recalled {
		return p.chunksFrom(id, 0)
	}
	for i := range h.sealed {
		if err := p.delete(chunkKey(p.partition, id, i)); err != nil {
			return err
		}
	}
	return nil
}

// replaced deletes what is left of a message under whose ID there is a later one by
// now, or nothing because a step that was interrupted removed its head.
func (p *pruner) replaced(id []byte, by head) error {
	if by.message == nil || by.message.Crowd == nil {
		if err := p.delete(crowdKey(p.partition, id)); err != nil {
			return err
		}
	}
	return p.chunksFrom(id, by.sealed)
}

// chunksFrom deletes a message's chunks from one on.
func (p *pruner) chunksFrom(id []byte, from int) error {
	return p.leftovers(messageKey(p.partition, id), chunkKey(p.partition, id, from))
}

// leftovers deletes all records with a prefix from a key on.
func (p *pruner) leftovers(prefix, from []byte) error {
	opts := badger.DefaultIteratorOptions
	opts.Prefix, opts.PrefetchValues = prefix, false
	it := p.txn.NewIterator(opts)
	defer it.Close()
	for it.Seek(from); it.Valid(); it.Next() {
		if err := p.delete(it.Item().KeyCopy(nil)); err != nil {
			return err
		}
	}
	return nil
}

// roster removes a roster unless it is kept longer than for this hour.
func (p *pruner) roster(ref projections.RosterRef) error {
	first := rosterKey(p.partition, ref, 0)
	var keepUntil int64
	var pieces int
	found, err := read(p.txn, first, func(value []byte) (err error) {
		keepUntil, pieces, err = decodeFirstPiece(value)
		return err
	})
	if err != nil || found && keepUntil > p.hour {
		return err
	}
	if !found {
		// What a step that was interrupted left of it.
		return p.leftovers(first, first)
	}
	for i := range pieces {
		if err := p.delete(rosterKey(p.partition, ref, i)); err != nil {
			return err
		}
	}
	return nil
}

// digests removes the digests of the hours that ended.
func (p *pruner) digests(before int64) error {
	return scan(p.txn, key(p.partition, kindDigest), func(key, _ []byte) error {
		hour, ok := parseHour(key)
		if !ok {
			return corrupt(key, errShort)
		}
		if !projections.HourEnded(hour, before) {
			return nil
		}
		return p.delete(append([]byte(nil), key...))
	})
}
