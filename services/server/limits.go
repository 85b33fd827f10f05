package server

import (
	"math"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// maxLimited is how many users' rates are remembered. Whoever is forgotten has
// not asked for longer than that many others have, and starts with a full burst.
const maxLimited = 100_000

// userLimits holds each user to a rate. Nil limits nobody.
type userLimits struct {
	rate  rate.Limit
	burst int
	users *lru.Cache[string, *rate.Limiter]
}

func newUserLimits(perSecond float64, burst int) *userLimits {
	if perSecond == 0 {
		return nil
	}
	if burst == 0 {
		burst = int(math.Ceil(2 * perSecond))
	}
	// New fails only for a size that is not positive.
	users, _ := lru.New[string, *rate.Limiter](maxLimited) //nolint:errcheck // See above.
	return &userLimits{rate: rate.Limit(perSecond), burst: burst, users: users}
}

// take counts one request, and returns how long the user has to wait before the
// next one, or 0 if this one may pass.
func (l *userLimits) take(user string, now time.Time) time.Duration {
	if l == nil {
		return 0
	}
	limiter := l.of(user)
	if limiter.AllowN(now, 1) {
		return 0
	}
	missing := 1 - limiter.TokensAt(now)
	return time.Duration(math.Ceil(missing / float64(l.rate) * float64(time.Second)))
}

// charge counts more requests of a user, even beyond what is left: these are owed.
func (l *userLimits) charge(user string, more int, now time.Time) {
	if l == nil {
		return
	}
	limiter := l.of(user)
	for more > 0 {
		// No more than a burst can be reserved at once.
		n := min(more, l.burst)
		limiter.ReserveN(now, n)
		more -= n
	}
}

func (l *userLimits) of(user string) *rate.Limiter {
	limiter, found := l.users.Get(user)
	if !found {
		limiter = rate.NewLimiter(l.rate, l.burst)
		if before, found, _ := l.users.PeekOrAdd(user, limiter); found {
			limiter = before
		}
	}
	return limiter
}
