// Package query is the process that clients pull from. It is stateless and
// never touches Kafka: it checks tokens and parameters, finds the projector node
// that owns a message, and passes that node's answer through, byte for byte.
//
// What it knows of the nodes comes from themselves: each is asked for its status
// a few times a second. A node that is not what the configuration, or the other
// nodes, take it for is refused by name, as it would answer from other state.
package query

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/services/contract"
)

// Config says whom to ask.
type Config struct {
	// Copies are the copies of the topic. There must be exactly one.
	Copies []Copy
	// Sealer knows the secret under which cursors are signed.
	Sealer contract.Sealer
	// OwnerTimeout bounds how long an owner may take to answer a pull, its wait
	// for a presented position included.
	OwnerTimeout time.Duration
	// StatusEvery is how often each node is asked for its status.
	StatusEvery time.Duration
	Logger      *slog.Logger
	// Registerer gets the metrics.
	Registerer prometheus.Registerer
	// Now is the clock.
	Now func() time.Time
}

// The defaults of the flags.
const (
	DefaultOwnerTimeout = 5 * time.Second
	DefaultStatusEvery  = 300 * time.Millisecond
)

// ErrConfig is wrapped by what Config.Validate returns.
var ErrConfig = errors.New("bad setting")

// Validate returns an error for each mistake, joined; each names its flag, and
// wraps [ErrConfig].
func (c *Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("%w: %s", ErrConfig, fmt.Sprintf(format, args...)))
		}
	}
	check(len(c.Copies) == 1 && len(c.Copies[0].Nodes) > 0, "--projectors must list the addresses of one copy's nodes, in node order")
	check(c.Sealer != nil, "--internal-secret-file must name a file of keys")
	check(c.OwnerTimeout >= 100*time.Millisecond && c.OwnerTimeout <= time.Minute, "--owner-timeout must be from 100ms to 1m, not %v", c.OwnerTimeout)
	check(c.StatusEvery >= 10*time.Millisecond && c.StatusEvery <= silence/2, "--status-every must be from 10ms to %v, not %v", silence/2, c.StatusEvery)
	return errors.Join(errs...)
}

// Service routes pulls. Its methods may be called concurrently.
type Service struct {
	config  Config
	nodes   []Node
	metrics *metrics
	// warnings keeps an owner that fails every batch from filling the log.
	warnings rate.Sometimes

	mu      sync.Mutex
	said    []heard
	kicks   []chan struct{}
	routing atomic.Pointer[routing]
}

// New returns a service that knows nothing until Run asks.
func New(config Config) (*Service, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	nodes := config.Copies[0].Nodes
	s := &Service{config: config, nodes: nodes, said: make([]heard, len(nodes)),
		warnings: rate.Sometimes{First: 10, Interval: time.Second}}
	for range nodes {
		s.kicks = append(s.kicks, make(chan struct{}, 1))
	}
	s.routing.Store(newRouting(nodes, s.said, config.Now()))
	s.metrics = newMetrics(s)
	if err := s.metrics.register(config.Registerer); err != nil {
		return nil, err
	}
	return s, nil
}

// Run asks the nodes for their status until ctx ends, and returns nil then.
func (s *Service) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for i := range s.nodes {
		wg.Go(func() { s.watch(ctx, i) })
	}
	wg.Wait()
	return nil
}

// Ready is nil if every partition has an owner that answers pulls.
func (s *Service) Ready() error { return s.routing.Load().ready() }

// soon is how long after a pull failed its node is asked for its status.
const soon = 50 * time.Millisecond

// watch keeps what is known of one node up to date: at every tick, and soon
// after a pull failed there. Not at once, so that a node which answers for its
// status but fails pulls is not asked as often as they fail.
func (s *Service) watch(ctx context.Context, node int) {
	tick := time.NewTicker(s.config.StatusEvery)
	defer tick.Stop()
	for {
		s.ask(ctx, node)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-s.kicks[node]:
			select {
			case <-ctx.Done():
				return
			case <-time.After(soon):
			}
		}
	}
}

func (s *Service) ask(ctx context.Context, node int) {
	asked, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	status, err := s.nodes[node].Owner.Status(asked)
	if ctx.Err() != nil {
		return
	}
	now := s.config.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.said[node].err = err; err == nil {
		s.said[node] = heard{status: status, at: now, ever: true}
	}
	before := s.routing.Load().nodes[node].refused
	s.routing.Store(newRouting(s.nodes, s.said, now))
	s.tell(node, before, s.routing.Load().nodes[node].refused)
}

// tell logs when a node becomes one whose pulls are refused, or is one no more.
func (s *Service) tell(node int, before, now error) {
	n := &s.routing.Load().nodes[node]
	switch {
	case now == nil && before != nil:
		s.config.Logger.Info("a projector answers", "node", n.name)
	case now == nil || before != nil && before.Error() == now.Error():
	case n.code == contract.Starting:
		// That is as it should be, for a while.
		s.config.Logger.Info("a projector is not asked", "node", n.name, "because", now)
	default:
		s.config.Logger.Warn("a projector is not asked", "node", n.name, "because", now)
	}
}

// kick has a node's status asked for soon.
func (s *Service) kick(node int) {
	select {
	case s.kicks[node] <- struct{}{}:
	default:
	}
}

// Pull asks the owner of a message. ask.Log is filled in.
func (s *Service) Pull(ctx context.Context, ask *Ask) (contract.Answer, *contract.Problem) {
	begun := s.config.Now()
	answer, node, problem := s.route(ctx, ask)
	s.metrics.asked(node, answer.Status, problem, s.config.Now().Sub(begun))
	return answer, problem
}

// noNode stands for the node of a pull that had none.
const noNode = -1

func (s *Service) route(ctx context.Context, ask *Ask) (contract.Answer, int, *contract.Problem) {
	r := s.routing.Load()
	if !r.known {
		return contract.Answer{}, noNode, r.unknown()
	}
	node := int(events.Partition(ask.messageID(), r.log.Partitions)) % len(s.nodes)
	if problem := r.nodes[node].problem(); problem != nil {
		return contract.Answer{}, noNode, problem
	}
	ask.Log = r.log
	within, cancel := context.WithTimeout(ctx, s.config.OwnerTimeout)
	defer cancel()
	answer, err := s.nodes[node].Owner.Pull(within, ask)
	if err == nil {
		return answer, node, nil
	}
	return contract.Answer{}, node, s.lost(ctx, within, node, err)
}

// lost is what a question comes to that its node did not answer within its time.
func (s *Service) lost(ctx, within context.Context, node int, err error) *contract.Problem {
	code, detail := contract.OwnerUnavailable, "the message's owner does not answer"
	if within.Err() != nil {
		code, detail = contract.Timeout, "the message's owner took too long"
	}
	if ctx.Err() == nil {
		s.kick(node)
	}
	return contract.NewProblem(code, "%s", detail).After(time.Second).Because(fmt.Errorf("%s: %w", s.routing.Load().nodes[node].name, err))
}
