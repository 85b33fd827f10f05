package badgerstore

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/seenby/seenby/events"
)

// drawAnyID draws what an ID may be, and what is nearly a UUID.
var drawAnyID = rapid.Custom(func(t *rapid.T) string {
	id := drawID.Draw(t, "ID")
	switch rapid.IntRange(0, 5).Draw(t, "change") {
	case 0:
		return strings.ToUpper(id)
	case 1:
		return id[:len(id)-1] + "-"
	case 2:
		b := []byte(id)
		b[rapid.IntRange(0, len(b)-1).Draw(t, "at")] = rapid.ByteRange(1, 255).Draw(t, "byte")
		return string(b)
	}
	return id
})

func TestIDs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { checkID(t, drawAnyID.Draw(t, "ID")) })
}

func checkID(t interface{ Fatalf(string, ...any) }, id string) {
	inKey := append(appendKeyID(nil, id), "rest"...)
	if got, rest, ok := cutKeyID(inKey); !ok || string(got) != id || string(rest) != "rest" {
		t.Fatalf("%q in a key: %q, then %q, %v", id, got, rest, ok)
	}
	d := decoder{b: append(appendID(nil, id), "rest"...)}
	if got := d.id(); got != id || d.err != nil || string(d.b) != "rest" {
		t.Fatalf("%q in a value: %q, then %q, %v", id, got, d.b, d.err)
	}
}

func TestUUIDsArePacked(t *testing.T) {
	for id, want := range map[string]int{
		"01234567-89ab-cdef-0123-456789abcdef":  17,
		"01234567-89AB-cdef-0123-456789abcdef":  37,
		"0123456789ab-cdef-0123-456789abcdef--": 38,
		"":                                      2,
	} {
		if n := len(appendID(nil, id)); n != want {
			t.Errorf("%q takes %d bytes, not %d", id, n, want)
		}
		if id != "" {
			checkID(t, id)
		}
	}
}

// TestKeysOfIDs is that no ID's key begins another's, whatever follows it, and that
// equal IDs alone have equal keys.
func TestKeysOfIDs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawAnyID.Draw(t, "one"), drawAnyID.Draw(t, "another")
		if rapid.Bool().Draw(t, "begins") {
			b = a[:rapid.IntRange(1, len(a)).Draw(t, "length")]
		}
		keyA, keyB := appendKeyID(nil, a), appendKeyID(nil, b)
		if bytes.HasPrefix(keyA, keyB) != (a == b) {
			t.Fatalf("%q and %q: %x and %x", a, b, keyA, keyB)
		}
	})
}

func FuzzIDs(f *testing.F) {
	for _, seed := range []string{"a", "01234567-89ab-cdef-0123-456789abcdef", "01234567-89AB-cdef-0123-456789abcdef", "\x01\x02"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _, _ = cutKeyID(b)
		d := decoder{b: slices.Clone(b)}
		_ = d.id()
		if len(b) > 0 && len(b) <= events.MaxIDLen && !bytes.Contains(b, []byte{0}) {
			checkID(t, string(b))
		}
	})
}
