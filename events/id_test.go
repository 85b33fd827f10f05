package events

import (
	"errors"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestCheckID(t *testing.T) {
	for name, test := range map[string]struct {
		id   string
		good bool
	}{
		"a letter":               {"a", true},
		"128 bytes":              {strings.Repeat("a", 128), true},
		"64 two-byte characters": {strings.Repeat("é", 64), true},
		"a space":                {" ", true},
		"three dots":             {"...", true},
		"a dot first":            {".a", true},
		"two dots first":         {"..a", true},
		"a slash":                {"a/b", true},
		"a percent sign":         {"%2F", true},
		"an emoji":               {"👩‍👧", true}, // has a zero-width joiner, category Cf
		"a line separator":       {"a\u2028b", true},
		"no-break space":         {"\u00a0", true},
		"the last character":     {"\U0010ffff", true},
		"a byte order mark":      {"\ufeff", true},
		"replacement character":  {"\ufffd", true},

		"empty":                   {"", false},
		"129 bytes":               {strings.Repeat("a", 129), false},
		"65 two-byte characters":  {strings.Repeat("é", 65), false},
		"a dot":                   {".", false},
		"two dots":                {"..", false},
		"NUL":                     {"a\x00", false},
		"a line break":            {"a\nb", false},
		"the last of C0":          {"\x1f", false},
		"DEL":                     {"a\x7f", false},
		"the first of C1":         {"\u0080", false},
		"the last of C1":          {"é\u009f", false},
		"DEL after two bytes":     {"é\x7f", false},
		"a line break after two":  {"é\n", false},
		"a stray byte":            {"a\xff", false},
		"a cut-off character":     {"a\xc3", false},
		"a surrogate":             {"\xed\xa0\x80", false},
		"an overlong slash":       {"\xc0\xaf", false},
		"beyond the last":         {"\xf4\x90\x80\x80", false},
		"good and then a bad one": {strings.Repeat("é", 60) + "\xff", false},
	} {
		t.Run(name, func(t *testing.T) {
			var want error
			if !test.good {
				want = ErrBadID
			}
			if err := CheckID(test.id); !errors.Is(err, want) || (err == nil) != test.good {
				t.Errorf("as a string: %v", err)
			}
			if err := CheckID([]byte(test.id)); (err == nil) != test.good {
				t.Errorf("as bytes: %v", err)
			}
		})
	}
}

// Every character alone is an ID unless its category is Cc, or it is a dot.
func TestCheckIDCharacters(t *testing.T) {
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if !utf8.ValidRune(r) {
			continue
		}
		good := !unicode.Is(unicode.Cc, r) && r != '.'
		if err := CheckID(string(r)); (err == nil) != good {
			t.Errorf("%U: %v", r, err)
		}
	}
}
