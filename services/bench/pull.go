package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/seenby/seenby/events/topic"
	"github.com/seenby/seenby/services/auth"
)

// PullConfig says what is pulled, and how hard.
type PullConfig struct {
	Config
	// Messages are in groups of smallGroup; Lists are messages of a group of
	// listReaders, all of whom have read them.
	Messages, Lists int
	// Senders are as many people, who have a token each.
	Senders int
	// Requests are made in each turn, over Clients connections.
	Requests, Clients int
	// Procs is how many cores the load generator uses; the servers use one.
	Procs int
	// Seconds is how long delays are measured in each turn, at half of the rate that
	// the server was found to have.
	Seconds int
	Seed    uint64
}

const (
	smallGroup, smallReads = 50, 20
	listReaders            = 2000
	// onScreen is how many messages a batch has.
	onScreen = 50
	// asked is how many requests are written out, to be used again and again.
	asked = 20_000
	// zipf is the exponent of how popular messages are: few are looked at often.
	zipf = 1.1
)

// PullReport is what came of it. Rates are requests a second, on one core.
type PullReport struct {
	Messages int        `json:"messages"`
	Lists    int        `json:"lists"`
	Senders  int        `json:"senders"`
	Clients  int        `json:"clients"`
	Procs    int        `json:"load_generator_gomaxprocs"`
	Cases    []PullCase `json:"cases"`
}

// PullCase is one kind of pull, beside an Echo handler without middleware that answers
// a constant.
type PullCase struct {
	Name string `json:"name"`
	// Bytes is the size of an answer's body, Baseline what the constant is.
	Bytes    int      `json:"bytes"`
	Baseline string   `json:"baseline"`
	Pull     Measured `json:"pull"`
	Echo     Measured `json:"bare_echo"`
	Ratio    float64  `json:"ratio"`
	// The delays' 99th percentiles are milliseconds, at half load; none where they are
	// not measured.
	PullP99  Measured `json:"pull_p99_ms"`
	EchoP99  Measured `json:"bare_echo_p99_ms"`
	P99Ratio float64  `json:"p99_ratio"`

	requests [][]byte
	constant []byte
	want     int
	once     bool // each request is made once
}

// Pull measures what one core of projector and query answers, beside what a bare Echo
// handler does.
func Pull(ctx context.Context, c PullConfig) (Report, error) {
	if err := errors.Join(c.Validate(), c.check()); err != nil {
		return Report{}, err
	}
	report := c.report(ctx, "pull")
	report.Pull = &PullReport{Messages: c.Messages, Lists: c.Lists, Senders: c.Senders, Clients: c.Clients, Procs: c.Procs}
	err := c.withTopic(ctx, func(at topic.Connection) error { return c.measure(ctx, at, report.Pull) })
	return report, err
}

func (c PullConfig) check() error {
	for _, n := range []int{c.Messages - 2*onScreen + 1, c.Lists, c.Senders, c.Requests, c.Clients, c.Procs, c.Seconds} {
		if n < 1 {
			return fmt.Errorf("%w: --messages must be %d or more, and --lists, --senders, --requests, --clients, --procs and --seconds 1 or more", ErrConfig, 2*onScreen)
		}
	}
	if c.Lists < c.Turns {
		return fmt.Errorf("%w: --lists must be --turns or more: each turn asks for some that were not asked for before", ErrConfig)
	}
	return nil
}

func (c PullConfig) measure(ctx context.Context, at topic.Connection, r *PullReport) (err error) {
	dir, remove, err := c.scratch()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	file, keys, err := newKeys(dir)
	if err != nil {
		return err
	}
	seenby, err := c.serve(ctx, task{Role: roleServe, Connection: at, Serve: &serveTask{Keys: file, Data: filepath.Join(dir, "state"), Procs: 1}})
	if err != nil {
		return err
	}
	defer func() {
		_, ended := seenby.stop()
		err = errors.Join(err, ended)
	}()
	bare, err := c.serve(ctx, task{Role: roleConstant})
	if err != nil {
		return err
	}
	defer func() {
		_, ended := bare.stop()
		err = errors.Join(err, ended)
	}()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(c.Procs))
	f, err := c.fill(ctx, seenby.address, keys)
	if err != nil {
		return err
	}
	r.Cases = f.cases()
	for i := range r.Cases {
		if err := c.sample(ctx, seenby.address, &r.Cases[i]); err != nil {
			return err
		}
		r.Cases[i].constant = constantOf(r.Cases[i].Baseline, r.Cases[0].Bytes, f.messages[0].token)
	}
	for turn := range c.Turns {
		for i := range r.Cases {
			if err := c.turn(ctx, seenby.address, bare.address, &r.Cases[i], turn); err != nil {
				return fmt.Errorf("%s: %w", r.Cases[i].Name, err)
			}
		}
	}
	return nil
}

// turn measures one case once: seenby, and the bare handler.
func (c PullConfig) turn(ctx context.Context, seenby, bare string, k *PullCase, turn int) error {
	requests, n := k.requests, c.Requests
	if k.once {
		size := len(requests) / c.Turns
		requests, n = requests[turn*size:(turn+1)*size], size
	}
	constant := [][]byte{k.constant}
	for _, side := range []struct {
		address  string
		requests [][]byte
		n        int
		rate     *Measured
		p99      *Measured
		want     int
	}{{seenby, requests, n, &k.Pull, &k.PullP99, k.want}, {bare, constant, c.Requests, &k.Echo, &k.EchoP99, k.constantStatus()}} {
		if !k.once {
			// A tenth, first, has the server warm.
			if _, err := storm(ctx, side.address, side.requests, side.n/10+1, c.Clients, side.want); err != nil {
				return err
			}
		}
		took, err := storm(ctx, side.address, side.requests, side.n, c.Clients, side.want)
		if err != nil {
			return err
		}
		side.rate.add(float64(side.n) / took.Seconds())
	}
	k.Ratio = k.Pull.Rate / k.Echo.Rate
	if k.Baseline != k.Name {
		c.say("turn %d: %s: %.0f/s (bare Echo, %s: %.0f)", turn+1, k.Name, k.Pull.Rates[turn], k.Baseline, k.Echo.Rates[turn])
		return nil
	}
	// Both at the same rate, which is half of what the slower one has.
	half := min(k.Pull.Rate, k.Echo.Rate) / 2
	p99, err := c.paced(ctx, seenby, requests, half, k.want)
	if err != nil {
		return err
	}
	k.PullP99.add(p99)
	if p99, err = c.paced(ctx, bare, constant, half, k.constantStatus()); err != nil {
		return err
	}
	k.EchoP99.add(p99)
	k.P99Ratio = k.PullP99.Rate / k.EchoP99.Rate
	c.say("turn %d: %s: %.0f/s, p99 %.2f ms at half of it (bare Echo: %.0f, %.2f ms)", turn+1, k.Name, k.Pull.Rates[turn], k.PullP99.Rates[turn], k.Echo.Rates[turn], k.EchoP99.Rates[turn])
	return nil
}

func (k *PullCase) constantStatus() int {
	if k.Baseline == caseUnchanged {
		return http.StatusNotModified
	}
	return http.StatusOK
}

// paced makes requests at a rate, and returns the 99th percentile of how long after
// they were due they were answered, in milliseconds.
func (c PullConfig) paced(ctx context.Context, address string, requests [][]byte, rate float64, want int) (float64, error) {
	perClient := int(rate*float64(c.Seconds))/c.Clients + 1
	delays, errs := make([][]float64, c.Clients), make([]error, c.Clients)
	var wg sync.WaitGroup
	begun := time.Now().Add(50 * time.Millisecond)
	for i := range c.Clients {
		wg.Go(func() {
			errs[i] = func() error {
				conn, err := dial(ctx, address)
				if err != nil {
					return err
				}
				defer conn.close()
				for n := range perClient {
					due := begun.Add(time.Duration(float64(n*c.Clients+i) / rate * float64(time.Second)))
					if err := sleep(ctx, time.Until(due)); err != nil {
						return err
					}
					status, body, err := conn.ask(requests[(n*c.Clients+i)%len(requests)])
					if err == nil && status != want {
						err = fmt.Errorf("%w: %d: %s", ErrChild, status, body)
					}
					if err != nil {
						return err
					}
					delays[i] = append(delays[i], float64(time.Since(due))/float64(time.Millisecond))
				}
				return nil
			}()
		})
	}
	wg.Wait()
	all := slices.Concat(delays...)
	slices.Sort(all)
	if len(all) == 0 {
		return 0, errors.Join(errs...)
	}
	return all[len(all)*99/100], errors.Join(errs...)
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// The cases. The first two are beside a constant of their own; the others beside that
// of the small pull.
const (
	caseSmall     = "small pull (limit=0)"
	caseUnchanged = "unchanged (304)"
	caseNew       = "2,000 readers, never asked before"
	caseAgain     = "2,000 readers, asked repeatedly"
	caseBatch     = "batch of 50 unchanged"
)

// filled is what there is to pull.
type filled struct {
	rnd      *rand.Rand
	messages []pulledMessage
	lists    []pulledMessage
}

type pulledMessage struct{ id, token, version string }

// fill has a chat send its messages, and people read them, and waits until that is
// seen.
func (c PullConfig) fill(ctx context.Context, address string, keys *auth.Keys) (*filled, error) {
	f := &filled{rnd: rand.New(rand.NewPCG(c.Seed, 1))}
	backend, err := c.token(keys, "bench", auth.ScopeBackend)
	if err != nil {
		return nil, err
	}
	tokens := make([]string, c.Senders)
	for i := range tokens {
		if tokens[i], err = c.token(keys, fmt.Sprintf("sender-%04d", i), ""); err != nil {
			return nil, err
		}
	}
	var puts, receipts [][]byte
	var waiting []string
	flush := func(least int) {
		if len(waiting) > least {
			receipts = append(receipts, request(http.MethodPost, "/v1/receipts", backend, []byte(`{"receipts":[`+strings.Join(waiting, ",")+`]}`)))
			waiting = nil
		}
	}
	add := func(kind string, i, members, reads int) pulledMessage {
		// Every other message is of one of the few who send most, who have a screenful.
		sender := f.rnd.IntN(c.Senders)
		if i%2 == 0 {
			sender = i / 2 % max(1, min(c.Senders, c.Messages/(4*onScreen)))
		}
		m := pulledMessage{id: fmt.Sprintf("%s-%05d", kind, i), token: tokens[sender]}
		group := fmt.Sprintf("%s-%d", kind, i%200)
		var recipients []string
		for n := range members {
			recipients = append(recipients, fmt.Sprintf(`"%s-%04d"`, group, n))
			if n < reads {
				waiting = append(waiting, fmt.Sprintf(`{"message_id":"%s","reader_id":"%s-%04d"}`, m.id, group, n))
			}
			flush(499)
		}
		puts = append(puts, request(http.MethodPut, "/v1/messages/"+m.id, backend,
			fmt.Appendf(nil, `{"conversation_id":"%s","sender_id":"sender-%04d","recipients":[%s]}`, group, sender, strings.Join(recipients, ","))))
		return m
	}
	for i := range c.Messages {
		f.messages = append(f.messages, add("small", i, smallGroup, smallReads))
	}
	for i := range c.Lists {
		f.lists = append(f.lists, add("list", i, listReaders, listReaders))
	}
	flush(0)
	c.say("writing %d messages and %d receipts", len(puts), c.Messages*smallReads+c.Lists*listReaders)
	for _, requests := range [][][]byte{puts, receipts} {
		if _, err := storm(ctx, address, requests, len(requests), c.Clients, http.StatusAccepted); err != nil {
			return nil, err
		}
	}
	conn, err := dial(ctx, address)
	if err != nil {
		return nil, err
	}
	defer conn.close()
	return f, errors.Join(f.await(ctx, conn, f.messages, smallReads), f.await(ctx, conn, f.lists, listReaders))
}

// await waits until messages have so many readers, and learns their versions.
func (*filled) await(ctx context.Context, conn *connection, messages []pulledMessage, reads int) error {
	want := []byte(`"read_count":` + strconv.Itoa(reads) + `,`)
	deadline := time.Now().Add(readyTimeout)
	for i := range messages {
		m := &messages[i]
		for m.version == "" {
			status, body, err := conn.ask(request(http.MethodGet, "/v1/messages/"+m.id+"/receipts?limit=0", m.token, nil))
			switch {
			case err != nil:
				return err
			case bytes.Contains(body, want):
				m.version = member(body, "version")
			case time.Now().After(deadline):
				return fmt.Errorf("%w: message %s does not get its readers: %d %s", ErrChild, m.id, status, body)
			default:
				if err := sleep(ctx, 10*time.Millisecond); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (f *filled) cases() []PullCase {
	popular := rand.NewZipf(f.rnd, zipf, 1, uint64(len(f.messages)-1))
	small := PullCase{Name: caseSmall, Baseline: caseSmall, want: http.StatusOK}
	unchanged := PullCase{Name: caseUnchanged, Baseline: caseUnchanged, want: http.StatusNotModified}
	fresh := PullCase{Name: caseNew, Baseline: caseSmall, want: http.StatusOK, once: true}
	again := PullCase{Name: caseAgain, Baseline: caseSmall, want: http.StatusOK}
	batch := PullCase{Name: caseBatch, Baseline: caseSmall, want: http.StatusOK}
	for range asked {
		m := f.messages[popular.Uint64()]
		ask := request(http.MethodGet, "/v1/messages/"+m.id+"/receipts?limit=0", m.token, nil)
		small.requests = append(small.requests, ask)
		unchanged.requests = append(unchanged.requests, bytes.Replace(ask, []byte("\r\n\r\n"), fmt.Appendf(nil, "\r\nIf-None-Match: W/\"%s\"\r\n\r\n", m.version), 1))
	}
	for i, m := range f.lists {
		ask := request(http.MethodGet, "/v1/messages/"+m.id+"/receipts?limit=2000", m.token, nil)
		fresh.requests = append(fresh.requests, ask)
		if i < 10 {
			again.requests = append(again.requests, ask)
		}
	}
	bySender := make(map[string][]string)
	for _, m := range f.messages {
		bySender[m.token] = append(bySender[m.token], fmt.Sprintf(`{"message_id":"%s","since":"%s"}`, m.id, m.version))
	}
	for token, items := range bySender {
		if len(items) >= onScreen {
			batch.requests = append(batch.requests, request(http.MethodPost, "/v1/pulls", token, []byte(`{"messages":[`+strings.Join(items[:onScreen], ",")+`]}`)))
		}
	}
	return []PullCase{small, unchanged, fresh, again, batch}
}

// sample learns how long a case's answer is, and what the constant beside it is.
func (c PullConfig) sample(ctx context.Context, address string, k *PullCase) error {
	conn, err := dial(ctx, address)
	if err != nil {
		return err
	}
	defer conn.close()
	status, body, err := conn.ask(k.requests[len(k.requests)-1])
	if err != nil || status != k.want {
		return errors.Join(err, fmt.Errorf("%w: %s: %d %s", ErrChild, k.Name, status, body))
	}
	k.Bytes = len(body)
	return nil
}

// constantOf is a request for the constant that a case is beside, with a token as pulls
// have one.
func constantOf(baseline string, small int, token string) []byte {
	if baseline == caseUnchanged {
		small = 0
	}
	return request(http.MethodGet, fmt.Sprintf("/constant/%d", small), token, nil)
}

// constantServer is an Echo without middleware that answers a constant JSON of the size
// that is asked for, and of none with a 304.
func constantServer(ctx context.Context, stdout io.Writer) (any, error) {
	runtime.GOMAXPROCS(1)
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	constants := make(map[string][]byte)
	var mu sync.Mutex
	e.GET("/constant/:size", func(c echo.Context) error {
		size := c.Param("size")
		if size == "0" {
			return c.NoContent(http.StatusNotModified)
		}
		mu.Lock()
		body, found := constants[size]
		if !found {
			n, err := strconv.Atoi(size)
			if err != nil || n < 2 || n > 1<<20 {
				mu.Unlock()
				return echo.ErrBadRequest
			}
			body = []byte(`"` + strings.Repeat("x", n-2) + `"`)
			constants[size] = body
		}
		mu.Unlock()
		return c.JSONBlob(http.StatusOK, body)
	})
	e.GET("/readyz", func(c echo.Context) error { return c.NoContent(http.StatusOK) })
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening on loopback: %w", err)
	}
	return struct{}{}, serveEcho(ctx, e, listener, stdout)
}

func (r *PullReport) rows(row func(string, string, ...any)) {
	row("pulled", "%s messages of groups of %d by %s senders, Zipf %.1f; %s messages of %s readers", count(float64(r.Messages)), smallGroup, count(float64(r.Senders)), zipf, count(float64(r.Lists)), count(listReaders))
	row("load", "%d connections, GOMAXPROCS=%d; the servers have one core", r.Clients, r.Procs)
	for _, k := range r.Cases {
		row(k.Name, "%s/s, %.3f of bare Echo at %s/s (%s); %s an answer", count(k.Pull.Rate), k.Ratio, count(k.Echo.Rate), k.Baseline, size(int64(k.Bytes)))
		if k.P99Ratio > 0 {
			row("", "p99 %.2f ms at half load, %.2f of bare Echo's %.2f ms", k.PullP99.Rate, k.P99Ratio, k.EchoP99.Rate)
		}
	}
}
