package standalone

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/events/topic"
	"github.com/seenby/seenby/services/projector"
)

// TestLogIsCut lets records grow old: they go once their effects are on disk, but
// for the last, and a standalone that begins on what is left goes on from there.
func TestLogIsCut(t *testing.T) {
	var ahead atomic.Int64
	c := Config{
		Data: t.TempDir(), Listen: "127.0.0.1:0", Retention: 48 * time.Hour, VisibleTo: projector.Sender,
		MaxWait: projector.DefaultMaxWait, PollInterval: projector.DefaultPollInterval, PollWindow: projector.DefaultPollWindow, PollSlowest: projector.DefaultPollSlowest,
		Logger: slog.New(slog.DiscardHandler),
		Now:    func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) },
	}
	const records = 20
	key := []byte("m1")
	partition := events.Partition(key, partitions)
	for round := range 2 {
		c.Registry = prometheus.NewRegistry()
		s, stop := boot(t, c)
		appendReads(t, s, key, records)
		end := int64((round + 1) * records)
		await(t, func() bool { return s.saved()[partition] == end })

		if deleted, err := s.cut(t.Context()); deleted != 0 || err != nil {
			t.Errorf("round %d: %d records of now were deleted, %v", round, deleted, err)
		}
		ahead.Add(int64(c.Retention + topic.RetentionMargin + retainSlack - time.Minute))
		if deleted, err := s.cut(t.Context()); deleted != 0 || err != nil {
			t.Errorf("round %d: %d records were deleted too early, %v", round, deleted, err)
		}
		ahead.Add(int64(2 * time.Minute))
		want := int64(records - 1)
		if round > 0 {
			want = records // The last one of the round before.
		}
		if deleted, err := s.cut(t.Context()); deleted != want || err != nil {
			t.Errorf("round %d: %d records were deleted, want %d, %v", round, deleted, want, err)
		}
		ahead.Store(0)
		stop()
	}
}

func boot(t *testing.T, c Config) (s *Standalone, stop func()) {
	t.Helper()
	s, err := New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	return s, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("standalone ended: %v", err)
		}
	}
}

func appendReads(t *testing.T, s *Standalone, key []byte, n int) {
	t.Helper()
	a, err := topic.NewAppender(t.Context(), topic.AppenderConfig{Connection: s.connection()})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		value, err := events.AppendEncode(nil, &events.MessageRead{MessageID: key, ReaderID: fmt.Append(nil, i), ReadAt: events.Unclaimed})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Append(t.Context(), []topic.Entry{{Key: key, Value: value, Partition: topic.AnyPartition}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func await(t *testing.T, condition func() bool) {
	t.Helper()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(time.Minute); !condition(); <-again.C {
		if time.Now().After(deadline) {
			t.Fatal("it did not come to that within a minute")
		}
	}
}
