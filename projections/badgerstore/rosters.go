package badgerstore

import (
	"encoding/binary"
	"slices"

	"github.com/dgraph-io/badger/v4"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/materialize"
)

const (
	flagUUIDs = 1 << iota
	flagGone
	flagOptedOut
	flagPieces
)

// encodeRoster encodes a roster, without the names of those who are gone, to be cut
// into pieces. It may use the memory of b.
func encodeRoster(b []byte, s *materialize.StoredRoster) []byte {
	flags := rosterFlags(s.Roster)
	b = appendRosterBody(append(b[:0], flags), s, flags)
	if len(b) <= pieceSize {
		return b
	}
	// How many pieces there are takes a byte more.
	pieces := pieceCount(len(b) + 1)
	b[0] |= flagPieces
	return slices.Insert(b, 1, byte(pieces))
}

func pieceCount(n int) int { return (n + pieceSize - 1) / pieceSize }

// piecesBound is how many pieces a roster of so many people may ever have had.
func piecesBound(people int) int {
	return pieceCount(people*(events.MaxIDLen+2) + people/8 + 64)
}

func rosterFlags(r *projections.Roster) byte {
	flags, gone := byte(flagUUIDs), r.Gone()
	if gone != nil {
		flags = flagGone
	}
	for i := range uint32(r.Names.Len()) {
		if flags&flagUUIDs != 0 {
			if _, ok := packUUID(r.Names.Name(i)); !ok {
				flags &^= flagUUIDs
			}
		}
		if r.Names.OptedOut(i) {
			flags |= flagOptedOut
		}
	}
	return flags
}

func appendRosterBody(b []byte, s *materialize.StoredRoster, flags byte) []byte {
	r, names := s.Roster, s.Roster.Names
	n := uint32(names.Len())
	b = binary.AppendVarint(b, s.KeepUntil)
	b = binary.AppendUvarint(b, uint64(r.Settled()))
	b = binary.AppendUvarint(b, uint64(n))
	var gone []projections.GonePerson
	if g := r.Gone(); g != nil {
		gone = g.People
	}
	left := gone
	for i := range n {
		switch {
		case len(left) > 0 && left[0].Number == i:
			left = left[1:]
			b = appendID(b, "")
		case flags&flagUUIDs != 0:
			uuid, _ := packUUID(names.Name(i))
			b = append(b, uuid[:]...)
		default:
			b = appendID(b, names.Name(i))
		}
	}
	if flags&flagOptedOut != 0 {
		from := len(b)
		b = append(b, make([]byte, (n+7)/8)...)
		for i := range n {
			if names.OptedOut(i) {
				b[from+int(i/8)] |= 1 << (i % 8)
			}
		}
	}
	if flags&flagGone == 0 {
		return b
	}
	b = binary.AppendUvarint(b, uint64(len(gone)))
	before := uint32(0)
	for _, p := range gone {
		b = binary.AppendUvarint(b, uint64(p.Number-before))
		b = binary.AppendUvarint(b, uint64(p.Next))
		before = p.Number
	}
	hash := names.Hash()
	return append(b, hash[:]...)
}

// decodeFirstPiece reads what a roster's first piece begins with.
func decodeFirstPiece(b []byte) (keepUntil int64, pieces int, err error) {
	d := decoder{b: b}
	_, pieces, keepUntil = d.firstPiece()
	return keepUntil, pieces, d.err
}

func (d *decoder) firstPiece() (flags byte, pieces int, keepUntil int64) {
	flags, pieces = byte(d.number(flagUUIDs|flagGone|flagOptedOut|flagPieces)), 1
	if flags&flagPieces != 0 {
		pieces = int(d.number(1<<7 - 1))
	}
	return flags, pieces, d.varint()
}

func decodeRoster(b []byte, ref projections.RosterRef) (*materialize.StoredRoster, error) {
	d := decoder{b: b}
	flags, _, keepUntil := d.firstPiece()
	s := &materialize.StoredRoster{KeepUntil: keepUntil}
	settled := d.int64()
	names := d.names(d.count(), flags&flagUUIDs != 0)
	var bits []byte
	if flags&flagOptedOut != 0 {
		bits = d.take((len(names) + 7) / 8)
	}
	var gone []projections.GonePerson
	var hash projections.RosterHash
	if flags&flagGone != 0 {
		number := uint64(0)
		for range d.count() {
			number += d.number(uint64(len(names)))
			if number >= uint64(len(names)) {
				d.fail(errRange)
			}
			gone = append(gone, projections.GonePerson{Number: uint32(number), Next: d.int64()})
		}
		if h := d.take(len(hash)); h != nil {
			hash = projections.RosterHash(h)
		}
	}
	if err := d.end(); err != nil {
		return nil, err
	}
	optedOut := func(i uint32) bool { return bits != nil && bits[i/8]>>(i%8)&1 == 1 }
	restored := projections.RestoreNames(names, optedOut, hash, flags&flagGone != 0)
	s.Roster = projections.RestoreRoster(restored, ref, settled, gone)
	return s, nil
}

// names reads so many names. They share one string.
func (d *decoder) names(n int, uuids bool) []string {
	names, ends := make([]string, n), make([]int, n)
	text := make([]byte, 0, n*textLen)
	for i := range ends {
		if uuids {
			text = d.appendUUID(text)
		} else {
			text = d.appendID(text)
		}
		ends[i] = len(text)
	}
	all, from := string(text), 0
	for i, end := range ends {
		names[i], from = all[from:end], end
	}
	return names
}

func readRoster(txn *badger.Txn, partition int32, ref projections.RosterRef) (r *materialize.StoredRoster, err error) {
	var b []byte
	for piece, pieces := 0, 1; piece < pieces; piece++ {
		key := rosterKey(partition, ref, piece)
		found, err := read(txn, key, func(value []byte) (err error) {
			if piece == 0 {
				_, pieces, err = decodeFirstPiece(value)
			}
			b = append(b, value...)
			return err
		})
		switch {
		case err != nil:
			return nil, err
		case !found && piece > 0:
			return nil, corrupt(key, errMissing)
		case !found:
			return nil, nil
		}
	}
	if r, err = decodeRoster(b, ref); err != nil {
		return nil, corrupt(rosterKey(partition, ref, 0), err)
	}
	return r, nil
}

// eachRoster calls f with the rosters from a ref on, until it returns false.
func eachRoster(txn *badger.Txn, partition int32, from projections.RosterRef, f func(*materialize.StoredRoster) (bool, error)) error {
	opts := badger.DefaultIteratorOptions
	opts.Prefix, opts.PrefetchValues = key(partition, kindRoster), false
	it := txn.NewIterator(opts)
	defer it.Close()
	for it.Seek(rosterKey(partition, from, 0)); it.Valid(); it.Next() {
		ref, piece, ok := parseRosterKey(it.Item().Key())
		if !ok {
			return corrupt(it.Item().Key(), errLong)
		}
		if piece > 0 {
			continue
		}
		r, err := readRoster(txn, partition, ref)
		if err != nil {
			return err
		}
		if more, err := f(r); err != nil || !more {
			return err
		}
	}
	return nil
}
