package query

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/services/auth"
	"github.com/seenby/seenby/services/contract"
	"github.com/seenby/seenby/services/projector/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const partitions = 8

// goodStatus is that of a node all of whose partitions are ready.
func goodStatus(node, nodes int) protocol.Status {
	s := protocol.Status{Protocol: protocol.Version, Copy: "a", Nodes: nodes, Node: node, Topic: "events",
		TopicID: protocol.TopicID{7}, Partitions: partitions, Generation: 1, Lineage: 0xabc}
	for p := int32(node); p < partitions; p += int32(nodes) {
		s.Owned = append(s.Owned, protocol.PartitionStatus{Partition: p, State: protocol.Ready})
	}
	return s
}

// fakeOwner is a node that does what a test says.
type fakeOwner struct {
	mu       sync.Mutex
	status   protocol.Status
	statuses int
	err      error // of Status
	receipts func(context.Context, *Ask) (contract.Answer, error)
	batch    func(context.Context, *AskBatch) (*protocol.BatchAnswer, *contract.Problem, error)
}

func (o *fakeOwner) Batch(ctx context.Context, ask *AskBatch) (*protocol.BatchAnswer, *contract.Problem, error) {
	o.mu.Lock()
	f := o.batch
	o.mu.Unlock()
	return f(ctx, ask)
}

func (o *fakeOwner) set(change func(*fakeOwner)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change(o)
}

func (o *fakeOwner) Status(context.Context) (protocol.Status, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.statuses++
	return o.status, o.err
}

func (o *fakeOwner) Pull(ctx context.Context, ask *Ask) (contract.Answer, error) {
	o.mu.Lock()
	f := o.receipts
	o.mu.Unlock()
	return f(ctx, ask)
}

func answerOf(node int) func(context.Context, *Ask) (contract.Answer, error) {
	return func(_ context.Context, ask *Ask) (contract.Answer, error) {
		return contract.Answer{Status: 200, Header: http.Header{"Etag": {`W/"v"`}}, Body: fmt.Appendf(nil, "%s from %d", ask.messageID(), node)}, nil
	}
}

type fixture struct {
	t      *testing.T
	owners []*fakeOwner
	*Service
}

func testKeys(t *testing.T) *auth.Keys {
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(base64.RawURLEncoding.EncodeToString(make([]byte, 32))), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := auth.OpenKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func testConfig(t *testing.T, nodes []Node) Config {
	return Config{Copies: []Copy{{Name: "a", Nodes: nodes}}, Sealer: testKeys(t), OwnerTimeout: 5 * time.Second, StatusEvery: 10 * time.Millisecond,
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(), Now: time.Now}
}

// newFixture is a service on nodes that all are well, not running yet.
func newFixture(t *testing.T, nodes int, change func(*Config)) *fixture {
	f := &fixture{t: t}
	var of []Node
	for i := range nodes {
		o := &fakeOwner{status: goodStatus(i, nodes), receipts: answerOf(i)}
		f.owners = append(f.owners, o)
		of = append(of, Node{Name: fmt.Sprintf("http://node-%d", i), Owner: o})
	}
	config := testConfig(t, of)
	if change != nil {
		change(&config)
	}
	var err error
	if f.Service, err = New(config); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- f.Run(ctx) }()
	f.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			f.t.Error(err)
		}
	})
}

func (f *fixture) pull(id string) (contract.Answer, *contract.Problem) {
	f.t.Helper()
	pull, problem := contract.ParsePull(id, "", nil, f.config.Sealer)
	if problem != nil {
		f.t.Fatal(problem)
	}
	return f.Pull(context.Background(), &Ask{Receipts: pull, Caller: contract.Caller{Subject: "alice"}})
}

// code is the problem's code of a pull, or what it was answered.
func (f *fixture) code(id string) string {
	answer, problem := f.pull(id)
	if problem != nil {
		return string(problem.Code)
	}
	return string(answer.Body)
}

// idOf is a message that node owns.
func idOf(node, nodes int) string {
	for i := 0; ; i++ {
		if id := fmt.Sprintf("m%d", i); int(events.Partition(id, partitions))%nodes == node {
			return id
		}
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatalf("waited in vain for: %s", what)
		case <-tick.C:
		}
	}
}

func (f *fixture) becomes(what string, ready func(error) bool) {
	f.t.Helper()
	eventually(f.t, what, func() bool { return ready(f.Ready()) })
}

func (f *fixture) becomesReady() {
	f.t.Helper()
	f.becomes("ready", func(err error) bool { return err == nil })
}

func (f *fixture) saysUnready(why string) {
	f.t.Helper()
	f.becomes(why, func(err error) bool { return err != nil && strings.Contains(err.Error(), why) })
}

func TestPullGoesToTheOwner(t *testing.T) {
	f := newFixture(t, 3, nil)
	if got := f.code("m1"); got != "starting" {
		t.Errorf("before anything is known: %s", got)
	}
	if err := f.Ready(); err == nil || !strings.Contains(err.Error(), "node 2 (http://node-2) has not been asked yet") {
		t.Errorf("ready: %v", err)
	}
	f.run()
	f.becomesReady()
	for i := range 50 {
		id := fmt.Sprintf("message %d", i)
		want := fmt.Sprintf("%s from %d", id, events.Partition(id, partitions)%3)
		if got := f.code(id); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	answer, problem := f.pull("m1")
	if problem != nil || answer.Status != 200 || answer.Header.Get("ETag") != `W/"v"` {
		t.Errorf("%+v %v", answer, problem)
	}
}

// TestNodeIsRefused: a node that is not what it is taken for is named, and is
// not asked for pulls; the others go on.
func TestNodeIsRefused(t *testing.T) {
	for name, k := range map[string]struct {
		change func(*protocol.Status)
		why    string
		code   string
	}{
		"copy size":  {func(s *protocol.Status) { s.Nodes = 4 }, "node 1 (http://node-1) is one of 4 nodes, but --projectors lists 2", "owner_unavailable"},
		"order":      {func(s *protocol.Status) { s.Node = 0 }, "node 1 (http://node-1) is node 0: --projectors must list the nodes in their order", "owner_unavailable"},
		"protocol":   {func(s *protocol.Status) { s.Protocol = 99 }, "speaks protocol version 99, not 2", "owner_unavailable"},
		"topic":      {func(s *protocol.Status) { s.Topic = "other" }, "is of topic other, a peer has events", "owner_unavailable"},
		"topic ID":   {func(s *protocol.Status) { s.TopicID[0] = 1 }, "is of topic ID 01000000000000000000000000000000, a peer has 07", "owner_unavailable"},
		"partitions": {func(s *protocol.Status) { s.Partitions = 16 }, "is of partition count 16, a peer has 8", "owner_unavailable"},
		"generation": {func(s *protocol.Status) { s.Generation = 2 }, "is of generation 2, a peer has 1", "owner_unavailable"},
		"lineage":    {func(s *protocol.Status) { s.Lineage = 0xdef }, "is of lineage 00000def, a peer has 00000abc", "owner_unavailable"},
		"nothing":    {func(s *protocol.Status) { s.Partitions = 0 }, "says nothing of its log", "owner_unavailable"},
		"starting":   {func(s *protocol.Status) { s.Detail, s.Partitions = "waits for Kafka", 0 }, "is starting: waits for Kafka", "starting"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, 2, nil)
			f.run()
			f.becomesReady()
			f.owners[1].set(func(o *fakeOwner) { k.change(&o.status) })
			f.saysUnready(k.why)
			if got := f.code(idOf(1, 2)); got != k.code {
				t.Errorf("its pull: %s, want %s", got, k.code)
			}
			if got := f.code(idOf(0, 2)); !strings.HasSuffix(got, "from 0") {
				t.Errorf("the other node's pull: %s", got)
			}
			f.owners[1].set(func(o *fakeOwner) { o.status = goodStatus(1, 2) })
			f.becomesReady()
		})
	}
}

// TestPartitionsThatDoNotAnswer: they make query not ready, but their node is
// asked, as it says itself what is the matter.
func TestPartitionsThatDoNotAnswer(t *testing.T) {
	f := newFixture(t, 2, nil)
	f.run()
	f.becomesReady()
	f.owners[0].set(func(o *fakeOwner) {
		o.status.Owned[1].State, o.status.Owned[1].Error = protocol.Stopped, "an unknown event at 7"
		o.status.Owned[2].State = protocol.Starting
	})
	f.saysUnready("node 0 (http://node-0) partitions starting 4; node 0 (http://node-0) partitions stopped 2: an unknown event at 7")
	if got := f.code(idOf(0, 2)); !strings.HasSuffix(got, "from 0") {
		t.Errorf("its pull: %s", got)
	}
	f.owners[0].set(func(o *fakeOwner) {
		o.status = goodStatus(0, 2)
		for i := range o.status.Owned {
			o.status.Owned[i].State = protocol.Behind
		}
	})
	f.becomesReady()
}

func TestNodeOutOfReach(t *testing.T) {
	f := newFixture(t, 2, nil)
	f.owners[1].err = errors.New("connection refused")
	f.run()
	f.saysUnready("node 1 (http://node-1) does not answer: connection refused")
	_, problem := f.pull(idOf(1, 2))
	if problem == nil || problem.Code != contract.OwnerUnavailable || problem.Answer().Header.Get("Retry-After") != "1" {
		t.Errorf("its pull: %v", problem)
	}
	f.owners[1].set(func(o *fakeOwner) { o.err = nil })
	f.becomesReady()
	f.owners[1].set(func(o *fakeOwner) { o.err = errors.New("reset") })
	f.saysUnready("node 1 (http://node-1) does not answer: reset")
}

// TestNodeGoneWhileStarting: a node that was last heard of as it shut down, or
// started, and is gone is not called starting for good.
func TestNodeGoneWhileStarting(t *testing.T) {
	f := newFixture(t, 1, nil)
	f.run()
	f.becomesReady()
	f.owners[0].set(func(o *fakeOwner) {
		o.status = protocol.Status{Protocol: protocol.Version, Copy: "a", Nodes: 1, Detail: "it is shutting down"}
	})
	f.saysUnready("is starting: it is shutting down")
	if got := f.code("m"); got != string(contract.Starting) {
		t.Errorf("a pull of a node that shuts down: %s", got)
	}
	f.owners[0].set(func(o *fakeOwner) { o.err = errors.New("connection refused") })
	f.saysUnready("does not answer: connection refused")
	if got := f.code("m"); got != string(contract.OwnerUnavailable) {
		t.Errorf("a pull of a node that is gone: %s", got)
	}
}

func TestAStatusMayGetLost(t *testing.T) {
	nodes := []Node{{Name: "x"}}
	now := time.Now()
	for _, k := range []struct {
		ago     time.Duration
		refused bool
	}{{silence - 1, false}, {silence, true}} {
		r := newRouting(nodes, []heard{{status: goodStatus(0, 1), ever: true, at: now.Add(-k.ago), err: errors.New("lost")}}, now)
		if refused := r.nodes[0].refused != nil; refused != k.refused {
			t.Errorf("last heard of %v ago: refused %t", k.ago, refused)
		}
	}
}

func TestPullThatFails(t *testing.T) {
	f := newFixture(t, 2, func(c *Config) { c.OwnerTimeout, c.StatusEvery = 100*time.Millisecond, silence/2 })
	f.run()
	f.becomesReady()
	f.owners[0].set(func(o *fakeOwner) {
		o.receipts = func(ctx context.Context, _ *Ask) (contract.Answer, error) {
			<-ctx.Done()
			return contract.Answer{}, ctx.Err()
		}
	})
	f.owners[1].set(func(o *fakeOwner) {
		o.receipts = func(context.Context, *Ask) (contract.Answer, error) { return contract.Answer{}, errors.New("reset") }
	})
	for node, want := range map[int]contract.Code{0: contract.Timeout, 1: contract.OwnerUnavailable} {
		_, problem := f.pull(idOf(node, 2))
		if problem == nil || problem.Code != want || problem.RetryAfter < time.Second || !strings.Contains(problem.Error(), f.routing.Load().nodes[node].name) {
			t.Errorf("node %d: %v, want %s", node, problem, want)
		}
	}
}

// TestFailureAsksForStatus: what is wrong with a node is known soon after a pull
// failed there, and not only at the next tick.
func TestFailureAsksForStatus(t *testing.T) {
	f := newFixture(t, 1, nil)
	f.config.StatusEvery = time.Hour // no other tick comes
	f.run()
	f.becomesReady()
	f.owners[0].set(func(o *fakeOwner) {
		o.status.Generation = 0
		o.status.Detail = "restarted"
		o.receipts = func(context.Context, *Ask) (contract.Answer, error) { return contract.Answer{}, errRefused }
	})
	var before int
	f.owners[0].set(func(o *fakeOwner) { before = o.statuses })
	f.code("m1")
	eventually(t, "a status", func() (asked bool) {
		f.owners[0].set(func(o *fakeOwner) { asked = o.statuses > before })
		return asked
	})
	f.saysUnready("is starting: restarted")
}

func TestConfigValidate(t *testing.T) {
	good := testConfig(t, []Node{{Name: "x", Owner: &fakeOwner{}}})
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for flag, change := range map[string]func(*Config){
		"--projectors":           func(c *Config) { c.Copies = nil },
		"--internal-secret-file": func(c *Config) { c.Sealer = nil },
		"--owner-timeout":        func(c *Config) { c.OwnerTimeout = 0 },
		"--status-every":         func(c *Config) { c.StatusEvery = time.Hour },
	} {
		c := good
		change(&c)
		if err := c.Validate(); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s: %v", flag, err)
		}
		if _, err := New(c); !errors.Is(err, ErrConfig) {
			t.Errorf("New with a bad %s: %v", flag, err)
		}
	}
	for _, address := range []string{"", "host:80", "ftp://h", "http://", "http://h/path", "http://h?x=1", "http://u@h", "http://h#f", "http://[::1"} {
		if _, _, err := HTTPNodes([]string{address}, HTTPConfig{}); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "--projectors") {
			t.Errorf("%q: %v", address, err)
		}
	}
	for _, file := range []string{filepath.Join(t.TempDir(), "none"), writeFile(t, "no PEM")} {
		if _, _, err := HTTPNodes([]string{"https://h"}, HTTPConfig{CAFile: file}); !errors.Is(err, ErrConfig) {
			t.Errorf("CA file %s: %v", file, err)
		}
	}
}

func writeFile(t *testing.T, content string) string {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestInProcess(t *testing.T) {
	o := InProcess(local{})
	status, err := o.Status(context.Background())
	if err != nil || status.Copy != "here" {
		t.Errorf("%+v %v", status, err)
	}
	answer, err := o.Pull(context.Background(), &Ask{Receipts: &contract.Pull{MessageID: "m1"}, Caller: contract.Caller{Subject: "alice"}})
	if err != nil || string(answer.Body) != "m1 for alice" {
		t.Errorf("%+v %v", answer, err)
	}
	answer, err = o.Pull(context.Background(), &Ask{Unread: &contract.Unread{MessageID: "m1"}, Caller: contract.Caller{Subject: "alice"}})
	if err != nil || answer.Status != http.StatusConflict || !strings.Contains(string(answer.Body), "m1 for alice") {
		t.Errorf("%+v %v", answer, err)
	}
	_, problem, err := o.Batch(context.Background(), &AskBatch{Batch: &contract.Batch{Items: make([]contract.BatchItem, 2)}, Readers: 7, Caller: contract.Caller{Subject: "alice"}})
	if err != nil || problem.Detail != "2 messages and 7 readers for alice" {
		t.Errorf("%v %v", problem, err)
	}
}

type local struct{}

func (local) Status() protocol.Status { return protocol.Status{Copy: "here"} }

func (local) Receipts(_ context.Context, pull *contract.Pull, caller contract.Caller) (contract.Answer, *contract.Problem) {
	return contract.Answer{Body: []byte(pull.MessageID + " for " + caller.Subject)}, nil
}

func (local) Unread(_ context.Context, unread *contract.Unread, caller contract.Caller) (contract.Answer, *contract.Problem) {
	return contract.Answer{}, contract.NewProblem(contract.NoRoster, "%s for %s", unread.MessageID, caller.Subject)
}

func (local) Batch(_ context.Context, batch *contract.Batch, readers int, caller contract.Caller) (*protocol.BatchAnswer, *contract.Problem) {
	return nil, contract.NewProblem(contract.PositionGone, "%d messages and %d readers for %s", len(batch.Items), readers, caller.Subject)
}
