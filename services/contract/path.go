package contract

import (
	"net/url"

	"github.com/seenby/seenby/events"
)

// PathID returns the ID in a path's segment, which is percent-decoded exactly
// once: %2F is data.
func PathID(escaped string) (string, *Problem) {
	id, err := url.PathUnescape(escaped)
	if err == nil {
		err = events.CheckID(id)
	}
	if err != nil {
		return "", NewProblem(BadID, "the ID in the path: %v", err)
	}
	return id, nil
}
