package badgerstore

import (
	"sync"

	"github.com/dgraph-io/ristretto/v2/z"
	"github.com/zeebo/xxh3"
)

// fresh knows which messages and rosters a partition does not have, if it was empty
// when the store was opened. While a log is folded from its start, nearly each
// MessageSent asks for a message, and most for a roster, that are not there; to
// learn it from Badger takes longer than everything else that the event needs.
type fresh struct {
	mu    sync.RWMutex
	known *z.Bloom // nil: anything may be there
	left  int
}

const (
	// freshLen is how many messages and rosters a filter is made for, of 128 KiB.
	// Beyond twice as many it is given up: it would say too often that something may
	// be there.
	freshLen    = 1 << 16
	freshWrongs = 0.02
)

func newFresh() *fresh {
	return &fresh{known: z.NewBloomFilter(freshLen, freshWrongs), left: 2 * freshLen}
}

// lacks says that the partition certainly does not have what the key stands for.
func (f *fresh) lacks(key []byte) bool {
	if f == nil {
		return false
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.known != nil && !f.known.Has(xxh3.Hash(key))
}

// add is told of keys before they are written.
func (f *fresh) add(keys [][]byte) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left -= len(keys); f.left < 0 {
		f.known = nil
	}
	if f.known == nil {
		return
	}
	for _, key := range keys {
		f.known.Add(xxh3.Hash(key))
	}
}

// freshOf is what is known of a partition; nil if nothing is.
func (s *Store) freshOf(partition int32) *fresh {
	s.freshMu.RLock()
	defer s.freshMu.RUnlock()
	return s.fresh[partition]
}

// noteEmpty is told that a partition has nothing.
func (s *Store) noteEmpty(partition int32) {
	s.freshMu.Lock()
	defer s.freshMu.Unlock()
	if s.fresh == nil {
		s.fresh = make(map[int32]*fresh)
	}
	if s.fresh[partition] == nil {
		s.fresh[partition] = newFresh()
	}
}
