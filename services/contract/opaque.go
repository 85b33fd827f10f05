package contract

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"
)

// The opaque strings are base64url, without padding, of
//
//	version    1 | log ID u32 | lineage ID u32 | next uvarint            | sum
//	position   2 | log ID u32 | (partition delta, next) uvarint pairs…   | sum
//	cursor     4 | log ID u32 | lineage ID u32 | part | flags u8
//	             | next, index and read count as uvarints                | sum
//	unread's     5 | log ID u32 | lineage ID u32
//	cursor       | next, number and unread count as uvarints             | sum
//
// where a cursor's part is one of
//
//	whole set  0
//	since      1 | log ID u32 | lineage ID u32 | next uvarint
//	at         2 | Unix milliseconds as a zigzag varint
//	at_version 3 | log ID u32 | lineage ID u32 | next uvarint
//
// next is an offset + 1: the position from which what is meant has been applied.
// Partitions ascend; each is given as its difference to the one before. A sum is
// the first 4 bytes of SHA-256 over all before it (and, in a version, the
// message ID), so that what was cut off, garbled, or taken from another message
// is told from what is merely old. A cursor's sum is instead the first 16 bytes
// of an HMAC over it and the message ID, under the internal secret.
const (
	formatVersion  = 1
	formatPosition = 2
	formatCursor   = 4

	formatUnreadCursor = 5

	sumSize = 4
	macSize = 16
)

// errOpaque says that a string is not one of ours. It carries no more, as
// clients are not meant to look inside.
var errOpaque = errors.New("not what this service gave out, or not whole")

var encoding = base64.RawURLEncoding.Strict()

// decode decodes the one spelling that encoding has for some bytes. Go's decoder
// passes over line ends.
func decode(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, errOpaque
	}
	return encoding.DecodeString(s)
}

// Version is one message's, as the contract's strings carry it.
type Version struct {
	// Log and Lineage are projections.Lineage's LogID and ID.
	Log, Lineage uint32
	// Next is the offset + 1 of the last event that changed the message.
	Next int64
}

// Encode returns the version's string for this message.
func (v Version) Encode(messageID string) string {
	b := make([]byte, 0, 1+4+4+binary.MaxVarintLen64+sumSize)
	return encoding.EncodeToString(appendSum(v.append(append(b, formatVersion)), messageID))
}

func (v Version) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, v.Log)
	b = binary.BigEndian.AppendUint32(b, v.Lineage)
	return binary.AppendUvarint(b, uint64(v.Next))
}

// ParseVersion fails unless s is a version of this message.
func ParseVersion(s, messageID string) (Version, error) {
	b, err := unseal(s, formatVersion, messageID)
	if err != nil {
		return Version{}, errOpaque
	}
	v, n := takeVersion(b)
	if n == 0 || n != len(b) {
		return Version{}, errOpaque
	}
	return v, nil
}

// takeVersion returns the version at the front of b, and how many bytes it is; 0
// if there is none.
func takeVersion(b []byte) (Version, int) {
	if len(b) < 8 {
		return Version{}, 0
	}
	next, n := uvarint(b[8:])
	if n == 0 {
		return Version{}, 0
	}
	return Version{Log: binary.BigEndian.Uint32(b), Lineage: binary.BigEndian.Uint32(b[4:]), Next: next}, 8 + n
}

// Position is what a write returns and a pull may present: for some partitions,
// how far a copy has to have got.
type Position struct {
	Log uint32
	// Next maps a partition to an offset + 1.
	Next map[int32]int64
}

// Encode returns the position's string.
func (p Position) Encode() string {
	partitions := make([]int32, 0, len(p.Next))
	for partition := range p.Next {
		partitions = append(partitions, partition)
	}
	slices.Sort(partitions)
	b := append(make([]byte, 0, 16+8*len(partitions)), formatPosition)
	b = binary.BigEndian.AppendUint32(b, p.Log)
	before := int32(0)
	for _, partition := range partitions {
		b = binary.AppendUvarint(b, uint64(partition-before))
		b = binary.AppendUvarint(b, uint64(p.Next[partition]))
		before = partition
	}
	return encoding.EncodeToString(appendSum(b, ""))
}

// ParsePosition fails unless s is a position.
func ParsePosition(s string) (Position, error) {
	b, err := unseal(s, formatPosition, "")
	if err != nil || len(b) < 4 {
		return Position{}, errOpaque
	}
	p := Position{Log: binary.BigEndian.Uint32(b), Next: make(map[int32]int64)}
	partition := int64(0)
	for b = b[4:]; len(b) > 0; {
		delta, n := uvarint(b)
		if n == 0 || delta > math.MaxInt32 || delta == 0 && len(p.Next) > 0 {
			return Position{}, errOpaque
		}
		b = b[n:]
		next, n := uvarint(b)
		if n == 0 {
			return Position{}, errOpaque
		}
		b = b[n:]
		if partition += delta; partition > math.MaxInt32 {
			return Position{}, errOpaque
		}
		p.Next[int32(partition)] = next
	}
	return p, nil
}

// Sum returns the HMAC-SHA256 that [Sealer] implementations and the internal
// protocol use.
func Sum(secret, message []byte) []byte {
	h := hmac.New(sha256.New, secret)
	h.Write(message)
	return h.Sum(nil)
}

func appendSum(b []byte, messageID string) []byte {
	sum := checksum(b, messageID)
	return append(b, sum[:]...)
}

func checksum(b []byte, messageID string) (sum [sumSize]byte) {
	buf := make([]byte, 0, 192)
	buf = append(buf, b...)
	buf = append(buf, messageID...)
	full := sha256.Sum256(buf)
	copy(sum[:], full[:])
	return sum
}

// unseal decodes s, checks its format and sum, and returns what is between.
func unseal(s string, format byte, messageID string) ([]byte, error) {
	b, err := decode(s)
	if err != nil || len(b) < 1+sumSize || b[0] != format {
		return nil, errOpaque
	}
	b, sum := b[:len(b)-sumSize], b[len(b)-sumSize:]
	if checksum(b, messageID) != [sumSize]byte(sum) {
		return nil, errOpaque
	}
	return b[1:], nil
}

// uvarint returns a value that fits an int64 and is written in its shortest
// form, and 0 bytes if there is none.
func uvarint(b []byte) (int64, int) {
	v, n := binary.Uvarint(b)
	if n <= 0 || v > math.MaxInt64 || n > 1 && b[n-1] == 0 {
		return 0, 0
	}
	return int64(v), n
}

// varint is uvarint for what may be below 0.
func varint(b []byte) (int64, int) {
	v, n := binary.Varint(b)
	if n <= 0 || n > 1 && b[n-1] == 0 {
		return 0, 0
	}
	return v, n
}
