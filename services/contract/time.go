package contract

import (
	"errors"
	"strings"
	"time"
)

var errTime = errors.New("not an RFC 3339 time, such as 2026-11-23T08:00:00.000Z")

// ParseTime parses an RFC 3339 time with any offset into Unix milliseconds,
// rounded down. It takes what Go's parser does not: t and z in lower case, and
// leap seconds, which are the last of a day in UTC and count as the second after.
func ParseTime(s string) (int64, error) {
	s = strings.ToUpper(s)
	leap := len(s) > 19 && s[17:19] == "60"
	if leap {
		s = s[:17] + "59" + s[19:]
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || !strict(s) {
		return 0, errTime
	}
	if leap {
		if t = t.UTC(); t.Hour() != 23 || t.Minute() != 59 {
			return 0, errTime
		}
		t = t.Add(time.Second)
	}
	return t.UnixMilli(), nil
}

// strict refuses what Go's parser lets pass although RFC 3339 does not: hours of
// one digit, a decimal comma, and offsets of a day or more. S was parsed.
func strict(s string) bool {
	if s[13] != ':' || s[19] == ',' {
		return false
	}
	if s[len(s)-1] == 'Z' {
		return true
	}
	offset := s[len(s)-len("00:00"):]
	return offset[:2] <= "23" && offset[3:] <= "59"
}

// AppendTime appends Unix milliseconds as RFC 3339 in UTC with milliseconds.
func AppendTime(b []byte, ms int64) []byte {
	return time.UnixMilli(ms).UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z")
}
