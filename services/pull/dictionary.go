package pull

import (
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"strings"
	"unicode/utf8"
)

// parseDictionary parses a dictionary of RFC 9651, section 4.2.2. The values of
// integers are int64, those of booleans bool, all others are nil: nothing here
// needs them, but what follows them must still be found. Parameters are parsed
// and dropped. Of a repeated key, the last value counts.
func parseDictionary(s string) (map[string]any, bool) {
	members := make(map[string]any)
	p := &fieldParser{rest: strings.Trim(s, " ")}
	for p.rest != "" {
		key, ok := p.key()
		if !ok {
			return nil, false
		}
		value := any(true)
		if p.take('=') {
			value, ok = p.itemOrInnerList()
		} else {
			ok = p.parameters()
		}
		if !ok {
			return nil, false
		}
		members[key] = value
		p.rest = strings.TrimLeft(p.rest, " \t")
		if p.rest == "" {
			break
		}
		comma := p.take(',')
		p.rest = strings.TrimLeft(p.rest, " \t")
		if !comma || p.rest == "" {
			return nil, false
		}
	}
	return members, true
}

// fieldParser reads the parts of a structured field from the front of rest. Each
// method returns false if there is no such part.
type fieldParser struct{ rest string }

func (p *fieldParser) take(c byte) bool {
	if p.rest == "" || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

// span takes the longest prefix of bytes that are in the class.
func (p *fieldParser) span(class func(byte) bool) string {
	n := 0
	for n < len(p.rest) && class(p.rest[n]) {
		n++
	}
	s := p.rest[:n]
	p.rest = p.rest[n:]
	return s
}

func (p *fieldParser) key() (string, bool) {
	if p.rest == "" || !isLower(p.rest[0]) && p.rest[0] != '*' {
		return "", false
	}
	return p.span(func(c byte) bool { return isLower(c) || isDigit(c) || strings.IndexByte("_-.*", c) >= 0 }), true
}

func (p *fieldParser) itemOrInnerList() (any, bool) {
	if !p.take('(') {
		return p.item()
	}
	for {
		p.rest = strings.TrimLeft(p.rest, " ")
		if p.take(')') {
			return nil, p.parameters()
		}
		if _, ok := p.item(); !ok {
			return nil, false
		}
		if p.rest == "" || p.rest[0] != ' ' && p.rest[0] != ')' {
			return nil, false
		}
	}
}

func (p *fieldParser) item() (any, bool) {
	v, ok := p.bareItem()
	return v, ok && p.parameters()
}

func (p *fieldParser) parameters() bool {
	for p.take(';') {
		p.rest = strings.TrimLeft(p.rest, " ")
		if _, ok := p.key(); !ok {
			return false
		}
		if p.take('=') {
			if _, ok := p.bareItem(); !ok {
				return false
			}
		}
	}
	return true
}

func (p *fieldParser) bareItem() (any, bool) {
	if p.rest == "" {
		return nil, false
	}
	switch c := p.rest[0]; {
	case c == '-' || isDigit(c):
		return p.number()
	case c == '"':
		return nil, p.quoted()
	case c == '*' || isAlpha(c):
		p.span(isTokenByte)
		return nil, true
	case c == ':':
		return nil, p.bytes()
	case c == '?':
		return p.boolean()
	case c == '@':
		p.take('@')
		v, ok := p.number()
		_, whole := v.(int64)
		return nil, ok && whole
	case c == '%':
		return nil, p.displayString()
	}
	return nil, false
}

// number returns an integer, or nil for a decimal.
func (p *fieldParser) number() (any, bool) {
	negative := p.take('-')
	whole := p.span(isDigit)
	if whole == "" {
		return nil, false
	}
	if p.take('.') {
		fraction := p.span(isDigit)
		return nil, len(whole) <= 12 && len(fraction) >= 1 && len(fraction) <= 3
	}
	if len(whole) > 15 {
		return nil, false
	}
	n, err := strconv.ParseInt(whole, 10, 64)
	if negative {
		n = -n
	}
	return n, err == nil
}

func (p *fieldParser) boolean() (any, bool) {
	p.take('?')
	if p.take('1') {
		return true, true
	}
	return false, p.take('0')
}

func (p *fieldParser) quoted() bool {
	p.take('"')
	for p.rest != "" {
		c := p.rest[0]
		p.rest = p.rest[1:]
		switch {
		case c == '"':
			return true
		case c == '\\':
			if !p.take('"') && !p.take('\\') {
				return false
			}
		case c < ' ' || c > '~':
			return false
		}
	}
	return false
}

func (p *fieldParser) bytes() bool {
	encoded, rest, found := strings.Cut(p.rest[1:], ":")
	p.rest = rest
	// Padding may be missing, and its bits may be anything.
	_, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(encoded, "="))
	return found && err == nil && !strings.ContainsAny(encoded, "\r\n")
}

func (p *fieldParser) displayString() bool {
	p.take('%')
	if !p.take('"') {
		return false
	}
	var text []byte
	for p.rest != "" {
		c := p.rest[0]
		p.rest = p.rest[1:]
		switch {
		case c == '"':
			return utf8.Valid(text)
		case c == '%':
			if len(p.rest) < 2 || strings.ToLower(p.rest[:2]) != p.rest[:2] {
				return false
			}
			b, err := hex.DecodeString(p.rest[:2])
			if err != nil {
				return false
			}
			text, p.rest = append(text, b...), p.rest[2:]
		case c < ' ' || c > '~':
			return false
		default:
			text = append(text, c)
		}
	}
	return false
}

func isLower(c byte) bool { return c >= 'a' && c <= 'z' }
func isAlpha(c byte) bool { return isLower(c) || c >= 'A' && c <= 'Z' }
func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isTokenByte(c byte) bool {
	return isAlpha(c) || isDigit(c) || strings.IndexByte("!#$%&'*+-.^_`|~:/", c) >= 0
}
