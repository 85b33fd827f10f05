package ingest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/events/topic"
	"github.com/seenby/seenby/services/auth"
	"github.com/seenby/seenby/services/contract"
	"github.com/seenby/seenby/services/process"
	"github.com/seenby/seenby/services/server"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	retention  = 30 * 24 * time.Hour
	generation = 7
	partitions = 4
)

// network is the way to the brokers, which can be cut.
type network struct {
	cluster *kfake.Cluster

	mu    sync.Mutex
	isCut bool
	conns []net.Conn
}

func (n *network) dial(ctx context.Context, network, address string) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.isCut {
		return nil, errors.New("the cable is cut")
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err == nil {
		n.conns = append(n.conns, conn)
	}
	return conn, err
}

func (n *network) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.isCut = true
	for _, conn := range n.conns {
		_ = conn.Close()
	}
	n.conns = nil
}

func (n *network) mend() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.isCut = false
}

// newTopic makes a topic on a fake cluster.
func newTopic(t *testing.T) (topic.Connection, *network) {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	n := &network{cluster: cluster}
	c := topic.Connection{Brokers: cluster.ListenAddrs(), Topic: fmt.Sprintf("test-%x", rand.Uint64()), Options: []kgo.Opt{kgo.Dialer(n.dial)}}
	createTopic(t, c)
	return c, n
}

func createTopic(t *testing.T, c topic.Connection) topic.Identity {
	t.Helper()
	id, err := topic.Create(t.Context(), c, topic.Spec{Partitions: partitions, Replicas: 1, MinInSync: 1, Retention: retention})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// chat is a running ingest process and those who use it.
type chat struct {
	service  *Service
	keys     *auth.Keys
	url      string
	registry *prometheus.Registry
	// stop ends the process, and returns what it returned.
	stop func() error
}

// startOn runs ingest against Kafka, and waits until it is ready.
func startOn(t *testing.T, c topic.Connection) *chat {
	t.Helper()
	x := start(t, Config{Connection: c}, nil)
	eventually(t, "ready", func() bool { return x.ready() == nil })
	return x
}

// start runs ingest with the appender that open makes, if it is not nil.
func start(t *testing.T, config Config, open func(context.Context) (Appender, error)) *chat {
	t.Helper()
	x := &chat{registry: prometheus.NewRegistry(), keys: newKeys(t)}
	config.Generation, config.Retention, config.Registerer, config.Logger = generation, retention, x.registry, slog.New(slog.DiscardHandler)
	if config.Now == nil {
		config.Now = time.Now
	}
	var err error
	if open == nil {
		x.service, err = New(config)
	} else {
		config.Connection = topic.Connection{Brokers: []string{"127.0.0.1:1"}, Topic: "t"}
		x.service, err = newService(config, open)
	}
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := auth.NewVerifier(auth.VerifierConfig{Keys: x.keys, Leeway: auth.Leeway})
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.New(server.Config{
		Listen: "127.0.0.1:0", Service: "ingest", Logger: config.Logger, Registry: x.registry, Routes: x.service.Routes(),
		Authenticate: verifier.Authenticate, Ready: x.service.Ready, UserRate: 1000,
	})
	if err != nil {
		t.Fatal(err)
	}
	x.url = "http://" + s.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- process.Run(ctx, s.Run, x.service.Run) }()
	x.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		_ = x.stop()
	})
	return x
}

func newKeys(t *testing.T) *auth.Keys {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(path, []byte(base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte("k"), 32))), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := auth.OpenKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// eventually polls until what holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// token is that of a user, or of "backend".
func (x *chat) token(subject string) string {
	g := auth.Grant{Subject: subject, IssuedAt: time.Now(), TTL: time.Hour}
	if subject == "backend" {
		g.Scope = auth.ScopeBackend
	}
	minted, err := auth.Mint(x.keys, g)
	if err != nil {
		panic(err)
	}
	return minted
}

// answered is an answer.
type answered struct {
	status   int
	header   http.Header
	body     string
	Position string
	Accepted int
	Code     contract.Code
	Errors   []contract.FieldError
}

// told is the problem's code, with the fields' as "index.field code".
func (a answered) told() string {
	words := []string{string(a.Code)}
	for _, e := range a.Errors {
		field := e.Field
		if e.Index != nil {
			field = fmt.Sprintf("%d.%s", *e.Index, e.Field)
		}
		words = append(words, field+" "+string(e.Code))
	}
	return strings.Join(words, "; ")
}

// send sends a request with a JSON body, unless it is empty.
func (x *chat) send(t *testing.T, subject, method, path, body string) answered {
	t.Helper()
	a, err := x.try(subject, method, path, body)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (x *chat) try(subject, method, path, body string) (a answered, err error) {
	r, err := http.NewRequest(method, x.url+path, strings.NewReader(body))
	if err != nil {
		return a, err
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if subject != "" {
		r.Header.Set("Authorization", "Bearer "+x.token(subject))
	}
	return do(r)
}

func do(r *http.Request) (a answered, err error) {
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return a, err
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		return a, err
	}
	a.status, a.header, a.body = answer.StatusCode, answer.Header, string(b)
	return a, json.Unmarshal(b, &a)
}

// ready is nil, or what /readyz says.
func (x *chat) ready() error {
	answer, err := http.Get(x.url + "/readyz")
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = errors.New(strings.TrimSpace(string(b)))
	}
	return err
}

// logged is what a topic holds, by partition.
type logged map[int32][]events.Record

// readLog reads a topic until it has n records.
func readLog(t *testing.T, c topic.Connection, n int) logged {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	id, err := topic.Identify(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	starts := make(map[int32]topic.Start)
	for p := range id.Partitions {
		starts[p] = topic.Start{Position: topic.LogStart, LeaderEpoch: -1}
	}
	r, err := topic.NewReader(ctx, topic.ReaderConfig{Connection: c, Identity: id, Start: starts})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	all := make(logged)
	for n > 0 {
		batches, err := r.Poll(ctx)
		if err != nil {
			t.Fatalf("%d records are missing: %v", n, err)
		}
		for _, b := range batches {
			if b.Err != nil {
				t.Fatal(b.Err)
			}
			for _, record := range b.Records {
				record.Key, record.Value = bytes.Clone(record.Key), bytes.Clone(record.Value)
				all[b.Partition] = append(all[b.Partition], record)
				n--
			}
		}
	}
	return all
}

// texts are the events of a log, each as "message: what happened", or
// "partition: who was erased".
func (l logged) texts(t *testing.T) []string {
	t.Helper()
	var texts []string
	var d events.Decoder
	for p, records := range l {
		for _, r := range records {
			e, err := d.Decode(r.Key, r.Value)
			if err != nil {
				t.Fatal(err)
			}
			if want := events.Partition(r.Key, partitions); p != want && r.Key != nil {
				t.Errorf("%q lies in partition %d, not %d", r.Key, p, want)
			}
			switch e := e.(type) {
			case *events.MessageSent:
				texts = append(texts, fmt.Sprintf("%s: %s sent in %s to %s, opted out %s, count %d, at %d", e.MessageID, e.SenderID, e.ConversationID,
					e.Recipients, e.OptedOut, e.RecipientCount, e.SentAt))
			case *events.MessageRead:
				texts = append(texts, fmt.Sprintf("%s: %s read at %d", e.MessageID, e.ReaderID, e.ReadAt))
			case *events.MessageRecalled:
				texts = append(texts, fmt.Sprintf("%s: recalled", e.MessageID))
			case *events.UserErased:
				texts = append(texts, fmt.Sprintf("%d: %s erased", p, e.UserID))
			}
		}
	}
	return texts
}
