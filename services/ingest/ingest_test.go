package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/seenby/seenby/events/topic"
	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/services/contract"
)

// What is answered 202 is in the log, under its key or in every partition, below
// its position.
func TestTheWayIntoTheLog(t *testing.T) {
	connection, _ := newTopic(t)
	x := startOn(t, connection)
	sentAt := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	var want []string
	sent := []struct {
		subject, method, path, body string
		accepted                    int
		events                      []string
	}{
		{"backend", "PUT", "/v1/messages/m1", `{"conversation_id":"c1","sender_id":"alice","recipients":["bob","alice","amy","bob"],"opted_out":["amy"],"sent_at":"` + sentAt.Format(time.RFC3339Nano) + `"}`,
			0, []string{fmt.Sprintf("m1: alice sent in c1 to [bob amy], opted out [amy], count 0, at %d", sentAt.UnixMilli())}},
		{"backend", "PUT", "/v1/messages/a%2Fb%20%F0%9F%98%80", `{"conversation_id":"c1","sender_id":"alice","recipient_count":70000}`,
			0, []string{fmt.Sprintf("a/b 😀: alice sent in c1 to [], opted out [], count 70000, at %d", int64(math.MaxInt64))}},
		{"backend", "DELETE", "/v1/messages/m1", "", 0, []string{"m1: recalled"}},
		{"bob", "POST", "/v1/receipts", `{"receipts":[{"message_id":"m1"},{"message_id":"m2","read_at":"1970-01-01T00:00:01Z","reader_id":"bob"},{"message_id":"m1"}]}`,
			3, []string{fmt.Sprintf("m1: bob read at %d", int64(math.MaxInt64)), "m2: bob read at 1000", fmt.Sprintf("m1: bob read at %d", int64(math.MaxInt64))}},
		{"backend", "POST", "/v1/receipts", `{"receipts":[{"message_id":"m3","reader_id":"amy","read_at":"9999-12-31T23:59:59Z"}]}`,
			1, []string{"m3: amy read at 253402300799000"}},
		{"backend", "DELETE", "/v1/users/a%2Fb", "", 0, []string{"0: a/b erased", "1: a/b erased", "2: a/b erased", "3: a/b erased"}},
	}
	id, err := topic.Identify(t.Context(), connection)
	if err != nil {
		t.Fatal(err)
	}
	next := make(map[int32]int64)
	for _, s := range sent {
		a := x.send(t, s.subject, s.method, s.path, s.body)
		if a.status != http.StatusAccepted || a.Accepted != s.accepted || a.header.Get("Content-Type") != "application/json" || a.header.Get("Cache-Control") != "no-store" {
			t.Fatalf("%s %s: got %d %v %s", s.method, s.path, a.status, a.header, a.body)
		}
		p, err := contract.ParsePosition(a.Position)
		if err != nil || p.Log != projections.LogID(id.ID, generation) || len(p.Next) == 0 {
			t.Errorf("%s %s: got position %+v, %v", s.method, s.path, p, err)
		}
		for partition, n := range p.Next {
			if n <= next[partition] {
				t.Errorf("%s %s: partition %d is at %d, and was at %d", s.method, s.path, partition, n, next[partition])
			}
			next[partition] = n
		}
		want = append(want, s.events...)
	}
	log := readLog(t, connection, len(want))
	got := log.texts(t)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for partition, records := range log {
		if end := records[len(records)-1].Offset + 1; end != next[partition] {
			t.Errorf("partition %d ends at %d, the last position says %d", partition, end, next[partition])
		}
	}
	if err := testutil.GatherAndCompare(x.registry, strings.NewReader(`
# HELP seenby_ingest_append_failures_total Requests whose events Kafka did not acknowledge, all or in part, by kind of event.
# TYPE seenby_ingest_append_failures_total counter
seenby_ingest_append_failures_total{event="erased"} 0
seenby_ingest_append_failures_total{event="read"} 0
seenby_ingest_append_failures_total{event="recalled"} 0
seenby_ingest_append_failures_total{event="sent"} 0
# HELP seenby_ingest_events_appended_total Events that Kafka acknowledged, by kind. Those of "read" are the accepted receipts, duplicates included; an erasure is one in each partition.
# TYPE seenby_ingest_events_appended_total counter
seenby_ingest_events_appended_total{event="erased"} 4
seenby_ingest_events_appended_total{event="read"} 4
seenby_ingest_events_appended_total{event="recalled"} 1
seenby_ingest_events_appended_total{event="sent"} 2
`), "seenby_ingest_append_failures_total", "seenby_ingest_events_appended_total"); err != nil {
		t.Error(err)
	}
}

// Each error that ingest can give, and of several mistakes the first in the
// contract's order.
func TestErrors(t *testing.T) {
	connection, _ := newTopic(t)
	x := startOn(t, connection)
	const (
		put       = `{"conversation_id":"c","sender_id":"alice","recipients":["bob"]}`
		read      = `{"receipts":[{"message_id":"m"}]}`
		unknown   = `{"x":1,"receipts":[{"message_id":"m","reader_id":"amy"}]}`
		foreign   = `{"receipts":[{"message_id":"m","reader_id":"amy"}]}`
		crowd     = `{"conversation_id":"c","sender_id":"alice","x":1,"sent_at":"1999-01-01T00:00:00Z","recipients":[%s]}`
		sentAt    = `{"conversation_id":"c","sender_id":"alice","recipient_count":1,"sent_at":"%s"}`
		timeZone  = "2006-01-02T15:04:05.999999999Z07:00"
		justAhead = 4 * time.Minute
	)
	at := func(d time.Duration) string { return fmt.Sprintf(sentAt, time.Now().Add(d).Format(timeZone)) }
	people := strings.TrimSuffix(strings.Repeat(`"p%d",`, 10_001), ",")
	numbers := make([]any, 10_001)
	for i := range numbers {
		numbers[i] = i
	}
	people = fmt.Sprintf(people, numbers...)
	tests := []struct {
		name, subject, method, path, body string
		want                              string
	}{
		{"no route", "", "POST", "/v1/receipt", "x", "no_such_route"},
		{"pulls are query's", "alice", "GET", "/v1/messages/m/receipts", "", "no_such_route"},
		{"no method", "", "GET", "/v1/receipts", "", "method_not_allowed"},
		{"no method of a message", "", "POST", "/v1/messages/m", "x", "method_not_allowed"},
		{"no token, and a bad body", "", "POST", "/v1/receipts", "x", "no_token"},
		{"no backend, and a bad body, ID and query", "bob", "PUT", "/v1/messages/..?x=1", "x", "backend_only"},
		{"no backend", "bob", "DELETE", "/v1/messages/m", "", "backend_only"},
		{"no backend, and a bad ID and query", "bob", "DELETE", "/v1/users/..?x=1", "", "backend_only"},
		{"no method of a user", "backend", "PUT", "/v1/users/bob", "", "method_not_allowed"},
		{"over 2 MiB", "backend", "PUT", "/v1/messages/..", `{"x":"` + strings.Repeat("x", 2<<20) + `"}`, "body_too_large"},
		{"over 256 KiB", "bob", "POST", "/v1/receipts", `{"x":"` + strings.Repeat("x", 256<<10) + `"}`, "body_too_large"},
		{"bad ID", "backend", "PUT", "/v1/messages/%2E%2E", put, "bad_id"},
		{"bad ID to recall", "backend", "DELETE", "/v1/messages/%00", "", "bad_id"},
		{"long ID", "backend", "DELETE", "/v1/messages/" + strings.Repeat("m", 129), "", "bad_id"},
		{"bad ID to erase", "backend", "DELETE", "/v1/users/%0A", "", "bad_id"},
		{"long ID to erase", "backend", "DELETE", "/v1/users/" + strings.Repeat("u", 129), "", "bad_id"},
		{"a parameter", "backend", "PUT", "/v1/messages/m?x=1", put, "bad_parameter"},
		{"a parameter of a recall", "backend", "DELETE", "/v1/messages/m?x", "", "bad_parameter"},
		{"a parameter of an erasure", "backend", "DELETE", "/v1/users/bob?x", "", "bad_parameter"},
		{"a parameter of receipts", "bob", "POST", "/v1/receipts?x=1", read, "bad_parameter"},
		{"no body", "bob", "POST", "/v1/receipts", " ", "bad_json"},
		{"bad JSON", "backend", "PUT", "/v1/messages/m", put + put, "bad_json"},
		{"unknown field, and another's receipt", "bob", "POST", "/v1/receipts", unknown, "invalid_body; x unknown_field"},
		{"another's receipt", "bob", "POST", "/v1/receipts", foreign, "foreign_reader"},
		{"501 receipts", "bob", "POST", "/v1/receipts", `{"receipts":[` + strings.Repeat(`{"message_id":"m"},`, 500) + `{"message_id":"m"}]}`, "invalid_body; receipts too_many"},
		{"a backend that names nobody", "backend", "POST", "/v1/receipts", read, "invalid_body; 0.reader_id reader_required"},
		{"bad items", "bob", "POST", "/v1/receipts", `{"receipts":[{"message_id":"m"},{"message_id":""},{"message_id":"m","read_at":"x"}]}`, "invalid_body; 1.message_id bad_id; 2.read_at bad_time"},
		{"10,001 people, and everything else wrong", "backend", "PUT", "/v1/messages/m", fmt.Sprintf(crowd, people), "roster_too_large"},
		{"10,001 people, and a bad ID", "backend", "PUT", "/v1/messages/..", fmt.Sprintf(crowd, people), "roster_too_large"},
		{"10,001 people, and a parameter", "backend", "PUT", "/v1/messages/m?x=1", fmt.Sprintf(crowd, people), "roster_too_large"},
		{"bad ID, and a bad body", "backend", "PUT", "/v1/messages/..", "x", "bad_id"},
		{"sent too far ahead", "backend", "PUT", "/v1/messages/m", at(MaxAhead + time.Minute), "invalid_body; sent_at bad_time"},
		{"sent too long ago", "backend", "PUT", "/v1/messages/m", at(-retention - time.Minute), "invalid_body; sent_at bad_time"},
		{"sent before there were years", "backend", "PUT", "/v1/messages/m", fmt.Sprintf(sentAt, "0000-01-01T00:00:00Z"), "invalid_body; sent_at bad_time"},
		{"sent a little ahead", "backend", "PUT", "/v1/messages/m", at(justAhead), ""},
		{"sent long ago", "backend", "PUT", "/v1/messages/m", at(time.Minute - retention), ""},
	}
	written := 0
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a := x.send(t, test.subject, test.method, test.path, test.body)
			if a.told() != test.want {
				t.Errorf("got %s: %d %s", a.told(), a.status, a.body)
			}
			if a.status == http.StatusAccepted {
				written++
			}
		})
	}
	// Nothing was written by what was refused.
	log := readLog(t, connection, written)
	if n := len(slices.Concat(log[0], log[1], log[2], log[3])); n != 2 {
		t.Errorf("%d events in the log", n)
	}
}

func TestTokens(t *testing.T) {
	connection, _ := newTopic(t)
	x := startOn(t, connection)
	good := x.token("bob")
	for header, want := range map[string]contract.Code{
		"Bearer " + good:                    "",
		"Bearer " + good[:len(good)-4]:      contract.InvalidToken,
		"Bearer x":                          contract.InvalidToken,
		"Basic " + good:                     contract.NoToken,
		"Bearer " + expiredToken(t, x.keys): contract.TokenExpired,
	} {
		r, err := http.NewRequest("POST", x.url+"/v1/receipts", strings.NewReader(`{"receipts":[{"message_id":"m"}]}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", header)
		r.Header.Set("Content-Type", "application/json")
		a, err := do(r)
		if err != nil || a.Code != want {
			t.Errorf("%.20s…: got %d %s, %v", header, a.status, a.body, err)
		}
	}
}

// Kafka goes, is told of in time, comes back, and nothing needs a restart.
func TestKafkaOutOfReach(t *testing.T) {
	connection, network := newTopic(t)
	x := startOn(t, connection)
	const body = `{"receipts":[{"message_id":"m"}]}`
	if a := x.send(t, "bob", "POST", "/v1/receipts", body); a.status != http.StatusAccepted {
		t.Fatalf("got %d %s", a.status, a.body)
	}
	network.cut()
	var wg sync.WaitGroup
	for _, request := range [][3]string{{"POST", "/v1/receipts", `{"receipts":[{"message_id":"m","reader_id":"bob"}]}`},
		{"DELETE", "/v1/messages/m", ""}, {"DELETE", "/v1/users/bob", ""}, {"PUT", "/v1/messages/m", `{"conversation_id":"c","sender_id":"alice","recipients":["bob"]}`}} {
		wg.Go(func() {
			a, err := x.try("backend", request[0], request[1], request[2])
			if err != nil || a.status != 503 || a.Code != contract.KafkaUnavailable || a.header.Get("Retry-After") == "" {
				t.Errorf("%s: got %d %v %s, %v", request[0], a.status, a.header, a.body, err)
			}
		})
	}
	wg.Wait()
	eventually(t, "not ready", func() bool { return x.ready() != nil })
	network.mend()
	eventually(t, "ready again", func() bool { return x.ready() == nil })
	eventually(t, "accepted again", func() bool {
		a, err := x.try("bob", "POST", "/v1/receipts", body)
		return err == nil && a.status == http.StatusAccepted
	})
}

// An erasure that only some partitions took is told as a failure, and the same
// request is then taken by all, with a position that covers all.
func TestErasureFailsInPart(t *testing.T) {
	for _, refusal := range []*kerr.Error{kerr.InvalidRecord, kerr.NotEnoughReplicas} {
		t.Run(refusal.Message, func(t *testing.T) {
			connection, network := newTopic(t)
			x := startOn(t, connection)
			fault := network.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Partitions: []int32{1, 3}, Err: refusal, Count: -1})
			a := x.send(t, "backend", "DELETE", "/v1/users/bob", "")
			if a.status != 503 || a.Code != contract.KafkaUnavailable || a.header.Get("Retry-After") == "" {
				t.Errorf("got %d %v %s", a.status, a.header, a.body)
			}
			if got := readLog(t, connection, 2); len(got[0]) != 1 || len(got[2]) != 1 {
				t.Errorf("the others did not take it: %v", got.texts(t))
			}
			fault.Remove()
			eventually(t, "accepted", func() bool {
				a = x.send(t, "backend", "DELETE", "/v1/users/bob", "")
				return a.status == http.StatusAccepted
			})
			position, err := contract.ParsePosition(a.Position)
			if err != nil || len(position.Next) != partitions {
				t.Fatalf("got %s: %+v, %v", a.body, position, err)
			}
			records := 0
			for _, next := range position.Next {
				records += int(next)
			}
			log := readLog(t, connection, records)
			for p, next := range position.Next {
				if end := int64(len(log[p])); end != next {
					t.Errorf("partition %d ends at %d, the position says %d", p, end, next)
				}
			}
			for _, text := range log.texts(t) {
				if !strings.HasSuffix(text, ": bob erased") {
					t.Error(text)
				}
			}
		})
	}
}

// Ingest listens, and says why it is not ready, before Kafka is there.
func TestKafkaOutOfReachAtStart(t *testing.T) {
	connection, network := newTopic(t)
	network.cut()
	x := start(t, Config{Connection: connection}, nil)
	if err := x.ready(); err == nil || !strings.Contains(err.Error(), "starting") {
		t.Errorf("/readyz says %v", err)
	}
	if a := x.send(t, "bob", "POST", "/v1/receipts", `{"receipts":[{"message_id":"m"}]}`); a.Code != contract.KafkaUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("got %d %v %s", a.status, a.header, a.body)
	}
	network.mend()
	eventually(t, "ready", func() bool { return x.ready() == nil })
	if a := x.send(t, "bob", "POST", "/v1/receipts", `{"receipts":[{"message_id":"m"}]}`); a.status != http.StatusAccepted {
		t.Errorf("got %d %s", a.status, a.body)
	}
}

func TestTopicRecreated(t *testing.T) {
	connection, _ := newTopic(t)
	x := startOn(t, connection)
	client, err := kgo.NewClient(append(connection.Options, kgo.SeedBrokers(connection.Brokers...))...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := kadm.NewClient(client).DeleteTopic(t.Context(), connection.Topic); err != nil {
		t.Fatal(err)
	}
	createTopic(t, connection)
	eventually(t, "not ready, by name", func() bool { err := x.ready(); return err != nil && strings.Contains(err.Error(), connection.Topic) })
	a := x.send(t, "bob", "POST", "/v1/receipts", `{"receipts":[{"message_id":"m"}]}`)
	if a.status != 503 || a.Code != contract.KafkaUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("got %d %v %s", a.status, a.header, a.body)
	}
}

// Whatever was answered 202 while the process ended is in the log.
func TestShutdownLosesNothing(t *testing.T) {
	connection, _ := newTopic(t)
	x := startOn(t, connection)
	var mu sync.Mutex
	acknowledged := make(map[string]bool)
	var wg sync.WaitGroup
	first := make(chan struct{}, 1)
	for g := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("m%d-%d", g, i)
				a, err := x.try("bob", "POST", "/v1/receipts", `{"receipts":[{"message_id":"`+id+`"}]}`)
				var refused *url.Error
				if errors.As(err, &refused) || a.status == 503 {
					return
				}
				if err != nil || a.status != http.StatusAccepted {
					t.Errorf("got %d %s, %v", a.status, a.body, err)
					return
				}
				mu.Lock()
				acknowledged[id] = true
				mu.Unlock()
				select {
				case first <- struct{}{}:
				default:
				}
			}
		})
	}
	<-first
	if err := x.stop(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	found := make(map[string]bool)
	for _, records := range readLog(t, connection, len(acknowledged)) {
		for _, r := range records {
			found[string(r.Key)] = true
		}
	}
	for id := range acknowledged {
		if !found[id] {
			t.Errorf("%s was acknowledged and is not in the log", id)
		}
	}
}

func TestConfig(t *testing.T) {
	good := Config{Connection: topic.Connection{Brokers: []string{"127.0.0.1:9092"}, Topic: "t"}, Generation: 1, Retention: time.Hour,
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(), Now: time.Now}
	for name, test := range map[string]struct {
		change func(*Config)
		want   error
	}{
		"good":         {func(*Config) {}, nil},
		"no retention": {func(c *Config) { c.Retention = 0 }, ErrRetention},
		"generation 0": {func(c *Config) { c.Generation = 0 }, ErrGeneration},
		"no brokers":   {func(c *Config) { c.Connection.Brokers = nil }, topic.ErrBrokers},
		"no topic":     {func(c *Config) { c.Connection.Topic = "" }, topic.ErrTopicName},
		"no clock":     {func(c *Config) { c.Now = nil }, ErrIncomplete},
		"no logger":    {func(c *Config) { c.Logger = nil }, ErrIncomplete},
		"no registry":  {func(c *Config) { c.Registerer = nil }, ErrIncomplete},
	} {
		c := good
		test.change(&c)
		if err := c.Validate(); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
		if test.want != nil {
			if _, err := New(c); !errors.Is(err, test.want) {
				t.Errorf("%s: New got %v, want %v", name, err, test.want)
			}
		}
	}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	if _, err := New(good); err == nil {
		t.Error("metrics are registered twice")
	}
}

var _ Appender = (*topic.Appender)(nil)

var errAny = errors.New("any other")

func openNothing(context.Context) (Appender, error) { return nil, errAny }
