package query

import (
	"context"
	"fmt"

	"github.com/seenby/seenby/services/contract"
	"github.com/seenby/seenby/services/projector/protocol"
)

// Owner is one node of a copy: it answers the pulls of the messages in its
// partitions. Its methods may be called concurrently, and end with ctx.
type Owner interface {
	// Status says which log the node has, which partitions, and how they are.
	Status(ctx context.Context) (protocol.Status, error)
	// Pull returns the answer to a pull of one message, whatever it is; an error says
	// that there is none.
	Pull(ctx context.Context, ask *Ask) (contract.Answer, error)
	// Batch returns the answer to a batch of messages that are all of this node, with
	// so many readers at most. Its problem is of all of them; an error says that there
	// is no answer.
	Batch(ctx context.Context, ask *AskBatch) (*protocol.BatchAnswer, *contract.Problem, error)
}

// Ask is a pull of one message on its way to its owner. One of Receipts and Unread
// is set, and is what is asked for.
type Ask struct {
	Receipts *contract.Pull
	Unread   *contract.Unread
	Caller   contract.Caller
	// RawQuery and IfNoneMatch are what was parsed.
	RawQuery    string
	IfNoneMatch []string
	// Log is what this process takes the owner's log to be.
	Log Log
}

func (a *Ask) messageID() string {
	if a.Unread != nil {
		return a.Unread.MessageID
	}
	return a.Receipts.MessageID
}

// AskBatch is a batch, or a part of one, on its way to its messages' owner.
type AskBatch struct {
	Batch  *contract.Batch
	Caller contract.Caller
	// Readers is how many there may be in the answer.
	Readers int
	Log     Log
}

// Log is what the nodes of a copy have to agree on.
type Log struct {
	Topic      string
	TopicID    protocol.TopicID
	Partitions int32
	Generation uint32
	Lineage    uint32
}

func logOf(s protocol.Status) Log {
	return Log{Topic: s.Topic, TopicID: s.TopicID, Partitions: s.Partitions, Generation: s.Generation, Lineage: s.Lineage}
}

// difference names the first thing in which a node's log differs from a peer's.
func (l Log) difference(peer Log) string {
	differs := func(what string, mine, other any) string {
		return fmt.Sprintf("%s %v, a peer has %v", what, mine, other)
	}
	switch {
	case l.Topic != peer.Topic:
		return differs("topic", l.Topic, peer.Topic)
	case l.TopicID != peer.TopicID:
		return differs("topic ID", l.TopicID, peer.TopicID)
	case l.Partitions != peer.Partitions:
		return differs("partition count", l.Partitions, peer.Partitions)
	case l.Generation != peer.Generation:
		return differs("generation", l.Generation, peer.Generation)
	case l.Lineage != peer.Lineage:
		return differs("lineage", fmt.Sprintf("%08x", l.Lineage), fmt.Sprintf("%08x", peer.Lineage))
	}
	return ""
}

// Projector is a projector node in this process.
type Projector interface {
	Status() protocol.Status
	Receipts(ctx context.Context, pull *contract.Pull, caller contract.Caller) (contract.Answer, *contract.Problem)
	Unread(ctx context.Context, unread *contract.Unread, caller contract.Caller) (contract.Answer, *contract.Problem)
	Batch(ctx context.Context, batch *contract.Batch, readers int, caller contract.Caller) (*protocol.BatchAnswer, *contract.Problem)
}

// InProcess is the owner that a projector in this process is; there is no HTTP
// between.
func InProcess(p Projector) Owner { return inProcess{p} }

type inProcess struct{ projector Projector }

func (o inProcess) Status(context.Context) (protocol.Status, error) { return o.projector.Status(), nil }

func (o inProcess) Pull(ctx context.Context, ask *Ask) (answer contract.Answer, _ error) {
	var problem *contract.Problem
	if ask.Unread != nil {
		answer, problem = o.projector.Unread(ctx, ask.Unread, ask.Caller)
	} else {
		answer, problem = o.projector.Receipts(ctx, ask.Receipts, ask.Caller)
	}
	if problem != nil {
		answer = problem.Answer()
	}
	return answer, nil
}

func (o inProcess) Batch(ctx context.Context, ask *AskBatch) (*protocol.BatchAnswer, *contract.Problem, error) {
	answer, problem := o.projector.Batch(ctx, ask.Batch, ask.Readers, ask.Caller)
	return answer, problem, nil
}
