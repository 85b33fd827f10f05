package contract

import (
	"encoding/binary"
)

// PartKind says which parameter of a pull chooses a part of the set.
type PartKind byte

// The kinds of parts. Their numbers are in cursors.
const (
	// WholeSet: none does.
	WholeSet PartKind = iota
	// PartSince is what was added after a version.
	PartSince
	// PartAt is what was read at a time or before.
	PartAt
	// PartAtVersion is what was added up to a version.
	PartAtVersion
)

// Part is which part of a message's set a pull asks for. Parts are compared
// with ==.
type Part struct {
	Kind PartKind
	// Version is that of PartSince and PartAtVersion.
	Version Version
	// At is that of PartAt, in Unix milliseconds.
	At int64
}

// Restricted says that the answer is not about the set as it is: it shows less
// of it than the version that it names has.
func (p Part) Restricted() bool { return p.Kind == PartAt || p.Kind == PartAtVersion }

// Cursor is where a pull's next page begins. It fixes everything that decides
// the pages, so that all of them are of one version.
type Cursor struct {
	Log, Lineage uint32
	// Next is the version that the pages are of.
	Next int64
	// Part is what was asked for, so that a repeated parameter can be held to it.
	Part Part
	// Delta says that a PartSince was answered with what was added, and not in
	// full.
	Delta bool
	// Index is the first receipt of the page, in the message's log order.
	Index int
	// ReadCount and Truncated are those of the version, or of its restricted part.
	ReadCount int
	Truncated bool
}

// Sealer signs cursors. Its methods may be called concurrently.
type Sealer interface {
	// Sign returns a MAC of at least 16 bytes under the current secret.
	Sign(message []byte) []byte
	// Verify says whether mac, which may be cut to 16 bytes or more, is that of
	// message under any of the secrets.
	Verify(message, mac []byte) bool
}

// The flags of a cursor.
const (
	cursorDelta = 1 << iota
	cursorTruncated
	cursorFlags
)

// Encode returns the cursor's string for this message.
func (c Cursor) Encode(messageID string, s Sealer) string {
	b := append(make([]byte, 0, 96), formatCursor)
	b = binary.BigEndian.AppendUint32(b, c.Log)
	b = binary.BigEndian.AppendUint32(b, c.Lineage)
	b = c.Part.append(b)
	b = append(b, c.flags())
	for _, n := range []int64{c.Next, int64(c.Index), int64(c.ReadCount)} {
		b = binary.AppendUvarint(b, uint64(n))
	}
	return sealCursor(b, messageID, s)
}

// ParseCursor fails unless s is a cursor that was given out for this message.
func ParseCursor(s, messageID string, sealer Sealer) (Cursor, error) {
	b, err := openCursor(s, formatCursor, messageID, sealer)
	if err != nil || len(b) < 8 {
		return Cursor{}, errOpaque
	}
	c := Cursor{Log: binary.BigEndian.Uint32(b), Lineage: binary.BigEndian.Uint32(b[4:])}
	b, ok := c.Part.take(b[8:])
	if !ok || len(b) == 0 || b[0] >= cursorFlags {
		return Cursor{}, errOpaque
	}
	c.Delta, c.Truncated = b[0]&cursorDelta != 0, b[0]&cursorTruncated != 0
	var index, count int64
	if !takeNumbers(b[1:], &c.Next, &index, &count) {
		return Cursor{}, errOpaque
	}
	c.Index, c.ReadCount = int(index), int(count)
	return c, nil
}

// sealCursor returns the string of a cursor's bytes.
func sealCursor(b []byte, messageID string, s Sealer) string {
	return encoding.EncodeToString(append(b, s.Sign(cursorMessage(b, messageID))[:macSize]...))
}

// openCursor returns what a cursor of this format has between that and its MAC.
func openCursor(s string, format byte, messageID string, sealer Sealer) ([]byte, error) {
	b, err := decode(s)
	if err != nil || len(b) < 1+macSize || b[0] != format {
		return nil, errOpaque
	}
	b, mac := b[:len(b)-macSize], b[len(b)-macSize:]
	if !sealer.Verify(cursorMessage(b, messageID), mac) {
		return nil, errOpaque
	}
	return b[1:], nil
}

// takeNumbers reads b, which is uvarints and nothing else.
func takeNumbers(b []byte, to ...*int64) bool {
	for _, to := range to {
		v, n := uvarint(b)
		if n == 0 {
			return false
		}
		*to, b = v, b[n:]
	}
	return len(b) == 0
}

func (c Cursor) flags() (flags byte) {
	if c.Delta {
		flags |= cursorDelta
	}
	if c.Truncated {
		flags |= cursorTruncated
	}
	return flags
}

func (p Part) append(b []byte) []byte {
	b = append(b, byte(p.Kind))
	switch p.Kind {
	case PartSince, PartAtVersion:
		return p.Version.append(b)
	case PartAt:
		return binary.AppendVarint(b, p.At)
	case WholeSet:
	}
	return b
}

// take takes a part from the front of b, and returns the rest.
func (p *Part) take(b []byte) (rest []byte, ok bool) {
	if len(b) == 0 {
		return nil, false
	}
	p.Kind, b = PartKind(b[0]), b[1:]
	n := 0
	switch p.Kind {
	case WholeSet:
		return b, true
	case PartSince, PartAtVersion:
		p.Version, n = takeVersion(b)
	case PartAt:
		p.At, n = varint(b)
	}
	return b[n:], n > 0
}

// cursorMessage keeps cursors apart from whatever else the secret signs.
func cursorMessage(b []byte, messageID string) []byte {
	m := append(make([]byte, 0, 16+len(b)+len(messageID)), "seenby cursor\x00"...)
	m = append(m, b...)
	return append(m, messageID...)
}
