package suite

import (
	"strings"
	"testing"
)

// looked starts a message's life for seenby watch, which pulls often so that the
// test is over soon.
func looked(t *testing.T) (s *system, position string) {
	t.Helper()
	s = newSystem(t, theKafka(t), 1)
	s.addIngest()
	s.addProjectors(1, "--poll-interval", "100ms")
	s.addQuery()
	s.start()
	s.send(putMessage("m1", "alice", "bob", "carol", "dave"))
	return s, s.send(readMessages("bob", "m1"))
}

func (s *system) watch(id, position string) []string {
	return []string{"watch", id, "--url", s.client.query, "--auth-key-file", s.authFile, "--subject", "alice", "--position", position}
}

// TestWatchLines has seenby watch write to a file: a line for each change, until
// the look ends.
func TestWatchLines(t *testing.T) {
	t.Parallel()
	s, position := looked(t)
	p := newProcess(t, "watch", "", s.watch("m1", position)...)
	p.start(t)
	says := func(text string) {
		t.Helper()
		await(t, func() (bool, string) { return strings.Contains(p.text(), text), "seenby watch does not say " + text })
	}
	says("read by 1 of 3")
	s.send(readMessages("carol", "m1"))
	says("read by 2 of 3")
	s.send(readMessages("dave", "m1"))
	says("read by 3 of 3")
	if code := p.wait(); code != 0 {
		t.Errorf("exit code %d, must be 0", code)
	}
	says("stopped")
	if strings.Contains(p.text(), "\x1b") {
		t.Errorf("what is no terminal is sent escapes: %q", p.text())
	}

	if code, out, errs := command(t, s.watch("none", position)...); code != 1 || errs == "" {
		t.Errorf("watch of no message: exit code %d\n%s%s", code, out, errs)
	}
}
