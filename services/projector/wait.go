package projector

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// maxWaits is how many pulls may wait for a position at a time: whoever presents
// versions from the future must not keep everybody else out. It is a quarter of the
// requests that one process of query, or standalone, has in flight by default, and
// an eighth of the pulls that a projector has.
const maxWaits = 1024

// waits counts the pulls that wait.
type waits struct{ n atomic.Int64 }

var errCrowded = errors.New("too many pulls wait for a position")

// patience is how long one request waits for positions, all of its messages
// together. It is begun by the first of them that has to be waited for. One
// goroutine may use it, and must end it.
type patience struct {
	ctx   context.Context
	most  time.Duration
	waits *waits

	waiting context.Context
	cancel  context.CancelFunc
}

func (a *answers) patience(ctx context.Context) patience {
	return patience{ctx: ctx, most: a.wait, waits: a.waits}
}

// wait waits until the partition has got to need; it fails if that takes too long,
// and at once if too many wait.
func (p *patience) wait(src source, need int64) error {
	if p.waiting == nil {
		p.waiting, p.cancel = context.WithTimeout(p.ctx, p.most)
	}
	defer p.waits.n.Add(-1)
	if p.waits.n.Add(1) > maxWaits {
		return errCrowded
	}
	return src.Wait(p.waiting, need)
}

func (p *patience) end() {
	if p.cancel != nil {
		p.cancel()
	}
}
