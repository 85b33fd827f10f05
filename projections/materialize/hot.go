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
	rosters rosterSet
	entries map[string]*entry
	// last is the entry that was found last by the fold.
	last *entry
	// ring is all entries in the order of the eviction's clock.
	ring []*entry
	hand int
	// dirty is the entries that changed since the last flush; pinned is their
	// size in memory, and cost bounds what a batch of them and of the dirty rosters
	// costs.
	dirty  []*entry
	pinned int64
	cost   int
	// hours are those that the flush has to write a list of; their cost is in cost.
	hours map[int64]struct{}
	// flushing says that what is dirty is being stored. again are those that changed
	// meanwhile: not by the fold, which waits, but because somebody was taken out of
	// them when they were shown.
	flushing bool
	again    []*entry
	// grown is what was not added to Memory's count yet.
	grown int64
	// forgotten counts, by hash of the ID, the evictions of messages that may
	// have changed since they were loaded. Whoever loads a message without
	// holding mu sees by it whether what they loaded may be old.
	forgotten [256]uint32
	seed      maphash.Seed
}

type entry struct {
	message *projections.Message
	cell    *cell // of the message's roster; nil if it is count-only
	slot    int   // in the ring
	size    int   // as counted in Memory
	cost    int   // as counted in hotSet.cost; while dirty
	// stored and sealed are as in Change.
	stored bool
	sealed int
	dirty  bool
	// changed since it came into memory
	changed bool
	// whole says that somebody looks at the receipts, so that their stored chunks
	// stay in memory while there is room.
	whole bool
	// used since the clock's hand last passed. Readers set it too.
	used atomic.Bool
}

func newHotSet(memory *Memory) hotSet {
	return hotSet{
		memory: memory, rosters: newRosterSet(memory), entries: make(map[string]*entry),
		hours: make(map[int64]struct{}), seed: maphash.MakeSeed(),
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

// load takes a message that came from the store, and has its roster.
func (h *hotSet) load(m *projections.Message, c *cell) *entry {
	e := &entry{message: m, cell: c, stored: true, sealed: m.Receipts.Sealed()}
	if c != nil {
		h.rosters.use(c, m)
	}
	h.insert(e)
	return e
}

func (h *hotSet) insert(e *entry) {
	e.used.Store(true)
	e.slot = len(h.ring)
	h.ring = append(h.ring, e)
	h.entries[e.message.ID] = e
	h.resize(e)
}

// create takes a new message, in place of whatever has its ID.
func (h *hotSet) create(m *projections.Message) {
	var c *cell
	if m.Roster != nil {
		c = h.rosters.cells[m.Roster.Ref]
		h.rosters.use(c, m)
		if h.rosters.extend(c, projections.Hour(m.SentAt)) {
			h.cost += rosterSize(c.roster)
		}
		if c.extended {
			h.list(c.keepUntil)
		}
	}
	h.list(projections.Hour(m.SentAt))
	e := h.entries[m.ID]
	if e == nil {
		e = &entry{message: m, cell: c}
		h.insert(e)
	} else {
		h.rosters.unuse(e.cell)
		e.message, e.cell, e.stored, e.sealed, e.whole = m, c, false, 0, false
	}
	h.touch(e)
}

// list is told that the next flush has something for the list of an hour.
func (h *hotSet) list(hour int64) {
	if _, listed := h.hours[hour]; !listed {
		h.hours[hour] = struct{}{}
		h.cost += listSize
	}
}

// changed is told that a message in memory changed.
func (h *hotSet) changed(m *projections.Message) {
	e := h.last
	if e == nil || e.message != m {
		e = h.entries[m.ID]
	}
	h.touch(e)
	if h.flushing {
		h.again = append(h.again, e)
	}
}

// touch makes e dirty, and counts its size and cost again.
func (h *hotSet) touch(e *entry) {
	if !e.dirty {
		e.dirty, e.changed, e.cost = true, true, 0
		h.dirty = append(h.dirty, e)
		h.pinned += int64(e.size)
	}
	h.resize(e)
	cost := e.costNow()
	h.cost += cost - e.cost
	e.cost = cost
}

func (h *hotSet) resize(e *entry) {
	size := e.message.Size() + entrySize
	grown := int64(size - e.size)
	e.size = size
	h.grown += grown
	if e.dirty {
		h.pinned += grown
	}
}

// count adds to Memory's count what is not in it yet.
func (h *hotSet) count() {
	if h.grown != 0 {
		h.memory.used.Add(h.grown)
		h.grown = 0
	}
}

// entrySize is about what an entry takes beside its message.
const entrySize = 112

// costNow bounds what a flush of the entry costs, also if it seals the open chunk.
func (e *entry) costNow() int {
	m := e.message
	record := RecordSize + len(m.ID) + 8
	n := headCost(m) + m.Receipts.Unsealed(e.sealed) + max(0, m.Receipts.Sealed()-e.sealed)*record
	if m.Receipts.Open().Len >= sealFrom {
		n += record
	}
	if !e.stored {
		n += birthCost(m)
	}
	if m.Recalled {
		n += recallCost(m.ID, e.sealed)
	}
	if m.Crowd != nil {
		// Chunks that lost a name are written again.
		n += len(m.Crowd.Taken) * (record + projections.MaxChunkBytes + 256)
	}
	return n
}

// evict drops stored chunks and clean entries, about the longest unused first,
// until so many bytes are free or the hand went round as far as one visit may. It
// returns how many entries it dropped, and whether it did anything.
func (h *hotSet) evict(bytes int64) (n int, freed bool) {
	for scanned := 0; bytes > 0 && scanned < maxScan && len(h.ring) > 0; scanned++ {
		h.hand %= len(h.ring)
		e := h.ring[h.hand]
		if e.used.CompareAndSwap(true, false) {
			h.hand++
			continue
		}
		if e.whole {
			before := e.size
			h.drop(e)
			bytes -= int64(before - e.size)
			freed = true
			h.hand++
			continue
		}
		if e.dirty {
			h.hand++
			continue
		}
		bytes -= int64(e.size)
		h.remove(e)
		n++
		freed = true
	}
	h.count()
	return n, freed
}

// drop lets go of the stored chunks of an entry's receipts. A count-only message
// is always whole: its names are nowhere else.
func (h *hotSet) drop(e *entry) {
	e.whole = false
	if e.message.Crowd == nil && e.message.Receipts.Drop(e.sealed) > 0 {
		h.resize(e)
	}
}

// maxScan bounds how long an eviction keeps readers out.
const maxScan = 4096

// remove drops a clean entry.
func (h *hotSet) remove(e *entry) {
	if e.changed {
		*h.forgottenOf(e.message.ID)++
	}
	if h.last == e {
		h.last = nil
	}
	last := len(h.ring) - 1
	h.ring[e.slot] = h.ring[last]
	h.ring[e.slot].slot = e.slot
	h.ring[last] = nil
	h.ring = h.ring[:last]
	delete(h.entries, e.message.ID)
	h.grown -= int64(e.size)
	h.rosters.unuse(e.cell)
}

// removeEnded drops the messages, none of which may be dirty, whose hour was
// over at a time.
func (h *hotSet) removeEnded(at int64) {
	for _, e := range slices.Clone(h.ring) {
		if projections.HourEnded(projections.Hour(e.message.SentAt), at) {
			h.remove(e)
		}
	}
	h.count()
}

func (h *hotSet) forgottenOf(id string) *uint32 {
	return &h.forgotten[maphash.String(h.seed, id)%uint64(len(h.forgotten))]
}
