// Package process runs what makes a process: a server, and what is behind it. It
// knows the one order in which they end without losing an answer.
package process

import (
	"context"
	"errors"
	"sync"
)

// Actor is a part that runs until its context ends. An error, or an end before
// that, ends the process.
type Actor func(context.Context) error

// Run runs front, which serves requests, and the actors behind it, which front's
// handlers need. When ctx ends, front gets to end first: what is behind it runs on
// until the last request has its answer. When anything ends by itself, everything
// ends, in the same order. Run returns once all have, with all their errors.
func Run(ctx context.Context, front Actor, behind ...Actor) error {
	serving, stopServing := context.WithCancel(ctx)
	defer stopServing()
	backing, stopBacking := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBacking()
	errs := make([]error, 1+len(behind))
	var running sync.WaitGroup
	for i, actor := range behind {
		running.Go(func() {
			defer stopServing()
			errs[1+i] = actor(backing)
		})
	}
	errs[0] = front(serving)
	stopBacking()
	running.Wait()
	return errors.Join(errs...)
}
