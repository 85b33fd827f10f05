package contract

import (
	"errors"
	"strings"
	"time"
)

var errTime = errors.New("not an RFC 3339 time, such as 2026-11-23T08:00:00.000Z")

// ParseTime parses an RFC 3339 time with any offset into Unix milliseconds,
// rounded down. It takes what Go's parser does not: t and z in lower case, and
// leap seconds, which count as the second after.
func ParseTime(s string) (int64, error) {
	s = strings.ToUpper(s)
	leap := len(s) > 19 && s[17:19] == "60"
	if leap {
		s = s[:17] + "59" + s[19:]
	}
	var t time.Time
	// UnmarshalText is strict where time.Parse is not.
	if err := t.UnmarshalText([]byte(s)); err != nil {
		return 0, errTime
	}
	if leap {
		t = t.Add(time.Second)
	}
	return t.UnixMilli(), nil
}

// AppendTime appends Unix milliseconds as RFC 3339 in UTC with milliseconds.
func AppendTime(b []byte, ms int64) []byte {
	return time.UnixMilli(ms).UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z")
}
