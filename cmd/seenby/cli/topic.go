package cli

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/seenby/seenby/events/topic"
)

// topicCommand makes or judges the topic.
type topicCommand struct {
	Create topicCreateCommand `cmd:"" help:"Make the topic, with safe settings."`
	Check  topicCheckCommand  `cmd:"" help:"Judge the topic's settings: a table of what is not safe, and exit code 1 if there is anything."`
}

// specFlags say what the topic has to be like.
type specFlags struct {
	Retention  time.Duration `help:"How long after it was sent a message expires; the topic keeps its events for a day more." default:"720h"`
	Replicas   int16         `help:"How many brokers have each partition. Fewer than 3 lose acknowledged events with a disk or two." default:"3"`
	MinInSync  int16         `help:"How many of them have to have an event for it to be acknowledged." default:"2"`
	Timeout    time.Duration `help:"How long Kafka may take." default:"30s"`
	kafkaFlags `embed:""`
}

func (f specFlags) spec(partitions int32) topic.Spec {
	return topic.Spec{Partitions: partitions, Replicas: f.Replicas, MinInSync: f.MinInSync, Retention: f.Retention}
}

func (f specFlags) validate() error {
	switch {
	case f.Retention <= 0:
		return usage(fmt.Errorf("--retention must be more than 0, not %v", f.Retention))
	case f.Replicas < 1:
		return usage(fmt.Errorf("--replicas must be 1 or more, not %d", f.Replicas))
	case f.MinInSync < 1 || f.MinInSync > f.Replicas:
		return usage(fmt.Errorf("--min-in-sync must be from 1 to --replicas (%d), not %d", f.Replicas, f.MinInSync))
	}
	return nil
}

// topicCreateCommand makes the topic.
type topicCreateCommand struct {
	Partitions int32 `help:"How many partitions. It cannot be changed later: choose for ten times the load." default:"64"`
	specFlags  `embed:""`
}

// Run makes the topic and prints its ID.
func (c *topicCreateCommand) Run(ctx context.Context, io IO) error {
	connection, err := c.connection()
	if err != nil {
		return err
	}
	if err := c.validate(); err != nil {
		return err
	}
	if c.Partitions < 1 {
		return usage(fmt.Errorf("--partitions must be 1 or more, not %d", c.Partitions))
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	identity, err := topic.Create(ctx, connection, c.spec(c.Partitions))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(io.Stdout, "topic %s: made with %d partitions, ID %s\n", c.Topic, identity.Partitions, hex.EncodeToString(identity.ID[:]))
	return err
}

// topicCheckCommand judges the topic.
type topicCheckCommand struct {
	Partitions int32 `help:"How many partitions it has to have; without, any number." placeholder:"N"`
	specFlags  `embed:""`
}

var errUnsafe = errors.New("the topic is not safe")

// Run prints what is not safe.
func (c *topicCheckCommand) Run(ctx context.Context, io IO) error {
	connection, err := c.connection()
	if err != nil {
		return err
	}
	if err := c.validate(); err != nil {
		return err
	}
	if c.Partitions < 0 {
		return usage(fmt.Errorf("--partitions must be 1 or more, or left out, not %d", c.Partitions))
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	problems, err := topic.Check(ctx, connection, c.spec(c.Partitions))
	if err != nil {
		return err
	}
	if len(problems) == 0 {
		_, err := fmt.Fprintf(io.Stdout, "topic %s: safe\n", c.Topic)
		return err
	}
	t := tabwriter.NewWriter(io.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SETTING\tIS\tSHOULD BE\tBECAUSE")
	for _, p := range problems {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", p.Setting, p.Is, p.Should, p.Why)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return fmt.Errorf("topic %s: %w: %d settings", c.Topic, errUnsafe, len(problems))
}
