package ingest

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/events/topic"
	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/services/auth"
	"github.com/seenby/seenby/services/contract"
)

func expiredToken(t *testing.T, keys *auth.Keys) string {
	t.Helper()
	minted, err := auth.Mint(keys, auth.Grant{Subject: "bob", IssuedAt: time.Now().Add(-time.Hour), TTL: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	return minted
}

// faulty is an appender that does as it is told.
type faulty struct {
	append func(context.Context, []topic.Entry) ([]topic.Appended, error)
	close  func(context.Context) error
}

func (f faulty) Append(ctx context.Context, entries []topic.Entry) ([]topic.Appended, error) {
	return f.append(ctx, entries)
}

func (f faulty) Identity() topic.Identity {
	return topic.Identity{ID: [16]byte{1}, Partitions: partitions}
}

func (f faulty) Ready() error { return nil }

func (f faulty) Close(ctx context.Context) error {
	if f.close == nil {
		return nil
	}
	return f.close(ctx)
}

func opening(a Appender) func(context.Context) (Appender, error) {
	return func(context.Context) (Appender, error) { return a, nil }
}

func TestAppendFailures(t *testing.T) {
	var mu sync.Mutex
	var fails error
	x := start(t, Config{}, opening(faulty{append: func(context.Context, []topic.Entry) ([]topic.Appended, error) {
		mu.Lock()
		defer mu.Unlock()
		return nil, fails
	}}))
	eventually(t, "ready", func() bool { return x.ready() == nil })
	for _, test := range []struct {
		err    error
		status int
		code   contract.Code
	}{
		{fmt.Errorf("secret: %w", topic.ErrUnavailable), 503, contract.KafkaUnavailable},
		{fmt.Errorf("secret: %w", topic.ErrTopicChanged), 503, contract.KafkaUnavailable},
		{fmt.Errorf("secret: %w", topic.ErrClosed), 503, contract.KafkaUnavailable},
		{fmt.Errorf("secret: %w", events.ErrTooLarge), 500, contract.Internal},
		{fmt.Errorf("secret: %w", errAny), 500, contract.Internal},
	} {
		mu.Lock()
		fails = test.err
		mu.Unlock()
		a := x.send(t, "bob", "POST", "/v1/receipts", `{"receipts":[{"message_id":"m"}]}`)
		if a.status != test.status || a.Code != test.code || strings.Contains(a.body, "secret") {
			t.Errorf("%v: got %d %s", test.err, a.status, a.body)
		}
		if needs, has := a.status == 503, a.header.Get("Retry-After") != ""; needs != has {
			t.Errorf("%v: Retry-After is %q", test.err, a.header.Get("Retry-After"))
		}
	}
}

// Of each partition, the position is after the last that was written, in
// whatever order the entries were.
func TestPositions(t *testing.T) {
	got := position(9, []topic.Appended{{Partition: 3, Offset: 7}, {Partition: 0, Offset: 0}, {Partition: 3, Offset: 9}, {Partition: 3, Offset: 5}})
	if got.Log != 9 || len(got.Next) != 2 || got.Next[3] != 10 || got.Next[0] != 1 {
		t.Errorf("got %+v", got)
	}
}

// The limit of an event is told like that of a roster.
func TestEventTooLarge(t *testing.T) {
	e := &events.MessageSent{MessageID: []byte("m"), ConversationID: []byte("c"), SenderID: []byte("alice")}
	for range events.MaxEventSize / events.MaxIDLen {
		e.OptedOut = append(e.OptedOut, bytes.Repeat([]byte("x"), events.MaxIDLen))
	}
	if _, problem := entry(e); problem == nil || problem.Code != contract.RosterTooLarge {
		t.Errorf("got %v", problem)
	}
}

func newForTest(t *testing.T, log *bytes.Buffer, open func(context.Context) (Appender, error)) *Service {
	t.Helper()
	s, err := newService(Config{
		Connection: topic.Connection{Brokers: []string{"127.0.0.1:1"}, Topic: "t"}, Generation: generation, Retention: retention,
		Logger: slog.New(slog.NewTextHandler(log, nil)), Registerer: prometheus.NewRegistry(), Now: time.Now,
	}, open)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A request waits for room and for acknowledgement, and no longer than that its
// answer comes within 5 s.
func TestAppendIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newForTest(t, new(bytes.Buffer), nil)
		s.log.Store(&log{Appender: faulty{append: func(ctx context.Context, _ []topic.Entry) ([]topic.Appended, error) {
			<-ctx.Done()
			return nil, fmt.Errorf("%w: %w", topic.ErrUnavailable, ctx.Err())
		}}})
		started := time.Now()
		_, problem := s.append(t.Context(), events.KindMessageRead)
		if took := time.Since(started); problem == nil || problem.Code != contract.KafkaUnavailable || took != AppendTimeout || took >= 5*time.Second {
			t.Errorf("got %v after %v", problem, took)
		}
	})
}

// Kafka is tried until it is reached; why it is not can be read meanwhile, and
// is logged once.
func TestConnecting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		tries, closed := 0, false
		s := newForTest(t, &log, func(ctx context.Context) (Appender, error) {
			if tries++; tries < 5 {
				// As an unreachable Kafka does.
				<-ctx.Done()
				return nil, errAny
			}
			return faulty{close: func(context.Context) error { closed = true; return nil }}, nil
		})
		if err := s.Ready(); err == nil {
			t.Error("ready before it runs")
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		time.Sleep(2 * (openTimeout + openPause))
		synctest.Wait()
		if err := s.Ready(); err == nil || !strings.Contains(err.Error(), errAny.Error()) {
			t.Errorf("not ready because of %v", err)
		}
		time.Sleep(5 * (openTimeout + openPause))
		synctest.Wait()
		if err := s.Ready(); err != nil || tries != 5 || closed {
			t.Errorf("%d tries, closed %v, ready: %v", tries, closed, err)
		}
		if s.log.Load().id != projections.LogID([16]byte{1}, generation) {
			t.Error("positions are of another log")
		}
		if strings.Count(log.String(), "\n") != 1 {
			t.Errorf("log: %s", log.String())
		}
		cancel()
		if err := <-ended; err != nil || !closed {
			t.Errorf("closed %v, %v", closed, err)
		}
	})
}

func TestEndWhileConnecting(t *testing.T) {
	for name, open := range map[string]func(context.Context) (Appender, error){
		"failing": openNothing,
		"hanging": func(ctx context.Context) (Appender, error) { <-ctx.Done(); return nil, ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newForTest(t, new(bytes.Buffer), open)
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- s.Run(ctx) }()
				synctest.Wait()
				started := time.Now()
				cancel()
				if err := <-ended; err != nil || time.Since(started) != 0 {
					t.Errorf("ended after %v with %v", time.Since(started), err)
				}
			})
		})
	}
}

// The appender is closed after the last request has its answer, and what it
// could not write is told.
func TestCloseComesLast(t *testing.T) {
	entered, let := make(chan struct{}), make(chan struct{})
	var mu sync.Mutex
	var order []string
	did := func(what string) {
		mu.Lock()
		defer mu.Unlock()
		order = append(order, what)
	}
	x := start(t, Config{}, opening(faulty{
		append: func(_ context.Context, entries []topic.Entry) ([]topic.Appended, error) {
			close(entered)
			<-let
			did("appended")
			return make([]topic.Appended, len(entries)), nil
		},
		close: func(ctx context.Context) error {
			did("closed")
			if _, bounded := ctx.Deadline(); !bounded || ctx.Err() != nil {
				t.Error("the flush is not given its time, or not bounded")
			}
			return errAny
		},
	}))
	eventually(t, "ready", func() bool { return x.ready() == nil })
	done := make(chan answered, 1)
	go func() {
		a, err := x.try("bob", "POST", "/v1/receipts", `{"receipts":[{"message_id":"m"}]}`)
		if err != nil {
			t.Error(err)
		}
		done <- a
	}()
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- x.stop() }()
	eventually(t, "no new connections", func() bool {
		_, err := x.try("bob", "GET", "/livez", "")
		return err != nil && strings.Contains(err.Error(), "refused")
	})
	close(let)
	if a := <-done; a.Accepted != 1 {
		t.Errorf("got %d %s", a.status, a.body)
	}
	if err := <-stopped; err == nil || !strings.Contains(err.Error(), errAny.Error()) {
		t.Errorf("the process ended with %v", err)
	}
	if strings.Join(order, " ") != "appended closed" {
		t.Errorf("order: %v", order)
	}
}
