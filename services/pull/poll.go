package pull

import "time"

// maxPoll bounds what a server may set, so that sums of times do not overflow.
const maxPoll = 24 * time.Hour

// poll is what a server asks of the pulls to come. A zero interval or window is one
// that it does not mention.
type poll struct {
	interval, window time.Duration
}
