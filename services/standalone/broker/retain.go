package broker

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Retention says what of a topic may go.
type Retention struct {
	Topic string
	// Before is the time that records have to be older than.
	Before time.Time
	// Applied is, per partition, the position before which nothing is needed
	// any more by those who read the log; a partition that it does not have is
	// left alone. A reader that finds less than its position stops for good.
	Applied map[int32]int64
}

// Retain deletes records from the start of each partition: those before the first
// that is not older than r.Before, and below its applied position. A partition's
// last record stays, whatever its age, since a partition without any would begin
// at offset 0 again after a crash. It returns how many records went. It may fail
// after some did, and may be called again.
//
// The topic's own retention must be off (retention.ms=-1): kfake would empty a
// partition that nothing is written to.
func (b *Broker) Retain(ctx context.Context, r Retention) (deleted int64, err error) {
	client, err := kgo.NewClient(append(b.Options(), kgo.SeedBrokers(b.Addresses()...))...)
	if err != nil {
		return 0, fmt.Errorf("retention of the embedded log: %w", err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	starts, err := admin.ListStartOffsets(ctx, r.Topic)
	if err != nil {
		return 0, fmt.Errorf("retention of the embedded log: %w", err)
	}
	// Where no record is as new as that, this is the end.
	news, err := admin.ListOffsetsAfterMilli(ctx, r.Before.UnixMilli(), r.Topic)
	if err != nil {
		return 0, fmt.Errorf("retention of the embedded log: %w", err)
	}
	ends, err := admin.ListEndOffsets(ctx, r.Topic)
	if err != nil {
		return 0, fmt.Errorf("retention of the embedded log: %w", err)
	}
	upTo := make(kadm.Offsets)
	for partition, applied := range r.Applied {
		start, known := starts.Lookup(r.Topic, partition)
		newer, hasNewer := news.Lookup(r.Topic, partition)
		end, hasEnd := ends.Lookup(r.Topic, partition)
		if !known || !hasNewer || !hasEnd {
			return 0, fmt.Errorf("retention of the embedded log: topic %s has no partition %d", r.Topic, partition)
		}
		if to := min(newer.Offset, applied, end.Offset-1); to > start.Offset {
			upTo.AddOffset(r.Topic, partition, to, -1)
			deleted += to - start.Offset
		}
	}
	if len(upTo) == 0 {
		return 0, nil
	}
	answers, err := admin.DeleteRecords(ctx, upTo)
	if err == nil {
		err = answers.Error()
	}
	if err != nil {
		return 0, fmt.Errorf("retention of the embedded log: %w", err)
	}
	return deleted, nil
}
