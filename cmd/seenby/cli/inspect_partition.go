package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/seenby/seenby/projections/badgerstore"
	"github.com/seenby/seenby/projections/verify"
	"github.com/seenby/seenby/services/contract"
	"github.com/seenby/seenby/services/projector"
	"github.com/seenby/seenby/services/projector/protocol"
)

// inspectPartitionCommand shows one partition.
type inspectPartitionCommand struct {
	Partition int32 `arg:"" help:"The partition's number." name:"partition"`
	JSON      bool  `help:"Print JSON." name:"json"`

	fromFlags `embed:""`
}

// Run prints the partition.
func (c *inspectPartitionCommand) Run(ctx context.Context, io IO, log logFlags) error {
	var p protocol.Partition
	err := c.inspect(ctx, io, log, func(ctx context.Context, client *protocol.Client, _ protocol.Status) error {
		return client.Get(ctx, protocol.PartitionPath, protocol.Of(c.Partition), &p)
	}, func(store *badgerstore.Offline) (err error) {
		p, err = partitionIn(ctx, store, c.Partition)
		return err
	})
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(io.Stdout, p)
	}
	return printPartition(io.Stdout, p)
}

// partitionIn counts what a store has of a partition.
func partitionIn(ctx context.Context, store *badgerstore.Offline, number int32) (p protocol.Partition, err error) {
	if !slices.Contains(store.Partitions(), number) {
		return p, fmt.Errorf("partition %d is not in this store: it is of node %d of %d, of a topic with %d partitions", number, store.Meta().Owner.Node, store.Meta().Owner.Nodes, store.Meta().Lineage.Partitions)
	}
	snapshot := store.Snapshot(number)
	defer snapshot.Close()
	saved, found, err := snapshot.Restore()
	if err != nil {
		return p, err
	}
	if !found {
		return p, fmt.Errorf("partition %d: nothing of it was applied yet", number)
	}
	p = protocol.Partition{
		Partition: number, Copy: store.Meta().Owner.Copy, Nodes: store.Meta().Owner.Nodes, Node: store.Meta().Owner.Node,
		TopicID: protocol.TopicID(store.Meta().Lineage.TopicID).String(), Lineage: fmt.Sprintf("%08x", store.Meta().Lineage.ID()),
		Checkpoint: projector.Checkpoint(saved.Checkpoint), Waiting: len(saved.Waiting), Erasures: len(saved.Erasures), Undecodable: saved.Undecodable,
		Hours: []protocol.HourDigest{},
	}
	for _, h := range saved.Digests {
		p.Hours = append(p.Hours, protocol.HourDigest{Hour: h.Hour, Digest: h.Digest.String()})
	}
	kinds := make(map[string]*protocol.StoredKind)
	err = snapshot.Records(func(r verify.Record) error {
		k := kinds[r.Kind]
		if k == nil {
			k = &protocol.StoredKind{Kind: r.Kind}
			kinds[r.Kind] = k
		}
		k.Records++
		k.Bytes += r.Bytes
		return ctx.Err()
	})
	if err != nil {
		return p, err
	}
	for _, k := range kinds {
		p.Stored = append(p.Stored, *k)
	}
	slices.SortFunc(p.Stored, func(a, b protocol.StoredKind) int { return cmp.Compare(a.Kind, b.Kind) })
	checked, err := verify.Check(ctx, snapshot, store.Meta().Lineage, number, verify.Options{})
	p.Messages, p.Receipts = checked.Messages, checked.Receipts
	return p, err
}

func printPartition(w io.Writer, p protocol.Partition) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(what, format string, args ...any) { fmt.Fprintf(t, "%s\t%s\n", what, fmt.Sprintf(format, args...)) }
	row("partition", "%d, of copy %s, node %d of %d", p.Partition, p.Copy, p.Node, p.Nodes)
	row("lineage", "%s, topic ID %s", p.Lineage, p.TopicID)
	if s := p.Status; s != nil {
		row("state", "%s, at %d of %d, %d on disk", s.State, s.Position, s.End, s.Saved)
		if s.Error != "" {
			row("stopped", "%s", bare(s.Error))
		}
		row("in memory", "%s messages", humanize.Comma(int64(p.Hot)))
	}
	c := p.Checkpoint
	row("checkpoint", "position %d, leader epoch %d, at %s", c.Position, c.LeaderEpoch, contract.AppendTime(nil, c.Timestamp))
	row("waiting", "%s, %s had to give way", humanize.Comma(int64(p.Waiting)), humanize.Comma(c.Evicted))
	if c.LastErasure > 0 {
		row("erasures", "%d to scrub, the last by offset %d", p.Erasures, c.LastErasure-1)
	}
	row("undecodable", "%s", humanize.Comma(p.Undecodable))
	if p.Stored != nil {
		row("messages", "%s, %s receipts", humanize.Comma(p.Messages), humanize.Comma(p.Receipts))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if p.Stored != nil {
		fmt.Fprintln(w)
		fmt.Fprintln(t, "KIND\tRECORDS\tBYTES")
		for _, k := range p.Stored {
			fmt.Fprintf(t, "%s\t%s\t%s\n", k.Kind, humanize.Comma(k.Records), humanize.IBytes(uint64(k.Bytes)))
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	fmt.Fprintln(w)
	fmt.Fprintln(t, "HOUR\tDIGEST")
	for _, h := range p.Hours {
		fmt.Fprintf(t, "%s\t%s\n", time.UnixMilli(h.Hour*time.Hour.Milliseconds()).UTC().Format("2006-01-02T15Z"), h.Digest)
	}
	return t.Flush()
}
