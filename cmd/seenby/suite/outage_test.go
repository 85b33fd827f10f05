package suite

import (
	"net/http"
	"net/url"
	"strconv"
	"testing"
	"time"
)

// TestKafkaOutOfReach takes Kafka away from seenby, once so that connections are
// refused and once so that nothing answers any more. Writes are refused in time,
// pulls are answered with a lag that grows, and all of it is well again without
// a restart.
func TestKafkaOutOfReach(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]mode{"refused": refusing, "hanging": hanging} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // Each has Kafka for itself to take away.
			k := theKafka(t)
			s := newSystem(t, k, 4)
			p := newProxy(t, k)
			s.brokers = p.brokers
			s.small()
			s.send(putMessage("m1", "alice", "bob", "carol"))
			position := s.send(readMessages("bob", "m1"))
			s.expect(mustAsk(t, s, pullMessage("alice", "m1", url.Values{"min_position": {position}})), http.StatusOK, "")

			p.become(how)
			testOutage(t, s)
			p.become(passing)

			s.ingest[0].awaitReady(t)
			s.projectors[0].awaitReady(t)
			position = s.send(readMessages("carol", "m1"))
			if got := s.awaitRead(t, "alice", "m1", position); got.ReadCount != 2 {
				t.Errorf("after recovery %d have read, not 2", got.ReadCount)
			}
		})
	}
}

func testOutage(t *testing.T, s *system) {
	for range 2 { // The second meets a client that knows of the outage.
		begun := time.Now()
		a, err := s.client.ask(t.Context(), s.client.ingest[0], readMessages("carol", "m1"))
		if err != nil {
			t.Fatal(err)
		}
		s.expect(a, http.StatusServiceUnavailable, "kafka_unavailable")
		// The contract's own bound.
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("the 503 took %v, must take at most 5 s", took)
		}
		if seconds, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || seconds < 1 {
			t.Errorf("Retry-After: %q", a.header.Get("Retry-After"))
		}
	}
	s.ingest[0].awaitUnready(t)
	s.projectors[0].awaitUnready(t)
	before := lagOf(t, mustAsk(t, s, pullMessage("alice", "m1", nil)))
	await(t, func() (bool, string) {
		lag := lagOf(t, s.expect(mustAsk(t, s, pullMessage("alice", "m1", nil)), http.StatusOK, ""))
		return lag > before && lag > time.Second, "Seenby-Lag-Ms does not grow"
	})
	if ready, says := s.query.ready(t.Context()); !ready {
		t.Errorf("query is not ready, though its owners answer: %s", says)
	}
}

// mustAsk sends a pull to query, once.
func mustAsk(t *testing.T, s *system, r request) answer {
	t.Helper()
	a, err := s.client.ask(t.Context(), s.client.query, r)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// awaitRead pulls with a position until there is an answer.
func (s *system) awaitRead(t *testing.T, who caller, id, position string) (p *pull) {
	t.Helper()
	await(t, func() (bool, string) {
		var err error
		p, err = s.client.pullAll(t.Context(), who, id, url.Values{"min_position": {position}})
		if err != nil {
			return false, err.Error()
		}
		return true, ""
	})
	return p
}

func lagOf(t *testing.T, a answer) time.Duration {
	t.Helper()
	ms, err := strconv.ParseInt(a.header.Get("Seenby-Lag-Ms"), 10, 64)
	if err != nil {
		t.Fatalf("%s: %d %s: %v", a.request, a.status, a.body, err)
	}
	return time.Duration(ms) * time.Millisecond
}

// TestNotFresh has a projector that Kafka is kept from be asked for what was
// acknowledged meanwhile.
func TestNotFresh(t *testing.T) {
	t.Parallel()
	k := theKafka(t)
	s := newSystem(t, k, 4)
	s.addIngest()
	p := newProxy(t, k)
	s.brokers = p.brokers
	s.addProjectors(1)
	s.addQuery()
	s.start()
	first := s.send(putMessage("m1", "alice", "bob"))
	s.awaitRead(t, "alice", "m1", first)

	p.become(refusing)
	s.projectors[0].awaitUnready(t)
	position := s.send(readMessages("bob", "m1"))
	ask := pullMessage("alice", "m1", url.Values{"min_position": {position}})
	a := s.expect(mustAsk(t, s, ask), http.StatusServiceUnavailable, "not_fresh")
	if a.header.Get("Retry-After") == "" {
		t.Error("not_fresh without Retry-After")
	}
	// Whether it is fresh does not depend on who asks.
	s.expect(mustAsk(t, s, pullMessage("mallory", "m1", ask.query)), http.StatusServiceUnavailable, "not_fresh")
	if got := mustAsk(t, s, pullMessage("alice", "m1", nil)); got.status != http.StatusOK {
		t.Errorf("without a position: %d %s", got.status, got.body)
	}

	p.become(passing)
	if got := s.awaitRead(t, "alice", "m1", position); got.ReadCount != 1 {
		t.Errorf("what was acknowledged is not there: %+v", got)
	}
}

// TestStarting asks query before there is any projector.
func TestStarting(t *testing.T) {
	t.Parallel()
	s := newSystem(t, theKafka(t), 1)
	s.addProjectors(1)
	s.addQuery().start(t)
	s.query.awaitUnready(t, s.projectors[0].listen)
	a := s.expect(mustAsk(t, s, pullMessage("alice", "m1", nil)), http.StatusServiceUnavailable, "starting")
	if a.header.Get("Retry-After") == "" {
		t.Error("starting without Retry-After")
	}
	s.projectors[0].start(t)
	s.query.awaitReady(t)
	s.expect(mustAsk(t, s, pullMessage("alice", "m1", nil)), http.StatusNotFound, "not_found")
}

// TestTooBusy fills a process that lets two requests in at a time.
func TestTooBusy(t *testing.T) {
	t.Parallel()
	k := theKafka(t)
	s := newSystem(t, k, 1)
	p := newProxy(t, k)
	s.brokers = p.brokers
	in := s.addIngest("--max-in-flight", "2")
	s.start()
	p.become(hanging)
	ask := func(int) (answer, error) {
		return s.client.ask(t.Context(), s.client.ingest[0], readMessages("bob", "m1"))
	}
	answers := inFlight(t, in, 2, ask)
	a, err := ask(0)
	if err != nil {
		t.Fatal(err)
	}
	s.expect(a, http.StatusServiceUnavailable, "overloaded")
	p.become(passing)
	for range 2 {
		s.expect(<-answers, http.StatusAccepted, "")
	}
	s.send(readMessages("bob", "m1"))
}
