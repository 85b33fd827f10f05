// Package projector is the process that turns the topic into answers. It owns
// some partitions of one copy: it applies their log, keeps the state in memory
// and on disk (package materialize does that), and answers pulls of their
// messages: it decides who may see what, and renders the final bytes.
//
// A partition that cannot go on stops alone, says why and what to do, and never
// passes anything over. Pulls are asked for by query, over the internal port, or
// by whoever is in the same process.
package projector

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/seenby/seenby/events/topic"
	"github.com/seenby/seenby/services/auth"
	"github.com/seenby/seenby/services/contract"
	"github.com/seenby/seenby/services/projector/protocol"
)

// identifyTimeout is how long Kafka may be silent before that is told.
const identifyTimeout = 5 * time.Second

// Service is a projector node. Its methods may be called concurrently.
type Service struct {
	config   Config
	internal auth.Internal
	metrics  *metrics
	// node is nil until the log is known and the state restored.
	node atomic.Pointer[node]
	// awaited is what node is nil for.
	awaited atomic.Pointer[string]
	// warnings keeps a disk that fails every pull from filling the log too.
	warnings rate.Sometimes
}

// New checks the configuration. Nothing happens before Run.
func New(config Config) (*Service, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	s := &Service{config: config, internal: auth.Internal{Keys: config.Secret, Now: config.Now},
		warnings: rate.Sometimes{First: 10, Interval: time.Second}}
	s.await("it has not begun")
	s.metrics = newMetrics(s)
	if err := s.metrics.register(config.Registerer); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return s, nil
}

// Run waits for Kafka, restores the state, and applies the log until ctx ends;
// then it saves what was applied, and returns nil. It may be called once. Its
// errors are those of a start that cannot succeed: no such topic, a store of
// another lineage, a disk that cannot be read.
func (s *Service) Run(ctx context.Context) error {
	identity, err := s.identify(ctx)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	s.await("its state is being restored")
	n, err := openNode(ctx, &s.config, identity, s.metrics.committed)
	if err != nil {
		return err
	}
	if err := n.publish(); err != nil {
		return errors.Join(err, n.close())
	}
	s.config.Logger.Info("applying the log", "topic", s.config.Connection.Topic, "topic_id", protocol.TopicID(identity.ID).String(),
		"copy", s.config.Copy, "node", s.config.Node, "partitions", len(n.owned), "lineage", fmt.Sprintf("%08x", n.lineage.ID()))
	s.node.Store(n)
	err = n.run(ctx)
	s.await("it is shutting down")
	s.node.Store(nil)
	return errors.Join(err, n.close())
}

// identify asks Kafka which topic it is, for as long as Kafka is out of reach.
func (s *Service) identify(ctx context.Context) (topic.Identity, error) {
	s.await("Kafka has not answered yet")
	for {
		attempt, cancel := context.WithTimeout(ctx, identifyTimeout)
		identity, err := topic.Identify(attempt, s.config.Connection)
		// An error that did not need all the time will not go away by itself.
		final := err == nil || attempt.Err() == nil || ctx.Err() != nil
		cancel()
		if final {
			return identity, err
		}
		s.await(fmt.Sprintf("Kafka does not answer: %v", err))
	}
}

func (s *Service) await(what string) { s.awaited.Store(&what) }

// Receipts answers a pull of one message. It needs no HTTP: standalone calls it, as
// it does Unread and Batch.
func (s *Service) Receipts(ctx context.Context, pull *contract.Pull, caller contract.Caller) (contract.Answer, *contract.Problem) {
	return s.counted(func(n *node) (contract.Answer, string, *contract.Problem) {
		o := n.owner(pull.MessageID)
		if o == nil {
			return contract.Answer{}, "", unavailable().Because(errNotOwner)
		}
		return n.answers.receipts(ctx, o, pull, caller)
	})
}

// Unread answers a pull of who has not read a message.
func (s *Service) Unread(ctx context.Context, u *contract.Unread, caller contract.Caller) (contract.Answer, *contract.Problem) {
	return s.counted(func(n *node) (contract.Answer, string, *contract.Problem) {
		o := n.owner(u.MessageID)
		if o == nil {
			return contract.Answer{}, "", unavailable().Because(errNotOwner)
		}
		return n.answers.unread(ctx, o, u, caller)
	})
}

// Batch answers for all messages of a batch, with so many readers at most. A problem
// is of all of them.
func (s *Service) Batch(ctx context.Context, asked *contract.Batch, readers int, caller contract.Caller) (*protocol.BatchAnswer, *contract.Problem) {
	var answer *protocol.BatchAnswer
	problem := s.within(func(n *node) *contract.Problem {
		owner := func(messageID string) source {
			if o := n.owner(messageID); o != nil {
				return o
			}
			return nil
		}
		b, problem := n.answers.batch(ctx, owner, asked, readers, caller)
		if problem != nil {
			return problem
		}
		answer = &b.answer
		s.warn(contract.OwnerUnavailable, b.cause)
		for result, n := range b.came {
			s.metrics.pulls.WithLabelValues(result).Add(float64(n))
		}
		return nil
	})
	return answer, problem
}

// counted answers by the node's state, and counts what came of it.
func (s *Service) counted(answer func(*node) (contract.Answer, string, *contract.Problem)) (a contract.Answer, problem *contract.Problem) {
	problem = s.within(func(n *node) *contract.Problem {
		var result string
		if a, result, problem = answer(n); problem == nil {
			s.metrics.pulled(result)
		}
		return problem
	})
	return a, problem
}

// within calls f with the node while its state is open. It counts and logs what f,
// or the node, refuses.
func (s *Service) within(f func(*node) *contract.Problem) (problem *contract.Problem) {
	n := s.node.Load()
	if n == nil {
		problem = contract.NewProblem(contract.Starting, "the message's owner is not ready yet").After(time.Second)
	} else if problem = n.readers.enter(); problem == nil {
		defer n.readers.leave()
		problem = f(n)
	}
	if problem != nil {
		s.metrics.pulled(string(problem.Code))
		s.warn(problem.Code, problem.Cause)
	}
	return problem
}

// warn logs why a pull could not be answered, if there is a cause.
func (s *Service) warn(code contract.Code, cause error) {
	if cause != nil {
		s.warnings.Do(func() { s.config.Logger.Error("a pull failed", "code", code, "err", cause) })
	}
}

// errNotOwner is for a pull that came to the wrong node.
var errNotOwner = errors.New("another node owns the message: do --projectors of query list the nodes in their order?")

// Status is how the node and its partitions are.
func (s *Service) Status() protocol.Status {
	status := protocol.Status{Protocol: protocol.Version, Copy: s.config.Copy, Nodes: s.config.Nodes, Node: s.config.Node}
	n := s.node.Load()
	if n == nil {
		status.Detail = *s.awaited.Load()
		return status
	}
	status.Topic = s.config.Connection.Topic
	status.TopicID = n.lineage.TopicID
	status.Partitions = n.lineage.Partitions
	status.Generation = n.lineage.Generation
	status.Lineage = n.lineage.ID()
	status.Progress = n.progress(nil)
	for _, o := range n.owned {
		status.Owned = append(status.Owned, o.status())
	}
	return status
}

// Undecodable returns the records that a partition skipped because they are no
// events or lie in the wrong partition. It fails for a partition that the node
// does not own, or not yet.
func (s *Service) Undecodable(partition int32) (protocol.Undecodable, error) {
	n := s.node.Load()
	if n == nil {
		return protocol.Undecodable{}, fmt.Errorf("the node is not ready: %s", *s.awaited.Load())
	}
	if problem := n.readers.enter(); problem != nil {
		return protocol.Undecodable{}, problem
	}
	defer n.readers.leave()
	o := n.byNumber(partition)
	if o == nil {
		return protocol.Undecodable{}, fmt.Errorf("partition %d is not one of this node's: it is node %d of %d, of a topic with %d partitions",
			partition, s.config.Node, s.config.Nodes, n.lineage.Partitions)
	}
	kept, total, err := o.state.Undecodable()
	if err != nil {
		return protocol.Undecodable{}, err
	}
	answer := protocol.Undecodable{Partition: partition, Total: total}
	for _, u := range kept {
		answer.Records = append(answer.Records, protocol.UndecodableRecord{
			Offset: u.Offset, Timestamp: u.Timestamp, Outcome: u.Outcome.String(), Reason: u.Reason,
			Key: u.Key, Value: u.Value, KeySize: u.KeySize, ValueSize: u.ValueSize,
		})
	}
	return answer, nil
}
