package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/events/topic"
	"github.com/seenby/seenby/services/auth"
)

// FreshnessConfig says how fast receipts come, and for how long.
type FreshnessConfig struct {
	Config
	// Rate is of receipts a second, in batches of Batch; one of each is looked for.
	Rate, Batch int
	// Seconds is how long each turn takes, after each side has run for Warm seconds
	// that do not count.
	Seconds, Warm int
	// Clients send batches and pull, one after the other.
	Clients int
	// Procs is how many cores the load generator uses.
	Procs int
	Seed  uint64
}

// FreshnessReport is what came of it.
type FreshnessReport struct {
	Rate    int `json:"receipts_per_second"`
	Batch   int `json:"batch"`
	Seconds int `json:"seconds"`
	Clients int `json:"clients"`
	Procs   int `json:"load_generator_gomaxprocs"`

	Turns []FreshnessTurn `json:"turns"`
	Raw   []RawDelay      `json:"raw"`
	// Settings are the best of those that were tried.
	Settings string         `json:"raw_settings"`
	Tried    []TriedLatency `json:"tried"`

	// Pull is from the 202 of a receipt to the answer of a pull that shows it; Fetch
	// from the call that produces a record to its being fetched, and AckToFetch from
	// its acknowledgement. All are medians of the turns. Ratio is that of the p99 of
	// Pull and Fetch.
	Pull       Latency `json:"pull"`
	Fetch      Latency `json:"raw_fetch"`
	AckToFetch Latency `json:"raw_ack_to_fetch"`
	Ratio      float64 `json:"ratio_p99"`
}

// TriedLatency are settings that were tried for a moment.
type TriedLatency struct {
	Settings string  `json:"settings"`
	Fetch    Latency `json:"fetch"`
}

// FreshnessTurn is one turn of seenby's.
type FreshnessTurn struct {
	Pull Latency `json:"pull"`
	// Ack is from the moment that a batch was due to its 202: it shows whether the
	// rate was kept.
	Ack  Latency `json:"ack"`
	Rate float64 `json:"receipts_per_second"`
	// NotFresh counts pulls that were told to come again; the wait goes on until one
	// shows the receipt.
	NotFresh int64 `json:"not_fresh"`
}

// Freshness measures how soon a receipt is seen, and how soon franz-go fetches what
// it produces at the same rate.
func Freshness(ctx context.Context, c FreshnessConfig) (Report, error) {
	if err := errors.Join(c.Validate(), c.check()); err != nil {
		return Report{}, err
	}
	report := c.report(ctx, "freshness")
	report.Freshness = &FreshnessReport{Rate: c.Rate, Batch: c.Batch, Seconds: c.Seconds, Clients: c.Clients, Procs: c.Procs}
	err := c.withTopic(ctx, func(at topic.Connection) error { return c.measure(ctx, at, report.Freshness) })
	return report, err
}

func (c FreshnessConfig) check() error {
	switch {
	case c.Rate < 1 || c.Batch < 1 || c.Batch > 500 || c.Seconds < 1 || c.Warm < 0 || c.Clients < 1 || c.Procs < 1:
		return fmt.Errorf("%w: --rate, --seconds, --clients and --procs must be 1 or more, --warm 0 or more, and --batch from 1 to 500", ErrConfig)
	case c.Rate/c.Batch < 1:
		return fmt.Errorf("%w: --rate must be at least --batch (%d), not %d", ErrConfig, c.Batch, c.Rate)
	}
	return nil
}

// traffic is the workload of one turn: no receipt comes twice.
func traffic(seed uint64, turn, receipts int) Workload {
	w, _ := Named("large") //nolint:errcheck // It is there.
	w.Messages, w.Seed = receipts/w.Readers+w.Alive, seed+uint64(turn)<<32
	return w
}

func (c FreshnessConfig) measure(ctx context.Context, at topic.Connection, r *FreshnessReport) error {
	best, err := c.bestDelay(ctx, at, r)
	if err != nil {
		return err
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(c.Procs))
	var pulls, fetches, acked []Latency
	for turn := range c.Turns {
		pulled, err := c.turn(ctx, at, turn)
		if err != nil {
			return err
		}
		raw, err := c.delay(ctx, at, best, turn, c.Seconds)
		if err != nil {
			return err
		}
		r.Turns, r.Raw = append(r.Turns, pulled), append(r.Raw, raw)
		pulls, fetches, acked = append(pulls, pulled.Pull), append(fetches, raw.Fetch), append(acked, raw.AckToFetch)
		c.say("turn %d: seen after %.1f ms (p50), %.1f ms (p99); raw fetch %.1f, %.1f", turn+1,
			pulled.Pull.P50, pulled.Pull.P99, raw.Fetch.P50, raw.Fetch.P99)
	}
	r.Pull, r.Fetch, r.AckToFetch = medianLatency(pulls), medianLatency(fetches), medianLatency(acked)
	r.Ratio = r.Pull.P99 / r.Fetch.P99
	return nil
}

// batch is one request, and the receipt of it that is looked for.
type batch struct {
	request []byte
	message string
	reader  []byte // as it is in an answer
}

// turn runs seenby once, on an empty disk.
func (c FreshnessConfig) turn(ctx context.Context, at topic.Connection, turn int) (done FreshnessTurn, err error) {
	dir, remove, err := c.scratch()
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	file, keys, err := newKeys(dir)
	if err != nil {
		return done, err
	}
	backend, err := c.token(keys, "bench", auth.ScopeBackend)
	if err != nil {
		return done, err
	}
	s, err := c.serve(ctx, task{Role: roleServe, Connection: at, Serve: &serveTask{Keys: file, Data: filepath.Join(dir, "data")}})
	if err != nil {
		return done, err
	}
	defer func() {
		_, ended := s.stop()
		err = errors.Join(err, ended)
	}()
	l := looker{address: s.address, token: backend, versions: make(map[string]*atomic.Pointer[string])}
	batches, err := c.prepare(ctx, &l, turn)
	if err != nil {
		return done, err
	}
	return c.look(ctx, &l, batches)
}

// prepare sends the messages of a turn, and writes its batches of receipts out.
func (c FreshnessConfig) prepare(ctx context.Context, l *looker, turn int) ([]batch, error) {
	sender, err := dial(ctx, l.address)
	if err != nil {
		return nil, err
	}
	defer sender.close()
	n := c.Rate / c.Batch * (c.Warm + c.Seconds)
	w := traffic(c.Seed, turn, n*c.Batch)
	var batches []batch
	var reads []events.MessageRead
	err = w.Each(c.clock, func(e events.Event) error {
		if sent, ok := e.(*events.MessageSent); ok {
			return l.send(ctx, sender, sent)
		}
		reads = append(reads, *e.(*events.MessageRead))
		if len(reads) < c.Batch {
			return nil
		}
		sampled := reads[int(mix(uint64(len(batches)))%uint64(len(reads)))]
		batches = append(batches, batch{
			request: request(http.MethodPost, "/v1/receipts", l.token, receiptsBody(reads, true)),
			message: string(sampled.MessageID), reader: fmt.Appendf(nil, `"reader_id":"%s"`, sampled.ReaderID),
		})
		if reads = reads[:0]; len(batches) == n {
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		return nil, errors.Join(err, fmt.Errorf("%w: the workload has too few receipts", ErrWorkload))
	}
	return batches, nil
}

// look sends the batches when they are due, and looks for a receipt of each.
func (c FreshnessConfig) look(ctx context.Context, l *looker, batches []batch) (FreshnessTurn, error) {
	interval := time.Duration(float64(time.Second) * float64(c.Batch) / float64(c.Rate))
	connections := make([]*connection, c.Clients)
	for i := range connections {
		var err error
		if connections[i], err = dial(ctx, l.address); err != nil {
			return FreshnessTurn{}, err
		}
		defer connections[i].close()
	}
	var next atomic.Int64
	errs := make([]error, c.Clients)
	pulls, acks := make([]float64, len(batches)), make([]float64, len(batches))
	begun := time.Now()
	var wg sync.WaitGroup
	for i, conn := range connections {
		wg.Go(func() {
			for {
				at := int(next.Add(1) - 1)
				if at >= len(batches) {
					return
				}
				due := begun.Add(time.Duration(at) * interval)
				if !sleepUntil(ctx, due) {
					errs[i] = ctx.Err()
					return
				}
				var err error
				if acks[at], pulls[at], err = l.one(ctx, conn, &batches[at], due); err != nil {
					errs[i] = err
					return
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(begun)
	warm := c.Rate / c.Batch * c.Warm
	return FreshnessTurn{
		Pull: latencyOf(pulls[warm:]), Ack: latencyOf(acks[warm:]), NotFresh: l.notFresh.Load(),
		Rate: float64(len(batches)*c.Batch) / took.Seconds(),
	}, errors.Join(errs...)
}

// looker is a backend that pulls what it has just sent.
type looker struct {
	address, token string
	// versions are what each message was last seen at, so that pulls ask for what
	// came since, as clients do.
	versions map[string]*atomic.Pointer[string]
	notFresh atomic.Int64
}

// send puts a message, and pulls it once.
func (l *looker) send(ctx context.Context, c *connection, e *events.MessageSent) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	body := fmt.Appendf(nil, `{"conversation_id":"%s","sender_id":"%s","recipients":["%s"]}`,
		e.ConversationID, e.SenderID, bytes.Join(e.Recipients, []byte(`","`)))
	status, answer, err := c.ask(request(http.MethodPut, "/v1/messages/"+string(e.MessageID), l.token, body))
	if err == nil && status != http.StatusAccepted {
		err = fmt.Errorf("%w: %d: %s", ErrChild, status, answer)
	}
	if err != nil {
		return err
	}
	id := string(e.MessageID)
	l.versions[id] = new(atomic.Pointer[string])
	_, err = l.pull(ctx, c, id, "", member(answer, "position"), nil)
	return err
}

// one sends a batch and pulls until the receipt is shown. It returns how long both
// took, in milliseconds.
func (l *looker) one(ctx context.Context, c *connection, b *batch, due time.Time) (ack, seen float64, err error) {
	// What was seen before the receipt was sent does not have it, so that what came
	// since has.
	since := *l.versions[b.message].Load()
	status, answer, err := c.ask(b.request)
	accepted := time.Now()
	if err == nil && status != http.StatusAccepted {
		err = fmt.Errorf("%w: %d: %s", ErrChild, status, answer)
	}
	if err != nil {
		return 0, 0, err
	}
	shown, err := l.pull(ctx, c, b.message, since, member(answer, "position"), b.reader)
	return milliseconds(accepted.Sub(due)), milliseconds(shown.Sub(accepted)), err
}

// pull pulls a message until it is shown, with a reader if there is one, and
// returns when that was.
func (l *looker) pull(ctx context.Context, c *connection, id, since, position string, reader []byte) (time.Time, error) {
	query := url.Values{"limit": {"2000"}, "min_position": {position}}
	if since != "" {
		query.Set("since", since)
	}
	asked := request(http.MethodGet, "/v1/messages/"+id+"/receipts?"+query.Encode(), l.token, nil)
	for ctx.Err() == nil {
		status, answer, err := c.ask(asked)
		at := time.Now()
		switch {
		case err != nil:
			return at, err
		case status == http.StatusServiceUnavailable:
			l.notFresh.Add(1)
			continue
		case status != http.StatusOK:
			return at, fmt.Errorf("%w: %d: %s", ErrChild, status, answer)
		case !bytes.Contains(answer, reader):
			return at, fmt.Errorf("%w: a pull with the position of a receipt does not show it: message %s, %s: %s", ErrChild, id, reader, answer)
		}
		version := member(answer, "version")
		l.versions[id].Store(&version)
		return at, nil
	}
	return time.Time{}, ctx.Err()
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// sleepUntil returns false if ctx ended meanwhile.
func sleepUntil(ctx context.Context, at time.Time) bool {
	wait := time.Until(at)
	if wait <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// delayCandidates are what the quickest producer is chosen from.
var delayCandidates = []ProduceSettings{
	{Codec: "none", BatchBytes: 1 << 20},
	{Codec: "snappy", BatchBytes: 1 << 20},
	{Codec: "none", LingerMillis: 1, BatchBytes: 1 << 20},
	{Codec: "none", LingerMillis: 5, BatchBytes: 1 << 20},
}

// probeSeconds is how long settings are tried.
const probeSeconds = 3

func (c FreshnessConfig) bestDelay(ctx context.Context, at topic.Connection, r *FreshnessReport) (best ProduceSettings, err error) {
	c.say("trying %d settings of raw produce and fetch", len(delayCandidates))
	quickest := -1.0
	for i, s := range delayCandidates {
		run, err := c.delay(ctx, at, s, -1-i, min(probeSeconds, c.Seconds))
		if err != nil {
			return best, err
		}
		c.say("  %s: %s", s, run.Fetch)
		r.Tried = append(r.Tried, TriedLatency{s.String(), run.Fetch})
		if quickest < 0 || run.Fetch.P99 < quickest {
			best, quickest = s, run.Fetch.P99
		}
	}
	r.Settings = best.String()
	return best, nil
}

func (c FreshnessConfig) delay(ctx context.Context, at topic.Connection, s ProduceSettings, turn, seconds int) (done RawDelay, err error) {
	t := task{Role: roleDelay, Connection: at, Partitions: c.Partitions, Delay: &delayTask{
		Settings: s, Rate: c.Rate, Batch: c.Batch, Seconds: seconds, Warm: c.Warm, Seed: c.Seed, Turn: turn,
	}}
	_, err = c.do(ctx, t, nil, &done)
	return done, err
}
