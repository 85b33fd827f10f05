package broker

import (
	"context"
	"net"
	"sync"
)

// Address is what the broker gives itself out as. Nothing resolves it.
const Address = "embedded:9092"

// network connects the broker and its clients through memory. It is the broker's
// listener.
type network struct {
	incoming chan net.Conn
	closed   chan struct{}
	close    sync.Once

	mu    sync.Mutex
	conns map[*conn]struct{}
}

func newNetwork() *network {
	return &network{incoming: make(chan net.Conn), closed: make(chan struct{}), conns: make(map[*conn]struct{})}
}

// dial is kgo's dialer: whatever host is named, this broker answers.
func (n *network) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	c := &conn{Conn: server, network: n}
	err := net.ErrClosed
	if n.add(c) {
		select {
		case n.incoming <- c:
			return client, nil
		case <-n.closed:
		case <-ctx.Done():
			err = ctx.Err()
		}
		_ = c.Close() // a pipe's Close does not fail
	}
	return nil, &net.OpError{Op: "dial", Net: "memory", Addr: n.Addr(), Err: err}
}

// add notes a connection, unless all were closed.
func (n *network) add(c *conn) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.conns == nil {
		return false
	}
	n.conns[c] = struct{}{}
	return true
}

// Accept is the broker's.
func (n *network) Accept() (net.Conn, error) {
	select {
	case c := <-n.incoming:
		return c, nil
	case <-n.closed:
		return nil, net.ErrClosed
	}
}

// Close ends the listening; what is connected stays so.
func (n *network) Close() error {
	n.close.Do(func() { close(n.closed) })
	return nil
}

// Addr is where clients think that the broker is.
func (n *network) Addr() net.Addr { return addr{} }

func (n *network) closeAll() {
	_ = n.Close() // does not fail
	n.mu.Lock()
	conns := n.conns
	n.conns = nil
	n.mu.Unlock()
	for c := range conns {
		_ = c.Conn.Close() // a pipe's Close does not fail
	}
}

// conn is the broker's end of a connection.
type conn struct {
	net.Conn
	network *network
}

// Close forgets the connection.
func (c *conn) Close() error {
	c.network.mu.Lock()
	delete(c.network.conns, c)
	c.network.mu.Unlock()
	return c.Conn.Close()
}

type addr struct{}

func (addr) Network() string { return "memory" }
func (addr) String() string  { return Address }
