// Package server is the HTTP side that all processes have in common, on Echo:
// one table of routes, one order of checks before a handler runs, problem
// documents for whatever goes wrong, health, metrics, time-outs, and a shutdown
// that cuts nobody off. It knows no message; handlers do.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"
	"golang.org/x/time/rate"
)

// maxStreams is how many requests a client may have in flight on one HTTP/2
// connection: many more than one that pulls has, and few enough that one cannot
// fill the process.
const maxStreams = 128

// Server serves one table of routes on one address. Run may be called once;
// the other methods may be called concurrently.
type Server struct {
	config   Config
	log      *slog.Logger
	echo     *echo.Echo
	http     *http.Server
	listener net.Listener
	paths    map[string]*path
	metrics  *metrics
	users    *userLimits
	warnings rate.Sometimes

	certificate *certificate
	draining    atomic.Bool
	inFlight    atomic.Int64
	// base is the parent of all requests' contexts. It ends only when the grace
	// of a shutdown is over.
	base       context.Context
	cutOffBase context.CancelFunc
}

// New checks the configuration, builds the routes and opens the listener, so
// that an address in use is an error at start, and [Server.Addr] is known
// before anything is served. A server that is never run must be closed.
func New(config Config) (*Server, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	config = config.withDefaults()
	s := &Server{
		config:   config,
		log:      config.Logger.With("service", config.Service),
		echo:     echo.New(),
		users:    newUserLimits(config.UserRate, config.UserBurst),
		warnings: rate.Sometimes{First: 10, Interval: time.Second},
	}
	s.echo.HTTPErrorHandler = s.unrouted
	s.allowOrigins()
	var err error
	if s.metrics, err = newMetrics(config.Registry); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	if err := s.route(config.Routes); err != nil {
		return nil, err
	}
	s.base, s.cutOffBase = context.WithCancel(context.Background())
	s.http = &http.Server{
		Handler:           http.HandlerFunc(s.serveHTTP),
		ReadHeaderTimeout: config.ReadHeaderTimeout,
		ReadTimeout:       config.ReadTimeout,
		WriteTimeout:      config.WriteTimeout,
		IdleTimeout:       config.IdleTimeout,
		MaxHeaderBytes:    config.MaxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return s.base },
		// OPTIONS * is no route either.
		DisableGeneralOptionsHandler: true,
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	s.http.Protocols, s.http.HTTP2 = protocols, &http.HTTP2Config{MaxConcurrentStreams: maxStreams}
	if config.CertFile != "" {
		if s.certificate, err = openCertificate(config.CertFile, config.KeyFile); err != nil {
			return nil, err
		}
		s.http.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: s.certificate.get}
	}
	if s.listener, err = net.Listen("tcp", config.Listen); err != nil {
		return nil, fmt.Errorf("--listen %s: %w", config.Listen, err)
	}
	return s, nil
}

// Addr is the address that the server listens on.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Echo is for what is no route of the contract, such as a page of static files.
// It must not be changed once Run was called.
func (s *Server) Echo() *echo.Echo { return s.echo }

// Close ends a server that was never run.
func (s *Server) Close() error {
	s.cutOffBase()
	return s.listener.Close()
}

// Run serves until ctx ends, and then shuts down: /readyz says so at once,
// requests go on being accepted for DrainDelay, so that load balancers notice,
// and those in flight are given ShutdownGrace to end. What is not done by then is
// cut off, which is an error.
func (s *Server) Run(ctx context.Context) error {
	defer s.cutOffBase()
	var background sync.WaitGroup
	defer background.Wait()
	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	if s.certificate != nil {
		background.Go(func() { s.certificate.watch(watching, s.log) })
	}
	served := make(chan error, 1)
	background.Go(func() { served <- s.serve() })
	s.log.Info("listening", "address", s.Addr().String())
	select {
	case err := <-served:
		return fmt.Errorf("serve %s: %w", s.Addr(), err)
	case <-ctx.Done():
	}
	return s.shutDown(served)
}

func (s *Server) serve() error {
	if s.certificate != nil {
		return s.http.ServeTLS(s.listener, "", "")
	}
	return s.http.Serve(s.listener)
}

func (s *Server) shutDown(served <-chan error) error {
	s.draining.Store(true)
	s.log.Info("shutting down", "drain", s.config.DrainDelay.String(), "grace", s.config.ShutdownGrace.String())
	if s.config.DrainDelay > 0 {
		drained := time.NewTimer(s.config.DrainDelay)
		defer drained.Stop()
		select {
		case err := <-served:
			return fmt.Errorf("serve %s: %w", s.Addr(), err)
		case <-drained.C:
		}
	}
	grace, cancel := context.WithTimeout(s.base, s.config.ShutdownGrace)
	defer cancel()
	err := s.http.Shutdown(grace)
	if err == nil {
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve %s: %w", s.Addr(), err)
		}
		return nil
	}
	return errors.Join(
		fmt.Errorf("shutdown: %d requests were cut off after %v: %w", s.inFlight.Load(), s.config.ShutdownGrace, err),
		s.http.Close(),
	)
}
