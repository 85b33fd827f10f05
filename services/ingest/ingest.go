// Package ingest takes what the chat product reports (messages sent and
// recalled, receipts, people to forget) and appends it to the log as events. It
// keeps no state and knows no message: what an event comes to is for those who
// read the log. What it answers 202 to is in Kafka, acknowledged by all in-sync
// replicas.
package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seenby/seenby/events/topic"
	"github.com/seenby/seenby/services/contract"
	"github.com/seenby/seenby/services/server"
)

const (
	// AppendTimeout is how long a request waits for Kafka, so that its answer
	// comes within 5 s.
	AppendTimeout = 4500 * time.Millisecond
	// FlushTimeout is how long the end of the process waits for what was accepted.
	FlushTimeout = 10 * time.Second
	// MaxAhead is how far in the future sent_at may be.
	MaxAhead = 5 * time.Minute

	// openTimeout bounds one attempt to reach Kafka at start, so that /readyz can
	// tell why there is no success; openPause is between attempts.
	openTimeout = 10 * time.Second
	openPause   = time.Second
)

// What Validate finds wrong, each with the flag to set right.
var (
	ErrRetention  = errors.New("--retention must be longer than 0")
	ErrGeneration = errors.New("--generation must be 1 or more")
	// ErrIncomplete is for the program that forgot to set something.
	ErrIncomplete = errors.New("ingest: Logger, Registerer and Now must be set")
)

// Config says where events go and which are taken.
type Config struct {
	Connection topic.Connection
	// Generation is part of every position; the projectors have the same.
	Generation uint32
	// Retention is how long after its sent_at a message expires; the projectors
	// have the same. Older messages are refused.
	Retention  time.Duration
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Now is the clock that sent_at is held to.
	Now func() time.Time
}

// Validate returns what is wrong with c, or nil.
func (c Config) Validate() error {
	if c.Logger == nil || c.Registerer == nil || c.Now == nil {
		return ErrIncomplete
	}
	if c.Retention <= 0 {
		return fmt.Errorf("%w, not %v", ErrRetention, c.Retention)
	}
	if c.Generation == 0 {
		return ErrGeneration
	}
	return c.Connection.Validate()
}

// Appender appends to the topic; *topic.Appender is the one. Its methods may be
// called concurrently.
type Appender interface {
	// Append returns once all entries are acknowledged, with where they are, in
	// their order. When ctx ends, so does the wait; part may be written.
	Append(ctx context.Context, entries []topic.Entry) ([]topic.Appended, error)
	// Identity is the topic's.
	Identity() topic.Identity
	// Ready is nil, or why nothing can be appended just now.
	Ready() error
	// Close waits, no longer than ctx, until what was accepted is acknowledged.
	Close(ctx context.Context) error
}

// Service serves ingest's routes. All methods may be called concurrently.
type Service struct {
	config  Config
	metrics *metrics
	// open makes the appender.
	open func(context.Context) (Appender, error)
	// log is nil until Kafka was reached for the first time.
	log atomic.Pointer[log]
	// trouble is why it was not, yet.
	trouble atomic.Pointer[error]
}

// log is the topic with its name in positions.
type log struct {
	Appender
	id uint32
}

var errConnecting = errors.New("starting: reaching Kafka for the first time")

// New checks the configuration. It does not reach for Kafka; Run does.
func New(config Config) (*Service, error) {
	return newService(config, func(ctx context.Context) (Appender, error) {
		return topic.NewAppender(ctx, topic.AppenderConfig{Connection: config.Connection, Logger: config.Logger})
	})
}

func newService(config Config, open func(context.Context) (Appender, error)) (*Service, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	m, err := newMetrics(config.Registerer)
	if err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	s := &Service{config: config, metrics: m, open: open}
	s.trouble.Store(&errConnecting)
	return s, nil
}

// Routes is the table of ingest's routes.
func (s *Service) Routes() []server.Route {
	const message = "/v1/messages/{message_id}"
	return []server.Route{
		{Method: http.MethodPut, Path: message, Access: server.BackendOnly, MaxBody: contract.MaxPutBody, Handler: s.putMessage},
		{Method: http.MethodDelete, Path: message, Access: server.BackendOnly, Handler: s.deleteMessage},
		{Method: http.MethodDelete, Path: "/v1/users/{user_id}", Access: server.BackendOnly, Handler: s.deleteUser},
		{Method: http.MethodPost, Path: "/v1/receipts", Access: server.AnyCaller, MaxBody: contract.MaxBody, Handler: s.postReceipts},
	}
}

// Ready is nil, or why events cannot be appended just now.
func (s *Service) Ready() error {
	if l := s.log.Load(); l != nil {
		return l.Ready()
	}
	return *s.trouble.Load()
}

// Run reaches for Kafka, for as long as it takes, and keeps the way there open
// until ctx ends. Whatever serves the routes has to end first: Run then waits
// for what was accepted, and its error says what was given up.
func (s *Service) Run(ctx context.Context) error {
	l := s.connect(ctx)
	if l == nil {
		return nil
	}
	<-ctx.Done()
	flushing, cancel := context.WithTimeout(context.WithoutCancel(ctx), FlushTimeout)
	defer cancel()
	return l.Close(flushing)
}

// connect tries until it succeeds, or returns nil when ctx ends.
func (s *Service) connect(ctx context.Context) *log {
	said := ""
	for {
		trying, cancel := context.WithTimeout(ctx, openTimeout)
		appender, err := s.open(trying)
		cancel()
		if err == nil {
			l := &log{Appender: appender, id: logID(appender.Identity(), s.config.Generation)}
			s.log.Store(l)
			return l
		}
		if ctx.Err() != nil {
			return nil
		}
		err = fmt.Errorf("starting: %w", err)
		s.trouble.Store(&err)
		if err.Error() != said {
			said = err.Error()
			s.config.Logger.Warn("Kafka is not reached yet", "err", err)
		}
		pause := time.NewTimer(openPause)
		select {
		case <-ctx.Done():
			pause.Stop()
			return nil
		case <-pause.C:
		}
	}
}
