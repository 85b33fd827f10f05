package bench

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/seenby/seenby/events/topic"
	"github.com/seenby/seenby/services/auth"
	"github.com/seenby/seenby/services/ingest"
	"github.com/seenby/seenby/services/process"
	"github.com/seenby/seenby/services/projector"
	"github.com/seenby/seenby/services/query"
	"github.com/seenby/seenby/services/server"
)

// serveTask has a child be ingest, and a projector and query too if there is a
// directory for the state, with the settings that their flags have by default.
type serveTask struct {
	// Keys is a file that signs tokens, and the secret between query and projector.
	Keys string
	// Data is where the projector keeps its state; "" for ingest alone.
	Data string
	// Procs is how many cores it has; 0 for all.
	Procs int
}

// serving is the first line that a server prints.
type serving struct {
	Address string `json:"address"`
}

// generation is that of all logs here: none ever loses a record.
const generation = 1

// run serves until ctx ends.
func (t *serveTask) run(ctx context.Context, at topic.Connection, stdout io.Writer) (any, error) {
	runtime.GOMAXPROCS(t.Procs) // which 0 leaves alone
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	registry := prometheus.NewRegistry()
	keys, err := auth.OpenKeys(t.Keys)
	if err != nil {
		return nil, err
	}
	verifier, err := auth.NewVerifier(auth.VerifierConfig{Keys: keys, Leeway: auth.Leeway, Now: time.Now})
	if err != nil {
		return nil, err
	}
	writes, err := ingest.New(ingest.Config{
		Connection: at, Generation: generation, Retention: retention, Logger: logger, Registerer: registry, Now: time.Now,
	})
	if err != nil {
		return nil, err
	}
	routes, ready, behind := writes.Routes(), writes.Ready, []process.Actor{writes.Run}
	if t.Data != "" {
		state, pulls, err := t.reading(at, keys, logger, registry)
		if err != nil {
			return nil, err
		}
		routes = slices.Concat(routes, pulls.Routes())
		ready = func() error { return errors.Join(writes.Ready(), state.Ready(), pulls.Ready()) }
		behind = append(behind, state.Run, pulls.Run)
	}
	// No rate is set: users are not limited.
	s, err := server.New(server.Config{
		Listen: "127.0.0.1:0", Service: "bench", Logger: logger, Registry: registry,
		Routes: routes, Authenticate: verifier.Authenticate, Ready: ready,
	})
	if err != nil {
		return nil, err
	}
	if err := introduce(stdout, s.Addr()); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return struct{}{}, process.Run(ctx, s.Run, behind...)
}

// reading makes the projector and query, as standalone wires them.
func (t *serveTask) reading(at topic.Connection, secret *auth.Keys, logger *slog.Logger, registry *prometheus.Registry) (*projector.Service, *query.Service, error) {
	state, err := projector.New(projector.Config{
		Connection: at, Generation: generation, Retention: retention, WaitingLimit: projector.DefaultWaitingLimit,
		Copy: "bench", Nodes: 1, Node: 0, DataDir: t.Data,
		MemoryBytes: projector.DefaultMemoryBytes, CacheBytes: projector.DefaultCacheBytes, MemtableBytes: projector.DefaultMemtableBytes,
		FlushBytes: projector.DefaultFlushBytes, FlushEvery: projector.DefaultFlushEvery, MaxWait: projector.DefaultMaxWait,
		PollInterval: projector.DefaultPollInterval, PollWindow: projector.DefaultPollWindow, PollSlowest: projector.DefaultPollSlowest, VisibleTo: projector.Sender,
		Secret: secret, Logger: logger, Registerer: registry, Now: time.Now,
	})
	if err != nil {
		return nil, nil, err
	}
	pulls, err := query.New(query.Config{
		Copies: []query.Copy{{Nodes: []query.Node{{Name: "in this process", Owner: query.InProcess(state)}}}},
		Sealer: secret, OwnerTimeout: query.DefaultOwnerTimeout, StatusEvery: query.DefaultStatusEvery,
		Logger: logger, Registerer: registry, Now: time.Now,
	})
	return state, pulls, err
}

func introduce(stdout io.Writer, at net.Addr) error {
	line, err := json.Marshal(serving{at.String()})
	if err == nil {
		_, err = fmt.Fprintf(stdout, "%s\n", line)
	}
	return err
}

// echoServer is the least that an Echo handler does for a receipt: it binds the
// JSON and answers some like ingest's.
func echoServer(ctx context.Context, stdout io.Writer) (any, error) {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	type receipt struct {
		MessageID string    `json:"message_id"`
		ReaderID  string    `json:"reader_id"`
		ReadAt    time.Time `json:"read_at"`
	}
	type answer struct {
		Accepted int    `json:"accepted"`
		Position string `json:"position"`
	}
	e.POST("/v1/receipts", func(c echo.Context) error {
		var asked struct {
			Receipts []receipt `json:"receipts"`
		}
		if err := c.Bind(&asked); err != nil {
			return err
		}
		return c.JSON(http.StatusAccepted, answer{len(asked.Receipts), "UGSK3mQBKtf4Ag8EhcQ2"})
	})
	e.GET("/readyz", func(c echo.Context) error { return c.NoContent(http.StatusOK) })
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening on loopback: %w", err)
	}
	return struct{}{}, serveEcho(ctx, e, listener, stdout)
}

// serveEcho says where it listens, and serves until ctx ends.
func serveEcho(ctx context.Context, e *echo.Echo, listener net.Listener, stdout io.Writer) error {
	if err := introduce(stdout, listener.Addr()); err != nil {
		return errors.Join(err, listener.Close())
	}
	e.Listener = listener
	context.AfterFunc(ctx, func() { _ = e.Close() }) // which Start tells
	if err := e.Start(""); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
}

// served is a server in a child, and how to reach it.
type served struct {
	*child
	address string
}

// serve starts a server and waits until it is ready.
func (c Config) serve(ctx context.Context, t task) (*served, error) {
	command, err := c.command(t)
	if err != nil {
		return nil, err
	}
	p, err := c.start(ctx, command, nil)
	if err != nil {
		return nil, err
	}
	out := bufio.NewReader(p.stdout)
	p.stdout = out
	line, err := out.ReadBytes('\n')
	var s serving
	if err == nil {
		err = json.Unmarshal(bytes.TrimSpace(line), &s)
	}
	if err == nil {
		err = awaitReady(ctx, s.Address)
	}
	if err != nil {
		_, ended := p.stop()
		return nil, errors.Join(fmt.Errorf("%w: the server does not get ready: %w", ErrChild, err), ended)
	}
	return &served{p, s.Address}, nil
}

// readyTimeout is how long a server may take to reach Kafka.
const readyTimeout = 60 * time.Second

func awaitReady(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		c, err := dial(ctx, address)
		if err != nil {
			return err
		}
		status, body, err := c.ask(request(http.MethodGet, "/readyz", "", nil))
		c.close()
		if err == nil && status == http.StatusOK {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("/readyz: %d %s", status, body)
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// keyBytes is the size of the key that signs tokens.
const keyBytes = 32

// keys makes a file with a new key in a directory.
func newKeys(dir string) (string, *auth.Keys, error) {
	key := make([]byte, keyBytes)
	_, _ = rand.Read(key) // it never fails
	name := filepath.Join(dir, "keys")
	if err := os.WriteFile(name, []byte(base64.RawURLEncoding.EncodeToString(key)+"\n"), 0o600); err != nil {
		return "", nil, fmt.Errorf("making a key: %w", err)
	}
	keys, err := auth.OpenKeys(name)
	return name, keys, err
}

// tokenFor is how long tokens are valid: longer than any measurement.
const tokenFor = 24 * time.Hour

func (c Config) token(keys *auth.Keys, subject, scope string) (string, error) {
	return auth.Mint(keys, auth.Grant{Subject: subject, Scope: scope, IssuedAt: c.Now(), TTL: tokenFor})
}
