package suite

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// size is how much the storm does.
type size struct {
	shape
	partitions, writers, kills int
}

// sizes are small where the tests have to be quick.
func sizes(k *kafka) size {
	if k.real() {
		return size{
			shape:      shape{messages: 1000, receipts: 165_000, people: 5000, group: 250, crowd: maxListed + 500},
			partitions: 64, writers: 8, kills: 30,
		}
	}
	return size{shape: shape{messages: 100, receipts: 9_000, people: 800, group: 160}, partitions: 8, writers: 4, kills: 30}
}

// TestStorm sends a load through two ingest processes while projectors, ingest
// and a broker are killed, and holds every pull, meanwhile and at the end, to
// what was sent.
func TestStorm(t *testing.T) {
	k := theKafka(t)
	rng := random(t)
	size := sizes(k)
	s := newSystem(t, k, size.partitions)
	s.addIngest()
	s.addIngest()
	s.addProjectors(2, "--flush-every", "300ms")
	s.addQuery()
	s.start()

	st := &storm{
		system: s, size: size, rng: rng, ledger: &ledger{w: newWorkload(rng, size.shape, time.Now())},
		versions: make(chan seen, 100_000),
	}
	t.Logf("%d receipts in %d requests over %d messages", st.ledger.w.receipts, len(st.ledger.w.ops), len(st.ledger.w.messages))
	if k.control != "" {
		st.broker = strconv.Itoa(1 + rng.IntN(3))
		k.heal(t, st.broker)
	}
	st.run(t)

	positions := st.positions(t)
	t.Run("every pull is what was sent", func(t *testing.T) { st.checkFinal(t, positions) })
	t.Run("deltas lead there from every version", func(t *testing.T) { st.checkDeltas(t) })
	t.Run("rebuilt state is the same", func(t *testing.T) { st.checkRebuild(t) })
}

type storm struct {
	*system
	size   size
	rng    *rand.Rand
	ledger *ledger
	// broker is the one to kill, if any.
	broker string

	// next is the op to send next; only those below allowed may be sent yet.
	next, allowed atomic.Int64
	checks        atomic.Int64
	versions      chan seen
}

// seen is what a pull showed in the middle of the storm.
type seen struct {
	message *message
	version string
	readers []entry
}

// enoughChecks is how many pulls are held to what was acknowledged two seconds
// ago, at least.
const enoughChecks = 50

// run sends everything. The load never runs out before the last kill: it is let
// go on as the kills do.
func (st *storm) run(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	watchCtx, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	underLoad := int64(0)
	load, loadCtx := errgroup.WithContext(ctx)
	seeds := [2]uint64{st.rng.Uint64(), st.rng.Uint64()} // From here on chance is the wrecker's.
	for range st.size.writers {
		load.Go(func() error { return st.write(loadCtx) })
	}
	load.Go(func() error { return st.wreck(loadCtx) })
	g.Go(func() error {
		defer stopWatching()
		if err := load.Wait(); err != nil {
			return err
		}
		underLoad = st.checks.Load()
		// A short load may be over before anything is two seconds old.
		return poll(ctx, func() bool { return st.checks.Load() >= enoughChecks })
	})
	for i, seed := range seeds {
		g.Go(func() error { return st.watchFreshness(watchCtx, rand.New(rand.NewPCG(seed, 0))) })
		g.Go(func() error { return st.follow(watchCtx, rand.New(rand.NewPCG(seed, 1)), i) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	close(st.versions)
	if st.broker != "" {
		t.Logf("broker %s was killed and started again", st.broker)
	}
	t.Logf("%d pulls were checked for freshness, %d of them under load", st.checks.Load(), underLoad)
}

// write sends ops, each until it is accepted.
func (st *storm) write(ctx context.Context) error {
	ops := st.ledger.w.ops
	for {
		i := st.next.Add(1) - 1
		if i >= int64(len(ops)) {
			return nil
		}
		if err := poll(ctx, func() bool { return i < st.allowed.Load() }); err != nil {
			return err
		}
		o := ops[i]
		st.ledger.sending(o, time.Now())
		a, err := st.client.write(ctx, o.request)
		if err != nil {
			return err
		}
		if a.status != http.StatusAccepted {
			return fmt.Errorf("%s: answered %d %s", a.request, a.status, a.body)
		}
		st.ledger.acknowledged(o, time.Now())
	}
}

// wreck kills projectors, now and then an ingest process, and one broker, at
// random points of the load.
func (st *storm) wreck(ctx context.Context) error {
	path, err := built()
	if err != nil {
		return err
	}
	ops, kills := len(st.ledger.w.ops), st.size.kills
	for i := range kills {
		from, to := ops*i/(kills+1), ops*(i+1)/(kills+1)
		st.allowed.Store(int64(to))
		point := int64(from + st.rng.IntN(max(1, to-from)))
		if err := poll(ctx, func() bool { return st.next.Load() >= point }); err != nil {
			return err
		}
		if st.broker != "" && i == kills/3 {
			if err := st.kafka.do("kill", st.broker); err != nil {
				return err
			}
		}
		if st.broker != "" && i == kills*2/3 {
			if err := st.kafka.do("start", st.broker); err != nil {
				return err
			}
		}
		victims := []*process{st.projectors[st.rng.IntN(len(st.projectors))]}
		if i%3 == 2 {
			victims = append(victims, st.ingest[st.rng.IntN(len(st.ingest))])
		}
		for _, p := range victims {
			p.stop(syscall.SIGKILL)
			if err := p.launch(path); err != nil {
				return err
			}
		}
		// Every other kill may hit a node that has not caught up yet. The rest wait
		// until a pull was checked since the last one.
		if checked := st.checks.Load(); st.rng.IntN(2) == 0 {
			if err := st.awaitAllReady(ctx); err != nil {
				return err
			}
			if err := poll(ctx, func() bool { return st.checks.Load() > checked }); err != nil {
				return fmt.Errorf("no pull could be checked for freshness: %w", err)
			}
		}
	}
	st.allowed.Store(int64(ops))
	return nil
}

func (st *storm) awaitAllReady(ctx context.Context) error {
	says := ""
	err := poll(ctx, func() bool {
		for _, p := range st.projectors {
			var ready bool
			if ready, says = p.ready(ctx); !ready {
				says = p.name + ": " + says
				return false
			}
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("%w: %s", err, says)
	}
	return nil
}

// watchFreshness pulls messages at random. While the owner is ready, before and
// after, what was acknowledged two seconds ago must be there.
func (st *storm) watchFreshness(ctx context.Context, rng *rand.Rand) error {
	for ctx.Err() == nil {
		m := st.ledger.w.messages[rng.IntN(len(st.ledger.w.messages))]
		owner := st.owner(m.id)
		readyBefore, _ := owner.ready(ctx)
		must := st.ledger.knownAt(m, time.Now().Add(-2*time.Second))
		p, err := st.client.pullAll(ctx, backend, m.id, limits(rng))
		readyAfter, _ := owner.ready(ctx)
		switch {
		case ctx.Err() != nil, errors.Is(err, errUnanswered), errors.Is(err, errGone):
		case errors.Is(err, errHidden):
			if readyBefore && readyAfter && must.put {
				return fmt.Errorf("message %q was acknowledged 2 s ago, its owner is ready, and it is not found", m.id)
			}
		case err != nil:
			return err
		default:
			if err := st.ledger.plausible(m, p); err != nil {
				return fmt.Errorf("message %q: %w", m.id, err)
			}
			if !readyBefore || !readyAfter || !must.put || p.State == "recalled" {
				break
			}
			if gone := missing(p, must.readers); len(gone) > 0 && !p.Truncated {
				return fmt.Errorf("message %q: receipts of %.10q were acknowledged 2 s ago, the owner is ready, and they are not there", m.id, gone)
			}
			st.checks.Add(1)
		}
		if err := pause(ctx, pollEvery); err != nil {
			return nil
		}
	}
	return nil
}

func limits(rng *rand.Rand) url.Values {
	switch rng.IntN(3) {
	case 0:
		return url.Values{"limit": {strconv.Itoa(1 + rng.IntN(40))}}
	case 1:
		return url.Values{"limit": {"2000"}}
	}
	return nil
}

// follow watches a few messages as a client does: it presents what it has, and
// folds what it is given into it.
func (st *storm) follow(ctx context.Context, rng *rand.Rand, part int) error {
	const each = 8
	copies := make([]*localCopy, 0, each)
	for i := range each {
		copies = append(copies, &localCopy{message: st.ledger.w.messages[(part*each+i)%len(st.ledger.w.messages)]})
	}
	for ctx.Err() == nil {
		c := copies[rng.IntN(len(copies))]
		if rng.IntN(2) == 0 {
			c = copies[0]
		}
		query := limits(rng)
		if c.version != "" {
			query = url.Values{"since": {c.version}, "limit": {strconv.Itoa(1 + rng.IntN(200))}}
		}
		p, err := st.client.pullAll(ctx, backend, c.message.id, query)
		switch {
		case ctx.Err() != nil, errors.Is(err, errUnanswered), errors.Is(err, errGone):
		case errors.Is(err, errHidden):
			if c.version != "" {
				return fmt.Errorf("message %q was there, and is not found", c.message.id)
			}
		case err != nil:
			return err
		default:
			if err := c.fold(p); err != nil {
				return fmt.Errorf("message %q: %w", c.message.id, err)
			}
			select {
			case st.versions <- seen{c.message, c.version, slices.Clone(c.readers)}:
			default: // Enough of them.
			}
		}
		if err := pause(ctx, pollEvery); err != nil {
			return nil
		}
	}
	return nil
}

// localCopy is a client's view of one message.
type localCopy struct {
	message *message
	version string
	readers []entry
	// recalled is final.
	recalled bool
}

// fold takes over what a pull since the copy's version says. It returns an error
// if that is less than what the copy has.
func (c *localCopy) fold(p *pull) error {
	was := c.readers
	if p.Delta {
		if c.version == "" {
			return errors.New("a delta, to nothing")
		}
		c.readers = append(slices.Clone(c.readers), p.Readers...)
	} else {
		c.readers = p.Readers
	}
	if c.recalled && p.State != "recalled" {
		return errors.New("it was recalled, and is not")
	}
	c.recalled, c.version = p.State == "recalled", p.Version
	switch {
	case c.recalled && len(c.readers) > 0:
		return fmt.Errorf("it is recalled, and the deltas leave %d readers", len(c.readers))
	case c.recalled:
	case len(c.readers) < len(was) || !slices.Equal(c.readers[:len(was)], was):
		return fmt.Errorf("readers were %v, and then only %v", was, c.readers)
	case len(c.readers) != p.ReadCount && !p.Truncated:
		return fmt.Errorf("the deltas add up to %d readers, read_count is %d", len(c.readers), p.ReadCount)
	}
	return nil
}

// positions sends a receipt of each message once more, when everything else has
// been acknowledged: what these writes return covers all that was written.
func (st *storm) positions(t *testing.T) url.Values {
	t.Helper()
	const batch = 500
	var events []event
	for _, m := range st.ledger.w.messages {
		for _, r := range m.reads {
			events = append(events, event{message: m, read: r})
			break
		}
	}
	query := url.Values{}
	for chunk := range slices.Chunk(events, batch) {
		query.Add("min_position", st.send(receiptsOp(backend, chunk).request))
	}
	return query
}

// checkFinal presents the positions, so that the first answer must be complete.
func (st *storm) checkFinal(t *testing.T, positions url.Values) {
	for _, m := range st.ledger.w.messages {
		query := limits(st.rng)
		if query == nil {
			query = url.Values{}
		}
		query["min_position"] = positions["min_position"]
		if err := st.ledger.final(m, st.awaitPull(t, m.id, query)); err != nil {
			t.Errorf("message %q: %v", m.id, err)
		}
	}
}

func (st *storm) awaitPull(t *testing.T, id string, query url.Values) (p *pull) {
	t.Helper()
	await(t, func() (bool, string) {
		var err error
		p, err = st.client.pullAll(t.Context(), backend, id, query)
		if err != nil && !errors.Is(err, errUnanswered) && !errors.Is(err, errGone) {
			t.Fatalf("message %q: %v", id, err)
		}
		return err == nil, fmt.Sprintf("message %q: %v", id, err)
	})
	return p
}

// checkDeltas pulls from versions of the middle of the storm to its end.
func (st *storm) checkDeltas(t *testing.T) {
	n := 0
	for v := range st.versions {
		c := localCopy{message: v.message, version: v.version, readers: v.readers}
		if err := c.fold(st.awaitPull(t, v.message.id, url.Values{"since": {v.version}, "limit": {"2000"}})); err != nil {
			t.Errorf("message %q since %s: %v", v.message.id, v.version, err)
			continue
		}
		full := st.awaitPull(t, v.message.id, url.Values{"limit": {"2000"}})
		if !slices.Equal(c.readers, full.Readers) || c.version != full.Version {
			t.Errorf("message %q since %s: the delta leads to %d readers of version %s, there are %d of %s",
				v.message.id, v.version, len(c.readers), c.version, len(full.Readers), full.Version)
		}
		if n++; n == 500 {
			break
		}
	}
	if n == 0 {
		t.Error("no version was seen in the storm")
	}
}

// checkRebuild has the state made of the log again. It must be the same, byte for
// byte, versions included, and so must its digests.
func (st *storm) checkRebuild(t *testing.T) {
	before := st.bodies(t)
	st.rebuilt(t)
	after := st.bodies(t)
	for id, was := range before {
		if is := after[id]; is != was {
			t.Errorf("message %q: was %s, is %s", id, was, is)
		}
	}
}

// bodies returns the first page of each message, with its ETag.
func (st *storm) bodies(t *testing.T) map[string]string {
	t.Helper()
	bodies := make(map[string]string)
	for _, m := range st.ledger.w.messages {
		a := st.awaitAnswer(func() (answer, error) {
			return st.client.ask(t.Context(), st.client.query, pullMessage(backend, m.id, url.Values{"limit": {"2000"}}))
		}, http.StatusOK, "")
		bodies[m.id] = a.header.Get("ETag") + " " + string(a.body)
	}
	return bodies
}
