package watch

import (
	"strings"
	"testing"
	"unicode"
)

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"bob":                             "bob",
		"Ünï çødé, 日本 🙂":                  "Ünï çødé, 日本 🙂",
		"שלום":                            "שלום",
		"\x1b[31m":                        `\u{1b}[31m`,
		"a\nb\tc\x7f":                     `a\u{a}b\u{9}c\u{7f}`,
		"\u0085\u009b31m":                 `\u{85}\u{9b}31m`,
		"a\u202eb\u2066c\u200fd":          `a\u{202e}b\u{2066}c\u{200f}d`,
		"zero\u200bwidth\ufeff":           `zero\u{200b}width\u{feff}`,
		"\u2028\u2029":                    `\u{2028}\u{2029}`,
		"\u3164\u034f":                    `\u{3164}\u{34f}`,
		"\U000e0041":                      `\u{e0041}`,
		"bob\ufe0f, bob\U000e0100":        `bob\u{fe0f}, bob\u{e0100}`,
		"\ue000":                          `\u{e000}`,
		"no\u00a0break":                   `no\u{a0}break`,
		`back\slash`:                      `back\\slash`,
		"\xff\xfe�":                       `\xff\xfe�`,
		"e" + strings.Repeat("\u0301", 6): "e" + strings.Repeat("\u0301", 4) + `\u{301}\u{301}`,
	} {
		if got := text(in); got != want {
			t.Errorf("%q is shown as %q, want %q", in, got, want)
		}
	}
}

func FuzzText(f *testing.F) {
	f.Add("a\u202eb\x1b[2J\xff\\")
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range text(s) {
			if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || unicode.Is(unicode.Cf, r) {
				t.Errorf("%q is shown with %U", s, r)
			}
		}
	})
}

func TestCut(t *testing.T) {
	for _, c := range []struct {
		in      string
		columns int
		want    string
	}{
		{"abc", 3, "abc"}, {"abc", 2, "a…"}, {"abc", 1, "…"}, {"abc", 0, ""}, {"abc", -1, ""}, {"", 0, ""},
		{"日本", 4, "日本"}, {"日本", 3, "日…"}, {"日本", 2, "…"}, {"e\u0301e\u0301", 2, "e\u0301e\u0301"}, {"e\u0301ee", 2, "e\u0301…"},
	} {
		if got := cut(c.in, c.columns); got != c.want {
			t.Errorf("%q in %d columns is %q, want %q", c.in, c.columns, got, c.want)
		}
	}
}
