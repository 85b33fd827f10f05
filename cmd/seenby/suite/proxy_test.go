package suite

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// proxy stands between seenby and Kafka, so that a test can take Kafka away from
// its own processes and from nobody else's. Brokers tell clients where they
// listen; the proxy puts its own addresses into what they say.
type proxy struct {
	// brokers are the addresses for seenby, in the order of Kafka's.
	brokers   []string
	upstream  map[string]string // the brokers' addresses by the proxy's
	advertise map[string]string // the proxy's addresses by the brokers'

	ctx  context.Context
	done sync.WaitGroup

	mu    sync.Mutex
	mode  mode
	pass  chan struct{} // closed unless mode is hanging
	conns map[net.Conn]struct{}
}

// mode is what becomes of connections.
type mode int

const (
	// passing: Kafka is there.
	passing mode = iota
	// refusing: connections are closed at once.
	refusing
	// hanging: nothing comes through, and nobody is told.
	hanging
)

func newProxy(t *testing.T, k *kafka) *proxy {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p := &proxy{
		upstream: make(map[string]string), advertise: make(map[string]string),
		ctx: ctx, pass: make(chan struct{}), conns: make(map[net.Conn]struct{}),
	}
	close(p.pass)
	var listeners []net.Listener
	for _, broker := range k.brokers {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners = append(listeners, l)
		p.brokers = append(p.brokers, l.Addr().String())
		p.upstream[l.Addr().String()] = broker
		p.advertise[broker] = l.Addr().String()
	}
	for _, l := range listeners {
		p.done.Go(func() { p.accept(l) })
	}
	t.Cleanup(func() {
		cancel()
		for _, l := range listeners {
			_ = l.Close()
		}
		p.become(refusing)
		p.done.Wait()
	})
	return p
}

// become changes what the proxy does with connections, those that exist too.
func (p *proxy) become(m mode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mode == hanging && m != hanging {
		close(p.pass)
	}
	if p.mode != hanging && m == hanging {
		p.pass = make(chan struct{})
	}
	p.mode = m
	if m != hanging {
		// What hung has long been given up by the client.
		for c := range p.conns {
			_ = c.Close()
		}
	}
}

// enter registers a connection, unless connections are refused.
func (p *proxy) enter(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mode == refusing {
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *proxy) leave(c net.Conn) {
	p.mu.Lock()
	delete(p.conns, c)
	p.mu.Unlock()
	_ = c.Close()
}

// gate returns when traffic may pass.
func (p *proxy) gate() error {
	p.mu.Lock()
	pass := p.pass
	p.mu.Unlock()
	select {
	case <-pass:
		return nil
	case <-p.ctx.Done():
		return p.ctx.Err()
	}
}

func (p *proxy) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		p.done.Go(func() { p.serve(c, p.upstream[l.Addr().String()]) })
	}
}

// asked is a request whose answer has not come yet. Answers come in the order of
// the requests.
type asked struct {
	key, version int16
}

func (p *proxy) serve(client net.Conn, upstream string) {
	if !p.enter(client) {
		_ = client.Close()
		return
	}
	defer p.leave(client)
	if p.gate() != nil {
		return
	}
	broker, err := net.Dial("tcp", upstream)
	if err != nil || !p.enter(broker) {
		return
	}
	defer p.leave(broker)
	pending := make(chan asked, 1000)
	var pumps sync.WaitGroup
	pumps.Go(func() {
		defer broker.Close() //nolint:errcheck // It ends the other pump.
		defer close(pending)
		p.pump(client, broker, func(frame []byte) ([]byte, error) {
			if len(frame) < 8 {
				return nil, io.ErrUnexpectedEOF
			}
			pending <- asked{int16(binary.BigEndian.Uint16(frame)), int16(binary.BigEndian.Uint16(frame[2:]))}
			return frame, nil
		})
	})
	pumps.Go(func() {
		defer client.Close() //nolint:errcheck // It ends the other pump.
		p.pump(broker, client, func(frame []byte) ([]byte, error) { return p.rewrite(frame, <-pending) })
	})
	pumps.Wait()
}

// pump passes frames on: four bytes of length, and so many more.
func (p *proxy) pump(from io.Reader, to io.Writer, change func([]byte) ([]byte, error)) {
	var size [4]byte
	for {
		if _, err := io.ReadFull(from, size[:]); err != nil {
			return
		}
		frame := make([]byte, binary.BigEndian.Uint32(size[:]))
		if _, err := io.ReadFull(from, frame); err != nil {
			return
		}
		frame, err := change(frame)
		if err != nil || p.gate() != nil {
			return
		}
		if _, err := to.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...)); err != nil {
			return
		}
	}
}

// rewrite puts the proxy's addresses into an answer that names brokers.
func (p *proxy) rewrite(frame []byte, to asked) ([]byte, error) {
	resp := kmsg.ResponseForKey(to.key)
	switch resp.(type) {
	case *kmsg.ProduceResponse, *kmsg.FetchResponse, *kmsg.MetadataResponse, *kmsg.FindCoordinatorResponse, *kmsg.DescribeClusterResponse:
	default:
		return frame, nil
	}
	resp.SetVersion(to.version)
	header := 4
	if resp.IsFlexible() {
		header = 5 // The correlation ID, and no tags.
	}
	if len(frame) < header || header == 5 && frame[4] != 0 {
		return nil, fmt.Errorf("an answer to request %d in a form that the proxy does not know", to.key)
	}
	if err := resp.ReadFrom(frame[header:]); err != nil {
		return nil, err
	}
	switch r := resp.(type) {
	case *kmsg.ProduceResponse:
		for i := range r.Brokers {
			p.mine(&r.Brokers[i].Host, &r.Brokers[i].Port)
		}
	case *kmsg.FetchResponse:
		for i := range r.Brokers {
			p.mine(&r.Brokers[i].Host, &r.Brokers[i].Port)
		}
	case *kmsg.MetadataResponse:
		for i := range r.Brokers {
			p.mine(&r.Brokers[i].Host, &r.Brokers[i].Port)
		}
	case *kmsg.FindCoordinatorResponse:
		p.mine(&r.Host, &r.Port)
		for i := range r.Coordinators {
			p.mine(&r.Coordinators[i].Host, &r.Coordinators[i].Port)
		}
	case *kmsg.DescribeClusterResponse:
		for i := range r.Brokers {
			p.mine(&r.Brokers[i].Host, &r.Brokers[i].Port)
		}
	}
	return resp.AppendTo(frame[:header:header]), nil
}

// mine changes a broker's address to the proxy's for it.
func (p *proxy) mine(host *string, port *int32) {
	address, found := p.advertise[net.JoinHostPort(*host, strconv.Itoa(int(*port)))]
	if !found {
		return
	}
	h, s, err := net.SplitHostPort(address)
	if err != nil {
		return
	}
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		return
	}
	*host, *port = h, int32(n)
}
