package broker

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// KeepForever turns the topic's own retention off, so that records go by
// [Broker.Retain] alone.
func (b *Broker) KeepForever(ctx context.Context, topic string) error {
	client, err := kgo.NewClient(append(b.Options(), kgo.SeedBrokers(b.Addresses()...))...)
	if err != nil {
		return fmt.Errorf("retention of the embedded log: %w", err)
	}
	defer client.Close()
	never := "-1"
	answers, err := kadm.NewClient(client).AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: &never}}, topic)
	if err == nil {
		_, err = answers.On(topic, func(r *kadm.AlterConfigsResponse) error { return r.Err })
	}
	if err != nil {
		return fmt.Errorf("retention of the embedded log: %w", err)
	}
	return nil
}
