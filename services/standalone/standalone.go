// Package standalone is all of seenby in one process: an embedded broker, ingest,
// a projector and query, behind one listener. It is for trying, developing and
// small tests, never for production: there is one copy, of one log, on one disk.
package standalone

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seenby/seenby/events/topic"
	"github.com/seenby/seenby/services/auth"
	"github.com/seenby/seenby/services/demo"
	"github.com/seenby/seenby/services/ingest"
	"github.com/seenby/seenby/services/openapi"
	"github.com/seenby/seenby/services/process"
	"github.com/seenby/seenby/services/projector"
	"github.com/seenby/seenby/services/query"
	"github.com/seenby/seenby/services/server"
	"github.com/seenby/seenby/services/standalone/broker"
)

const (
	// topicName is the embedded log's topic.
	topicName = "seenby-events"
	// partitions is few, as each costs synced writes of its own and nothing is
	// spread over machines.
	partitions = 8
	// generation never rises: the embedded log loses no records without its topic.
	generation = 1
	// createTimeout bounds the making of the topic, in memory.
	createTimeout = 30 * time.Second
)

// Config says where standalone keeps its data and whom it serves.
type Config struct {
	// Data is the data directory; see [Directory].
	Data string
	// Listen is host:port; port 0 lets the kernel choose. It must be on loopback
	// unless AllowRemote says that other machines may reach it.
	Listen      string
	AllowRemote bool
	// Retention is how long after its sent_at a message expires. State that was
	// made with another one is refused.
	Retention time.Duration
	// VisibleTo, MaxWait, PollInterval, PollWindow and PollSlowest are the projector's.
	VisibleTo                                      projector.VisibleTo
	MaxWait, PollInterval, PollWindow, PollSlowest time.Duration

	Logger   *slog.Logger
	Registry *prometheus.Registry
	// Now is the clock.
	Now func() time.Time
}

// ErrConfig is wrapped by what Config.Validate returns.
var ErrConfig = errors.New("bad setting")

// Validate returns an error for each mistake, joined; each names its flag, and
// wraps [ErrConfig]. It looks the host of Listen up.
func (c Config) Validate(ctx context.Context) error {
	var errs []error
	if c.Data == "" {
		errs = append(errs, fmt.Errorf("%w: --data must name a directory", ErrConfig))
	}
	if err := c.checkListen(ctx); err != nil {
		errs = append(errs, fmt.Errorf("%w: %w", ErrConfig, err))
	}
	// What only a running standalone has is not for the operator to set right.
	state := c.projector()
	state.Connection, state.Secret = topic.Connection{Brokers: []string{broker.Address}, Topic: topicName}, new(auth.Keys)
	if err := state.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("%w: %w", ErrConfig, err))
	}
	if c.Logger == nil || c.Registry == nil || c.Now == nil {
		errs = append(errs, fmt.Errorf("%w: Logger, Registry and Now must be set", ErrConfig))
	}
	return errors.Join(errs...)
}

// Standalone is everything, made and not yet running.
type Standalone struct {
	config    Config
	directory *Directory
	broker    *broker.Broker
	routes    []server.Route
	server    *server.Server
	projector *projector.Service
	demo      *demo.Demo
	behind    []process.Actor
}

// New locks the data directory, starts the broker, makes the topic if there is
// none, and opens the listener. Whoever does not Run what it returns must Close
// it.
func New(ctx context.Context, config Config) (_ *Standalone, err error) {
	if err := config.Validate(ctx); err != nil {
		return nil, err
	}
	s := &Standalone{config: config}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.directory, err = OpenDirectory(config.Data); err != nil {
		return nil, err
	}
	if s.broker, err = broker.Start(broker.Config{Dir: s.directory.Log(), Logger: config.Logger}); err != nil {
		return nil, err
	}
	if err := s.ensureTopic(ctx); err != nil {
		return nil, err
	}
	return s, s.wire()
}

// connection reaches the embedded broker.
func (s *Standalone) connection() topic.Connection {
	return topic.Connection{Brokers: s.broker.Addresses(), Topic: topicName, ClientID: "seenby-standalone", Options: s.broker.Options()}
}

// ensureTopic makes the topic as `seenby topic create` would, on one broker.
func (s *Standalone) ensureTopic(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, createTimeout)
	defer cancel()
	_, err := topic.Create(ctx, s.connection(), topic.Spec{Partitions: partitions, Replicas: 1, MinInSync: 1, Retention: s.config.Retention})
	if err != nil && !errors.Is(err, topic.ErrTopicExists) {
		return err
	}
	return s.broker.KeepForever(ctx, topicName)
}

// wire makes the services and puts them behind one server.
func (s *Standalone) wire() error {
	c := s.config
	users, err := s.keys("auth", s.directory.AuthKey())
	if err != nil {
		return err
	}
	secret, err := s.keys("internal", s.directory.InternalKey())
	if err != nil {
		return err
	}
	verifier, err := auth.NewVerifier(auth.VerifierConfig{Keys: users, Leeway: auth.Leeway, Now: c.Now})
	if err != nil {
		return err
	}
	state := c.projector()
	state.Connection, state.Secret = s.connection(), secret
	if s.projector, err = projector.New(state); err != nil {
		return err
	}
	pulls, err := query.New(query.Config{
		Copies: []query.Copy{{Nodes: []query.Node{{Name: "in this process", Owner: query.InProcess(s.projector)}}}},
		Sealer: secret, OwnerTimeout: c.ownerTimeout(), StatusEvery: query.DefaultStatusEvery,
		Logger: c.Logger, Registerer: c.Registry, Now: c.Now,
	})
	if err != nil {
		return err
	}
	writes, err := ingest.New(ingest.Config{
		Connection: s.connection(), Generation: generation, Retention: c.Retention,
		Logger: c.Logger, Registerer: c.Registry, Now: c.Now,
	})
	if err != nil {
		return err
	}
	s.demo, err = demo.New(demo.Config{Keys: users, File: s.directory.Chat(), AnyHost: c.AllowRemote, Logger: c.Logger, Now: c.Now})
	if err != nil {
		return err
	}
	s.behind = append(s.behind, writes.Run, s.projector.Run, pulls.Run, s.retain, func(ctx context.Context) error { return s.demo.Run(ctx, s.Addr()) })
	s.routes = slices.Concat(writes.Routes(), pulls.Routes())
	s.server, err = server.New(server.Config{
		Listen: c.Listen, Service: "standalone", Logger: c.Logger, Registry: c.Registry,
		Routes: slices.Concat(s.routes, openapi.Routes(), s.demo.Routes()), Authenticate: verifier.Authenticate, RequestTimeout: c.requestTimeout(),
		Ready: func() error { return errors.Join(writes.Ready(), s.projector.Ready(), pulls.Ready()) },
	})
	return err
}

// projector returns the projector's configuration, but for what only a running
// standalone has: the connection and the secret.
func (c Config) projector() projector.Config {
	return projector.Config{
		Generation: generation, Retention: c.Retention, WaitingLimit: projector.DefaultWaitingLimit,
		Copy: "standalone", Nodes: 1, Node: 0, DataDir: filepath.Join(c.Data, stateDir),
		MemoryBytes: projector.DefaultMemoryBytes, CacheBytes: projector.DefaultCacheBytes, MemtableBytes: projector.DefaultMemtableBytes,
		FlushBytes: projector.DefaultFlushBytes, FlushEvery: projector.DefaultFlushEvery,
		MaxWait: c.MaxWait, PollInterval: c.PollInterval, PollWindow: c.PollWindow, PollSlowest: c.PollSlowest, VisibleTo: c.VisibleTo,
		Logger: c.Logger, Registerer: c.Registry, Now: c.Now,
	}
}

// ownerTimeout and requestTimeout leave as much time around a pull's wait as the
// defaults do, so that however long it may wait, it ends as not fresh and is not
// cut off before.
func (c Config) ownerTimeout() time.Duration {
	return c.MaxWait + query.DefaultOwnerTimeout - projector.DefaultMaxWait
}

func (c Config) requestTimeout() time.Duration {
	return c.MaxWait + server.DefaultRequestTimeout - projector.DefaultMaxWait
}

// keys opens a file of keys, which is read again while standalone runs.
func (s *Standalone) keys(label, file string) (*auth.Keys, error) {
	keys, err := auth.OpenKeys(file)
	if err != nil {
		return nil, err
	}
	if err := keys.Register(s.config.Registry, label); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	s.behind = append(s.behind, func(ctx context.Context) error {
		keys.Run(ctx, s.config.Logger)
		return nil
	})
	return keys, nil
}

// Addr is the address that it listens on.
func (s *Standalone) Addr() net.Addr { return s.server.Addr() }

// Routes are the contract's that it serves: those of ingest and query.
func (s *Standalone) Routes() []server.Route { return slices.Clone(s.routes) }

// Run serves until ctx ends, then ends everything in order and closes it.
func (s *Standalone) Run(ctx context.Context) error {
	return errors.Join(process.Run(ctx, s.server.Run, s.behind...), s.close())
}

// Close releases what was never run.
func (s *Standalone) Close() error {
	var err error
	if s.server != nil {
		err = s.server.Close()
	}
	return errors.Join(err, s.close())
}

// close releases what is behind the server.
func (s *Standalone) close() error {
	if s.broker != nil {
		s.broker.Close()
	}
	if s.directory == nil {
		return nil
	}
	return s.directory.Close()
}
