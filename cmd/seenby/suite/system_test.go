package suite

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seenby/seenby/events"
)

// system is one deployment: a topic, its secrets, and the processes that a test
// starts. Their flags are in this file alone.
type system struct {
	t          *testing.T
	kafka      *kafka
	topic      string
	partitions int
	// brokers are what the processes are given.
	brokers    []string
	generation int
	retention  time.Duration

	dir        string
	authKey    []byte
	authFile   string
	secretFile string

	ingest     []*process
	projectors []*process
	query      *process
	client     *client
}

const day = 24 * time.Hour

// newSystem makes a topic and the secrets, and starts nothing.
func newSystem(t *testing.T, k *kafka, partitions int) *system {
	t.Helper()
	return newSystemOn(t, k, k.newTopic(t, partitions), partitions)
}

// newSystemOn is for a topic that exists already.
func newSystemOn(t *testing.T, k *kafka, topic string, partitions int) *system {
	t.Helper()
	s := &system{
		t: t, kafka: k, topic: topic, partitions: partitions, brokers: k.brokers,
		generation: 1, retention: 30 * day, dir: t.TempDir(), authKey: make([]byte, 32),
	}
	_, _ = rand.Read(s.authKey) // It never fails.
	secret := make([]byte, 32)
	_, _ = rand.Read(secret)
	s.authFile = s.keyFile("auth.key", s.authKey)
	s.secretFile = s.keyFile("internal.key", secret)
	s.client = newClient(t, s.authKey)
	return s
}

func (s *system) keyFile(name string, key []byte) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(base64.RawURLEncoding.EncodeToString(key)+"\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

func (s *system) logFlags() []string {
	return []string{
		"--brokers", strings.Join(s.brokers, ","), "--topic", s.topic,
		"--generation", fmt.Sprint(s.generation), "--retention", s.retention.String(),
	}
}

// addIngest adds an ingest process; flags win over the suite's.
func (s *system) addIngest(flags ...string) *process {
	s.t.Helper()
	listen := mustFreeAddress(s.t)
	args := append([]string{"ingest", "--listen", listen, "--auth-key-file", s.authFile}, s.logFlags()...)
	p := newProcess(s.t, fmt.Sprintf("ingest-%d", len(s.ingest)), listen, append(args, flags...)...)
	s.ingest = append(s.ingest, p)
	s.client.ingest = append(s.client.ingest, "http://"+listen)
	return p
}

// addProjectors adds the nodes of the copy.
func (s *system) addProjectors(nodes int, flags ...string) {
	s.t.Helper()
	for node := range nodes {
		listen := mustFreeAddress(s.t)
		args := append([]string{
			"projector", "--listen", listen, "--internal-secret-file", s.secretFile, "--data", s.data(node),
			"--copy", "suite-" + s.topic, "--nodes", fmt.Sprint(nodes), "--node", fmt.Sprint(node),
		}, s.logFlags()...)
		s.projectors = append(s.projectors, newProcess(s.t, fmt.Sprintf("projector-%d", node), listen, append(args, flags...)...))
	}
}

// data is a projector's directory.
func (s *system) data(node int) string { return filepath.Join(s.dir, fmt.Sprintf("state-%d", node)) }

// addQuery adds the query process, for the projectors that were added.
func (s *system) addQuery(flags ...string) *process {
	s.t.Helper()
	listen := mustFreeAddress(s.t)
	var nodes []string
	for _, p := range s.projectors {
		nodes = append(nodes, "http://"+p.listen)
	}
	args := []string{
		"query", "--listen", listen, "--auth-key-file", s.authFile, "--internal-secret-file", s.secretFile,
		"--projectors", strings.Join(nodes, ","),
	}
	s.query = newProcess(s.t, "query", listen, append(args, flags...)...)
	s.client.query = "http://" + listen
	return s.query
}

// start starts whatever was added, and waits until all of it is ready.
func (s *system) start() {
	s.t.Helper()
	all := s.all()
	for _, p := range all {
		p.start(s.t)
	}
	for _, p := range all {
		p.awaitReady(s.t)
	}
}

func (s *system) all() []*process {
	all := append(append([]*process(nil), s.ingest...), s.projectors...)
	if s.query != nil {
		all = append(all, s.query)
	}
	return all
}

// small starts one process of each kind.
func (s *system) small() *system {
	s.t.Helper()
	s.addIngest()
	s.addProjectors(1)
	s.addQuery()
	s.start()
	return s
}

// partition is the one that a message is in.
func (s *system) partition(messageID string) int32 {
	return events.Partition([]byte(messageID), int32(s.partitions))
}

// owner is the projector that has the message.
func (s *system) owner(messageID string) *process {
	return s.projectors[int(s.partition(messageID))%len(s.projectors)]
}

// idIn returns an ID that belongs to the partition; a stem has one for each.
func (s *system) idIn(partition int32, stem string) string {
	for i := 0; ; i++ {
		if id := fmt.Sprintf("%s-%d", stem, i); s.partition(id) == partition {
			return id
		}
	}
}

// do asks for something that must be answered with this status and, if it is a
// problem, this code.
func (s *system) expect(a answer, status int, code string) answer {
	s.t.Helper()
	if a.status != status || a.code() != code {
		s.t.Fatalf("%s: answered %d %s, not %d %s", a.request, a.status, a.body, status, code)
	}
	return a
}

// awaitAnswer asks again until the answer has this status and code. Only what
// depends on other processes, as the routing does, is worth asking again.
func (s *system) awaitAnswer(ask func() (answer, error), status int, code string) (a answer) {
	s.t.Helper()
	await(s.t, func() (bool, string) {
		var err error
		if a, err = ask(); err != nil {
			return false, err.Error()
		}
		return a.status == status && a.code() == code, fmt.Sprintf("%s: answered %d %s, not %d %s", a.request, a.status, a.body, status, code)
	})
	return a
}

// send puts a message, reads it, and so on: a write that must be accepted.
func (s *system) send(r request) (position string) {
	s.t.Helper()
	a, err := s.client.write(s.t.Context(), r)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.expect(a, http.StatusAccepted, "").position()
}
