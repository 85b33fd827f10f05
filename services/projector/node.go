package projector

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/events/topic"
	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/badgerstore"
	"github.com/seenby/seenby/projections/materialize"
)

const (
	// sampleEvery is how often positions are held to the log's ends.
	sampleEvery = 100 * time.Millisecond
	// firstPrune and pruneApart spread what partitions remove over time.
	firstPrune = time.Minute
	pruneApart = 2 * time.Second
)

// node is a projector that knows its log: the store is open, and the partitions
// are restored from it.
type node struct {
	config  *Config
	lineage projections.Lineage
	store   materialize.Store
	// disk is store, as it lies on disk.
	disk    *badgerstore.Store
	checks  checks
	memory  *materialize.Memory
	reader  *topic.Reader
	answers answers
	// owned are ascending: at index i is partition Node + i*Nodes.
	owned     []*owned
	backlog   *backlog
	publisher publisher
	readers   gate
	meter     meter
}

// openNode restores the node's partitions, and finds where in the log each goes
// on. The reader reads from then on; nothing is applied before run.
// committed is told how long each flush took.
func openNode(ctx context.Context, c *Config, identity topic.Identity, committed func(time.Duration)) (*node, error) {
	for _, s := range c.Skips {
		if s.Partition >= identity.Partitions {
			return nil, fmt.Errorf("%w: --skip-record %v: the topic has the partitions 0 to %d", ErrConfig, s, identity.Partitions-1)
		}
	}
	n := &node{config: c, memory: materialize.NewMemory(c.MemoryBytes), lineage: c.lineage(identity), backlog: newBacklog()}
	n.answers = newAnswers(c, n.lineage)
	store, err := openStore(c, n.lineage)
	if err != nil {
		return nil, err
	}
	n.store, n.disk = store, store
	n.checks.begin()
	if err := n.openPartitions(ctx, identity, committed); err != nil {
		return nil, errors.Join(err, n.close())
	}
	return n, nil
}

func (c *Config) lineage(identity topic.Identity) projections.Lineage {
	return projections.Lineage{
		TopicID:     identity.ID,
		Partitions:  identity.Partitions,
		Generation:  c.Generation,
		FoldVersion: projections.FoldVersion,
		Limits:      projections.Limits{Waiting: c.WaitingLimit},
		Retention:   c.Retention,
		Skips:       c.Skips,
	}
}

func (n *node) openPartitions(ctx context.Context, identity topic.Identity, committed func(time.Duration)) error {
	start := make(map[int32]topic.Start)
	for p := int32(n.config.Node); p < identity.Partitions; p += int32(n.config.Nodes) {
		o := &owned{number: p, now: n.config.Now, logger: n.config.Logger,
			queue: make(chan queued, queueLength), backlog: n.backlog}
		var err error
		o.state, err = materialize.Open(materialize.Config{
			Lineage:    n.lineage,
			Partition:  p,
			Store:      &timed{Store: n.store, now: n.config.Now, took: committed},
			Memory:     n.memory,
			FlushBytes: n.config.FlushBytes,
		})
		if err != nil {
			return err
		}
		start[p] = topic.Start{Position: topic.LogStart, LeaderEpoch: -1}
		if at, found := o.state.Checkpoint(); found {
			start[p] = topic.Start{Position: at.Position, LeaderEpoch: at.LeaderEpoch}
		} else {
			// Of a log that starts later the reader says so, by a control record.
			o.state.StartAt(0)
		}
		n.owned = append(n.owned, o)
	}
	var err error
	n.reader, err = topic.NewReader(ctx, topic.ReaderConfig{
		Connection: n.config.Connection, Identity: identity, Start: start, Logger: n.config.Logger, Now: n.config.Now,
		FetchBytes: fetchBytes, PartitionBytes: partitionBytes,
	})
	if err != nil {
		return err
	}
	for _, o := range n.owned {
		o.newestEnd = n.reader.End
	}
	return nil
}

// publish has the node commit its positions from then on.
func (n *node) publish() (err error) {
	n.publisher.committer, err = topic.NewCommitter(n.config.Connection, n.config.Copy)
	return err
}

// close releases what openNode took. Nothing of the node may run.
func (n *node) close() error {
	if n.publisher.committer != nil {
		n.publisher.committer.Close()
	}
	if n.reader != nil {
		n.reader.Close()
	}
	return n.store.Close()
}

var errShutDown = errors.New("the node is shutting down")

// run applies the log until ctx ends, then saves what was applied.
func (n *node) run(ctx context.Context) error {
	// What one part returns ends the others.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	for i, o := range n.owned {
		wg.Go(func() {
			// Partitions take turns with the disk.
			turn := n.config.FlushEvery * time.Duration(i) / time.Duration(len(n.owned))
			o.run(ctx, turn, n.config.FlushEvery, firstPrune+pruneApart*time.Duration(i))
		})
	}
	wg.Go(func() { every(ctx, sampleEvery, n.sample) })
	wg.Go(func() {
		var cpus cpuMeter
		every(ctx, paceEvery, func() { n.answers.pace.sample(cpus.busy(n.config.Now())) })
	})
	wg.Go(func() { n.check(ctx) })
	if n.publisher.committer != nil {
		wg.Go(func() { every(ctx, commitEvery, func() { n.publisher.publish(ctx, n.owned) }) })
	}
	err := n.poll(ctx)
	cancel()
	wg.Wait()
	for _, o := range n.owned {
		// Nobody waits for a position any more that will not come.
		o.state.Stop(errShutDown)
	}
	n.readers.close()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// poll hands batches to the partitions. A partition whose queue is full has all
// wait, and so has a full backlog: what was read and not yet applied is bounded.
func (n *node) poll(ctx context.Context) error {
	for {
		batches, err := n.reader.Poll(ctx)
		if err != nil {
			return err
		}
		for _, b := range batches {
			o := n.byNumber(b.Partition)
			if o == nil || o.Stopped() != nil {
				b.Release()
				continue
			}
			q, err := n.backlog.enter(ctx, b)
			if err != nil {
				return err
			}
			select {
			case o.queue <- q:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

func (n *node) sample() {
	for _, o := range n.owned {
		o.CaughtUp()
	}
	n.measure()
}

// byNumber returns an owned partition, or nil.
func (n *node) byNumber(partition int32) *owned {
	i := (int(partition) - n.config.Node) / n.config.Nodes
	if i < 0 || i >= len(n.owned) || n.owned[i].number != partition {
		return nil
	}
	return n.owned[i]
}

// owner returns the partition of a message, or nil if another node has it.
func (n *node) owner(messageID string) *owned {
	return n.byNumber(events.Partition(messageID, n.lineage.Partitions))
}

// every calls f at intervals until ctx ends.
func every(ctx context.Context, interval time.Duration, f func()) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			f()
		}
	}
}
