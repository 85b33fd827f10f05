package pull

import (
	"strings"
	"time"
)

// maxPoll bounds what a server may set, so that sums of times do not overflow.
const maxPoll = 24 * time.Hour

// poll is what a server's Seenby-Poll says of the pulls to come. A zero interval
// or window is one that it does not mention.
type poll struct {
	interval, window time.Duration
	stop             bool
}

// parsePoll parses the lines of a Seenby-Poll header. It returns false if there
// are none, or if they are not a dictionary by RFC 9651, which must then be
// ignored as a whole. Members that are unknown, or of another type or range than
// theirs, are ignored each by itself.
func parsePoll(lines []string) (poll, bool) {
	if len(lines) == 0 {
		return poll{}, false
	}
	members, ok := parseDictionary(strings.Join(lines, ", "))
	if !ok {
		return poll{}, false
	}
	return poll{
		interval: milliseconds(members["interval"]),
		window:   milliseconds(members["window"]),
		stop:     members["stop"] == true,
	}, true
}

func milliseconds(v any) time.Duration {
	n, ok := v.(int64)
	if !ok || n <= 0 {
		return 0
	}
	return time.Duration(min(n, maxPoll.Milliseconds())) * time.Millisecond
}
