package events

import (
	"encoding/binary"
	"errors"
	"unicode/utf8"
)

// MaxIDLen is the longest ID, in bytes.
const MaxIDLen = 128

// ErrBadID says that something that should be an ID is not one. It is what
// [CheckID] returns.
var ErrBadID = errors.New("an ID is 1-128 bytes of UTF-8 without control characters, and not just one dot or two")

// CheckID returns [ErrBadID] unless id is an ID: 1-128 bytes of valid UTF-8
// without characters of category Cc, and neither "." nor "..", which paths
// would swallow. IDs are compared bytewise; nothing is normalised.
func CheckID[T ~string | ~[]byte](id T) error {
	n := len(id)
	if n == 0 || n > MaxIDLen || id[0] == '.' && (n == 1 || n == 2 && id[1] == '.') {
		return ErrBadID
	}
	for i := printable([]byte(id)); i < n; i++ {
		if c := id[i]; c >= utf8.RuneSelf {
			return checkRunes(string(id[i:]))
		} else if c < ' ' || c == 0x7f {
			return ErrBadID
		}
	}
	return nil
}

// printable returns how many bytes from the start are printable ASCII, in whole
// steps of eight. Nearly all IDs are, and a rebuild checks two for each receipt.
// The three terms have a byte's high bit set if there is a byte, respectively, over
// 0x7f, under 0x20, and equal to 0x7f ("Bit Twiddling Hacks", hasless and haszero).
func printable(id []byte) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; i+8 <= len(id); i += 8 {
		v := binary.LittleEndian.Uint64(id[i:])
		del := v ^ 0x7f*ones
		if (v|(v-0x20*ones)&^v|(del-ones)&^del)&highs != 0 {
			break
		}
	}
	return i
}

// checkRunes is the rest of CheckID from the first byte that is not ASCII.
func checkRunes(s string) error {
	if !utf8.ValidString(s) {
		return ErrBadID
	}
	for _, r := range s {
		// Category Cc is exactly C0, DEL and C1.
		if r < ' ' || r >= 0x7f && r <= 0x9f {
			return ErrBadID
		}
	}
	return nil
}
