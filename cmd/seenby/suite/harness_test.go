package suite

import (
	"context"
	"net"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestProxy holds the proxy to what other tests take for granted: a client knows
// of no broker but by the proxy's addresses, and Kafka goes and comes back.
func TestProxy(t *testing.T) {
	t.Parallel()
	k := theKafka(t)
	topic := k.newTopic(t, 3)
	p := newProxy(t, k)
	client, err := kgo.NewClient(
		kgo.SeedBrokers(p.brokers...), kgo.DefaultProduceTopic(topic), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.RetryTimeout(time.Second), kgo.MetadataMinAge(100*time.Millisecond), kgo.RequestTimeoutOverhead(time.Second),
		kgo.DisableIdempotentWrite(), // Others could not be given up while they are in flight.
	)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()

	brokers, err := kadm.NewClient(client).ListBrokers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range brokers {
		if address := net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port))); !slices.Contains(p.brokers, address) {
			t.Errorf("broker %d is known by %s, beside the proxy", b.NodeID, address)
		}
	}
	produce := func(timeout time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		return client.ProduceSync(ctx, kgo.StringRecord("x"), kgo.StringRecord("y")).FirstErr()
	}
	if err := produce(patience); err != nil {
		t.Fatal(err)
	}
	for n := 0; n < 2; {
		n += client.PollFetches(t.Context()).NumRecords()
	}
	for _, m := range []mode{refusing, hanging} {
		p.become(m)
		if err := produce(500 * time.Millisecond); err == nil {
			t.Errorf("in mode %d a record came through", m)
		}
		p.become(passing)
		if err := produce(patience); err != nil {
			t.Errorf("after mode %d: %v", m, err)
		}
	}
}
