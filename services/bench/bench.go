// Package bench measures seenby against a Kafka that it is given: how fast a copy
// is rebuilt, how much ingest takes in, and how soon a receipt is seen. Each
// measurement makes a topic of its own, removes it at the end, and measures in the
// same run, in turns, what franz-go alone does with the same records, so that a
// figure says something on any machine.
//
// What is measured runs in a process of its own ([Child]), as does what it is
// compared with: neither pays for the other's garbage, and both can be held to a
// memory limit.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/seenby/seenby/events/topic"
)

// Config says where and how to measure.
type Config struct {
	// Connection reaches Kafka; its topic is made.
	Connection topic.Connection
	Partitions int32
	Replicas   int16
	// Turns is how often each side is measured.
	Turns int
	// Scratch is the directory in which directories for stores are made and
	// removed.
	Scratch string
	// Child is the command of this program that runs [Child], without its argument.
	Child []string
	// Progress is told what is being done.
	Progress io.Writer
	Now      func() time.Time
}

// ErrConfig is wrapped by what is returned for a configuration that is wrong.
var ErrConfig = errors.New("bad setting")

// Validate returns what is wrong with c, or nil.
func (c Config) Validate() error {
	switch {
	case c.Turns < 1:
		return fmt.Errorf("%w: --turns must be 1 or more, not %d", ErrConfig, c.Turns)
	case c.Partitions < 1:
		return fmt.Errorf("%w: --partitions must be 1 or more, not %d", ErrConfig, c.Partitions)
	case c.Replicas < 1:
		return fmt.Errorf("%w: --replicas must be 1 or more, not %d", ErrConfig, c.Replicas)
	case len(c.Child) == 0 || c.Progress == nil || c.Now == nil:
		return fmt.Errorf("%w: Child, Progress and Now must be set", ErrConfig)
	}
	c.Connection.Topic = topicPrefix
	return c.Connection.Validate()
}

// say tells how far it is.
func (c Config) say(format string, args ...any) { fmt.Fprintf(c.Progress, format+"\n", args...) }

// clock is the claims' clock.
func (c Config) clock() int64 { return c.Now().UnixMilli() }

const (
	topicPrefix = "seenby-bench-"
	// topicTimeout bounds the making and the removing of a topic.
	topicTimeout = 30 * time.Second
	// retention is the messages': all are younger.
	retention = 30 * 24 * time.Hour
)

// withTopic makes a topic as `seenby topic create` does, has it used, and removes
// it, whatever came of that.
func (c Config) withTopic(ctx context.Context, use func(topic.Connection) error) (err error) {
	connection := c.Connection
	connection.Topic = fmt.Sprintf("%s%016x", topicPrefix, rand.Uint64())
	making, cancel := context.WithTimeout(ctx, topicTimeout)
	identity, err := topic.Create(making, connection, topic.Spec{
		Partitions: c.Partitions, Replicas: c.Replicas, MinInSync: max(1, c.Replicas-1), Retention: retention,
	})
	cancel()
	if err != nil {
		return err
	}
	c.say("topic %s: made with %d partitions", connection.Topic, c.Partitions)
	defer func() {
		removing, cancel := context.WithTimeout(context.WithoutCancel(ctx), topicTimeout)
		defer cancel()
		if gone := topic.Remove(removing, connection, identity); gone != nil {
			err = errors.Join(err, fmt.Errorf("%w: remove it with Kafka's own tools", gone))
		}
	}()
	return use(connection)
}
