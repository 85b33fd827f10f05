package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seenby/seenby/services/contract"
)

// What is used where a Config has 0.
const (
	DefaultReadHeaderTimeout = 5 * time.Second
	DefaultReadTimeout       = 30 * time.Second
	DefaultIdleTimeout       = 2 * time.Minute
	DefaultRequestTimeout    = 10 * time.Second
	DefaultMaxHeaderBytes    = 64 << 10
	DefaultMaxInFlight       = 4096
	DefaultShutdownGrace     = 15 * time.Second
	// DefaultWriteTime is what the write time-out has beyond those of reading and
	// answering, as it begins with them.
	DefaultWriteTime = 15 * time.Second
	// DefaultUserRate is what the contract says; it is used by flag, not where a
	// Config has 0.
	DefaultUserRate = 50
)

// maxUserRate is far from where the arithmetic of rates overflows, and beyond
// what a process answers.
const maxUserRate = 1_000_000_000

// What Validate finds wrong, each with the flag to set right.
var (
	ErrListen       = errors.New("--listen must be host:port, such as 127.0.0.1:8080 or :8080")
	ErrTLSPair      = errors.New("--tls-cert and --tls-key must be given together")
	ErrTimeout      = errors.New("time-outs must be 0 (the default) or more")
	ErrWriteTimeout = errors.New("the write time-out must be longer than the request time-out, or answers are cut off")
	ErrOrigin       = errors.New("--cors-origins must be scheme, host and port, such as https://chat.example, or *")
	ErrRate         = errors.New("--user-rate must be from 0 to 1000000000, and --user-burst 0 or more")
	ErrLimits       = errors.New("the limits of headers and of requests in flight must be 0 (the default) or more")
	// ErrIncomplete is for the program that forgot to set something.
	ErrIncomplete = errors.New("server: Logger, Registry, Ready and, unless all routes are public, Authenticate must be set")
)

// Config is what a server needs. Time-outs and limits of 0 stand for the
// defaults above.
type Config struct {
	// Listen is host:port; port 0 lets the kernel choose.
	Listen string
	// Service names the process in logs: "ingest", "projector" ….
	Service  string
	Logger   *slog.Logger
	Registry *prometheus.Registry
	// Routes is the whole table but /livez, /readyz and /metrics, which every
	// server has.
	Routes []Route
	// Authenticate tells who sends a request, or refuses it with a 401.
	Authenticate func(*http.Request) (contract.Caller, *contract.Problem)
	// Ready returns nil, or why the process should get no requests. It is called
	// for each /readyz and must be quick.
	Ready func() error

	// CertFile and KeyFile switch TLS on. They are read again when they change. HTTP/2
	// is spoken with TLS and, to clients that begin with it (h2c), without.
	CertFile, KeyFile string

	ReadHeaderTimeout time.Duration
	// ReadTimeout is for a whole request, WriteTimeout from the end of its headers
	// to the end of the answer.
	ReadTimeout, WriteTimeout time.Duration
	IdleTimeout               time.Duration
	// RequestTimeout ends the context that a handler gets.
	RequestTimeout time.Duration
	MaxHeaderBytes int
	// MaxInFlight is how many requests may be in flight; more are answered
	// overloaded. Health and metrics are not counted.
	MaxInFlight int
	// UserRate is how many requests a second each user may send to this process,
	// 0 for any number; UserBurst how many at once, 0 for two seconds' worth.
	// Backends are not limited.
	UserRate  float64
	UserBurst int

	// Origins are those of pages that may ask (CORS); * is any.
	Origins []string

	// DrainDelay is how long requests are accepted after /readyz began to fail.
	// 0 is for processes that nothing balances load over.
	DrainDelay    time.Duration
	ShutdownGrace time.Duration
}

// Validate returns what is wrong with c, or nil.
func (c Config) Validate() error {
	if c.Logger == nil || c.Registry == nil || c.Ready == nil {
		return ErrIncomplete
	}
	for _, r := range c.Routes {
		if r.Access != Public && c.Authenticate == nil {
			return ErrIncomplete
		}
	}
	if !isAddress(c.Listen) {
		return fmt.Errorf("%w, not %q", ErrListen, c.Listen)
	}
	for _, origin := range c.Origins {
		if origin != "*" && !isOrigin(origin) {
			return fmt.Errorf("%w, not %q", ErrOrigin, origin)
		}
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		return ErrTLSPair
	}
	if min(c.ReadHeaderTimeout, c.ReadTimeout, c.WriteTimeout, c.IdleTimeout, c.RequestTimeout, c.DrainDelay, c.ShutdownGrace) < 0 {
		return ErrTimeout
	}
	if d := c.withDefaults(); d.WriteTimeout <= d.RequestTimeout {
		return fmt.Errorf("%w: %v and %v", ErrWriteTimeout, d.WriteTimeout, d.RequestTimeout)
	}
	// The comparison is false for NaN.
	if !(c.UserRate >= 0) || c.UserRate > maxUserRate || c.UserBurst < 0 {
		return ErrRate
	}
	if min(c.MaxHeaderBytes, c.MaxInFlight) < 0 {
		return ErrLimits
	}
	return nil
}

// isAddress says whether s is host:port, of a port that there is. Whether the
// host is this machine's is for the listener to find out.
func isAddress(s string) bool {
	_, port, err := net.SplitHostPort(s)
	if err == nil {
		// By name or number; names are looked up in a local file, which needs no
		// deadline.
		_, err = net.DefaultResolver.LookupPort(context.Background(), "tcp", port)
	}
	return err == nil
}

func (c Config) withDefaults() Config {
	durations := []struct {
		to    *time.Duration
		value time.Duration
	}{
		{&c.ReadHeaderTimeout, DefaultReadHeaderTimeout},
		{&c.ReadTimeout, DefaultReadTimeout},
		{&c.IdleTimeout, DefaultIdleTimeout},
		{&c.RequestTimeout, DefaultRequestTimeout},
		{&c.ShutdownGrace, DefaultShutdownGrace},
	}
	for _, d := range durations {
		if *d.to == 0 {
			*d.to = d.value
		}
	}
	if c.WriteTimeout == 0 {
		c.WriteTimeout = c.ReadTimeout + c.RequestTimeout + DefaultWriteTime
	}
	if c.MaxHeaderBytes == 0 {
		c.MaxHeaderBytes = DefaultMaxHeaderBytes
	}
	if c.MaxInFlight == 0 {
		c.MaxInFlight = DefaultMaxInFlight
	}
	return c
}
