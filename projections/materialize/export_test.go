package materialize

// DigestWaiters is how many wait for digests.
func (p *Partition) DigestWaiters() int {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return len(p.digests.waiting)
}
