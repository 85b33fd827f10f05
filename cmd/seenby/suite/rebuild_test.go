package suite

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// rebuildFlags are those of a node's rebuild into a directory.
func (s *system) rebuildFlags(node int, dir string) []string {
	return append([]string{
		"rebuild", "--quiet", "--data", dir, "--copy", "suite-" + s.topic,
		"--nodes", fmt.Sprint(len(s.projectors)), "--node", fmt.Sprint(node),
	}, s.logFlags()...)
}

// rebuilt stops the projectors, makes the state of each anew with `seenby rebuild`,
// has `seenby verify` find it equal to what the projector had, and has the projectors
// go on with what was made.
func (s *system) rebuilt(t *testing.T) {
	t.Helper()
	for node, p := range s.projectors {
		p.stop(syscall.SIGTERM)
		fresh := filepath.Join(s.dir, fmt.Sprintf("rebuilt-%d", node))
		if code, out, errs := command(t, s.rebuildFlags(node, fresh)...); code != 0 {
			t.Fatalf("rebuild of node %d: %d\n%s%s", node, code, out, errs)
		}
		if code, out, errs := command(t, "verify", "--data", s.data(node), "--against", fresh); code != 0 {
			t.Errorf("node %d: what it had differs from what is rebuilt: %d\n%s%s", node, code, out, errs)
		}
		if err := os.Rename(s.data(node), s.data(node)+"-before"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(fresh, s.data(node)); err != nil {
			t.Fatal(err)
		}
		p.start(t)
	}
	for _, p := range s.projectors {
		p.awaitReady(t)
	}
	s.query.awaitReady(t)
}

// TestErasure has a person erased who sent, read, opted out, and waits; from the
// request on no pull shows them, whether the state is live, restarted or rebuilt.
func TestErasure(t *testing.T) {
	s := newSystem(t, theKafka(t), 4).small()
	const gone = "mallory"
	people := []string{"r0", "r1", "r2", gone}
	var position string
	for i := range 40 {
		id := fmt.Sprintf("m%d", i)
		sender := "alice"
		if i%4 == 3 {
			sender = gone
		}
		s.send(putMessage(id, sender, people...))
		s.send(readMessages("r0", id))
		position = s.send(readMessages(gone, id))
	}
	s.send(readMessages(gone, "later"))
	before := s.pull(t, "m0", url.Values{"min_position": {position}})
	if before.ReadCount != 2 || before.RecipientCount != 4 {
		t.Fatalf("before: %+v", before)
	}
	own := eraseUser(gone)
	own.who = gone
	refused, err := s.client.write(t.Context(), own)
	if err != nil {
		t.Fatal(err)
	}
	s.expect(refused, http.StatusForbidden, "backend_only")
	s.send(eraseUser(gone))
	position = s.send(eraseUser(gone)) // as after a partial failure

	check := func(query url.Values) {
		t.Helper()
		for i := range 40 {
			id := fmt.Sprintf("m%d", i)
			p := s.pull(t, id, query)
			mine := i%4 == 3
			if p.ReadCount != 1 || p.RecipientCount != 3 || len(p.Readers) != 1 || p.Readers[0].Reader != "r0" || (p.Sender == nil) != mine {
				t.Errorf("%s after the erasure: %+v", id, p)
			}
		}
	}
	check(url.Values{"min_position": {position}})
	if p := s.pull(t, "m0", url.Values{"since": {before.Version}}); p.Delta || len(p.Readers) != 1 || p.Version == before.Version {
		t.Errorf("since a version of before: %+v", p)
	}
	// Whoever reads or is sent to after it, takes part as any other.
	position = s.send(putMessage("later", "alice", people...))
	if p := s.pull(t, "later", url.Values{"min_position": {position}}); p.ReadCount != 0 || p.RecipientCount != 4 {
		t.Errorf("sent after the erasure: %+v", p)
	}
	position = s.send(readMessages(gone, "later", "m0"))
	if p := s.pull(t, "later", url.Values{"min_position": {position}}); p.ReadCount != 1 {
		t.Errorf("read after the erasure: %+v", p)
	}
	check(url.Values{"min_position": {position}})
	await(t, func() (bool, string) {
		pending := 0.0
		for _, p := range s.projectors {
			pending += p.metric(t, "seenby_projector_erasures_pending")
		}
		return pending == 0, fmt.Sprintf("%v erasures are pending", pending)
	})
	s.rebuilt(t)
	check(nil)
}

// pull is the backend's pull of a message, which there must be.
func (s *system) pull(t *testing.T, id string, query url.Values) *pull {
	t.Helper()
	p, err := parsePull(s.expect(mustAsk(t, s, pullMessage(backend, id, query)), http.StatusOK, ""), id, 2000)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
