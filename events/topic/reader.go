package topic

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/seenby/seenby/events"
)

// LogStart as a Start's Position stands for wherever the log starts.
const LogStart int64 = -2

// Start is where the reading of a partition begins.
type Start struct {
	// Position is the first offset to read, or LogStart.
	Position int64
	// LeaderEpoch is that of the record before Position, as it was handed out;
	// -1 if it is not known. With it the log is held to what was read before.
	LeaderEpoch int32
}

// ReaderConfig says what to read.
type ReaderConfig struct {
	Connection
	// Identity is the topic that the positions in Start belong to. It is never
	// taken from the name: see [Discontinued].
	Identity Identity
	// Start has the partitions to read.
	Start map[int32]Start
	// Watch is how often a partition's end is learnt while nothing is written
	// to it: 200 ms if 0.
	Watch time.Duration
	// FetchBytes is how much one answer of a broker may hold, as the records lie
	// in the log (compressed): 4 MiB if 0. Up to two answers a broker are in
	// memory at a time, some of it unpacked, beside what Poll has returned.
	FetchBytes int32
	// PartitionBytes bounds one partition's share of that: 1 MiB if 0. A batch
	// that is larger is read all the same. Batches end when they are 32 times as
	// large in memory, and what one record batch is unpacked to is bounded.
	PartitionBytes int32
	// Logger is told of troubles that begin and end; nil for none.
	Logger *slog.Logger
	// Now is the clock for End.AsOf; nil for time.Now.
	Now func() time.Time
}

// Batch is what is next in one partition.
type Batch struct {
	Partition int32
	// Records are in log order and follow on the partition's previous batch.
	// Records of aborted transactions are left out, and so is nothing else. The
	// position is always one after the last of Records: where it would not be,
	// because aborted records came last or the log does not start at 0, a record
	// with Control stands for all that was left out.
	//
	// Keys and values are not to be changed. They, and Records itself, are the
	// caller's until Release.
	Records []events.Record
	// Err says that the partition's reading has ended: nothing more comes for
	// it, while the others go on. It wraps [ErrDiscontinued].
	Err error

	memory *memory // what Records lie in, if it can be used again
}

// Release gives the memory of Records, their keys and their values back to the
// readers, for what they read next: none of it may be used after that, nor may
// copies of the batch. Who does not call it leaves the memory to the garbage
// collector. To call it again does nothing.
func (b Batch) Release() {
	if b.memory != nil {
		b.memory.free()
	}
}

// Size is how many bytes of memory the batch keeps from other use until Release,
// or until the garbage collector finds it.
func (b Batch) Size() int64 {
	if b.memory != nil {
		return b.memory.size()
	}
	size := int64(cap(b.Records)) * recordSize
	for _, r := range b.Records {
		size += int64(len(r.Key) + len(r.Value))
	}
	return size
}

// End is where a partition ended at some time.
type End struct {
	// Offset is the last stable offset: reads are read-committed.
	Offset int64
	// AsOf is when it was asked: whatever was acknowledged before AsOf is below
	// Offset. It stands still while the leader is out of reach, and while a
	// transaction is open, which hides what was acknowledged after it began.
	AsOf time.Time
}

// Reader reads partitions from exact positions, without a consumer group and
// read-committed. It hands out records only of a log that it has found to
// contain all that it handed out before (continuity.go says how), and ends a
// partition whose log does not. Everything else that goes wrong it tries again,
// for as long as it takes: End's AsOf then grows old, and Trouble says why.
//
// One goroutine at a time calls Poll; End, Trouble and Close may be called by
// any.
type Reader struct {
	config ReaderConfig
	client *kgo.Client
	cancel context.CancelFunc
	done   <-chan struct{}
	wg     sync.WaitGroup

	out    chan []Batch  // what the fetchers have fetched
	ends   chan struct{} // 1 if ending is not empty
	survey chan struct{} // asks the surveyor for a look out of turn

	mu         sync.Mutex
	partitions map[int32]*partition
	fetchers   map[int32]fetchers // by the node that they fetch from
	ending     []Batch            // with Err, not yet handed out
	unsurveyed error              // why the last survey failed
}

// NewReader starts to read. It fails only for a config that is wrong; it does
// not wait for Kafka. ctx gives the reader's goroutines their values but does
// not end them: Close does.
func NewReader(ctx context.Context, config ReaderConfig) (*Reader, error) {
	if config.Watch == 0 {
		config.Watch = 200 * time.Millisecond
	}
	if config.FetchBytes == 0 {
		config.FetchBytes = 4 << 20
	}
	if config.PartitionBytes == 0 {
		config.PartitionBytes = 1 << 20
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if err := config.validate(); err != nil {
		return nil, err
	}
	client, err := config.client()
	if err != nil {
		return nil, err
	}
	r := &Reader{
		config:     config,
		client:     client,
		out:        make(chan []Batch),
		ends:       make(chan struct{}, 1),
		survey:     make(chan struct{}, 1),
		partitions: make(map[int32]*partition, len(config.Start)),
		fetchers:   make(map[int32]fetchers),
	}
	for id, start := range config.Start {
		r.partitions[id] = newPartition(id, start)
	}
	ctx, r.cancel = context.WithCancel(context.WithoutCancel(ctx))
	r.done = ctx.Done()
	r.wg.Go(func() { r.surveyUntil(ctx) })
	return r, nil
}

func (c ReaderConfig) validate() error {
	if c.Identity.ID == [16]byte{} || c.Identity.Partitions < 1 {
		return errors.New("reader: Identity: an ID and a number of partitions are needed; Identify returns them")
	}
	if c.Watch < 0 || c.FetchBytes < 0 || c.PartitionBytes < 0 {
		return errors.New("reader: Watch, FetchBytes and PartitionBytes cannot be negative")
	}
	for id, s := range c.Start {
		if id < 0 || id >= c.Identity.Partitions {
			return fmt.Errorf("reader: Start: there is no partition %d of %d", id, c.Identity.Partitions)
		}
		if s.Position < 0 && s.Position != LogStart {
			return fmt.Errorf("reader: Start: partition %d: no position %d", id, s.Position)
		}
	}
	return nil
}

// Poll waits until there is something to hand out. It fails when ctx ends, and
// with [ErrClosed] after Close.
func (r *Reader) Poll(ctx context.Context) ([]Batch, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-r.done:
			return nil, fmt.Errorf("reading the topic: %w", ErrClosed)
		case <-r.ends:
			r.mu.Lock()
			ending := r.ending
			r.ending = nil
			r.mu.Unlock()
			return ending, nil
		case batches := <-r.out:
			if batches = r.withoutEnded(batches); len(batches) > 0 {
				return batches, nil
			}
		}
	}
}

// withoutEnded drops what was fetched of a partition that ended before it could
// be handed out, so that nothing comes after the batch with Err.
func (r *Reader) withoutEnded(batches []Batch) []Batch {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(batches, func(b Batch) bool {
		ended := r.partitions[b.Partition].ended
		if ended {
			b.Release()
		}
		return ended
	})
}

// End returns where the partition ended when that was last known, and false if
// it was not known yet.
func (r *Reader) End(partition int32) (End, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.partitions[partition]
	if p == nil {
		return End{}, false
	}
	return p.end, !p.end.AsOf.IsZero()
}

// Trouble returns nil, or what keeps the reader from reading some partitions
// just now. It tries again by itself.
func (r *Reader) Trouble() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var first *partition
	var n int
	for _, p := range r.partitions {
		if p.trouble != nil && !p.ended {
			n++
			if first == nil || p.id < first.id {
				first = p
			}
		}
	}
	switch {
	case n > 1:
		return fmt.Errorf("%d partitions cannot be read just now: partition %d: %w", n, first.id, first.trouble)
	case n == 1:
		return fmt.Errorf("partition %d cannot be read just now: %w", first.id, first.trouble)
	}
	return r.unsurveyed
}

// Close ends the reading and waits until its goroutines have ended.
func (r *Reader) Close() {
	r.cancel()
	r.wg.Wait()
	r.client.Close()
}
