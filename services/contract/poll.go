package contract

import "time"

// Poll is what a server asks of those who pull: how long from one pull to the
// next, and for how long after a look began.
type Poll struct {
	Interval, Window time.Duration
}

// DefaultPoll holds where no owner says otherwise.
var DefaultPoll = Poll{Interval: 2 * time.Second, Window: 20 * time.Second}
