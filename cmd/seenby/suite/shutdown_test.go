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
