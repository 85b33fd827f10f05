package materialize

import (
	"hash/maphash"
	"slices"
	"sync/atomic"

	"github.com/seenby/seenby/projections"
)

// hotSet is the messages that a partition has in memory. The partition's mu
// guards it: lookups need it for reading, everything else for writing.
type hotSet struct {
	memory  *Memory
	entries map[string]*entry
	// ring is all entries in the order of the eviction's clock.
	ring []*entry
	hand int
	// dirty is the entries that changed since the last flush; pinned is their
	// size in memory, with that of their rosters, and cost bounds what a batch of
	// them costs.
	dirty         []*entry
	pinned        int64
	pinnedRosters map[*sharedRoster]struct{}
	cost          int
	// forgotten counts, by hash of the ID, the evictions of messages that may
	// have changed since they were loaded. Whoever loads a message without
	// holding mu sees by it whether what they loaded may be old.
	forgotten [256]uint32
	seed      maphash.Seed
}

type entry struct {
	message *projections.Message
	roster  *sharedRoster // the message's; nil if it is count-only
	slot    int           // in the ring
	// size is as counted in Memory, which counts rosters apart, and sized is what it was counted from.
	size  int
	sized sized
	// stored, receipts and unlisted are as in Change.
	stored             bool
	receipts, unlisted int
	dirty              bool
	changed            bool // since it came into memory
	// costed is how much of the message is in hotSet.cost; while dirty.
	costed costed
	// used since the clock's hand last passed. Readers set it too.
	used atomic.Bool
}

type sized struct {
	receipts, unlisted, readers int
}

type costed struct {
	receipts, unlisted int
	recalled           bool
}

func newHotSet(memory *Memory) hotSet {
	return hotSet{
		memory: memory, entries: make(map[string]*entry), pinnedRosters: make(map[*sharedRoster]struct{}),
		seed: maphash.MakeSeed(),
	}
}

// find returns the entry or nil. It is the hot path of applying: one lookup and
// no allocation.
func (h *hotSet) find(id []byte) *entry {
	e := h.entries[string(id)]
	if e != nil && !e.used.Load() {
		e.used.Store(true)
	}
	return e
}

// load takes a message that came from the store.
func (h *hotSet) load(m *projections.Message) *entry {
	e := &entry{message: m, stored: true, receipts: len(m.Receipts), unlisted: len(m.Unlisted)}
	h.insert(e)
	return e
}

func (h *hotSet) insert(e *entry) {
	e.used.Store(true)
	e.roster = h.memory.shareRoster(e.message)
	e.slot = len(h.ring)
	h.ring = append(h.ring, e)
	h.entries[e.message.ID] = e
	h.resize(e, e.fullSize())
}

// create takes a new message, in place of whatever has its ID.
func (h *hotSet) create(m *projections.Message) {
	e := h.entries[m.ID]
	if e == nil {
		e = &entry{message: m}
		h.insert(e)
	} else {
		h.memory.releaseRoster(e.roster)
		e.roster = h.memory.shareRoster(m)
	}
	e.message, e.stored, e.receipts, e.unlisted = m, false, 0, 0
	h.touch(e)
	h.pinRoster(e.roster) // which is another one, if e was dirty before
	h.resize(e, e.fullSize())
	h.cost += e.change().Size()
	e.costed = costed{len(m.Receipts), len(m.Unlisted), m.Recalled}
}

// changed is told that a message in memory changed.
func (h *hotSet) changed(m *projections.Message) {
	e := h.entries[m.ID]
	if e.dirty {
		h.cost += e.more()
		h.touch(e)
	} else {
		h.touch(e)
		h.cost += e.change().Size()
	}
	e.costed = costed{len(m.Receipts), len(m.Unlisted), m.Recalled}
}

// touch makes e dirty, and counts its size again.
func (h *hotSet) touch(e *entry) {
	e.changed = true
	if !e.dirty {
		e.dirty = true
		h.dirty = append(h.dirty, e)
		h.pinned += int64(e.size)
		h.pinRoster(e.roster)
	}
	if e.message.Recalled {
		h.resize(e, e.fullSize())
	} else {
		h.resize(e, e.size+e.growth())
	}
}

// pinRoster counts a dirty entry's roster, once for all that share it.
func (h *hotSet) pinRoster(s *sharedRoster) {
	if s == nil {
		return
	}
	if _, found := h.pinnedRosters[s]; !found {
		h.pinnedRosters[s] = struct{}{}
		h.pinned += s.size
	}
}

func (h *hotSet) resize(e *entry, size int) {
	h.memory.used.Add(int64(size - e.size))
	if e.dirty {
		h.pinned += int64(size - e.size)
	}
	e.size = size
	e.sized = sized{cap(e.message.Receipts), cap(e.message.Unlisted), len(e.message.Readers)}
}

func (e *entry) fullSize() int { return e.message.Size() + entrySize }

// growth is how much larger the message got since it was sized; unlike
// Message.Size it does not visit all readers.
func (e *entry) growth() int {
	m := e.message
	n := (cap(m.Receipts)-e.sized.receipts)*24 + (cap(m.Unlisted)-e.sized.unlisted)*(16+hashEntrySize)
	if len(m.Readers) > e.sized.readers {
		for _, name := range m.Readers[e.sized.readers:] {
			n += 16 + len(name) + hashEntrySize
		}
	}
	return n
}

const (
	// entrySize is about what an entry takes beside its message.
	entrySize = 128
	// hashEntrySize is what a reader takes in the set of who is in.
	hashEntrySize = 32
)

func (e *entry) change() Change {
	return Change{Message: e.message, Stored: e.stored, Receipts: e.receipts, Unlisted: e.unlisted}
}

// more bounds what the change costs beyond what is costed.
func (e *entry) more() int {
	m := e.message
	if m.Recalled {
		if e.costed.recalled || !e.stored {
			return 0
		}
		return recallSize(m.ID, e.receipts, e.unlisted)
	}
	n := receiptsSize(m, e.costed.receipts) + (len(m.Unlisted)-e.costed.unlisted)*hashSize
	if e.costed.receipts == e.receipts {
		n += 2*(RecordSize+len(m.ID)) + receiptsSize(m, max(0, e.receipts-MaxRewrite)) - receiptsSize(m, e.receipts)
	}
	if e.costed.unlisted == e.unlisted {
		n += 2*(RecordSize+len(m.ID)) + MaxRewrite*hashSize
	}
	return n
}

// settle is told that the dirty entries are stored as they are.
func (h *hotSet) settle() {
	for _, e := range h.dirty {
		e.dirty, e.stored = false, true
		e.receipts, e.unlisted = len(e.message.Receipts), len(e.message.Unlisted)
	}
	clear(h.dirty)
	clear(h.pinnedRosters)
	h.dirty, h.pinned, h.cost = h.dirty[:0], 0, 0
}

// evict drops clean entries, about the longest unused first, until so many
// bytes are free or the hand went round as far as one visit may. It returns how
// many it dropped.
func (h *hotSet) evict(bytes int64) (n int) {
	for scanned := 0; bytes > 0 && scanned < maxScan && len(h.ring) > 0; scanned++ {
		h.hand %= len(h.ring)
		e := h.ring[h.hand]
		if e.dirty || e.used.CompareAndSwap(true, false) {
			h.hand++
			continue
		}
		bytes -= int64(e.size)
		h.remove(e)
		n++
	}
	return n
}

// maxScan bounds how long an eviction keeps readers out.
const maxScan = 4096

// remove drops a clean entry.
func (h *hotSet) remove(e *entry) {
	if e.changed {
		*h.forgottenOf(e.message.ID)++
	}
	last := len(h.ring) - 1
	h.ring[e.slot] = h.ring[last]
	h.ring[e.slot].slot = e.slot
	h.ring[last] = nil
	h.ring = h.ring[:last]
	delete(h.entries, e.message.ID)
	h.memory.used.Add(-int64(e.size))
	h.memory.releaseRoster(e.roster)
}

// removeEnded drops the messages, none of which may be dirty, whose hour was
// over at a time.
func (h *hotSet) removeEnded(at int64) {
	for _, e := range slices.Clone(h.ring) {
		if HourEnded(Hour(e.message.SentAt), at) {
			h.remove(e)
		}
	}
}

func (h *hotSet) forgottenOf(id string) *uint32 {
	return &h.forgotten[maphash.String(h.seed, id)%uint64(len(h.forgotten))]
}
