package topic

import (
	"errors"
	"fmt"
	"strings"
)

// ErrDiscontinued is wrapped by every [Discontinued].
var ErrDiscontinued = errors.New("the log does not continue from here")

// Reason says why a partition cannot be read on.
type Reason string

// The reasons of [Discontinued].
const (
	// Recreated: the topic was deleted and made again; it is another log.
	Recreated Reason = "the topic was recreated"
	// Repartitioned: keys belong to other partitions than before.
	Repartitioned Reason = "the topic's number of partitions changed"
	// Expired: retention, or an operator, deleted records that were not read.
	Expired Reason = "the log's start has passed the position"
	// Lost: what was read before the position is not in the log any more.
	Lost Reason = "records before the position were lost"
)

// Discontinued says that a partition's reading has ended, because what would
// come next is not the continuation of what came before. It wraps
// [ErrDiscontinued]. Offsets and epochs that the reason has no use for are -1.
type Discontinued struct {
	Reason    Reason
	Partition int32
	// Position is the next offset that would have been read, and Epoch the
	// leader epoch of the record before it.
	Position int64
	Epoch    int32
	// LogStart and End are the first offset of the log and the high watermark.
	LogStart, End int64
	// LeaderEpoch is that of the leader that was asked. In its log, LastEpoch is
	// the largest epoch up to Epoch, and EpochEnd the offset where it ends; -1
	// if the log knows of none.
	LeaderEpoch int32
	LastEpoch   int32
	EpochEnd    int64
	// Was and Is are the topic before, and now.
	Was, Is Identity
}

func (d *Discontinued) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "partition %d, ", d.Partition)
	if d.Position == LogStart {
		b.WriteString("before anything was read")
	} else {
		fmt.Fprintf(&b, "position %d", d.Position)
	}
	fmt.Fprintf(&b, ": %s", d.Reason)
	switch d.Reason {
	case Recreated:
		fmt.Fprintf(&b, ": its ID was %x and is %x", d.Was.ID, d.Is.ID)
	case Repartitioned:
		fmt.Fprintf(&b, " from %d to %d, so that keys belong elsewhere", d.Was.Partitions, d.Is.Partitions)
	case Expired:
		fmt.Fprintf(&b, ": it is at %d, so that %d offsets were deleted unread", d.LogStart, d.LogStart-d.Position)
	case Lost:
		fmt.Fprintf(&b, " (the last was of leader epoch %d)", d.Epoch)
		switch {
		case d.Epoch < 0:
			fmt.Fprintf(&b, ": the log of the leader of epoch %d ends at %d", d.LeaderEpoch, d.End)
		case d.EpochEnd < 0:
			fmt.Fprintf(&b, ": the leader of epoch %d, whose log ends at %d, knows nothing of that epoch", d.LeaderEpoch, d.End)
		case d.LastEpoch != d.Epoch:
			fmt.Fprintf(&b, ": the leader of epoch %d has nothing of that epoch; epoch %d ends at %d", d.LeaderEpoch, d.LastEpoch, d.EpochEnd)
		default:
			fmt.Fprintf(&b, ": that epoch ends at %d in the log of the leader of epoch %d", d.EpochEnd, d.LeaderEpoch)
		}
	}
	b.WriteString("; build new copies under a higher --generation, given to ingest too, and replace every copy")
	return b.String()
}

// Unwrap makes errors.Is find ErrDiscontinued.
func (d *Discontinued) Unwrap() error { return ErrDiscontinued }
