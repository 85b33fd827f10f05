package suite

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// python skips the test unless there is a Python with the clients, and returns a
// function that runs a script of testdata. The script has events_pb2, which is
// compiled from events.proto as any other product would.
func python(t *testing.T) func(script string, args ...string) string {
	t.Helper()
	interpreter := os.Getenv("SEENBY_TEST_PYTHON")
	if interpreter == "" {
		t.Skip("requires python: set SEENBY_TEST_PYTHON to a Python 3 with kafka-python, confluent-kafka and grpcio-tools (python3 -m venv DIR; DIR/bin/pip install kafka-python confluent-kafka grpcio-tools)")
	}
	run := func(args ...string) string {
		cmd := exec.CommandContext(t.Context(), interpreter, args...)
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
		if err := cmd.Run(); err != nil {
			t.Fatalf("%s: %v\n%s%s", strings.Join(cmd.Args, " "), err, out.String(), errs.String())
		}
		return out.String()
	}
	dir := t.TempDir()
	run("-m", "grpc_tools.protoc", "-I", filepath.Join("..", "..", "..", "events"), "--python_out", dir, "events.proto")
	return func(script string, args ...string) string {
		source, err := os.ReadFile(filepath.Join("testdata", script))
		if err != nil {
			t.Fatal(err)
		}
		// Beside events_pb2, where Python looks for it.
		path := filepath.Join(dir, script)
		if err := os.WriteFile(path, source, 0o600); err != nil {
			t.Fatal(err)
		}
		return run(append([]string{path}, args...)...)
	}
}

// TestForeignClients has other languages' clients write to the topic directly.
// Those whose partitioner is Java's count; one that puts keys elsewhere is
// harmless, and an operator can see what it did.
func TestForeignClients(t *testing.T) {
	run := python(t)
	s := newSystem(t, theKafka(t), 16).small()
	ids := make([]string, 32)
	for i := range ids {
		ids[i] = fmt.Sprintf("foreign-%d", i)
		s.send(putMessage(ids[i], "alice", "kafka-python", "murmur2", "default"))
	}
	brokers := strings.Join(s.brokers, ",")
	all := map[string][]string{ // by reader, the messages that must show
		"kafka-python": s.rightlyPlaced(t, run("produce_kafka_python.py", append([]string{brokers, s.topic, "kafka-python"}, ids...)...)),
		"murmur2":      s.rightlyPlaced(t, run("produce_confluent_kafka.py", append([]string{brokers, s.topic, "murmur2", "murmur2_random"}, ids...)...)),
		"default":      s.rightlyPlaced(t, run("produce_confluent_kafka.py", append([]string{brokers, s.topic, "default", "default"}, ids...)...)),
	}
	if len(all["kafka-python"]) != len(ids) || len(all["murmur2"]) != len(ids) {
		t.Errorf("of %d records kafka-python placed %d and murmur2_random %d where they belong", len(ids), len(all["kafka-python"]), len(all["murmur2"]))
	}
	misplaced := len(ids) - len(all["default"])
	if misplaced == 0 {
		t.Fatal("librdkafka's default partitioner placed every record where it belongs; the test shows nothing")
	}
	s.awaitEnd(t)
	for _, id := range ids {
		p, err := s.client.pullAll(t.Context(), "alice", id, nil)
		if err != nil {
			t.Fatal(err)
		}
		for reader, must := range all {
			there := len(missing(p, []string{reader})) == 0
			if there != slices.Contains(must, id) {
				t.Errorf("message %s: receipt of %s: there is %v", id, reader, there)
			}
		}
	}
	s.skipped(t, "misplaced", misplaced)
}

// rightlyPlaced parses a script's output, and returns the messages whose record
// is in the partition where it belongs.
func (s *system) rightlyPlaced(t *testing.T, out string) (ids []string) {
	t.Helper()
	for line := range strings.Lines(out) {
		id, number, _ := strings.Cut(strings.TrimSpace(line), " ")
		partition, err := strconv.Atoi(number)
		if err != nil {
			t.Fatalf("a script printed %q", line)
		}
		if int32(partition) == s.partition(id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// awaitEnd waits until all that is in the topic now is applied, by writing behind
// it in every partition and pulling that.
func (s *system) awaitEnd(t *testing.T) {
	t.Helper()
	stem := newName(t)
	for p := range s.partitions {
		id := s.idIn(int32(p), stem)
		s.awaitRead(t, "probe", id, s.send(putMessage(id, "probe", "nobody")))
	}
}

// skipped checks that so many records were skipped for a reason, that metrics
// count them, and that they can be looked at.
func (s *system) skipped(t *testing.T, outcome string, n int) {
	t.Helper()
	metric := 0.0
	shown := 0
	for _, p := range s.projectors {
		metric += p.metric(t, "seenby_projector_records_total", `outcome="`+outcome+`"`)
		args := []string{"inspect", "undecodable", "--projector", p.url(""), "--internal-secret-file", s.secretFile}
		code, out, errs := command(t, append(args, "--json")...)
		if code != 0 {
			t.Fatalf("seenby inspect undecodable: exit code %d: %s", code, errs)
		}
		for line := range strings.Lines(out) {
			var partition struct {
				Records []struct{ Outcome string }
			}
			if err := json.Unmarshal([]byte(line), &partition); err != nil {
				t.Fatalf("seenby inspect undecodable --json: %v in %s", err, line)
			}
			for _, r := range partition.Records {
				if r.Outcome == outcome {
					shown++
				}
			}
		}
		if code, out, errs := command(t, args...); code != 0 || n > 0 && !strings.Contains(out, outcome) {
			t.Errorf("seenby inspect undecodable: exit code %d: %s%s", code, out, errs)
		}
	}
	if int(metric) != n || shown != n {
		t.Errorf("%d records are %s; metrics count %v, inspect shows %d", n, outcome, metric, shown)
	}
}

// TestConsoleProducer has Kafka's console producer, or what sends the same
// records, write what is no event.
func TestConsoleProducer(t *testing.T) {
	k := theKafka(t)
	s := newSystem(t, k, 4).small()
	s.send(putMessage("m1", "alice", "bob"))
	if k.control != "" {
		words := append(strings.Fields(k.control), "produce", "--topic", s.topic)
		cmd := exec.CommandContext(t.Context(), words[0], words[1:]...)
		cmd.Stdin = strings.NewReader("hi\n\n")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(words, " "), err, out)
		}
	} else {
		k.produce(t,
			&kgo.Record{Topic: s.topic, Partition: 0, Value: []byte("hi")},
			&kgo.Record{Topic: s.topic, Partition: 1, Value: []byte{}})
	}
	s.awaitEnd(t)
	s.skipped(t, "undecodable", 2)
	if p := s.awaitRead(t, "alice", "m1", s.send(readMessages("bob", "m1"))); p.ReadCount != 1 {
		t.Errorf("after garbage: %+v", p)
	}
	if ready, says := s.projectors[0].ready(t.Context()); !ready {
		t.Errorf("the projector is not ready: %s", says)
	}
}

// TestUnknownKind has a newer producer write an event of a kind that this build
// does not know. That partition stops and says so; the operator's last resort,
// --skip-record, has it go on.
func TestUnknownKind(t *testing.T) {
	k := theKafka(t)
	s := newSystem(t, k, 4).small()
	stopped, running := s.idIn(1, "stopped"), s.idIn(2, "running")
	for _, id := range []string{stopped, running} {
		s.awaitRead(t, "alice", id, s.send(putMessage(id, "alice", "bob")))
	}
	// Field 1999, a message without fields.
	record := k.produce(t, &kgo.Record{Topic: s.topic, Partition: 1, Key: []byte(stopped), Value: []byte{0xfa, 0x7c, 0x00}})[0]
	at := fmt.Sprintf("%d@%d", record.Partition, record.Offset)
	s.stoppedAlone(t, stopped, running, "partition 1", strconv.FormatInt(record.Offset, 10), "--skip-record")

	p := s.projectors[0]
	p.stop(syscall.SIGTERM)
	p.args = append(p.args, "--skip-record", at)
	p.start(t)
	p.awaitReady(t)
	position := s.send(readMessages("bob", stopped))
	got := s.awaitRead(t, "alice", stopped, position)
	if got.ReadCount != 1 {
		t.Errorf("after the skip: %+v", got)
	}
	if _, err := s.client.pullAll(t.Context(), "alice", running, url.Values{}); err != nil {
		t.Error(err)
	}
}
