package materialize

import (
	"fmt"

	"github.com/seenby/seenby/projections"
)

// scrub is where the partition is in taking the names of erased people from what
// is stored. To every reader they are gone from the erasure on, as whatever is read
// is settled; this makes it true of the bytes.
type scrub struct {
	// upTo is the Next of the last erasure of this pass, 0 between passes.
	upTo    int64
	rosters bool // all rosters were visited
	roster  projections.RosterRef
	crowd   []byte
}

// scrubAtOnce is how many rosters, or count-only messages, one step visits.
const scrubAtOnce = 64

// Scrub does a bounded part of the work that erasures left: it visits the stored
// rosters, then the count-only messages, and stores those again that name somebody
// who was erased. It is done when there is nothing to do; nothing is applied
// meanwhile, and readers go on. It may be interrupted and begin again.
func (p *Partition) Scrub() (done bool, err error) {
	if err := p.Stopped(); err != nil {
		return false, err
	}
	if done, err = p.scrubSome(); err != nil {
		err = fmt.Errorf("partition %d: scrub: %w", p.number, err)
		p.Stop(err)
	}
	return done, err
}

func (p *Partition) scrubSome() (done bool, err error) {
	if p.scrub.upTo == 0 {
		if p.scrub = p.nextScrub(); p.scrub.upTo == 0 {
			return true, nil
		}
		// Rosters and messages that only memory has are stored, and so visited.
		return false, p.Flush()
	}
	if !p.scrub.rosters {
		return false, p.scrubRosters()
	}
	more, err := p.scrubCrowds()
	if err != nil || more {
		return false, err
	}
	if err := p.Flush(); err != nil {
		return false, err
	}
	p.scrubbed(p.scrub.upTo)
	p.scrub = scrub{}
	return false, p.Flush()
}

func (p *Partition) nextScrub() scrub {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.fold == nil || len(p.fold.Erasures()) == 0 {
		return scrub{}
	}
	return scrub{upTo: p.fold.LastErasure()}
}

func (p *Partition) scrubRosters() error {
	stored, err := p.store.Rosters(p.number, p.scrub.roster, scrubAtOnce)
	if err != nil {
		return err
	}
	visited, full := p.visitRosters(stored)
	if visited == len(stored) && visited < scrubAtOnce {
		p.scrub.rosters = true
	} else if p.scrub.roster = stored[visited-1].Roster.Ref + 1; p.scrub.roster == 0 {
		p.scrub.rosters = true
	}
	if full {
		return p.Flush()
	}
	return nil
}

// visitRosters visits rosters until what is to be stored of them is a flush.
func (p *Partition) visitRosters(stored []*StoredRoster) (visited int, full bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.hot.count()
	for i, s := range stored {
		p.scrubRoster(s)
		if p.dirtyBytes() >= p.flushAt {
			return i + 1, true
		}
	}
	return len(stored), false
}

// scrubRoster has a stored roster written again if it names somebody who was
// erased.
func (p *Partition) scrubRoster(s *StoredRoster) {
	rosters := &p.hot.rosters
	before := lost(s.Roster)
	c := rosters.cells[s.Roster.Ref]
	if c == nil {
		if p.fold.SettleRoster(s.Roster); lost(s.Roster) == before {
			return
		}
		c = rosters.insert(s.Roster, s.KeepUntil)
	} else if p.fold.SettleRoster(c.roster); lost(c.roster) == before {
		return
	}
	if !c.dirty {
		c.dirty = true
		rosters.dirty = append(rosters.dirty, c)
		p.hot.cost += rosterSize(c.roster)
	}
}

func lost(r *projections.Roster) int {
	if gone := r.Gone(); gone != nil {
		return len(gone.People)
	}
	return 0
}

func (p *Partition) scrubCrowds() (more bool, err error) {
	ids, err := p.store.Crowds(p.number, p.scrub.crowd, scrubAtOnce)
	if err != nil {
		return false, err
	}
	for _, id := range ids {
		full, err := p.scrubCrowd(id)
		if err == nil && full {
			err = p.Flush()
		}
		if err != nil {
			return false, err
		}
	}
	if len(ids) > 0 {
		p.scrub.crowd = ids[len(ids)-1]
	}
	p.memory.shrink()
	return len(ids) == scrubAtOnce, nil
}

// scrubCrowd settles a count-only message, which makes it dirty if it named
// somebody who was erased.
func (p *Partition) scrubCrowd(id []byte) (full bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err = (*messages)(p).entry(id)
	p.hot.count()
	return p.full(), err
}

// scrubbed is told that nothing stored names those who were erased up to here.
func (p *Partition) scrubbed(upTo int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fold.Forget(upTo)
	p.forgotten = upTo
	p.pendingCost += RecordSize
}
