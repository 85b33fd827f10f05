package projector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/events/topic"
	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/services/auth"
	"github.com/seenby/seenby/services/contract"
	"github.com/seenby/seenby/services/projector/protocol"
	"github.com/seenby/seenby/services/query"
	"github.com/seenby/seenby/services/server"
)

const testPartitions = 4

// deployment is a log on an embedded broker, and what reads it.
type deployment struct {
	t        *testing.T
	cluster  *kfake.Cluster // nil on real Kafka
	conn     topic.Connection
	replicas int16
	appender *topic.Appender
	keys     *auth.Keys
	dir      string
	client   *http.Client
}

// deploy is on the embedded broker.
func deploy(t *testing.T) *deployment {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return deployOn(t, topic.Connection{Brokers: cluster.ListenAddrs(), Topic: "events"}, 1, cluster)
}

// deployOnKafka is on the real Kafka that SEENBY_TEST_BROKERS names.
func deployOnKafka(t *testing.T) *deployment {
	t.Helper()
	brokers := os.Getenv("SEENBY_TEST_BROKERS")
	if brokers == "" {
		t.Skip("requires kafka: set SEENBY_TEST_BROKERS=host:port,... to brokers of a cluster")
	}
	conn := topic.Connection{Brokers: strings.Split(brokers, ","), Topic: fmt.Sprintf("seenby-projector-test-%x", rand.Uint64())}
	d := deployOn(t, conn, 3, nil)
	t.Cleanup(func() { _, _ = d.admin().DeleteTopics(context.Background(), conn.Topic) })
	return d
}

func deployOn(t *testing.T, conn topic.Connection, replicas int16, cluster *kfake.Cluster) *deployment {
	t.Helper()
	d := &deployment{t: t, cluster: cluster, conn: conn, replicas: replicas, keys: testKeys(t), dir: t.TempDir()}
	d.client = &http.Client{Transport: &http.Transport{}}
	t.Cleanup(d.client.CloseIdleConnections)
	d.createTopic()
	var err error
	d.appender, err = topic.NewAppender(t.Context(), topic.AppenderConfig{Connection: d.conn, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.appender.Close(context.Background()) })
	return d
}

func (d *deployment) createTopic() {
	d.t.Helper()
	spec := topic.Spec{Partitions: testPartitions, Replicas: d.replicas, MinInSync: 1, Retention: testRetention}
	if _, err := topic.Create(d.t.Context(), d.conn, spec); err != nil {
		d.t.Fatal(err)
	}
}

func (d *deployment) admin() *kadm.Client {
	d.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(d.conn.Brokers...))
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(cl.Close)
	return kadm.NewClient(cl)
}

// config is that of node 0 of 1.
func (d *deployment) config() Config {
	return Config{
		Connection: d.conn, Generation: 1, Retention: testRetention, WaitingLimit: 1000, Copy: "a", Nodes: 1, Node: 0,
		DataDir: filepath.Join(d.dir, "state"), MemoryBytes: 16 << 20, CacheBytes: 2 << 20, MemtableBytes: 20 << 20,
		FlushBytes: 256 << 10, FlushEvery: 50 * time.Millisecond, MaxWait: 20 * time.Second,
		PollInterval: DefaultPollInterval, PollWindow: DefaultPollWindow, PollSlowest: DefaultPollSlowest, VisibleTo: Sender,
		Secret: d.keys, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(), Now: time.Now,
	}
}

// serving is a running process: a service, and its HTTP side.
type serving struct {
	t    *testing.T
	url  string
	stop func() error // and wait; may be called again
}

// serve runs a service behind a server until the test ends, or stop is called.
func serve(t *testing.T, routes []server.Route, ready func() error, authenticate func(*http.Request) (contract.Caller, *contract.Problem),
	run func(context.Context) error) *serving {
	t.Helper()
	s, err := server.New(server.Config{Listen: "127.0.0.1:0", Service: "test", Logger: slog.New(slog.DiscardHandler),
		Registry: prometheus.NewRegistry(), Routes: routes, Authenticate: authenticate, Ready: ready, RequestTimeout: 25 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	front, stopFront := context.WithCancel(context.Background())
	back, stopBack := context.WithCancel(context.Background())
	frontDone, backDone := make(chan error, 1), make(chan error, 1)
	go func() { frontDone <- s.Run(front) }()
	go func() { backDone <- run(back) }()
	stopped := false
	v := &serving{t: t, url: "http://" + s.Addr().String()}
	v.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		stopFront()
		err := <-frontDone
		stopBack()
		return errors.Join(err, <-backDone)
	}
	t.Cleanup(func() {
		if err := v.stop(); err != nil {
			t.Error(err)
		}
	})
	return v
}

// node is a running projector.
type runningNode struct {
	*serving
	service *Service
}

func (d *deployment) start(config Config) *runningNode {
	d.t.Helper()
	service, err := New(config)
	if err != nil {
		d.t.Fatal(err)
	}
	return &runningNode{serve(d.t, service.Routes(), service.Ready, nil, service.Run), service}
}

func (n *runningNode) becomesReady() {
	n.t.Helper()
	var err error
	eventually(n.t, "ready", func() bool { err = n.service.Ready(); return err == nil })
}

func (n *runningNode) saysUnready(parts ...string) string {
	n.t.Helper()
	var err error
	eventually(n.t, "unready: "+strings.Join(parts, ", "), func() bool {
		if err = n.service.Ready(); err == nil {
			return false
		}
		for _, part := range parts {
			if !strings.Contains(err.Error(), part) {
				return false
			}
		}
		return true
	})
	return err.Error()
}

var _ query.Projector = (*Service)(nil)

// runningQuery is a running query.
type runningQuery struct {
	*serving
	d       *deployment
	service *query.Service
}

// startQuery runs query on these nodes. Who asks is a header there.
func (d *deployment) startQuery(nodes ...*runningNode) *runningQuery {
	d.t.Helper()
	var addresses []string
	for _, n := range nodes {
		addresses = append(addresses, n.url)
	}
	of, closeIdle, err := query.HTTPNodes(addresses, query.HTTPConfig{Internal: auth.Internal{Keys: d.keys, Now: time.Now}})
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(closeIdle)
	service, err := query.New(query.Config{Copies: []query.Copy{{Nodes: of}}, Sealer: d.keys, OwnerTimeout: 25 * time.Second, StatusEvery: 20 * time.Millisecond,
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(), Now: time.Now})
	if err != nil {
		d.t.Fatal(err)
	}
	q := serve(d.t, service.Routes(), service.Ready, func(r *http.Request) (contract.Caller, *contract.Problem) {
		return contract.Caller{Subject: r.Header.Get("X-Test-User")}, nil
	}, service.Run)
	return &runningQuery{q, d, service}
}

func (q *runningQuery) becomesReady() {
	q.t.Helper()
	eventually(q.t, "query ready", func() bool { return q.service.Ready() == nil })
}

// pull is a client's GET.
func (q *runningQuery) pull(caller, path string, tags ...string) reply {
	q.t.Helper()
	r, err := http.NewRequestWithContext(q.t.Context(), http.MethodGet, q.url+"/v1/messages/"+path, nil)
	if err != nil {
		q.t.Fatal(err)
	}
	r.Header.Set("X-Test-User", caller)
	if len(tags) > 0 {
		r.Header["If-None-Match"] = tags
	}
	resp, err := q.d.client.Do(r)
	if err != nil {
		q.t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // It was read.
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		q.t.Fatal(err)
	}
	return parseReply(q.t, contract.Answer{Status: resp.StatusCode, Header: resp.Header, Body: body})
}

// write appends events and returns the position after them.
func (d *deployment) write(es ...events.Event) contract.Position {
	d.t.Helper()
	var entries []topic.Entry
	for _, e := range es {
		value, err := events.AppendEncode(nil, e)
		if err != nil {
			d.t.Fatal(err)
		}
		entries = append(entries, topic.Entry{Key: e.Key(), Value: value, Partition: topic.AnyPartition})
	}
	return d.append(entries...)
}

func (d *deployment) append(entries ...topic.Entry) contract.Position {
	d.t.Helper()
	done, err := d.appender.Append(d.t.Context(), entries)
	if err != nil {
		d.t.Fatal(err)
	}
	p := contract.Position{Log: projections.LogID(d.appender.Identity().ID, 1), Next: map[int32]int64{}}
	for _, a := range done {
		p.Next[a.Partition] = max(p.Next[a.Partition], a.Offset+1)
	}
	return p
}

func readEvent(id, reader string) events.Event {
	return &events.MessageRead{MessageID: []byte(id), ReaderID: []byte(reader), ReadAt: events.Unclaimed}
}

// idIn is a message of a partition.
func idIn(partition int32) string {
	for i := 0; ; i++ {
		if id := fmt.Sprintf("m%d", i); events.Partition(id, testPartitions) == partition {
			return id
		}
	}
}

// ask sends a signed request to a node's internal port.
func (d *deployment) ask(n *runningNode, path string, peer auth.Peer, caller contract.Caller) (status int, body string, header http.Header) {
	d.t.Helper()
	r, err := http.NewRequestWithContext(d.t.Context(), http.MethodGet, n.url+path, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	auth.Internal{Keys: d.keys, Now: time.Now}.Sign(r, nil, peer, caller)
	resp, err := d.client.Do(r)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // It was read.
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

func (d *deployment) status(n *runningNode) (s protocol.Status) {
	d.t.Helper()
	_, body, _ := d.ask(n, protocol.StatusPath, auth.Peer{}, contract.Caller{})
	if err := json.Unmarshal([]byte(body), &s); err != nil {
		d.t.Fatalf("%s: %v", body, err)
	}
	return s
}
