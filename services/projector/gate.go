package projector

import (
	"sync"
	"time"

	"github.com/seenby/seenby/services/contract"
)

// maxInside is how many pulls may be in flight: most that are there long wait for
// a position.
const maxInside = 8192

// gate lets in whoever reads the node's state, until the state is to be closed.
type gate struct {
	mu     sync.Mutex
	closed bool
	inside int
	empty  chan struct{} // closed when the last has left a closed gate
}

// enter returns nil, and then leave must be called; or why the caller must not
// come in.
func (g *gate) enter() *contract.Problem {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.closed:
		return unavailable()
	case g.inside == maxInside:
		return contract.NewProblem(contract.Overloaded, "too many pulls are in flight").After(time.Second)
	}
	g.inside++
	return nil
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside--; g.inside == 0 && g.empty != nil {
		close(g.empty)
		g.empty = nil
	}
}

// close lets nobody in any more, and returns when all have left.
func (g *gate) close() {
	if empty := g.shut(); empty != nil {
		<-empty
	}
}

// shut returns nil if nobody is inside.
func (g *gate) shut() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	if g.inside == 0 {
		return nil
	}
	g.empty = make(chan struct{})
	return g.empty
}
