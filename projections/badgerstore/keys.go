package badgerstore

import (
	"encoding/binary"

	"github.com/seenby/seenby/projections/materialize"
)

// Every key but one begins with its partition, so that a partition is one range:
//
//	partition        kind
//	+---+---+---+---+---+
//	| big-endian u32| c |                                      checkpoint
//	+---+---+---+---+---+------------------------+
//	|               | h | hour: big-endian u64 ^ | message ID    what to prune when
//	+---+---+---+---+---+------------------------+------------+
//	|               | m | message ID | 0 | part | index: big-endian u32
//	+---+---+---+---+---+------------------------+------------+
//	|               | r | number: big-endian u64 |             list of removed offsets
//	+---+---+---+---+---+------------------------+
//	|               | u | slot: big-endian u32   |             undecodable record
//	+---+---+---+---+---+------------------------+
//	|               | w | offset: big-endian u64 |             waiting event
//	+---+---+---+---+---+------------------------+
//
// An ID has no zero byte, so that what follows it begins with one. The hour's
// sign bit is flipped (^), so that hours before 1970 come first.
//
// The one other key is meta, in the range of a partition that cannot be.
const (
	kindCheckpoint  = 'c'
	kindHour        = 'h'
	kindMessage     = 'm'
	kindRemoved     = 'r'
	kindUndecodable = 'u'
	kindWaiting     = 'w'
)

// The parts of a message. The head says how much there is of the others; what is
// there beyond it is left over from a message that this one replaced, or that
// was recalled.
const (
	partHead     = 1 // no index
	partBirth    = 2 // by piece
	partReceipts = 3 // by chunk
	partUnlisted = 4 // by chunk
)

var metaKey = []byte("\xff\xff\xff\xffmeta")

// key begins a key.
func key(partition int32, kind byte) []byte {
	k := make([]byte, 0, 48)
	return append(binary.BigEndian.AppendUint32(k, uint32(partition)), kind)
}

func numberKey(partition int32, kind byte, number int64) []byte {
	return binary.BigEndian.AppendUint64(key(partition, kind), uint64(number))
}

// slotKey is of the undecodable record that is the n-th since the log's start;
// it takes the place of the one that must give way to it.
func slotKey(partition int32, n int64) []byte {
	return binary.BigEndian.AppendUint32(key(partition, kindUndecodable), uint32(n%materialize.MaxUndecodable))
}

func messageKey[T ~string | ~[]byte](partition int32, id T) []byte {
	return append(append(key(partition, kindMessage), id...), 0)
}

func headKey[T ~string | ~[]byte](partition int32, id T) []byte {
	return append(messageKey(partition, id), partHead)
}

func partKey[T ~string | ~[]byte](partition int32, id T, part byte, index int) []byte {
	return binary.BigEndian.AppendUint32(append(messageKey(partition, id), part), uint32(index))
}

const hourSign = 1 << 63

func hourKey(partition int32, hour int64, id string) []byte {
	return append(binary.BigEndian.AppendUint64(key(partition, kindHour), uint64(hour)^hourSign), id...)
}

// parseHourKey is the reverse of hourKey; a key that is too short is corrupt.
func parseHourKey(k []byte) (hour int64, id []byte, ok bool) {
	const prefix = 5
	if len(k) < prefix+8 {
		return 0, nil, false
	}
	return int64(binary.BigEndian.Uint64(k[prefix:]) ^ hourSign), k[prefix+8:], true
}

// parsePartKey finds part and index behind a message's key of length n.
func parsePartKey(k []byte, n int) (part byte, index int, ok bool) {
	switch rest := k[n:]; len(rest) {
	case 1:
		return rest[0], 0, true
	case 5:
		return rest[0], int(binary.BigEndian.Uint32(rest[1:])), true
	}
	return 0, 0, false
}
