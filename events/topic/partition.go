package topic

import (
	"time"
)

const (
	noLeader  int32 = -1
	noEpoch   int32 = -1
	unchecked int32 = -2 // a checkedIn that is no leader's epoch, noEpoch included
)

// partition is what a Reader knows of one partition. The Reader's mutex guards
// it. Position, epoch, fresh, announced and checkedIn are written only by the fetcher that
// has claimed the partition, which may therefore read them without the mutex.
type partition struct {
	id int32

	// position is the next offset to hand out, LogStart until that is resolved,
	// and epoch the leader epoch of the record before it, or noEpoch.
	position int64
	epoch    int32
	// fresh says that the log's start was asked for and nothing was handed out
	// yet, so that wherever the start moves is the right place to begin.
	fresh bool
	// announced is the position that a stand-in was handed out for while fresh.
	announced int64
	// checkedIn is the leader epoch in which the leader's log was found to
	// continue what was handed out. While it differs from the leader's, nothing
	// is fetched.
	checkedIn int32

	leader leadership
	// claimedBy is the fetcher that has it for itself, or nil.
	claimedBy *fetcher
	ended     bool

	end      End
	trouble  error
	failures int
	retryAt  time.Time
}

func newPartition(id int32, s Start) *partition {
	return &partition{
		id:        id,
		position:  s.Position,
		epoch:     max(s.LeaderEpoch, noEpoch),
		fresh:     s.Position == LogStart,
		checkedIn: unchecked,
		leader:    leadership{node: noLeader, epoch: noEpoch},
	}
}

// claim is a partition that a fetcher has for itself, and the leader's epoch at
// that time, which all its requests carry: a broker that leads it in another
// epoch, or not at all, then answers with an error and no data.
type claim struct {
	*partition
	leaderEpoch int32
}

// hasEpochs says whether the log can be held to the epoch of the last record.
func (c claim) hasEpochs() bool { return c.epoch != noEpoch && c.leaderEpoch != noEpoch }
