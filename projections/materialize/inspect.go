package materialize

import "github.com/seenby/seenby/projections"

// Inspect says whether a message is in memory, and what waits for it.
func (p *Partition) Inspect(id []byte) (hot bool, waiting []projections.WaitingEvent) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.fold == nil {
		return false, nil
	}
	return p.hot.entries[string(id)] != nil, p.fold.Waiting().Of(string(id))
}
