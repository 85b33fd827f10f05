package topic

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/seenby/seenby/events"
)

// memory is what the records of one [Batch] lie in: the slice of them, and the
// unpacked bytes that their keys and values point into. It all comes from pools
// and goes back to them, so that reading on and on allocates next to nothing.
//
// A memory itself is never used again, so that releasing twice is no harm.
type memory struct {
	records  []events.Record
	chunks   []*chunk
	released atomic.Bool
}

const recordSize = int64(unsafe.Sizeof(events.Record{}))

// size is how many bytes it keeps from other use.
func (m *memory) size() int64 {
	size := int64(cap(m.records)) * recordSize
	for _, c := range m.chunks {
		size += int64(cap(c.bytes))
	}
	return size
}

// used is how many of these bytes hold something.
func (m *memory) used() int64 {
	used := int64(len(m.records)) * recordSize
	for _, c := range m.chunks {
		used += int64(len(c.bytes))
	}
	return used
}

// free gives everything back. Nothing of it may be used any more.
func (m *memory) free() {
	if m.released.Swap(true) {
		return
	}
	putRecords(m.records)
	for _, c := range m.chunks {
		c.put()
	}
}

// room makes room for n more records. more is how many are expected after them.
func (m *memory) room(n, more int) {
	if cap(m.records)-len(m.records) >= n {
		return
	}
	was := m.records
	m.records = append(getRecords(len(was)+n+more), was...)
	putRecords(was)
}

// tail returns a chunk with room for so many bytes: the last one, or a new one
// that has room for more if that is not too large.
func (m *memory) tail(size, more int) *chunk {
	if n := len(m.chunks); n > 0 {
		if c := m.chunks[n-1]; cap(c.bytes)-len(c.bytes) >= size {
			return c
		}
	}
	c := getChunk(max(size, min(more, chunkSize)))
	m.chunks = append(m.chunks, c)
	return c
}

// chunk is a piece of memory for unpacked bytes, of which len(bytes) are taken.
type chunk struct{ bytes []byte }

// chunkSize is how large chunks are that several record batches share.
const chunkSize = 256 << 10

// pools keep slices by their capacities: what is in pool i holds at least 1<<i
// of what is asked for. What would be larger than the last is left to the
// garbage collector, as is what nobody has used for a while.
type pools []sync.Pool

// put keeps x, whose slice has this capacity, for a later get.
func (p pools) put(x any, capacity int) {
	if i := bits.Len(uint(capacity)) - 1; i >= 0 && i < len(p) {
		p[i].Put(x)
	}
}

// get returns what has room for n, or nil and what capacity to make.
func (p pools) get(n int) (x any, capacity int) {
	i := bits.Len(uint(max(n, 1) - 1))
	if i >= len(p) {
		return nil, n
	}
	return p[i].Get(), 1 << i
}

// The largest hold 8 MiB each.
var chunkPools, recordPools = make(pools, 24), make(pools, 17)

func getChunk(size int) *chunk {
	x, size := chunkPools.get(size)
	if c, ok := x.(*chunk); ok {
		return c
	}
	return &chunk{make([]byte, 0, size)}
}

func (c *chunk) put() {
	c.bytes = c.bytes[:0]
	chunkPools.put(c, cap(c.bytes))
}

func getRecords(n int) []events.Record {
	x, n := recordPools.get(n)
	if r, ok := x.(*[]events.Record); ok {
		return *r
	}
	return make([]events.Record, 0, n)
}

// putRecords forgets the records, so that they keep nothing alive.
func putRecords(r []events.Record) {
	clear(r)
	r = r[:0]
	recordPools.put(&r, cap(r))
}
