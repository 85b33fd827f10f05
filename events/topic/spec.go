package topic

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/seenby/seenby/events"
)

// ErrTopicExists is wrapped by what [Create] returns when there is a topic of
// the name.
var ErrTopicExists = errors.New("the topic exists")

const (
	// DefaultPartitions is Spec.Partitions where that is 0.
	DefaultPartitions = 64
	// DefaultReplicas is Spec.Replicas where that is 0.
	DefaultReplicas = 3
	// DefaultMinInSync is Spec.MinInSync where that is 0.
	DefaultMinInSync = 2
	// RetentionMargin is how much longer than the store the topic keeps an event:
	// a receipt may wait a day for its message.
	RetentionMargin = 24 * time.Hour
	// MinMessageBytes is the least max.message.bytes: the largest event, and a
	// batch around it.
	MinMessageBytes = maxBatchBytes
)

// Spec says what the topic has to be like.
type Spec struct {
	// Partitions is how many it has: [DefaultPartitions] if 0 for Create, and
	// any number if 0 for Check. It cannot be changed later.
	Partitions int32
	// Replicas is how many brokers have each partition, and MinInSync how many
	// of them have to have a record for it to be acknowledged. Less than the
	// defaults, which stand for 0, loses what was acknowledged when one disk is
	// lost.
	Replicas  int16
	MinInSync int16
	// Retention is the store's: how long after its sending a message is kept.
	Retention time.Duration
}

// Problem is a setting of the topic that is not safe.
type Problem struct {
	// Setting is Kafka's name for it, or "partitions" or "replicas".
	Setting string
	// Is is its value, and Should what it should be.
	Is, Should string
	// Why says what goes wrong otherwise.
	Why string
}

func (p Problem) String() string {
	return fmt.Sprintf("%s is %s and should be %s: %s", p.Setting, p.Is, p.Should, p.Why)
}

func (s Spec) withDefaults() Spec {
	if s.Replicas == 0 {
		s.Replicas = DefaultReplicas
	}
	if s.MinInSync == 0 {
		s.MinInSync = DefaultMinInSync
	}
	return s
}

func (s Spec) validate() error {
	switch {
	case s.Partitions < 0:
		return fmt.Errorf("topic spec: partitions: at least 1, not %d", s.Partitions)
	case s.Replicas < 1:
		return fmt.Errorf("topic spec: replicas: at least 1, not %d", s.Replicas)
	case s.MinInSync < 1 || s.MinInSync > s.Replicas:
		return fmt.Errorf("topic spec: min in-sync replicas: from 1 to the %d replicas, not %d", s.Replicas, s.MinInSync)
	case s.Retention <= 0:
		return errors.New("topic spec: retention: the store's is needed")
	}
	return nil
}

func (s Spec) retentionMillis() int64 { return (s.Retention + RetentionMargin).Milliseconds() }

// setting is one rule about the topic's configuration: the value that Create
// gives it, and what Check accepts.
type setting struct {
	name   string
	create string
	should string
	ok     func(string) bool
	why    string
}

func (s Spec) settings() []setting {
	exactly := func(name, value, why string) setting {
		return setting{name, value, value, func(is string) bool { return is == value }, why}
	}
	atLeast := func(name string, least int64, ok func(int64) bool, why string) setting {
		return setting{name, strconv.FormatInt(least, 10), "at least " + strconv.FormatInt(least, 10), func(is string) bool {
			n, err := strconv.ParseInt(is, 10, 64)
			return err == nil && ok(n)
		}, why}
	}
	retention := s.retentionMillis()
	return []setting{
		exactly("cleanup.policy", "delete", "compaction removes all events of a message but the last"),
		exactly("message.timestamp.type", "LogAppendTime", "read times and expiry go by the records' timestamps, which must not be the producers'"),
		atLeast("retention.ms", retention, func(n int64) bool { return n == -1 || n >= retention },
			fmt.Sprintf("a copy built from the log has to find every message that has not expired, for %v and a day", s.Retention)),
		exactly("retention.bytes", "-1", "the size of the log must not decide what it forgets"),
		atLeast("min.insync.replicas", int64(s.MinInSync), func(n int64) bool { return n >= int64(s.MinInSync) },
			"what fewer brokers have acknowledged is lost with them"),
		exactly("unclean.leader.election.enable", "false", "a broker that lacks acknowledged events must not become leader"),
		atLeast("max.message.bytes", MinMessageBytes, func(n int64) bool { return n >= MinMessageBytes },
			fmt.Sprintf("an event has up to %d bytes", events.MaxEventSize)),
	}
}

// Create makes the topic as the spec says, and returns its identity. A topic
// that exists is left as it is, and an error that wraps [ErrTopicExists].
func Create(ctx context.Context, c Connection, s Spec) (Identity, error) {
	if s.Partitions == 0 {
		s.Partitions = DefaultPartitions
	}
	s = s.withDefaults()
	if err := s.validate(); err != nil {
		return Identity{}, err
	}
	cl, err := c.client()
	if err != nil {
		return Identity{}, err
	}
	defer cl.Close()
	configs := make(map[string]*string)
	for _, setting := range s.settings() {
		configs[setting.name] = kadm.StringPtr(setting.create)
	}
	made, err := kadm.NewClient(cl).CreateTopic(ctx, s.Partitions, s.Replicas, configs, c.Topic)
	switch {
	case errors.Is(err, kerr.TopicAlreadyExists):
		return Identity{}, fmt.Errorf("topic %q: %w: `seenby topic check` says whether it will do", c.Topic, ErrTopicExists)
	case err != nil && made.ErrMessage != "":
		return Identity{}, fmt.Errorf("creating topic %q: %w (%s)", c.Topic, err, made.ErrMessage)
	case err != nil:
		return Identity{}, fmt.Errorf("creating topic %q: %w", c.Topic, err)
	}
	return awaitLeaders(ctx, cl, c.Topic, made.ID)
}

// awaitLeaders waits until every broker knows the topic that was just made, with
// a leader for each partition, so that whoever comes next finds it.
func awaitLeaders(ctx context.Context, cl *kgo.Client, topic string, id [16]byte) (Identity, error) {
	for failures := 0; ; failures++ {
		is, err := knownToAll(ctx, cl, topic)
		if err == nil && is.ID != id {
			return Identity{}, fmt.Errorf("topic %q was created and then recreated by somebody else", topic)
		}
		if err == nil {
			return is, nil
		}
		if !pause(ctx, backoff(failures)) {
			return Identity{}, fmt.Errorf("topic %q was created, but cannot be used yet: %w", topic, err)
		}
	}
}

func knownToAll(ctx context.Context, cl *kgo.Client, topic string) (Identity, error) {
	all, err := describe(ctx, cl, topic) // which also finds the brokers
	for _, b := range cl.DiscoveredBrokers() {
		if err != nil {
			break
		}
		var one layout
		if one, err = describe(ctx, b, topic); err == nil && one.identity() != all.identity() {
			err = errors.New("the brokers do not agree yet on what it is")
		}
		if slices.ContainsFunc(one.partitions, func(p leadership) bool { return p.node < 0 }) {
			err = errNoLeader
		}
	}
	return all.identity(), err
}

// Check returns what is not safe about the topic. A topic that does not exist
// is an error that wraps [ErrNoTopic].
func Check(ctx context.Context, c Connection, s Spec) ([]Problem, error) {
	s = s.withDefaults()
	if err := s.validate(); err != nil {
		return nil, err
	}
	cl, err := c.client()
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	l, err := describe(ctx, cl, c.Topic)
	if err != nil {
		return nil, err
	}
	configs, err := kadm.NewClient(cl).DescribeTopicConfigs(ctx, c.Topic)
	if err == nil {
		var config kadm.ResourceConfig
		if config, err = configs.On(c.Topic, nil); err == nil {
			err = config.Err
		}
		if err == nil {
			return append(s.shape(l), s.compare(config)...), nil
		}
	}
	return nil, fmt.Errorf("asking Kafka for the configuration of topic %q: %w", c.Topic, err)
}

// shape judges what is not in the topic's configuration.
func (s Spec) shape(l layout) (problems []Problem) {
	if s.Partitions != 0 && int(s.Partitions) != len(l.partitions) {
		problems = append(problems, Problem{"partitions", strconv.Itoa(len(l.partitions)), strconv.Itoa(int(s.Partitions)),
			"keys are spread over them, so that the number cannot be changed later"})
	}
	if l.replicas < int(s.Replicas) {
		problems = append(problems, Problem{"replicas", strconv.Itoa(l.replicas), "at least " + strconv.Itoa(int(s.Replicas)),
			"acknowledged events are lost with the disks that have them"})
	}
	return problems
}

// compare judges the topic's configuration.
func (s Spec) compare(config kadm.ResourceConfig) (problems []Problem) {
	values := make(map[string]string)
	for _, c := range config.Configs {
		if c.Value != nil {
			values[c.Key] = *c.Value
		}
	}
	for _, rule := range s.settings() {
		is, known := values[rule.name]
		if !known {
			is = "unknown"
		}
		if !rule.ok(is) {
			problems = append(problems, Problem{rule.name, is, rule.should, rule.why})
		}
	}
	return problems
}
