package broker_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/seenby/seenby/services/standalone/broker"
)

const topic = "events"

func start(t *testing.T, dir string) *broker.Broker {
	t.Helper()
	b, err := broker.Start(broker.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func client(t *testing.T, b *broker.Broker, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	opts = append(opts, kgo.SeedBrokers(b.Addresses()...), kgo.DefaultProduceTopic(topic))
	cl, err := kgo.NewClient(append(opts, b.Options()...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func create(t *testing.T, cl *kgo.Client, partitions int32) kadm.TopicID {
	t.Helper()
	off := "-1"
	created, err := kadm.NewClient(cl).CreateTopic(t.Context(), partitions, 1, map[string]*string{"retention.ms": &off}, topic)
	if err != nil {
		t.Fatal(err)
	}
	return created.ID
}

func TestLogSurvivesRestarts(t *testing.T) {
	dir := t.TempDir()
	var id kadm.TopicID
	for run := range 4 {
		b := start(t, dir)
		if run == 0 {
			id = create(t, client(t, b), 1)
		}
		cl := client(t, b, kgo.ConsumeTopics(topic))
		topics, err := kadm.NewClient(cl).ListTopics(t.Context(), topic)
		if err != nil {
			t.Fatal(err)
		}
		if topics[topic].ID != id {
			t.Fatalf("run %d: topic ID %s, was %s", run, topics[topic].ID, id)
		}
		r := &kgo.Record{Value: fmt.Append(nil, run), Timestamp: time.UnixMilli(int64(1000 + run))}
		if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if r.Offset != int64(run) {
			t.Errorf("run %d: offset %d", run, r.Offset)
		}
		for read := 0; read <= run; {
			fetches := cl.PollFetches(t.Context())
			if err := fetches.Err(); err != nil {
				t.Fatal(err)
			}
			for _, r := range fetches.Records() {
				if string(r.Value) != fmt.Sprint(read) || r.Offset != int64(read) || r.Timestamp.UnixMilli() != int64(1000+read) {
					t.Errorf("run %d: offset %d holds %s at %s", run, r.Offset, r.Value, r.Timestamp)
				}
				read++
			}
		}
		cl.Close()
		b.Close()
	}
}

func TestCloseEndsConnections(t *testing.T) {
	b := start(t, t.TempDir())
	cl := client(t, b)
	if err := cl.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.Close()
	b.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := cl.Ping(ctx); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestDirectoryIsPrivate(t *testing.T) {
	dir := t.TempDir() + "/log"
	start(t, dir)
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if perm := info.Mode().Perm(); perm != 0o700 {
		t.Errorf("mode %o", perm)
	}
}

func TestStartNamesTheDirectory(t *testing.T) {
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := broker.Start(broker.Config{Dir: file}); err == nil {
		t.Fatal("started in a file")
	}
}
