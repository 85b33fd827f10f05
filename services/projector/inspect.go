package projector

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/verify"
	"github.com/seenby/seenby/services/contract"
	"github.com/seenby/seenby/services/projector/protocol"
	"github.com/seenby/seenby/services/server"
)

// ofPartition is a handler of what an operator asks about one of the node's
// partitions. What it answers is made while the store cannot be closed.
func (s *Service) ofPartition(f func(context.Context, *node, *owned, url.Values) (any, error)) internalHandler {
	return func(ctx context.Context, _ sender, r *server.Request) (contract.Answer, *contract.Problem) {
		params := r.HTTP.URL.Query()
		partition, err := strconv.ParseInt(params.Get("partition"), 10, 32)
		if err != nil || partition < 0 {
			return contract.Answer{}, contract.NewProblem(contract.BadParameter, "partition must be a number")
		}
		return s.inside(func(n *node) (any, error) {
			o := n.byNumber(int32(partition))
			if o == nil {
				return nil, fmt.Errorf("partition %d is not one of this node's: it is node %d of %d, of a topic with %d partitions",
					partition, n.config.Node, n.config.Nodes, n.lineage.Partitions)
			}
			return f(ctx, n, o, params)
		})
	}
}

// errBadParameter is wrapped by what a question returns that was not asked well.
var errBadParameter = errors.New("bad parameter")

// inside answers with what f makes of the node while it runs.
func (s *Service) inside(f func(*node) (any, error)) (contract.Answer, *contract.Problem) {
	n := s.node.Load()
	if n == nil {
		return contract.Answer{}, contract.NewProblem(contract.Starting, "%s", *s.awaited.Load()).After(time.Second)
	}
	if problem := n.readers.enter(); problem != nil {
		return contract.Answer{}, problem
	}
	defer n.readers.leave()
	v, err := f(n)
	switch {
	case errors.Is(err, errBadParameter):
		return contract.Answer{}, contract.NewProblem(contract.BadParameter, "%v", err)
	case err != nil:
		return contract.Answer{}, contract.NewProblem(contract.OwnerUnavailable, "%v", err)
	}
	return markedJSON(v)
}

// maxDigestWait is how long digests are waited for; a request may take twice as long.
const maxDigestWait = 5 * time.Second

// digests waits for a position.
func (s *Service) digests(ctx context.Context, n *node, o *owned, params url.Values) (any, error) {
	position, err := strconv.ParseInt(params.Get("position"), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%w: position must be a number", errBadParameter)
	}
	ctx, cancel := context.WithTimeout(ctx, maxDigestWait)
	defer cancel()
	d := protocol.Digests{Partition: o.number, RetentionMS: n.lineage.Retention.Milliseconds()}
	at, err := o.state.Digests(ctx, position)
	checkpoint, _ := o.state.Checkpoint()
	d.Timestamp = checkpoint.Timestamp
	if errors.Is(err, context.DeadlineExceeded) {
		d.Position = o.Position()
		return d, nil
	}
	if err != nil {
		return nil, err
	}
	d.Position, d.Reached, d.Evicted, d.Hours = at.Position, true, at.Evicted, hourDigests(at.Hours)
	return d, nil
}

func hourDigests(hours []projections.HourDigest) []protocol.HourDigest {
	all := make([]protocol.HourDigest, 0, len(hours))
	for _, h := range hours {
		all = append(all, protocol.HourDigest{Hour: h.Hour, Digest: h.Digest.String()})
	}
	return all
}

const (
	// maxMessageDigests is how many messages one answer tells of, and maxVisited how
	// many are looked at for it.
	maxMessageDigests = 1000
	maxVisited        = 50_000
)

// messageDigests tells of some messages of an hour as they are on disk.
func (s *Service) messageDigests(ctx context.Context, n *node, o *owned, params url.Values) (any, error) {
	hour, err := strconv.ParseInt(params.Get("hour"), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%w: hour must be a number", errBadParameter)
	}
	var after []byte
	if params.Has("after") {
		after = []byte(params.Get("after"))
	}
	snapshot := n.disk.Snapshot(o.number)
	defer snapshot.Close()
	d := protocol.MessageDigests{Partition: o.number}
	reader, found, err := verify.NewReader(snapshot, n.lineage, o.number)
	if err != nil || !found {
		return d, err
	}
	d.Position = reader.Saved().Position
	visited := 0
	err = snapshot.Messages(after, func(m verify.Stored) (bool, error) {
		visited++
		if m.Err != nil || projections.Hour(m.SentAt) == hour {
			d.Messages = append(d.Messages, messageDigest(reader, m))
		}
		if visited == maxVisited || len(d.Messages) == maxMessageDigests {
			d.Next = m.Key
			return false, nil
		}
		return true, ctx.Err()
	})
	return d, err
}

func messageDigest(reader *verify.Reader, m verify.Stored) protocol.MessageDigest {
	d := protocol.MessageDigest{Key: m.Key, ID: string(m.ID)}
	var l *verify.Loaded
	err := m.Err
	if err == nil {
		l, err = reader.Message(m.ID)
	}
	switch {
	case err != nil:
		d.Error = err.Error()
	case l != nil:
		d.Sent, d.Version, d.Digest, d.Shown = l.Sent, l.Version(), l.Stored.String(), l.Shown.String()
	}
	return d
}

// serveMessage shows a message as it is now.
func (s *Service) serveMessage(_ context.Context, _ sender, r *server.Request) (contract.Answer, *contract.Problem) {
	id := r.HTTP.URL.Query().Get("id")
	return s.inside(func(n *node) (any, error) {
		partition := events.Partition(id, n.lineage.Partitions)
		o := n.byNumber(partition)
		if o == nil {
			return nil, fmt.Errorf("the message is in partition %d, which node %d of %d has: this is node %d", partition,
				int(partition)%n.config.Nodes, n.config.Nodes, n.config.Node)
		}
		hot, waiting := o.state.Inspect([]byte(id))
		v, err := o.state.View([]byte(id), true)
		if err != nil {
			return nil, err
		}
		m := protocol.Message{ID: id, Partition: partition, Node: n.config.Node, Position: v.Position, Hot: &hot, Waiting: WaitingEvents(waiting)}
		if v.Found {
			state, err := verify.StateOf(&v.Message)
			if err != nil {
				return nil, err
			}
			m.Message = &state
		}
		return m, nil
	})
}

// WaitingEvents are waiting events as they are told.
func WaitingEvents(waiting []projections.WaitingEvent) []protocol.WaitingEvent {
	all := []protocol.WaitingEvent{}
	for _, w := range waiting {
		all = append(all, protocol.WaitingEvent{Recall: w.Recall, ReaderID: w.ReaderID, ReadAt: w.ReadAt, Offset: w.Offset, Timestamp: w.Timestamp})
	}
	return all
}

// partition shows how a partition is now.
func (s *Service) partition(ctx context.Context, n *node, o *owned, _ url.Values) (any, error) {
	at, err := o.state.Digests(ctx, 0)
	if err != nil {
		return nil, err
	}
	checkpoint, _ := o.state.Checkpoint()
	stats, status := o.state.Stats(), o.status()
	return protocol.Partition{
		Partition: o.number, Copy: n.config.Copy, Nodes: n.config.Nodes, Node: n.config.Node,
		TopicID: protocol.TopicID(n.lineage.TopicID).String(), Lineage: fmt.Sprintf("%08x", n.lineage.ID()),
		Status: &status, Checkpoint: Checkpoint(checkpoint), Hot: stats.Messages, Waiting: stats.Waiting, Erasures: stats.Erasures,
		Undecodable: stats.Undecodable, Hours: hourDigests(at.Hours),
	}, nil
}

// Checkpoint is a checkpoint as it is told.
func Checkpoint(c projections.Checkpoint) protocol.Checkpoint {
	return protocol.Checkpoint{Position: c.Position, LeaderEpoch: c.LeaderEpoch, Timestamp: c.Timestamp, Evicted: c.Evicted, LastErasure: c.LastErasure}
}
