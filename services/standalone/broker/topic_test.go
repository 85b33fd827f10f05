package broker_test

import (
	"errors"
	"testing"
	"time"

	"github.com/seenby/seenby/events"
	eventtopic "github.com/seenby/seenby/events/topic"
	"github.com/seenby/seenby/services/standalone/broker"
)

func connection(b *broker.Broker) eventtopic.Connection {
	return eventtopic.Connection{Brokers: b.Addresses(), Topic: topic, Options: b.Options()}
}

// TestTopic makes the topic as everybody does, on this broker, over restarts.
func TestTopic(t *testing.T) {
	spec := eventtopic.Spec{Partitions: 4, Replicas: 1, MinInSync: 1, Retention: 30 * 24 * time.Hour}
	dir := t.TempDir()
	var made eventtopic.Identity
	for run := range 2 {
		b := start(t, dir)
		identity, err := eventtopic.Create(t.Context(), connection(b), spec)
		if run == 0 {
			made = identity
		} else if errors.Is(err, eventtopic.ErrTopicExists) {
			err = nil
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := b.KeepForever(t.Context(), topic); err != nil {
			t.Fatal(err)
		}
		if is, err := eventtopic.Identify(t.Context(), connection(b)); err != nil || is != made {
			t.Errorf("run %d: %v, %v, was %v", run, is, err, made)
		}
		if problems, err := eventtopic.Check(t.Context(), connection(b), spec); err != nil || len(problems) > 0 {
			t.Errorf("run %d: %v, %v", run, problems, err)
		}
		b.Close()
	}
	if err := start(t, dir).KeepForever(t.Context(), "another"); err == nil {
		t.Error("kept a topic that does not exist")
	}
}

// TestLargestEvent takes an event of the largest size.
func TestLargestEvent(t *testing.T) {
	b := start(t, t.TempDir())
	if _, err := eventtopic.Create(t.Context(), connection(b), eventtopic.Spec{Partitions: 1, Replicas: 1, MinInSync: 1, Retention: time.Hour}); err != nil {
		t.Fatal(err)
	}
	a, err := eventtopic.NewAppender(t.Context(), eventtopic.AppenderConfig{Connection: connection(b)})
	if err != nil {
		t.Fatal(err)
	}
	value := make([]byte, events.MaxEventSize)
	for i := range value {
		value[i] = byte(i * i >> 3) // hard to compress
	}
	if _, err := a.Append(t.Context(), []eventtopic.Entry{{Key: []byte("k"), Value: value, Partition: eventtopic.AnyPartition}}); err != nil {
		t.Error(err)
	}
	if err := a.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
