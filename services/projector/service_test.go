package projector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/events/topic"
	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/materialize"
	"github.com/seenby/seenby/services/auth"
	"github.com/seenby/seenby/services/contract"
	"github.com/seenby/seenby/services/projector/protocol"
)

// TestFromLogToClient: two nodes and query, over HTTP; restarted; and made again
// from the log alone.
func TestFromLogToClient(t *testing.T) {
	t.Run("kfake", func(t *testing.T) { fromLogToClient(t, deploy(t)) })
	t.Run("kafka", func(t *testing.T) { fromLogToClient(t, deployOnKafka(t)) })
}

func fromLogToClient(t *testing.T, d *deployment) {
	config := func(node int) Config {
		c := d.config()
		c.Nodes, c.Node, c.DataDir = 2, node, filepath.Join(d.dir, fmt.Sprint("state-", node))
		return c
	}
	nodes := []*runningNode{d.start(config(0)), d.start(config(1))}
	q := d.startQuery(nodes...)
	q.becomesReady()

	ids := []string{"m1", "m2", "m3", "m4", "a/b c", "ä%2F"}
	path := func(id, params string) string {
		p := strings.TrimPrefix(protocol.ReceiptsPath(id), "/internal/v1/messages/")
		if params != "" {
			p += "?" + params
		}
		return p
	}
	bodies := map[string]string{}
	var old map[string]string
	follow := func() map[string]string {
		versions := map[string]string{}
		for _, id := range ids {
			r := q.pull("alice", path(id, ""))
			if r.status != 200 {
				t.Fatalf("%s: %s", id, r.raw)
			}
			versions[id], bodies[id] = r.Version, r.raw
		}
		return versions
	}
	for _, id := range ids {
		at := d.write(readEvent(id, "early"), sentEvent(id, "alice", "bob", "carol", "early"), readEvent(id, "bob"))
		r := want(t, q.pull("alice", path(id, params("min_position", at.Encode()))), "active full [early bob] 2 of 3")
		want(t, q.pull("bob", path(id, "")), "404 not_found")
		if r := q.pull("alice", path(id, ""), `W/"`+r.Version+`"`); r.status != http.StatusNotModified || r.raw != "" || r.header.Get("Seenby-Position") == "" {
			t.Errorf("%s: %d %q %v", id, r.status, r.raw, r.header)
		}
		if r.header.Get("Cache-Control") != "no-store" || r.header.Get("Seenby-Answer") != "" {
			t.Errorf("headers %v", r.header)
		}
		at = d.write(readEvent(id, "carol"))
		want(t, q.pull("alice", path(id, params("since", r.Version, "min_position", at.Encode()))), "active delta [carol] 3 of 3 complete")
		want(t, q.pull("alice", path(id, "limit=x")), "400 bad_parameter")
		first := want(t, q.pull("alice", path(id, "limit=1")), "active full [early] 3 of 3 complete more")
		want(t, q.pull("alice", path(id, params("cursor", *first.Next))), "active full [bob carol] 3 of 3 complete")
	}
	old = follow()
	before := map[string]string{}
	for id, body := range bodies {
		before[id] = body
	}
	again := func(what string) {
		t.Helper()
		for i := range nodes {
			nodes[i] = d.start(config(i))
			nodes[i].becomesReady()
		}
		q = d.startQuery(nodes...)
		q.becomesReady()
		for id, v := range follow() {
			if v != old[id] || bodies[id] != before[id] {
				t.Errorf("%s: %s was\n%s\nand is\n%s", what, id, before[id], bodies[id])
			}
		}
	}
	stopAll := func() {
		for _, s := range []*serving{q.serving, nodes[0].serving, nodes[1].serving} {
			if err := s.stop(); err != nil {
				t.Fatal(err)
			}
		}
	}
	stopAll()
	again("restarted")
	stopAll()
	for i := range nodes {
		if err := os.RemoveAll(config(i).DataDir); err != nil {
			t.Fatal(err)
		}
	}
	again("made again from the log")
}

// TestStoppedPartition: an event of an unknown kind stops its partition, which
// says so, and no other; the operator has it passed over.
func TestStoppedPartition(t *testing.T) {
	d := deploy(t)
	node := d.start(d.config())
	q := d.startQuery(node)
	q.becomesReady()
	stopped, other := idIn(1), idIn(2)
	d.write(sentEvent(stopped, "alice", "bob"), sentEvent(other, "alice", "bob"))
	// Field 1500, a message, empty: a kind of event that is yet to be invented.
	at := d.append(topic.Entry{Key: []byte(stopped), Value: []byte{0xe2, 0x5d, 0}, Partition: topic.AnyPartition}).Next[1] - 1
	after := d.write(readEvent(stopped, "bob"), readEvent(other, "bob"))

	says := node.saysUnready("partitions stopped: 1", "kind", fmt.Sprintf("--skip-record 1@%d", at))
	if strings.Contains(says, "stopped: 1,") || strings.Contains(says, "behind") {
		t.Errorf("the others: %s", says)
	}
	want(t, q.pull("alice", other+"/receipts?"+params("min_position", after.Encode())), "active full [bob] 1 of 1 complete")
	want(t, q.pull("alice", stopped+"/receipts"), "503 owner_unavailable")
	want(t, q.pull("alice", stopped+"/receipts?"+params("min_position", after.Encode())), "503 owner_unavailable")
	eventually(t, "query tells", func() bool {
		err := q.service.Ready()
		return err != nil && strings.Contains(err.Error(), "partitions stopped 1: partition 1, offset")
	})
	s := d.status(node)
	if p := s.Owned[1]; p.State != protocol.Stopped || p.Position != at || !strings.Contains(p.Error, "kind") {
		t.Errorf("%+v", p)
	}
	if err := errors.Join(q.stop(), node.stop()); err != nil {
		t.Fatal(err)
	}

	config := d.config()
	node = d.start(config)
	node.saysUnready("partitions stopped: 1") // it is the same record again
	if err := node.stop(); err != nil {
		t.Fatal(err)
	}
	config.Registerer = prometheus.NewRegistry()
	config.Skips = []projections.Skip{{Partition: 1, Offset: at}}
	node = d.start(config)
	node.becomesReady()
	q = d.startQuery(node)
	q.becomesReady()
	want(t, q.pull("alice", stopped+"/receipts"), "active full [bob] 1 of 1 complete")
	if err := errors.Join(q.stop(), node.stop()); err != nil {
		t.Fatal(err)
	}
	config.Skips = nil
	config.Registerer = prometheus.NewRegistry()
	refused(t, config, materialize.ErrLineage, "skip")
}

// refused holds that a node does not start, and says why.
func refused(t *testing.T, config Config, is error, parts ...string) {
	t.Helper()
	service, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err = service.Run(ctx)
	if !errors.Is(err, is) {
		t.Fatalf("it ended with %v, want %v", err, is)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not say %q", err, part)
		}
	}
}

func TestStartIsRefused(t *testing.T) {
	d := deploy(t)
	node := d.start(d.config())
	node.becomesReady()
	d.write(sentEvent("m1", "alice", "bob"))
	if err := node.stop(); err != nil {
		t.Fatal(err)
	}
	for name, k := range map[string]struct {
		change func(*Config)
		is     error
		says   []string
	}{
		"no such topic":    {func(c *Config) { c.Connection.Topic = "none" }, topic.ErrNoTopic, []string{"none", "seenby topic create"}},
		"generation":       {func(c *Config) { c.Generation = 2 }, materialize.ErrLineage, []string{"generation is 1, not 2"}},
		"retention":        {func(c *Config) { c.Retention *= 2 }, materialize.ErrLineage, []string{"retention is 24h0m0s, not 48h0m0s"}},
		"waiting limit":    {func(c *Config) { c.WaitingLimit++ }, materialize.ErrLineage, []string{"1000, not 1001"}},
		"copy":             {func(c *Config) { c.Copy = "b" }, materialize.ErrLineage, []string{"copy is a, not b"}},
		"nodes":            {func(c *Config) { c.Nodes = 2 }, materialize.ErrLineage, []string{"is 1, not 2"}},
		"skip nowhere":     {func(c *Config) { c.Skips = []projections.Skip{{Partition: 4}} }, ErrConfig, []string{"--skip-record 4@0"}},
		"too many waiting": {func(c *Config) { c.WaitingLimit, c.DataDir = 10_000_000, filepath.Join(d.dir, "other") }, nil, []string{"partition 0"}},
	} {
		t.Run(name, func(t *testing.T) {
			config := d.config()
			k.change(&config)
			if k.is == nil {
				service, err := New(config)
				if err != nil {
					t.Fatal(err)
				}
				if err := service.Run(t.Context()); err == nil || !strings.Contains(err.Error(), k.says[0]) {
					t.Errorf("it ended with %v", err)
				}
				return
			}
			refused(t, config, k.is, k.says...)
		})
	}
	t.Run("in use", func(t *testing.T) {
		node := d.start(d.config())
		node.becomesReady()
		service, err := New(d.config())
		if err != nil {
			t.Fatal(err)
		}
		if err := service.Run(t.Context()); err == nil || !strings.Contains(err.Error(), d.config().DataDir) {
			t.Errorf("a second process in its directory ended with %v", err)
		}
		if err := node.stop(); err != nil {
			t.Error(err)
		}
	})
	t.Run("recreated topic", func(t *testing.T) {
		if _, err := d.admin().DeleteTopics(t.Context(), d.conn.Topic); err != nil {
			t.Fatal(err)
		}
		d.createTopic()
		refused(t, d.config(), materialize.ErrLineage, "topic ID", "--generation")
	})
}

// TestPeerIsRefused: whoever takes the node for another one is told what differs,
// in an answer that is not for clients.
func TestPeerIsRefused(t *testing.T) {
	d := deploy(t)
	config := d.config()
	config.Nodes = 2
	node := d.start(config)
	node.becomesReady()
	good := auth.Peer{Protocol: auth.Protocol, Topic: "events", TopicID: d.appender.Identity().ID, Generation: 1, Partitions: testPartitions, Nodes: 2}
	mine, theirs := protocol.ReceiptsPath(idIn(0)), protocol.ReceiptsPath(idIn(1))
	for name, k := range map[string]struct {
		path   string
		change func(*auth.Peer)
		status int
		says   string
	}{
		"good":       {mine, func(*auth.Peer) {}, 404, "not_found"},
		"topic":      {mine, func(p *auth.Peer) { p.Topic = "other" }, 421, "topic: it has other"},
		"topic ID":   {mine, func(p *auth.Peer) { p.TopicID[0]++ }, 421, "topic ID"},
		"generation": {mine, func(p *auth.Peer) { p.Generation++ }, 421, "generation: it has 2"},
		"partitions": {mine, func(p *auth.Peer) { p.Partitions++ }, 421, "partitions: it has 5"},
		"copy size":  {mine, func(p *auth.Peer) { p.Nodes = 3 }, 421, "copy size: it has 3, this process has 2"},
		"not mine":   {theirs, func(*auth.Peer) {}, 421, "another node owns the message"},
	} {
		t.Run(name, func(t *testing.T) {
			peer := good
			k.change(&peer)
			status, body, header := d.ask(node, k.path, peer, alice)
			if status != k.status || !strings.Contains(body, k.says) || (header.Get(protocol.AnswerHeader) != "") != (status == 404) {
				t.Errorf("%d %s %v", status, body, header)
			}
		})
	}
	t.Run("protocol version", func(t *testing.T) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, node.url+protocol.StatusPath, nil)
		if err != nil {
			t.Fatal(err)
		}
		auth.Internal{Keys: d.keys, Now: time.Now}.Sign(r, nil, good, alice)
		r.Header.Set(auth.InternalHeader, "99"+strings.TrimPrefix(r.Header.Get(auth.InternalHeader), fmt.Sprint(auth.Protocol)))
		resp, err := d.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close() //nolint:errcheck // Nothing depends on it.
		if resp.StatusCode != http.StatusMisdirectedRequest {
			t.Errorf("%d", resp.StatusCode)
		}
	})
	t.Run("unsigned", func(t *testing.T) {
		for _, path := range []string{mine, protocol.StatusPath, protocol.UndecodablePath + "?partition=0"} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, node.url+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := d.client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusUnauthorized {
				t.Errorf("%s: %d", path, resp.StatusCode)
			}
		}
	})
}

func TestTopicRecreatedWhileRunning(t *testing.T) {
	d := deploy(t)
	node := d.start(d.config())
	q := d.startQuery(node)
	q.becomesReady()
	at := d.write(sentEvent("m1", "alice", "bob"))
	want(t, q.pull("alice", "m1/receipts?"+params("min_position", at.Encode())), "active full [] 0 of 1")
	if _, err := d.admin().DeleteTopics(t.Context(), d.conn.Topic); err != nil {
		t.Fatal(err)
	}
	d.createTopic()
	node.saysUnready("partitions stopped: 0-3", "recreated", "--generation")
	want(t, q.pull("alice", "m1/receipts"), "503 owner_unavailable")
}

// TestKafkaGone: a node that was ready answers on, and states its lag.
func TestKafkaGone(t *testing.T) {
	d := deploy(t)
	node := d.start(d.config())
	q := d.startQuery(node)
	q.becomesReady()
	at := d.write(sentEvent("m1", "alice", "bob"))
	r := want(t, q.pull("alice", "m1/receipts?"+params("min_position", at.Encode())), "active full [] 0 of 1")
	d.cluster.Close()
	node.saysUnready("partitions behind: 0-3", "ms behind")
	want(t, q.pull("alice", "m1/receipts"), "active full [] 0 of 1")
	if r := q.pull("alice", "m1/receipts", `"`+r.Version+`"`); r.status != 304 || len(r.header.Get("Seenby-Lag-Ms")) < 4 {
		t.Errorf("%d %v", r.status, r.header)
	}
	if err := q.service.Ready(); err != nil {
		t.Errorf("query: %v", err)
	}
}

// TestStartWithoutKafka: it waits, says so, and refuses pulls meanwhile.
func TestStartWithoutKafka(t *testing.T) {
	d := deploy(t)
	config := d.config()
	d.cluster.Close()
	node := d.start(config)
	q := d.startQuery(node)
	node.saysUnready("starting: Kafka")
	want(t, q.pull("alice", "m1/receipts"), "503 starting")
	want(t, q.pull("alice", "m1/receipts?limit=x"), "400 bad_parameter")
	eventually(t, "query hears of it", func() bool {
		err := q.service.Ready()
		return err != nil && strings.Contains(err.Error(), "is starting: Kafka")
	})
	if s := d.status(node); s.Detail == "" || s.Partitions != 0 || s.Nodes != 1 {
		t.Errorf("%+v", s)
	}
}

// TestLogThatStartsLater: what retention has taken away is not waited for.
func TestLogThatStartsLater(t *testing.T) {
	d := deploy(t)
	id := idIn(3)
	at := d.write(sentEvent(id, "alice", "bob"), readEvent(id, "bob"))
	offsets := make(kadm.Offsets)
	offsets.AddOffset(d.conn.Topic, 3, at.Next[3], -1)
	if r, err := d.admin().DeleteRecords(t.Context(), offsets); err != nil || r.Error() != nil {
		t.Fatal(err, r)
	}
	node := d.start(d.config())
	node.becomesReady()
	if p := d.status(node).Owned[3]; p.Position != at.Next[3] || p.End != at.Next[3] {
		t.Errorf("%+v, the log begins and ends at %d", p, at.Next[3])
	}
}

// TestReadyIsStrict: what was acknowledged before the time as of which everything
// is said to be applied is in the pull, without presenting anything.
func TestReadyIsStrict(t *testing.T) {
	d := deploy(t)
	node := d.start(d.config())
	node.becomesReady()
	n := node.service.node.Load()
	var people []string
	for i := range 15 {
		people = append(people, fmt.Sprintf("p%d", i))
	}
	d.write(sentEvent("m1", "alice", people...))
	o := n.owner("m1")
	for i, p := range people {
		d.write(readEvent("m1", p))
		acknowledged := time.Now()
		eventually(t, "everything acknowledged is applied", func() bool { return o.CaughtUp().After(acknowledged) })
		answer := toClient(node.service.Receipts(t.Context(), &contract.Pull{MessageID: "m1"}, alice))
		if r := parseReply(t, answer); r.ReadCount != i+1 {
			t.Fatalf("after %d acknowledged receipts: %s", i+1, answer.Body)
		}
	}
}

func TestUndecodable(t *testing.T) {
	d := deploy(t)
	node := d.start(d.config())
	node.becomesReady()
	value, err := events.AppendEncode(nil, readEvent(idIn(1), "bob"))
	if err != nil {
		t.Fatal(err)
	}
	at := d.append(
		topic.Entry{Key: []byte("k"), Value: []byte("hi"), Partition: 0},
		topic.Entry{Key: nil, Value: []byte{}, Partition: 0},
		topic.Entry{Key: []byte(idIn(1)), Value: value, Partition: 0},
	)
	eventually(t, "they are applied", func() bool { return d.status(node).Owned[0].Position >= at.Next[0] })
	status, body, _ := d.ask(node, protocol.UndecodablePath+"?partition=0", auth.Peer{}, contract.Caller{})
	var kept protocol.Undecodable
	if err := json.Unmarshal([]byte(body), &kept); err != nil || status != 200 {
		t.Fatalf("%d %s: %v", status, body, err)
	}
	if kept.Total != 3 || len(kept.Records) != 3 || string(kept.Records[0].Value) != "hi" || kept.Records[0].ValueSize != 2 || kept.Records[0].Outcome != "undecodable" ||
		kept.Records[1].Key != nil || kept.Records[2].Outcome != "misplaced" || !strings.Contains(kept.Records[2].Reason, "partition 1 of 4") {
		t.Errorf("%s", body)
	}
	for params, want := range map[string]int{"?partition=1": 200, "?partition=4": 503, "?partition=-1": 400, "": 400, "?partition=x": 400} {
		if status, body, _ := d.ask(node, protocol.UndecodablePath+params, auth.Peer{}, contract.Caller{}); status != want {
			t.Errorf("%s: %d %s", params, status, body)
		}
	}
	if got := gathered(t, node.service, "seenby_projector_records_total", "outcome", "misplaced"); got != 1 {
		t.Errorf("misplaced, counted: %v", got)
	}
}

// TestPositionsAreCommitted for standard lag tools, those of idle partitions too.
func TestPositionsAreCommitted(t *testing.T) {
	d := deploy(t)
	node := d.start(d.config())
	node.becomesReady()
	at := d.write(sentEvent(idIn(2), "alice", "bob"))
	n := node.service.node.Load()
	eventually(t, "it is applied", func() bool { return n.owned[2].Position() >= at.Next[2] })
	n.publisher.publish(t.Context(), n.owned)
	if err := n.publisher.err(); err != nil {
		t.Fatal(err)
	}
	committed, err := d.admin().FetchOffsets(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	for p := range int32(testPartitions) {
		if o, found := committed.Lookup(d.conn.Topic, p); !found || o.At != n.owned[p].Position() {
			t.Errorf("partition %d: committed %+v, applied up to %d", p, o, n.owned[p].Position())
		}
	}
	d.cluster.Close()
	n.publisher.publish(t.Context(), n.owned)
	node.saysUnready("consumer group", "only lag tools need it")
	if got := gathered(t, node.service, "seenby_projector_position_commit_failures_total", "", ""); got < 1 {
		t.Errorf("failures, counted: %v", got)
	}
}

// TestShutdownSaves: what was applied is on disk when the node has ended.
func TestShutdownSaves(t *testing.T) {
	d := deploy(t)
	config := d.config()
	config.FlushEvery = time.Minute
	node := d.start(config)
	node.becomesReady()
	at := d.write(sentEvent("m1", "alice", "bob"))
	p := events.Partition("m1", testPartitions)
	eventually(t, "it is applied", func() bool { return d.status(node).Owned[p].Position >= at.Next[p] })
	lineage := node.service.node.Load().lineage
	if err := node.stop(); err != nil {
		t.Fatal(err)
	}
	store, err := openStore(&config, lineage)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close() //nolint:errcheck // Nothing was written.
	if saved, found, err := store.Restore(p); err != nil || !found || saved.Checkpoint.Position < at.Next[p] {
		t.Errorf("saved %+v (%t, %v), applied up to %d", saved.Checkpoint, found, err, at.Next[p])
	}
}

// TestPullsAtShutdown: one that waits is answered at once, before the store is
// closed, and nobody comes in afterwards.
func TestPullsAtShutdown(t *testing.T) {
	d := deploy(t)
	config := d.config()
	config.MaxWait = 30 * time.Second
	node := d.start(config)
	node.becomesReady()
	at := d.write(sentEvent("m1", "alice", "bob"))
	n := node.service.node.Load()
	ask := func(next int64) reply {
		at.Next[events.Partition("m1", testPartitions)] = next
		pull := &contract.Pull{MessageID: "m1", MinPositions: []contract.Position{at}}
		return parseReply(t, toClient(node.service.Receipts(context.Background(), pull, alice)))
	}
	waiting := make(chan reply)
	go func() { waiting <- ask(1 << 40) }()
	eventually(t, "it waits", func() bool {
		n.readers.mu.Lock()
		defer n.readers.mu.Unlock()
		return n.readers.inside == 1
	})
	begun := time.Now()
	if err := node.stop(); err != nil {
		t.Fatal(err)
	}
	want(t, <-waiting, "503 owner_unavailable")
	if took := time.Since(begun); took >= config.MaxWait {
		t.Errorf("the shutdown took %v", took)
	}
	want(t, ask(0), "503 starting")
	if problem := n.readers.enter(); problem == nil {
		t.Error("the closed state lets readers in")
	}
	node.service.node.Store(n) // for one that was asked just before
	want(t, ask(0), "503 owner_unavailable")
	if _, err := node.service.Undecodable(0); err == nil {
		t.Error("it reads a closed store")
	}
}

func TestMetrics(t *testing.T) {
	d := deploy(t)
	config := d.config()
	registry := prometheus.NewRegistry()
	config.Registerer = registry
	node := d.start(config)
	node.becomesReady()
	at := d.write(sentEvent("m1", "alice", "bob", "carol"), readEvent("m1", "bob"), readEvent("m1", "bob"), readEvent("m2", "bob"))
	pull := &contract.Pull{MessageID: "m1", Limit: 1, MinPositions: []contract.Position{at}}
	toClient(node.service.Receipts(t.Context(), pull, alice))
	toClient(node.service.Receipts(t.Context(), pull, bob))
	eventually(t, "all is saved", func() bool {
		for p, next := range at.Next {
			if d.status(node).Owned[p].Saved < next {
				return false
			}
		}
		return true
	})
	p := fmt.Sprint(events.Partition("m1", testPartitions))
	for _, k := range []struct {
		name, label, value string
		want               func(float64) bool
	}{
		{"seenby_projector_records_total", "outcome", "counted", func(v float64) bool { return v == 1 }},
		{"seenby_projector_records_total", "outcome", "repeated", func(v float64) bool { return v == 1 }},
		{"seenby_projector_waiting", "", "", func(v float64) bool { return v == 1 }},
		{"seenby_projector_messages_hot", "", "", func(v float64) bool { return v == 1 }},
		{"seenby_projector_pulls_total", "result", "full", func(v float64) bool { return v == 1 }},
		{"seenby_projector_pulls_total", "result", "not_found", func(v float64) bool { return v == 1 }},
		{"seenby_projector_flushes_total", "", "", func(v float64) bool { return v >= 1 }},
		{"seenby_projector_store_bytes", "", "", func(v float64) bool { return v > 1000 }},
		{"seenby_projector_position", "partition", p, func(v float64) bool { return v >= 3 }},
		{"seenby_projector_saved_position", "partition", p, func(v float64) bool { return v >= 3 }},
		{"seenby_projector_end", "partition", p, func(v float64) bool { return v >= 3 }},
		{"seenby_projector_partition_state", "state", "ready", func(v float64) bool { return v == testPartitions }},
	} {
		if got := sum(t, registry, k.name, k.label, k.value); !k.want(got) {
			t.Errorf("%s{%s=%q} is %v", k.name, k.label, k.value, got)
		}
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}

func gathered(t *testing.T, s *Service, name, label, value string) float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(s.metrics.state)
	return sum(t, registry, name, label, value)
}

// sum adds a metric's values that have a label.
func sum(t *testing.T, from prometheus.Gatherer, name, label, value string) (total float64) {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			has := label == ""
			for _, l := range m.GetLabel() {
				has = has || l.GetName() == label && l.GetValue() == value
			}
			if has {
				total += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return total
}
