package topic

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// RawClient returns a client of the connection with no more settings than what
// reaching the brokers needs, and those given. It promises nothing that an
// [Appender] or a [Reader] does, and is for what these are measured against.
func RawClient(c Connection, more ...kgo.Opt) (*kgo.Client, error) { return c.client(more...) }

// Remove deletes the topic, if it is the one of this identity and not another
// that has its name meanwhile. That there is none is no error.
func Remove(ctx context.Context, c Connection, is Identity) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	l, err := describe(ctx, cl, c.Topic)
	if errors.Is(err, ErrNoTopic) {
		return nil
	}
	if err != nil {
		return err
	}
	if l.id != is.ID {
		return fmt.Errorf("topic %q: %w: it is left alone", c.Topic, ErrTopicChanged)
	}
	answers, err := kadm.NewClient(cl).DeleteTopics(ctx, c.Topic)
	if err == nil {
		err = answers.Error()
	}
	if err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
		return fmt.Errorf("deleting topic %q: %w", c.Topic, err)
	}
	return nil
}
