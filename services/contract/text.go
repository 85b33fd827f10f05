package contract

const hexDigits = "0123456789abcdef"

// AppendString appends s, which is valid UTF-8, as a JSON string. It escapes
// what JSON requires, and U+2028 and U+2029, at which JavaScript of old ends a
// line.
func AppendString(b []byte, s string) []byte {
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			b = append(b, s[from:i]...)
			b = append(b, '\\', c)
			from = i + 1
		case c < ' ':
			b = append(b, s[from:i]...)
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			from = i + 1
		case c == 0xe2 && i+2 < len(s) && s[i+1] == 0x80 && s[i+2]&^1 == 0xa8:
			b = append(b, s[from:i]...)
			b = append(b, '\\', 'u', '2', '0', '2', hexDigits[s[i+2]&15])
			i += 2
			from = i + 1
		}
	}
	b = append(b, s[from:]...)
	return append(b, '"')
}
