package topic

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
)

// Committer publishes positions as the offsets of a consumer group, only so that
// standard tools show the lag. Nobody reads from them: the positions that count
// are those that were saved with the state.
type Committer struct {
	admin *kadm.Client
	topic string
	group string
}

// NewCommitter returns a committer to a consumer group. No consumer may be in
// the group: Kafka refuses commits from outside then.
func NewCommitter(c Connection, group string) (*Committer, error) {
	cl, err := c.client()
	if err != nil {
		return nil, err
	}
	return &Committer{admin: kadm.NewClient(cl), topic: c.Topic, group: group}, nil
}

// Commit publishes positions, by partition: each is the next offset to apply.
// One goroutine at a time may call it.
func (c *Committer) Commit(ctx context.Context, positions map[int32]int64) error {
	offsets := make(kadm.Offsets)
	for partition, position := range positions {
		offsets.AddOffset(c.topic, partition, position, -1)
	}
	if len(offsets) == 0 {
		return nil
	}
	if err := c.admin.CommitAllOffsets(ctx, c.group, offsets); err != nil {
		return fmt.Errorf("committing positions to the consumer group %q: %w", c.group, err)
	}
	return nil
}

// Close ends the connections.
func (c *Committer) Close() { c.admin.Close() }
