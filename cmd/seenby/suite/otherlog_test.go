package suite

import (
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
)

// TestAnotherTopic presents what one topic's service gave out to another's.
func TestAnotherTopic(t *testing.T) {
	t.Parallel()
	k := theKafka(t)
	here, there := newSystem(t, k, 4).small(), newSystem(t, k, 4).small()
	position := there.send(putMessage("m1", "alice", "bob"))
	version := there.awaitRead(t, "alice", "m1", position).Version
	mine := here.send(putMessage("m1", "alice", "bob", "carol"))
	here.send(readMessages("carol", "m1"))
	here.awaitRead(t, "alice", "m1", mine)

	ask := func(name, value string) answer {
		return mustAsk(t, here, pullMessage("alice", "m1", url.Values{name: {value}}))
	}
	here.expect(ask("min_position", position), http.StatusGone, "position_gone")
	p, err := parsePull(here.expect(ask("since", version), http.StatusOK, ""), "m1", 200)
	if err != nil {
		t.Fatal(err)
	}
	if p.Delta || p.RecipientCount != 2 {
		t.Errorf("a version of another topic must be answered in full: %+v", p)
	}
}

// TestTopicRecreated deletes the topic and makes it again, under running
// processes or while they are down. That is another log: nothing goes on by
// itself, everything says why, and a higher generation is the way out.
func TestTopicRecreated(t *testing.T) {
	t.Run("while running", func(t *testing.T) {
		s, position := beforeRecreation(t)
		recreate(t, s)
		s.projectors[0].awaitUnready(t, "recreated", "--generation")
		afterRecreation(t, s, position)
	})
	t.Run("while down", func(t *testing.T) {
		s, position := beforeRecreation(t)
		p := s.projectors[0]
		p.stop(syscall.SIGTERM)
		recreate(t, s)
		p.start(t)
		// No partition could go on, so the process does not stay.
		if code := p.wait(); code != 1 {
			t.Errorf("exit code %d of a projector whose topic was recreated, must be 1", code)
		}
		for _, word := range []string{"recreated", "topic ID", "--generation"} {
			if !strings.Contains(p.tail(), word) {
				t.Errorf("the projector does not speak of %s", word)
			}
		}
		afterRecreation(t, s, position)
	})
}

func beforeRecreation(t *testing.T) (s *system, position string) {
	t.Helper()
	s = newSystem(t, theKafka(t), 4).small()
	s.send(putMessage("m1", "alice", "bob"))
	position = s.send(readMessages("bob", "m1"))
	s.awaitRead(t, "alice", "m1", position)
	return s, position
}

func recreate(t *testing.T, s *system) {
	t.Helper()
	if err := s.kafka.remove(t.Context(), s.topic); err != nil {
		t.Fatal(err)
	}
	s.kafka.createTopic(t, s.topic, s.partitions)
}

func afterRecreation(t *testing.T, s *system, position string) {
	t.Helper()
	s.awaitAnswer(func() (answer, error) {
		return s.client.ask(t.Context(), s.client.query, pullMessage("alice", "m1", nil))
	}, http.StatusServiceUnavailable, "owner_unavailable")
	s.ingest[0].awaitUnready(t, "its ID was", "--generation")
	s.awaitAnswer(func() (answer, error) {
		return s.client.ask(t.Context(), s.client.ingest[0], readMessages("bob", "m1"))
	}, http.StatusServiceUnavailable, "kafka_unavailable")

	s.newGeneration(t)
	fresh := s.send(putMessage("m1", "alice", "bob"))
	if p := s.awaitRead(t, "alice", "m1", fresh); p.ReadCount != 0 {
		t.Errorf("the new log has %d reads", p.ReadCount)
	}
	s.expect(mustAsk(t, s, pullMessage("alice", "m1", url.Values{"min_position": {position}})), http.StatusGone, "position_gone")
}

// newGeneration does what the errors say: another generation for all, and
// projectors that begin anew.
func (s *system) newGeneration(t *testing.T) {
	t.Helper()
	for _, p := range s.all() {
		p.stop(syscall.SIGTERM)
		for i, arg := range p.args {
			if arg == "--generation" {
				p.args[i+1] = "2"
			}
		}
	}
	for node := range s.projectors {
		if err := os.RemoveAll(s.data(node)); err != nil {
			t.Fatal(err)
		}
	}
	s.start()
}

// TestDeletedUnread has Kafka delete records that a projector, which is down, has
// not read. The partition stops and says which; the others go on.
func TestDeletedUnread(t *testing.T) {
	k := theKafka(t)
	s := newSystem(t, k, 4).small()
	lost, kept := s.idIn(1, "lost"), s.idIn(2, "kept")
	for _, id := range []string{lost, kept} {
		s.awaitRead(t, "alice", id, s.send(putMessage(id, "alice", "bob", "carol")))
	}
	s.projectors[0].stop(syscall.SIGTERM)
	for _, id := range []string{lost, kept} {
		s.send(readMessages("bob", id))
		s.send(readMessages("carol", id))
	}
	ends, err := k.admin.ListEndOffsets(t.Context(), s.topic)
	if err != nil {
		t.Fatal(err)
	}
	end, _ := ends.Lookup(s.topic, 1)
	before := end.Offset - 1 // One of the two unread receipts is deleted.
	k.deleteRecords(t, s.topic, 1, before)
	s.projectors[0].start(t)
	s.stoppedAlone(t, lost, kept, "partition 1", "start has passed the position", "--generation")
}

// stoppedAlone checks that the partition of one message has stopped, with the
// reason, and that another's goes on.
func (s *system) stoppedAlone(t *testing.T, stopped, running string, words ...string) {
	t.Helper()
	says := s.owner(stopped).awaitUnready(t, words...)
	t.Logf("/readyz: %s", strings.TrimSpace(says))
	s.awaitAnswer(func() (answer, error) {
		return s.client.ask(t.Context(), s.client.query, pullMessage("alice", stopped, nil))
	}, http.StatusServiceUnavailable, "owner_unavailable")
	position := s.send(readMessages("bob", running))
	s.awaitRead(t, "alice", running, position)
}
