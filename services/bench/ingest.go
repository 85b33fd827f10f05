package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/events/topic"
	"github.com/seenby/seenby/services/auth"
)

// IngestConfig says how much to take in.
type IngestConfig struct {
	Config
	// Receipts are sent in batches of Batch, by Clients connections.
	Receipts int
	Batch    int
	Clients  int
	// Singles are sent one by one, by SingleClients connections.
	Singles       int
	SingleClients int
	// Procs is how many cores the load generator uses.
	Procs int
	Seed  uint64
}

// IngestReport is what came of it.
type IngestReport struct {
	Receipts      int `json:"receipts"`
	Batch         int `json:"batch"`
	Clients       int `json:"clients"`
	Singles       int `json:"singles"`
	SingleClients int `json:"single_clients"`
	// Procs is the load generator's GOMAXPROCS.
	Procs int `json:"load_generator_gomaxprocs"`

	// Batches are receipts a second by HTTP, Produce records a second by franz-go.
	Batches Measured `json:"batches"`
	Produce Measured `json:"raw_produce"`
	// Settings are the best of those that were tried.
	Settings     string  `json:"raw_produce_settings"`
	Tried        []Tried `json:"tried"`
	BatchesRatio float64 `json:"batches_ratio"`

	// Single are requests a second of one receipt each, Echo those that a bare Echo
	// handler answers that binds and answers the same JSON.
	Single      Measured `json:"single"`
	Echo        Measured `json:"bare_echo"`
	SingleRatio float64  `json:"single_ratio"`
}

// Measured is a rate: of each turn, and their median.
type Measured struct {
	Rates []float64 `json:"rates"`
	Rate  float64   `json:"rate"`
}

func (m *Measured) add(rate float64) {
	m.Rates = append(m.Rates, rate)
	m.Rate = median(m.Rates)
}

// pool is how many receipts are used, again and again. A repeated receipt is as
// much work for ingest and Kafka as a new one.
const pool = 200_000

// ingested is the workload that receipts are of.
func ingested(seed uint64) Workload {
	w, _ := Named("large")                            //nolint:errcheck // It is there.
	w.Messages, w.Seed = pool/w.Readers+w.Alive, seed // enough for the pool
	return w
}

var errEnough = errors.New("enough")

// receipts returns the first so many of a workload.
func receipts(w Workload, now func() int64, n int) ([]events.MessageRead, error) {
	list := make([]events.MessageRead, 0, n)
	err := w.Each(now, func(e events.Event) error {
		if read, ok := e.(*events.MessageRead); ok {
			list = append(list, *read)
		}
		if len(list) == n {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return list, err
}

// Ingest measures what ingest takes by HTTP, and what franz-go produces of the
// same records; and single receipts, and what a bare handler answers.
func Ingest(ctx context.Context, c IngestConfig) (Report, error) {
	if err := errors.Join(c.Validate(), c.check()); err != nil {
		return Report{}, err
	}
	report := c.report(ctx, "ingest")
	report.Ingest = &IngestReport{
		Receipts: c.Receipts, Batch: c.Batch, Clients: c.Clients, Singles: c.Singles, SingleClients: c.SingleClients, Procs: c.Procs,
	}
	err := c.withTopic(ctx, func(at topic.Connection) error { return c.measure(ctx, at, report.Ingest) })
	return report, err
}

func (c IngestConfig) check() error {
	for _, n := range []int{c.Receipts, c.Batch, c.Clients, c.Singles, c.SingleClients, c.Procs} {
		if n < 1 {
			return fmt.Errorf("%w: --receipts, --batch, --clients, --singles, --single-clients and --procs must be 1 or more", ErrConfig)
		}
	}
	if c.Batch > 500 {
		return fmt.Errorf("%w: --batch must be at most 500, not %d: a request has no more receipts", ErrConfig, c.Batch)
	}
	return nil
}

func (c IngestConfig) measure(ctx context.Context, at topic.Connection, r *IngestReport) (err error) {
	dir, remove, err := c.scratch()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	file, keys, err := newKeys(dir)
	if err != nil {
		return err
	}
	batches, singles, err := c.requests(keys)
	if err != nil {
		return err
	}
	best, err := c.bestProducer(ctx, at, r)
	if err != nil {
		return err
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(c.Procs))
	ingest := task{Role: roleServe, Connection: at, Serve: &serveTask{Keys: file}}
	for turn := range c.Turns {
		if err := c.load(ctx, &r.Batches, ingest, batches, c.Receipts/c.Batch, c.Clients, c.Batch); err != nil {
			return err
		}
		if err := c.produce(ctx, at, &r.Produce, best, c.Receipts); err != nil {
			return err
		}
		if err := c.load(ctx, &r.Single, ingest, singles, c.Singles, c.SingleClients, 1); err != nil {
			return err
		}
		if err := c.load(ctx, &r.Echo, task{Role: roleEcho}, singles, c.Singles, c.SingleClients, 1); err != nil {
			return err
		}
		c.say("turn %d: %.0f receipts/s in batches (raw produce %.0f), %.0f single (bare Echo %.0f)", turn+1,
			r.Batches.Rates[turn], r.Produce.Rates[turn], r.Single.Rates[turn], r.Echo.Rates[turn])
	}
	r.BatchesRatio, r.SingleRatio = r.Batches.Rate/r.Produce.Rate, r.Single.Rate/r.Echo.Rate
	return nil
}

// requests writes all requests out before anything is measured: a backend's
// batches, and single receipts of users.
func (c IngestConfig) requests(keys *auth.Keys) (batches, singles [][]byte, err error) {
	reads, err := receipts(ingested(c.Seed), c.clock, max(pool, c.Batch))
	if err != nil {
		return nil, nil, err
	}
	backend, err := c.token(keys, "bench", auth.ScopeBackend)
	if err != nil {
		return nil, nil, err
	}
	for batch := range slices.Chunk(reads, c.Batch) {
		if len(batch) == c.Batch {
			batches = append(batches, request(http.MethodPost, "/v1/receipts", backend, receiptsBody(batch, true)))
		}
	}
	tokens := make(map[string]string)
	for _, read := range reads[:pool/10] {
		token := tokens[string(read.ReaderID)]
		if token == "" {
			if token, err = c.token(keys, string(read.ReaderID), ""); err != nil {
				return nil, nil, err
			}
			tokens[string(read.ReaderID)] = token
		}
		singles = append(singles, request(http.MethodPost, "/v1/receipts", token, receiptsBody([]events.MessageRead{read}, false)))
	}
	return batches, singles, nil
}

// receiptsBody is a request's JSON; a user's has no readers, as they are the user.
func receiptsBody(reads []events.MessageRead, backend bool) []byte {
	b := []byte(`{"receipts":[`)
	for i, read := range reads {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(b, `{"message_id":"`...), read.MessageID...)
		if backend {
			b = append(append(b, `","reader_id":"`...), read.ReaderID...)
		}
		b = time.UnixMilli(read.ReadAt).UTC().AppendFormat(append(b, `","read_at":"`...), "2006-01-02T15:04:05.000Z")
		b = append(b, `"}`...)
	}
	return append(b, `]}`...)
}

// load sends requests to a server as fast as it answers, and adds the rate of
// what they count, each for so many.
func (c IngestConfig) load(ctx context.Context, to *Measured, server task, requests [][]byte, n, clients, each int) error {
	s, err := c.serve(ctx, server)
	if err != nil {
		return err
	}
	// A tenth, first, has the server warm: its tokens verified, its batches sized.
	_, err = storm(ctx, s.address, requests, n/10+1, clients, http.StatusAccepted)
	var took time.Duration
	if err == nil {
		took, err = storm(ctx, s.address, requests, n, clients, http.StatusAccepted)
	}
	_, ended := s.stop()
	if err := errors.Join(err, ended); err != nil {
		return err
	}
	to.add(float64(n) * float64(each) / took.Seconds())
	return nil
}

// storm sends n of the requests, one after the other on each connection. Each is to
// be answered by the status that is wanted.
func storm(ctx context.Context, address string, requests [][]byte, n, clients, want int) (time.Duration, error) {
	connections := make([]*connection, clients)
	for i := range connections {
		var err error
		if connections[i], err = dial(ctx, address); err != nil {
			return 0, err
		}
		defer connections[i].close()
	}
	var next atomic.Int64
	errs := make([]error, clients)
	var wg sync.WaitGroup
	begun := time.Now()
	for i, c := range connections {
		wg.Go(func() {
			for ctx.Err() == nil {
				at := next.Add(1) - 1
				if at >= int64(n) {
					return
				}
				status, body, err := c.ask(requests[at%int64(len(requests))])
				if err == nil && status != want {
					err = fmt.Errorf("%w: %d: %s", ErrChild, status, body)
				}
				if err != nil {
					errs[i] = err
					return
				}
			}
		})
	}
	wg.Wait()
	return time.Since(begun), errors.Join(errors.Join(errs...), ctx.Err())
}

// produceTask has a child produce receipts, raw.
type produceTask struct {
	Seed     uint64
	Receipts int
	Settings ProduceSettings
}

// rawProduced is what came of it.
type rawProduced struct {
	Seconds float64 `json:"seconds"`
}

func (t *produceTask) run(ctx context.Context, at topic.Connection, partitions int32) (rawProduced, error) {
	reads, err := receipts(ingested(t.Seed), func() int64 { return time.Now().UnixMilli() }, pool)
	if err != nil {
		return rawProduced{}, err
	}
	values := make([][]byte, len(reads))
	for i := range reads {
		if values[i], err = events.AppendEncode(nil, &reads[i]); err != nil {
			return rawProduced{}, err
		}
	}
	p, err := newProducer(at, partitions, t.Settings)
	if err != nil {
		return rawProduced{}, err
	}
	defer p.client.Close()
	write := func(n int) error {
		for i := range n {
			if err := p.write(ctx, reads[i%pool].MessageID, values[i%pool]); err != nil {
				return err
			}
		}
		return p.flush(ctx)
	}
	if err := write(t.Receipts/10 + 1); err != nil { // as the other side is warm too
		return rawProduced{}, err
	}
	begun := time.Now()
	err = write(t.Receipts)
	return rawProduced{time.Since(begun).Seconds()}, err
}

func (c IngestConfig) produce(ctx context.Context, at topic.Connection, to *Measured, s ProduceSettings, n int) error {
	t := task{Role: roleProduce, Connection: at, Partitions: c.Partitions, Produce: &produceTask{Seed: c.Seed, Receipts: n, Settings: s}}
	var done rawProduced
	if _, err := c.do(ctx, t, nil, &done); err != nil {
		return err
	}
	to.add(float64(n) / done.Seconds)
	return nil
}

// bestProducer tries the settings.
func (c IngestConfig) bestProducer(ctx context.Context, at topic.Connection, r *IngestReport) (best ProduceSettings, err error) {
	c.say("trying %d settings of raw produce", len(produceCandidates))
	var fastest float64
	for _, s := range produceCandidates {
		// The better of two, as whatever else the machine does only slows.
		var m Measured
		for range 2 {
			if err := c.produce(ctx, at, &m, s, min(c.Receipts, 2*pool)); err != nil {
				return best, err
			}
		}
		rate := slices.Max(m.Rates)
		c.say("  %s: %s records/s", s, count(rate))
		r.Tried = append(r.Tried, Tried{s.String(), rate})
		if rate > fastest {
			best, fastest = s, rate
		}
	}
	r.Settings = best.String()
	return best, nil
}
