package server_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/seenby/seenby/services/contract"
	"github.com/seenby/seenby/services/server"
)

// Whatever is in flight when the end comes gets its answer.
func TestShutdownWaits(t *testing.T) {
	g := newGate()
	s := start(t, []server.Route{{Method: "GET", Path: "/waits", Handler: g.handle}}, nil)
	done := make(chan result, 1)
	go func() { done <- s.ask(t, "GET", "/waits", "user") }()
	<-g.entered
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop() }()
	// The listener is closed while the request still waits.
	for {
		conn, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			break
		}
		conn.Close()
	}
	close(g.let)
	if got := <-done; got.body != "done" {
		t.Errorf("got %d %s", got.status, got.body)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// While load balancers learn that the process is not ready, it still serves,
// and asks for no further request on the same connection.
func TestDrain(t *testing.T) {
	s := start(t, table, func(c *server.Config) { c.DrainDelay = 2 * time.Second })
	if got := s.ask(t, "GET", "/readyz", ""); got.status != 200 {
		t.Fatalf("got %d %s", got.status, got.body)
	}
	conn, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop() }()
	for s.ask(t, "GET", "/readyz", "").status != 503 {
	}
	if got := s.ask(t, "GET", "/readyz", ""); got.body != "not ready: shutting down\n" {
		t.Errorf("got %s", got.body)
	}
	if _, err := io.WriteString(conn, "GET /v1/messages/a/receipts HTTP/1.1\r\nHost: x\r\nAuthorization: user\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if got := read(t, bufio.NewReader(conn), "GET"); got.body != "a" || !got.last {
		t.Errorf("got %d %v %s", got.status, got.header, got.body)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// A handler that does not end in time is told so by its context, and cut off.
func TestGraceIsBounded(t *testing.T) {
	entered, ended := make(chan struct{}), make(chan error, 1)
	s := start(t, []server.Route{{Method: "GET", Path: "/waits", Handler: func(ctx context.Context, _ *server.Request) (contract.Answer, *contract.Problem) {
		close(entered)
		<-ctx.Done()
		ended <- ctx.Err()
		return text(""), nil
	}}}, func(c *server.Config) { c.ShutdownGrace = 20 * time.Millisecond })
	conn, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /waits HTTP/1.1\r\nHost: x\r\nAuthorization: user\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-entered
	if err := s.stop(); err == nil || !strings.Contains(err.Error(), "1 requests were cut off") {
		t.Errorf("got %v", err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the handler got %v", err)
	}
}

func TestListenerThatFails(t *testing.T) {
	s := start(t, table, nil)
	taken := s.Addr().String()
	config := server.Config{Listen: taken}
	other := start(t, table, func(c *server.Config) { config = *c })
	config.Listen, config.Registry = taken, newRegistry()
	if _, err := server.New(config); err == nil || !strings.Contains(err.Error(), "--listen "+taken) {
		t.Errorf("an address in use: %v", err)
	}
	if err := other.Close(); err != nil {
		t.Error(err)
	}
	if err := other.wait(); err == nil {
		t.Error("a server without a listener says nothing")
	}
}
