package badgerstore

import (
	"encoding/binary"
	"fmt"

	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/materialize"
)

// Every key but one begins with its partition, so that a partition is one range:
//
//	partition        kind
//	+---+---+---+---+---+
//	| big-endian u32| c |                                      checkpoint
//	+---+---+---+---+---+------------------------+
//	|               | d | hour: big-endian u64 ^ |             digest
//	+---+---+---+---+---+------------------------+
//	|               | e | offset: big-endian u64 |             erasure
//	+---+---+---+---+---+------------------------+-------------------+
//	|               | h | hour: big-endian u64 ^ | position | piece  |  what to prune when
//	+---+---+---+---+---+------------------------+-------------------+
//	|               | m | message ID |                         message
//	+---+---+---+---+---+------------+-----------------------+
//	|               | m | message ID | chunk: big-endian u32 | sealed chunk of receipts
//	+---+---+---+---+---+------------+-----------------------+
//	|               | o | message ID |                         count-only message, a mark
//	+---+---+---+---+---+------------+-----------+-----------------------+
//	|               | r | ref: big-endian u64    | piece: big-endian u32 | roster
//	+---+---+---+---+---+------------------------+-----------------------+
//	|               | u | slot: big-endian u32   |             undecodable record
//	+---+---+---+---+---+------------------------+
//	|               | w | offset: big-endian u64 |             waiting event
//	+---+---+---+---+---+------------------------+
//	|               | x | number: big-endian u64 |             list of removed offsets
//	+---+---+---+---+---+------------------------+
//
// A message ID is as ids.go says. The hour's sign bit is flipped (^), so that hours
// before 1970 come first. The position is that of the commit, big-endian u64, and
// its pieces are big-endian u32. A roster's first piece has no number.
//
// The one other key is meta, in the range of a partition that cannot be.
const (
	kindCheckpoint  = 'c'
	kindDigest      = 'd'
	kindErasure     = 'e'
	kindHour        = 'h'
	kindMessage     = 'm'
	kindCrowd       = 'o'
	kindRoster      = 'r'
	kindUndecodable = 'u'
	kindWaiting     = 'w'
	kindRemoved     = 'x'
)

var metaKey = []byte("\xff\xff\xff\xffmeta")

const (
	prefixLen = 5
	hourSign  = 1 << 63
)

// key begins a key.
func key(partition int32, kind byte) []byte { return appendKey(make([]byte, 0, 48), partition, kind) }

func appendKey(b []byte, partition int32, kind byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(partition)), kind)
}

func numberKey(partition int32, kind byte, number int64) []byte {
	return binary.BigEndian.AppendUint64(key(partition, kind), uint64(number))
}

func parseNumberKey(k []byte) (int64, bool) {
	if len(k) != prefixLen+8 {
		return 0, false
	}
	return int64(binary.BigEndian.Uint64(k[prefixLen:])), true
}

// slotKey is of the undecodable record that is the n-th since the log's start;
// it takes the place of the one that must give way to it.
func slotKey(partition int32, n int64) []byte {
	return binary.BigEndian.AppendUint32(key(partition, kindUndecodable), uint32(n%materialize.MaxUndecodable))
}

func appendMessageKey[T ~string | ~[]byte](b []byte, partition int32, id T) []byte {
	return appendKeyID(appendKey(b, partition, kindMessage), id)
}

func messageKey[T ~string | ~[]byte](partition int32, id T) []byte {
	return appendMessageKey(make([]byte, 0, 48), partition, id)
}

func chunkKey[T ~string | ~[]byte](partition int32, id T, chunk int) []byte {
	return binary.BigEndian.AppendUint32(messageKey(partition, id), uint32(chunk))
}

// parseMessageKey finds a message's ID, and the chunk or -1.
func parseMessageKey(k []byte) (id []byte, chunk int, ok bool) {
	if len(k) < prefixLen {
		return nil, 0, false
	}
	id, rest, ok := cutKeyID(k[prefixLen:])
	switch {
	case ok && len(rest) == 0:
		return id, -1, true
	case ok && len(rest) == 4:
		return id, int(binary.BigEndian.Uint32(rest)), true
	}
	return nil, 0, false
}

func appendCrowdKey[T ~string | ~[]byte](b []byte, partition int32, id T) []byte {
	return appendKeyID(appendKey(b, partition, kindCrowd), id)
}

func crowdKey[T ~string | ~[]byte](partition int32, id T) []byte {
	return appendCrowdKey(make([]byte, 0, 48), partition, id)
}

func appendRosterKey(b []byte, partition int32, ref projections.RosterRef, piece int) []byte {
	b = binary.BigEndian.AppendUint64(appendKey(b, partition, kindRoster), uint64(ref))
	if piece == 0 {
		return b
	}
	return binary.BigEndian.AppendUint32(b, uint32(piece))
}

func rosterKey(partition int32, ref projections.RosterRef, piece int) []byte {
	return appendRosterKey(make([]byte, 0, 48), partition, ref, piece)
}

// parseRosterKey finds the ref and the piece.
func parseRosterKey(k []byte) (ref projections.RosterRef, piece int, ok bool) {
	switch len(k) {
	case prefixLen + 12:
		piece = int(binary.BigEndian.Uint32(k[prefixLen+8:]))
	case prefixLen + 8:
	default:
		return 0, 0, false
	}
	return projections.RosterRef(binary.BigEndian.Uint64(k[prefixLen:])), piece, true
}

func appendHourKey(b []byte, partition int32, kind byte, hour int64) []byte {
	return binary.BigEndian.AppendUint64(appendKey(b, partition, kind), uint64(hour)^hourSign)
}

func hourKey(partition int32, kind byte, hour int64) []byte {
	return appendHourKey(make([]byte, 0, 48), partition, kind, hour)
}

func appendListKey(b []byte, partition int32, hour, position int64, piece int) []byte {
	b = binary.BigEndian.AppendUint64(appendHourKey(b, partition, kindHour, hour), uint64(position))
	return binary.BigEndian.AppendUint32(b, uint32(piece))
}

// parseHour finds the hour in a key of a digest or a list.
func parseHour(k []byte) (hour int64, ok bool) {
	if len(k) < prefixLen+8 {
		return 0, false
	}
	return int64(binary.BigEndian.Uint64(k[prefixLen:]) ^ hourSign), true
}

// describe says in words which record a key is of, but for its partition.
func describe(k []byte) string {
	if len(k) < prefixLen {
		return fmt.Sprintf("key %q", k)
	}
	number, isNumber := parseNumberKey(k)
	hour, hasHour := parseHour(k)
	switch kind := k[prefixLen-1]; {
	case string(k) == string(metaKey):
		return "meta"
	case kind == kindCheckpoint:
		return "checkpoint"
	case kind == kindDigest && hasHour:
		return fmt.Sprintf("digest of hour %d", hour)
	case kind == kindErasure && isNumber:
		return fmt.Sprintf("erasure at offset %d", number)
	case kind == kindHour && hasHour:
		return fmt.Sprintf("list of hour %d", hour)
	case kind == kindMessage:
		if id, chunk, ok := parseMessageKey(k); ok && chunk < 0 {
			return fmt.Sprintf("message %q", id)
		} else if ok {
			return fmt.Sprintf("message %q: chunk %d", id, chunk)
		}
	case kind == kindCrowd:
		if id, rest, ok := cutKeyID(k[prefixLen:]); ok && len(rest) == 0 {
			return fmt.Sprintf("mark of count-only message %q", id)
		}
	case kind == kindRoster:
		if ref, piece, ok := parseRosterKey(k); ok {
			return fmt.Sprintf("roster %016x: piece %d", uint64(ref), piece)
		}
	case kind == kindUndecodable && len(k) == prefixLen+4:
		return fmt.Sprintf("undecodable record in slot %d", binary.BigEndian.Uint32(k[prefixLen:]))
	case kind == kindWaiting && isNumber:
		return fmt.Sprintf("waiting event of offset %d", number)
	case kind == kindRemoved && isNumber:
		return fmt.Sprintf("list of removed waiting events from offset %d", number)
	}
	return fmt.Sprintf("key %q", k)
}
