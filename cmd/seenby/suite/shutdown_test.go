package suite

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// TestGracefulShutdown ends processes by SIGTERM under load: whoever was let in
// gets an answer, what was acknowledged is there, and the exit code is 0.
func TestGracefulShutdown(t *testing.T) {
	s := newSystem(t, theKafka(t), 4)
	s.addIngest()
	s.addProjectors(1)
	s.addQuery()
	s.start()
	readers := make([]string, 20_000)
	for i := range readers {
		readers[i] = fmt.Sprintf("r%05d", i)
	}
	s.send(putMessage("m1", "alice", readers[:10_000]...))
	rounds := 3
	next, acked, refused := new(atomic.Int64), new(set), new(set)
	accepted := func(a answer, reader string) {
		if a.status != http.StatusAccepted {
			t.Errorf("%s: answered %d %s", a.request, a.status, a.body)
			return
		}
		acked.add(reader)
	}
	for range rounds {
		terminateUnderLoad(t, s, s.ingest[0], func(ctx context.Context) bool {
			reader := readers[next.Add(1)-1]
			a, err := s.client.ask(ctx, s.client.ingest[0], readMessages(reader, "m1"))
			switch {
			case err != nil:
				refused.add(reader)
				return false
			case a.status == http.StatusServiceUnavailable:
				return false // It says so; part may be written.
			}
			accepted(a, reader)
			return true
		})
		terminateUnderLoad(t, s, s.query, func(ctx context.Context) bool {
			a, err := s.client.ask(ctx, s.client.query, pullMessage("alice", "m1", nil))
			return err == nil && a.status == http.StatusOK
		})
		terminateUnderLoad(t, s, s.projectors[0], func(ctx context.Context) bool {
			reader := readers[next.Add(1)-1]
			a, err := s.client.ask(ctx, s.client.ingest[0], readMessages(reader, "m1"))
			if err != nil {
				t.Errorf("ingest, which was not terminated: %v", err)
				return true
			}
			accepted(a, reader)
			return s.projectors[0].running()
		})
	}
	position := s.send(readMessages("stranger", "m1"))
	var all *pull
	await(t, func() (bool, string) {
		var err error
		all, err = s.client.pullAll(t.Context(), "alice", "m1", url.Values{"limit": {"2000"}, "min_position": {position}})
		return err == nil, fmt.Sprint(err)
	})
	if gone := missing(all, acked.list()); len(gone) > 0 {
		t.Errorf("acknowledged, and not there: %.10q", gone)
	}
	there := make(map[string]bool)
	for _, e := range all.Readers {
		there[e.Reader] = true
	}
	for _, r := range refused.list() {
		if there[r] {
			t.Errorf("the connection of %s broke, and the receipt was written: it was let in and got no answer", r)
		}
	}
	if len(acked.list()) == 0 {
		t.Error("nothing was acknowledged")
	}
}

// terminateUnderLoad sends SIGTERM once requests are answered, goes on with the
// load until the process is gone, and starts it again.
func terminateUnderLoad(t *testing.T, s *system, p *process, ask func(context.Context) (answered bool)) {
	t.Helper()
	var load sync.WaitGroup
	var answered atomic.Int64
	for range 4 {
		load.Go(func() {
			for t.Context().Err() == nil && ask(t.Context()) {
				answered.Add(1)
			}
		})
	}
	await(t, func() (bool, string) { return answered.Load() >= 20, "no load on " + p.name })
	if code := p.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("%s: exit code %d after SIGTERM, must be 0", p.name, code)
	}
	load.Wait()
	p.start(t)
	for _, p := range s.all() {
		p.awaitReady(t)
	}
}

// set is a set of readers that goroutines add to.
type set struct {
	mu      sync.Mutex
	members []string
}

func (s *set) add(member string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.members = append(s.members, member)
}

func (s *set) list() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.members)
}

// TestShutdownAnswers ends processes that have requests in flight, which wait for
// a Kafka that does not answer. They are answered when it does.
func TestShutdownAnswers(t *testing.T) {
	t.Parallel()
	k := theKafka(t)
	s := newSystem(t, k, 1)
	p := newProxy(t, k)
	s.brokers = p.brokers
	s.addIngest()
	s.addProjectors(1)
	s.brokers = k.brokers
	s.addIngest() // This one always has Kafka.
	s.addQuery("--owner-timeout", "8s")
	s.start()
	position := s.send(putMessage("m1", "alice", "bob", "carol", "dave"))
	s.awaitRead(t, "alice", "m1", position)

	t.Run("ingest", func(t *testing.T) {
		p.become(hanging)
		answers := inFlight(t, s.ingest[0], 2, func(i int) (answer, error) {
			return s.client.ask(t.Context(), s.client.ingest[0], readMessages([]string{"bob", "carol"}[i], "m1"))
		})
		s.ingest[0].signal(syscall.SIGTERM)
		awaitClosed(t, s.ingest[0])
		p.become(passing)
		for range 2 {
			if a := <-answers; a.status != http.StatusAccepted {
				t.Errorf("a request in flight was answered %d %s", a.status, a.body)
			}
		}
		if code := s.ingest[0].wait(); code != 0 {
			t.Errorf("exit code %d, must be 0", code)
		}
	})
	t.Run("query", func(t *testing.T) {
		s.projectors[0].awaitReady(t)
		p.become(hanging)
		a, err := s.client.ask(t.Context(), s.client.ingest[1], readMessages("dave", "m1"))
		if err != nil {
			t.Fatal(err)
		}
		position := s.expect(a, http.StatusAccepted, "").position()
		answers := inFlight(t, s.query, 2, func(int) (answer, error) {
			return s.client.ask(t.Context(), s.client.query, pullMessage("alice", "m1", url.Values{"min_position": {position}}))
		})
		s.query.signal(syscall.SIGTERM)
		awaitClosed(t, s.query)
		p.become(passing)
		for range 2 {
			// It may take Kafka's client longer than a pull waits.
			if a := <-answers; a.status != http.StatusOK && a.code() != "not_fresh" {
				t.Errorf("a pull in flight was answered %d %s", a.status, a.body)
			}
		}
		if code := s.query.wait(); code != 0 {
			t.Errorf("exit code %d, must be 0", code)
		}
	})
}

// inFlight sends n requests, and returns when the process has all of them.
func inFlight(t *testing.T, p *process, n int, ask func(i int) (answer, error)) <-chan answer {
	t.Helper()
	answers := make(chan answer, n)
	for i := range n {
		go func() {
			a, err := ask(i)
			if err != nil {
				a = answer{body: []byte(err.Error())}
			}
			answers <- a
		}()
	}
	await(t, func() (bool, string) {
		at := p.metric(t, "seenby_http_requests_in_flight")
		return int(at) >= n, fmt.Sprintf("%s has %v requests in flight, not %d", p.name, at, n)
	})
	return answers
}

// awaitClosed waits until the process lets nobody in any more.
func awaitClosed(t *testing.T, p *process) {
	t.Helper()
	await(t, func() (bool, string) {
		ready, _ := p.ready(t.Context())
		return !ready, p.name + " does not begin to shut down"
	})
}
