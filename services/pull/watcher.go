package pull

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// The defaults of [Config].
const (
	DefaultInterval = 2 * time.Second
	DefaultWindow   = 20 * time.Second
	DefaultTimeout  = 10 * time.Second
	DefaultPageSize = 2000
	DefaultKeep     = 1000
)

// ErrConfig is wrapped by what [New] returns for a setting that cannot be.
var ErrConfig = errors.New("pull: wrong configuration")

// Config is what a [Watcher] is made of. BaseURL and Token are required.
type Config struct {
	// BaseURL is where the contract's paths begin: scheme, host, and a path if
	// they do not begin at the root.
	BaseURL string
	// Token returns the bearer token for the next pull. If refused is not empty,
	// it is the token that the server has just refused: another one is needed,
	// and an error ends all looks. Other errors count as the network's. Token is
	// called by one goroutine at a time, and has Timeout to return. It must not
	// call Close, which waits for it.
	Token func(ctx context.Context, refused string) (string, error)

	// Transport makes the requests; by default http.DefaultTransport. Redirects
	// are not followed, and there are no cookies.
	Transport http.RoundTripper
	// OnChange is called after the view of a message has changed; several changes
	// may be one call. Calls come one at a time. The Watcher does nothing else
	// meanwhile, so it should only note what to repaint. It may call any method
	// but Close.
	OnChange func(messageID string)
	// Timeout bounds each request, its answer included; by default 10 s. A server
	// may take 2 s and more to wait for a position.
	Timeout time.Duration
	// Interval and Window hold until the server says otherwise; by default 2 s
	// and 20 s.
	Interval, Window time.Duration
	// PageSize is how many readers a page may have, 1-2000; by default 2000. The first
	// page of each message, which comes with the others', has 200 at most.
	PageSize int
	// Keep is how many messages that are not being read are remembered, by
	// default 1000; -1 is none. One that is forgotten is pulled in full when it
	// comes back.
	Keep int

	// Clock is the time; by default the system's, sleep included.
	Clock Clock
	// Random returns numbers from 0 to below 1, for the spread of intervals; by
	// default math/rand/v2's. It is called by one goroutine at a time.
	Random func() float64
}

// Message names a message that comes into view.
type Message struct {
	ID string
	// Positions are those of writes that the view must show, such as the one that
	// the PUT of the message returned. They are presented until a pull has taken
	// them into account, eight at a time.
	Positions []string
}

// Watcher keeps the views of any number of messages. All methods may be called
// concurrently.
type Watcher struct {
	fetcher  *fetcher
	clock    Clock
	onChange func(string)

	// nudged has something in it if the schedule may have work.
	nudged  chan struct{}
	stop    func()
	stopped <-chan struct{}

	mu       sync.Mutex
	closed   bool
	schedule schedule
}

// New returns a Watcher that waits for the first [Watcher.Look]. It has to be
// closed.
func New(c Config) (*Watcher, error) {
	if err := c.complete(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	base, err := parseBase(c.BaseURL)
	if err != nil {
		return nil, fmt.Errorf("%w: Config.BaseURL %q: %w", ErrConfig, c.BaseURL, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	w := &Watcher{
		fetcher: &fetcher{
			base: base, token: c.Token, pageSize: c.PageSize, timeout: c.Timeout, clock: c.Clock,
			client: &http.Client{
				Transport:     c.Transport,
				CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			},
		},
		clock: c.Clock, onChange: c.OnChange,
		nudged: make(chan struct{}, 1), stop: cancel, stopped: stopped,
		schedule: schedule{
			interval: c.Interval, window: c.Window, random: c.Random, keep: max(0, c.Keep),
			messages: make(map[string]*watched), changed: make(map[string]struct{}),
		},
	}
	go func() {
		defer close(stopped)
		w.run(ctx)
	}()
	return w, nil
}

// complete puts the defaults in and refuses what is left.
func (c *Config) complete() error {
	c.Timeout = orDefault(c.Timeout, DefaultTimeout)
	c.Interval, c.Window = orDefault(c.Interval, DefaultInterval), orDefault(c.Window, DefaultWindow)
	c.PageSize, c.Keep = orDefault(c.PageSize, DefaultPageSize), orDefault(c.Keep, DefaultKeep)
	if c.Clock == nil {
		c.Clock = newSleepClock()
	}
	if c.Random == nil {
		c.Random = rand.Float64
	}
	if c.OnChange == nil {
		c.OnChange = func(string) {}
	}
	switch {
	case c.Token == nil:
		return errors.New("Config.Token is required")
	case c.Timeout < 0:
		return errors.New("Config.Timeout must be positive")
	case c.Interval < 0 || c.Window < 0 || c.Interval > maxPoll || c.Window > maxPoll:
		return fmt.Errorf("Config.Interval and Config.Window must be positive, and %s at most", maxPoll)
	case c.PageSize < 1 || c.PageSize > DefaultPageSize:
		return fmt.Errorf("Config.PageSize must be 1-%d", DefaultPageSize)
	case c.Keep < -1:
		return errors.New("Config.Keep must be a number of messages, or -1 for none")
	}
	return nil
}

func orDefault[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}

func parseBase(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, errors.Unwrap(err)
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return nil, errors.New("it must begin with http:// or https:// and a host")
	case u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return nil, errors.New("it must have no query, no fragment and no user")
	}
	path, rawPath := strings.TrimRight(u.Path, "/"), strings.TrimRight(u.EscapedPath(), "/")
	return &url.URL{Scheme: u.Scheme, Host: u.Host, Path: path, RawPath: rawPath}, nil
}

// Look says that messages begin to be read. Each gets a look; one that is being
// read already gets none, but its new positions are presented. Where there are
// more than 200, the last ones given are the newest.
func (w *Watcher) Look(messages ...Message) {
	w.change(func(s *schedule, now time.Duration) {
		for _, m := range messages {
			s.enter(m.ID, m.Positions, now)
		}
	})
}

// Leave says that messages are no longer being read. Their looks end at once,
// and so does a request that only they wait for.
func (w *Watcher) Leave(messageIDs ...string) {
	w.change(func(s *schedule, now time.Duration) {
		for _, id := range messageIDs {
			s.leave(id, now)
		}
	})
}

// Refresh begins another look at messages, because the user asks for it. It has
// no effect on messages that are not being read.
func (w *Watcher) Refresh(messageIDs ...string) {
	w.change(func(s *schedule, now time.Duration) {
		for _, id := range messageIDs {
			s.refresh(id, now)
		}
	})
}

// View returns what is known of a message; of one that is not known, only its
// ID. It does not wait for the network.
func (w *Watcher) View(messageID string) View {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.schedule.view(messageID)
}

// Totals returns what all pulls have cost so far.
func (w *Watcher) Totals() Totals {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.schedule.totals
}

// Close ends all looks and waits for what the Watcher has started. Connections
// that are idle by then are the Transport's to keep. Views can
// still be read; everything else is without effect from then on.
func (w *Watcher) Close() {
	w.change(func(s *schedule, _ time.Duration) {
		s.endAll(Closed, nil)
		w.closed = true
	})
	w.stop()
	<-w.stopped
}

func (w *Watcher) change(f func(s *schedule, now time.Duration)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	f(&w.schedule, w.clock.Now())
	w.nudge()
}

func (w *Watcher) nudge() {
	select {
	case w.nudged <- struct{}{}:
	default:
	}
}

// run steps through the schedule until ctx ends.
func (w *Watcher) run(ctx context.Context) {
	var pulls sync.WaitGroup
	defer pulls.Wait()
	for {
		flight, changed, wake := w.step()
		if flight != nil {
			pulls.Go(func() { w.fly(ctx, flight) })
		}
		for id := range changed {
			w.onChange(id)
		}
		stop := wake()
		select {
		case <-w.nudged:
			stop()
		case <-ctx.Done():
			stop()
			return
		}
	}
}

// step steps once. It returns the flight to make, if there is one, the messages
// whose views have changed, and what sets the timer for the next step.
func (w *Watcher) step() (f *flight, changed map[string]struct{}, wake func() (stop func() bool)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := &w.schedule
	f = s.step(w.clock.Now())
	changed, s.changed = s.changed, make(map[string]struct{})
	at, ok := s.wake()
	return f, changed, func() func() bool {
		if !ok {
			return func() bool { return true }
		}
		return w.clock.AfterFunc(max(0, at-w.clock.Now()), w.nudge)
	}
}
