package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// JWKSEvery is how often a key set is fetched again, give or take a tenth, so
	// that processes do not all ask at once. After a failure it is a tenth of that.
	JWKSEvery = 5 * time.Minute
	// JWKSApart is how soon after a fetch another one may be made because a token
	// names a key that is not in the set: whoever makes up names must not make us
	// ask for each.
	JWKSApart = 10 * time.Second
	// jwksTimeout bounds a fetch, and how long a token whose key is not known waits
	// for one.
	jwksTimeout = 3 * time.Second
)

// ErrJWKS is wrapped by everything that is wrong with a key set, and with fetching
// it.
var ErrJWKS = errors.New("bad key set")

// JWKS are the public keys of a key set (RFC 7517), from a file or a URL. A file is
// read again as [Keys] are; a URL is fetched again every [JWKSEvery], and when a
// token names a key that is not known. What cannot be used leaves the old keys in
// force. All methods may be called concurrently.
type JWKS struct {
	source  string
	fetch   func(context.Context) ([]byte, error)
	watched bool // it is a file
	// every and apart are JWKSEvery and JWKSApart, but in tests.
	every, apart time.Duration
	now          func() time.Time

	current atomic.Pointer[publicKeySet]
	failure failure

	mu      sync.Mutex
	fetched time.Time     // when a fetch was last begun
	flight  chan struct{} // closed when the fetch that is under way ends
	asked   chan struct{} // has one if a fetch is wanted
}

// OpenJWKSFile reads a key set from a file. Its error wraps [ErrJWKS].
func OpenJWKSFile(path string) (*JWKS, error) {
	s := newJWKS(path, func(context.Context) ([]byte, error) { return readKeyFile(path, MaxKeySet) })
	s.watched = true
	return s, s.load(context.Background())
}

// OpenJWKS returns the key set at a URL: https, or http on loopback. It is empty
// until Run has fetched it. Its error wraps [ErrJWKS].
func OpenJWKS(address string) (*JWKS, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && (u.Scheme != "http" || !onLoopback(u.Hostname())) {
		return nil, fmt.Errorf("%w: %q must be an https URL, or http on loopback: whoever answers for it decides who is let in", ErrJWKS, address)
	}
	client := &http.Client{Timeout: jwksTimeout, Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, ResponseHeaderTimeout: jwksTimeout, ForceAttemptHTTP2: true,
	}, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if r.URL.Scheme != u.Scheme || len(via) > 3 {
			return errors.New("redirected elsewhere")
		}
		return nil
	}}
	return newJWKS(address, func(ctx context.Context) ([]byte, error) { return get(ctx, client, address) }), nil
}

func onLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func newJWKS(source string, fetch func(context.Context) ([]byte, error)) *JWKS {
	s := &JWKS{source: source, fetch: fetch, every: JWKSEvery, apart: JWKSApart, now: time.Now, asked: make(chan struct{}, 1)}
	s.current.Store(new(publicKeySet))
	return s
}

func get(ctx context.Context, client *http.Client, address string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // It is read, or of no use.
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("answered %s", resp.Status)
	}
	content, err := io.ReadAll(io.LimitReader(resp.Body, MaxKeySet+1))
	if err != nil {
		return nil, err
	}
	return content, nil
}

// Run keeps the keys up to date until ctx ends. What cannot be used is logged once
// for each reason; [JWKS.Err] tells it too.
func (s *JWKS) Run(ctx context.Context, log *slog.Logger) {
	if s.watched {
		watch(ctx, log, watching{
			path: s.source, read: func() ([]byte, error) { return s.fetch(ctx) },
			inForce: func() []byte { return s.current.Load().content }, use: s.use, note: s.failure.note, count: s.Len,
		})
		return
	}
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		case <-s.asked:
		}
		before := s.Len()
		err := s.refetch(ctx)
		if ctx.Err() != nil {
			return
		}
		every := s.every
		if err != nil {
			every /= 10
		} else if before == 0 {
			log.Info("key set fetched", "url", s.source, "keys", s.Len())
		}
		if s.failure.note(err) && err != nil {
			log.Error("the old keys stay in force", "err", err)
		}
		next.Reset(every - every/10 + rand.N(every/5+1))
	}
}

// refetch fetches the set, and tells those who wait for that.
func (s *JWKS) refetch(ctx context.Context) error {
	s.mu.Lock()
	s.fetched = s.now()
	if s.flight == nil {
		s.flight = make(chan struct{})
	}
	s.mu.Unlock()
	err := s.load(ctx)
	s.mu.Lock()
	close(s.flight)
	s.flight = nil
	s.mu.Unlock()
	return err
}

func (s *JWKS) load(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, jwksTimeout)
	defer cancel()
	content, err := s.fetch(ctx)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrJWKS, s.source, err)
	}
	if s.Len() > 0 && bytes.Equal(content, s.current.Load().content) {
		return nil
	}
	return s.use(content)
}

func (s *JWKS) use(content []byte) error {
	set, err := parseKeySet(content)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrJWKS, s.source, err)
	}
	s.current.Store(set)
	return nil
}

// missed is told of a token whose key is not in the set. It returns when the set has
// been fetched anew, or at once if that may not be done again yet, or is a file's.
func (s *JWKS) missed(ctx context.Context) {
	if s.watched {
		return
	}
	s.mu.Lock()
	flight := s.flight
	if flight == nil {
		if s.now().Sub(s.fetched) < s.apart {
			s.mu.Unlock()
			return
		}
		s.fetched = s.now()
		flight = make(chan struct{})
		s.flight = flight
		select {
		case s.asked <- struct{}{}:
		default:
		}
	}
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, jwksTimeout)
	defer cancel()
	select {
	case <-flight:
	case <-ctx.Done():
	}
}

// Err is what is wrong with the set as it was last read, or nil. The keys that are in
// force are good whatever it says.
func (s *JWKS) Err() error { return s.failure.Err() }

// Ready is nil once there are keys.
func (s *JWKS) Ready() error {
	if s.Len() > 0 {
		return nil
	}
	if err := s.Err(); err != nil {
		return err
	}
	return fmt.Errorf("%w: %s: not fetched yet", ErrJWKS, s.source)
}

// Len is how many keys are in force.
func (s *JWKS) Len() int { return len(s.current.Load().keys) }

// Register adds the metrics of the set to reg.
func (s *JWKS) Register(reg prometheus.Registerer) error {
	return registerKeys(reg, "jwks", s.Len, s.Err)
}
