package watch

import (
	"fmt"
	"strings"
	"unicode"

	"golang.org/x/text/width"
)

// maxMarks is how many combining marks may follow each other: scripts need a
// few, and many of them paint over the lines around.
const maxMarks = 4

// text returns s with everything escaped that does more on a terminal than to
// show a character: control characters, what changes the direction of text, what
// is invisible, and bytes that are no character. A backslash is doubled, so that
// nobody's name passes for an escape.
func text(s string) string {
	var b strings.Builder
	marks := 0
	for i, r := range s {
		if unicode.Is(unicode.M, r) {
			marks++
		} else {
			marks = 0
		}
		switch {
		case r == unicode.ReplacementChar && !strings.HasPrefix(s[i:], string(r)):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r == '\\':
			b.WriteString(`\\`)
		case !unicode.IsPrint(r), unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector), marks > maxMarks:
			fmt.Fprintf(&b, `\u{%x}`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// cut returns as much of s as fits so many columns; an ellipsis stands for the
// rest.
func cut(s string, columns int) string {
	used, fits := 0, 0
	for i, r := range s {
		w := columnsOf(r)
		if used+w > columns {
			if columns < 1 {
				return ""
			}
			return s[:fits] + "…"
		}
		used += w
		if used <= columns-1 {
			fits = i + len(string(r))
		}
	}
	return s
}

// columnsOf is how wide terminals show a character that [text] leaves as it is.
func columnsOf(r rune) int {
	if unicode.In(r, unicode.Mn, unicode.Me) {
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}
