// Package topic is the Kafka side of package events: it appends events to a
// topic and reads its partitions from exact positions, and it makes and judges
// the topic itself. Its one promise is that nothing is passed over in silence:
// what an [Appender] acknowledged is in the log, and a [Reader] hands out a
// partition without a gap, or says why it cannot go on.
package topic

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var (
	// ErrNoTopic is wrapped by what [Identify] and [Check] return when the topic
	// does not exist.
	ErrNoTopic = errors.New("the topic does not exist")
	// ErrUnsupported is wrapped by what is returned for brokers that give topics
	// no ID, without which a recreated topic passes for the old one.
	ErrUnsupported = errors.New("the brokers are too old: seenby needs topic IDs and fetching by them, Kafka 3.1 or later")
	// ErrClosed is wrapped by what an Appender or Reader returns after Close.
	ErrClosed = errors.New("closed")
)

// Identity tells one topic from any other that had or will have its name.
type Identity struct {
	// ID is Kafka's topic ID. Kafka never gives an ID twice.
	ID [16]byte
	// Partitions is how many there are. Keys are spread over them, so the number
	// must not change while the topic is used.
	Partitions int32
}

// newsTime is how long brokers are given to hear of a new topic. Each learns of
// it by itself, and one that has just started, of all topics: that it knows of
// none of this name does not yet mean that there is none.
const newsTime = 3 * time.Second

// Identify asks Kafka for the topic's identity. Brokers out of reach are tried
// again until ctx ends. That the topic does not exist is believed after a few
// seconds of brokers saying so; the error wraps [ErrNoTopic] then.
func Identify(ctx context.Context, c Connection) (Identity, error) {
	cl, err := c.client()
	if err != nil {
		return Identity{}, err
	}
	defer cl.Close()
	return identify(ctx, cl, c.Topic)
}

func identify(ctx context.Context, cl *kgo.Client, topic string) (Identity, error) {
	var missing time.Time // since when it is said not to exist
	for failures := 0; ; failures++ {
		l, err := describe(ctx, cl, topic)
		switch {
		case err == nil:
			return l.identity(), nil
		case !errors.Is(err, ErrNoTopic):
			missing = time.Time{}
		case missing.IsZero():
			missing = time.Now()
		case time.Since(missing) > newsTime:
			return Identity{}, err
		}
		if errors.Is(err, ErrUnsupported) || !pause(ctx, backoff(failures)) {
			return Identity{}, err
		}
	}
}

// layout is what Kafka's metadata says about the topic at one moment.
type layout struct {
	id         [16]byte
	partitions []leadership
	replicas   int // of the partition that has the fewest
}

// leadership names the broker that leads a partition, -1 if none, and the
// leader epoch that it does so in, -1 if the brokers keep none.
type leadership struct {
	node  int32
	epoch int32
}

func (l layout) identity() Identity {
	return Identity{ID: l.id, Partitions: int32(len(l.partitions))}
}

// describe asks a broker, or a client whose brokers any will do, for the topic's
// layout.
func describe(ctx context.Context, of kmsg.Requestor, topic string) (layout, error) {
	req := kmsg.NewPtrMetadataRequest()
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = kmsg.StringPtr(topic)
	req.Topics = []kmsg.MetadataRequestTopic{t}
	resp, err := req.RequestWith(ctx, of)
	if err != nil {
		return layout{}, fmt.Errorf("asking Kafka about topic %q: %w", topic, err)
	}
	if len(resp.Topics) != 1 {
		return layout{}, fmt.Errorf("asking Kafka about topic %q: it answered about %d topics", topic, len(resp.Topics))
	}
	answer := resp.Topics[0]
	switch err := kerr.ErrorForCode(answer.ErrorCode); {
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		return layout{}, fmt.Errorf("topic %q: %w: make it with `seenby topic create`", topic, ErrNoTopic)
	case err != nil:
		return layout{}, fmt.Errorf("asking Kafka about topic %q: %w", topic, err)
	case answer.TopicID == [16]byte{}:
		return layout{}, fmt.Errorf("topic %q: %w", topic, ErrUnsupported)
	}
	l := layout{id: answer.TopicID, partitions: make([]leadership, len(answer.Partitions))}
	for i, p := range answer.Partitions {
		if p.Partition < 0 || int(p.Partition) >= len(l.partitions) {
			return layout{}, fmt.Errorf("asking Kafka about topic %q: it knows partition %d but only %d in all", topic, p.Partition, len(l.partitions))
		}
		l.partitions[p.Partition] = leadership{node: p.Leader, epoch: p.LeaderEpoch}
		if n := len(p.Replicas); i == 0 || n < l.replicas {
			l.replicas = n
		}
	}
	return l, nil
}
