package events

import (
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
	for i := range n {
		if c := id[i]; c >= utf8.RuneSelf {
			return checkRunes(string(id[i:]))
		} else if c < ' ' || c == 0x7f {
			return ErrBadID
		}
	}
	return nil
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
