package projector

import (
	"context"

	"golang.org/x/sync/semaphore"

	"github.com/seenby/seenby/events/topic"
)

const (
	// fetchBytes and partitionBytes are how much is fetched at once, as it lies
	// in the log. Unpacked it is several times as much: a receipt is shorter than
	// what is known of its record.
	fetchBytes     = 2 << 20
	partitionBytes = 256 << 10
	// backlogBytes is how much may be read and not applied, in all partitions
	// together. Kafka is much faster than applying, so that while a node catches
	// up this is always used up; it is enough for the partitions not to starve.
	backlogBytes = 32 << 20
)

// backlog bounds the memory of what was read and is not applied yet. Without it
// each partition's queue would fill up while the log is read from its start,
// which takes gigabytes.
type backlog struct {
	free *semaphore.Weighted
}

func newBacklog() *backlog { return &backlog{semaphore.NewWeighted(backlogBytes)} }

// queued is a batch on its way to its partition.
type queued struct {
	topic.Batch
	size int64
}

// enter waits until there is room for a batch, which must leave.
func (b *backlog) enter(ctx context.Context, batch topic.Batch) (queued, error) {
	q := queued{batch, min(batch.Size(), backlogBytes)}
	return q, b.free.Acquire(ctx, q.size)
}

// leave is told that a batch was applied, or is not going to be. Its memory is
// read into again.
func (b *backlog) leave(q queued) {
	q.Release()
	b.free.Release(q.size)
}
