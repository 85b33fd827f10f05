package badgerstore

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"

	"github.com/seenby/seenby/events"
)

// Most IDs are UUIDs as text, 36 characters for 16 bytes. They are stored as those
// 16 bytes, where the text is the one that they are written as: lower case, with
// dashes.
//
//	in a key      | 1 | 16 bytes |  or  | 2 | the ID | 0 |
//	in a value    | 0 | 16 bytes |  or  | uv length | the ID |  or  | uv 129 | for none
//
// An ID has 1 to 128 bytes and no zero byte, so that none of these begins another.
const (
	uuidLen  = 16
	textLen  = 36 // of a UUID
	packed   = 1
	verbatim = 2
	noID     = events.MaxIDLen + 1 // in place of a length
)

// packUUID returns the bytes of a UUID that is written as unpackUUID writes it.
func packUUID[T ~string | ~[]byte](id T) (b [uuidLen]byte, ok bool) {
	if len(id) != textLen || id[8] != '-' || id[13] != '-' || id[18] != '-' || id[23] != '-' {
		return b, false
	}
	n := 0
	for i := 0; i < textLen; i += 2 {
		if id[i] == '-' {
			i++
		}
		high, low := nibble[id[i]], nibble[id[i+1]]
		if high|low > 15 {
			return b, false
		}
		b[n] = high<<4 | low
		n++
	}
	return b, true
}

// nibble is the value of a lower-case hexadecimal digit, and more than 15 for all
// else.
var nibble = func() (table [256]byte) {
	for i := range table {
		table[i] = 0xff
	}
	for i, c := range []byte("0123456789abcdef") {
		table[c] = byte(i)
	}
	return table
}()

// appendUUID appends the text of a UUID.
func appendUUID(b, uuid []byte) []byte {
	b = append(hex.AppendEncode(b, uuid[:4]), '-')
	b = append(hex.AppendEncode(b, uuid[4:6]), '-')
	b = append(hex.AppendEncode(b, uuid[6:8]), '-')
	b = append(hex.AppendEncode(b, uuid[8:10]), '-')
	return hex.AppendEncode(b, uuid[10:16])
}

// appendKeyID appends an ID as keys have it.
func appendKeyID[T ~string | ~[]byte](b []byte, id T) []byte {
	if uuid, ok := packUUID(id); ok {
		return append(append(b, packed), uuid[:]...)
	}
	return append(append(append(b, verbatim), id...), 0)
}

// cutKeyID reads what appendKeyID appended, and returns what follows it.
func cutKeyID(b []byte) (id, rest []byte, ok bool) {
	switch {
	case len(b) > uuidLen && b[0] == packed:
		return appendUUID(make([]byte, 0, textLen), b[1:1+uuidLen]), b[1+uuidLen:], true
	case len(b) > 1 && b[0] == verbatim:
		if end := bytes.IndexByte(b[1:], 0); end > 0 {
			return bytes.Clone(b[1 : 1+end]), b[2+end:], true
		}
	}
	return nil, nil, false
}

// appendID appends an ID, or none, as values have it.
func appendID[T ~string | ~[]byte](b []byte, id T) []byte {
	if uuid, ok := packUUID(id); ok {
		return append(append(b, 0), uuid[:]...)
	}
	if len(id) == 0 {
		return binary.AppendUvarint(b, noID)
	}
	return appendString(b, id)
}

// id reads what appendID appended.
func (d *decoder) id() string {
	var text [textLen]byte
	return string(d.appendID(text[:0]))
}

// uuid reads the bytes of a UUID.
func (d *decoder) uuid() string {
	var text [textLen]byte
	return string(d.appendUUID(text[:0]))
}

// appendID reads an ID, and appends it to b.
func (d *decoder) appendID(b []byte) []byte {
	switch n := d.number(noID); n {
	case 0:
		return d.appendUUID(b)
	case noID:
		return b
	default:
		return append(b, d.take(int(n))...)
	}
}

// appendUUID reads the bytes of a UUID, and appends its text to b.
func (d *decoder) appendUUID(b []byte) []byte {
	if uuid := d.take(uuidLen); uuid != nil {
		return appendUUID(b, uuid)
	}
	return b
}
