package suite

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// kafka is the Kafka of the run.
type kafka struct {
	brokers []string
	// fake is set when it is kfake.
	fake *kfake.Cluster
	// control is the command that stops and starts brokers, or empty.
	control string
	client  *kgo.Client
	admin   *kadm.Client
}

var openKafka = sync.OnceValues(func() (*kafka, error) {
	k := new(kafka)
	if list := os.Getenv("SEENBY_TEST_BROKERS"); list != "" {
		k.brokers, k.control = strings.Split(list, ","), os.Getenv("SEENBY_TEST_KAFKA_CONTROL")
	} else {
		fake, err := kfake.NewCluster(kfake.NumBrokers(3))
		if err != nil {
			return nil, err
		}
		k.fake, k.brokers = fake, fake.ListenAddrs()
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(k.brokers...),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.MetadataMinAge(100*time.Millisecond),
		kgo.RequestTimeoutOverhead(3*time.Second), // A broker that is paused does not answer; the next one does.
	)
	if err != nil {
		return nil, err
	}
	k.client, k.admin = client, kadm.NewClient(client)
	opened = k
	return k, nil
})

// opened is what openKafka returned, if it was called.
var opened *kafka

func closeKafka() {
	plain.CloseIdleConnections()
	if opened == nil {
		return
	}
	opened.client.Close()
	if opened.fake != nil {
		opened.fake.Close()
	}
}

func theKafka(t *testing.T) *kafka {
	t.Helper()
	k, err := openKafka()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (k *kafka) real() bool { return k.fake == nil }

// realKafka skips the test unless Kafka is a real one; why says what kfake lacks.
func realKafka(t *testing.T, why string) *kafka {
	t.Helper()
	k := theKafka(t)
	if !k.real() {
		t.Skipf("requires kafka: %s; set SEENBY_TEST_BROKERS=host:port,... of three brokers", why)
	}
	return k
}

// controlledKafka skips the test unless its brokers can be stopped and started.
func controlledKafka(t *testing.T, why string) *kafka {
	t.Helper()
	k := realKafka(t, why)
	if k.control == "" {
		t.Skipf("requires kafka: %s; set SEENBY_TEST_KAFKA_CONTROL to a command that takes kill N, start N, pause N and resume N", why)
	}
	return k
}

// do runs the control command.
func (k *kafka) do(args ...string) error {
	words := append(strings.Fields(k.control), args...)
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(words, " "), err, out)
	}
	return nil
}

func (k *kafka) must(t *testing.T, args ...string) {
	t.Helper()
	if err := k.do(args...); err != nil {
		t.Fatal(err)
	}
}

// heal has these brokers run again when the test ends, whatever it did to them.
func (k *kafka) heal(t *testing.T, brokers ...string) {
	t.Helper()
	t.Cleanup(func() {
		for _, b := range brokers {
			_ = k.do("resume", b) // It may not be paused, or not run.
			if err := k.do("start", b); err != nil {
				t.Error(err)
			}
		}
	})
}

// newName returns a topic's name that nobody else has.
func newName(t *testing.T) string {
	t.Helper()
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9':
			return r
		}
		return '-'
	}, t.Name())
	return fmt.Sprintf("suite-%s-%08x", name, rand.Uint32())
}

// removeLater deletes the topic, or topics that later have its name, when the
// test ends.
func (k *kafka) removeLater(t *testing.T, topic string) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := k.remove(ctx, topic); err != nil {
			t.Errorf("delete topic %s: %v", topic, err)
		}
	})
}

// remove deletes a topic and returns when it is gone.
func (k *kafka) remove(ctx context.Context, topic string) error {
	if _, err := k.admin.DeleteTopic(ctx, topic); err != nil {
		return err
	}
	return poll(ctx, func() bool {
		topics, err := k.admin.ListTopics(ctx, topic)
		return err == nil && !topics.Has(topic)
	})
}

// newTopic makes a topic by seenby topic create, which is how operators do.
func (k *kafka) newTopic(t *testing.T, partitions int) string {
	t.Helper()
	name := newName(t)
	k.createTopic(t, name, partitions)
	k.removeLater(t, name)
	return name
}

func (k *kafka) createTopic(t *testing.T, name string, partitions int) {
	t.Helper()
	await(t, func() (bool, string) {
		// Right after a topic of this name was deleted, Kafka may still have it.
		code, out, errs := command(t, k.createArgs(name, partitions)...)
		return code == 0, fmt.Sprintf("seenby topic create: exit code %d\n%s%s", code, out, errs)
	})
}

func (k *kafka) createArgs(name string, partitions int) []string {
	return []string{"topic", "create", "--brokers", strings.Join(k.brokers, ","), "--topic", name, "--partitions", fmt.Sprint(partitions)}
}

// produce appends raw records and returns them with their offsets.
func (k *kafka) produce(t *testing.T, records ...*kgo.Record) []*kgo.Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	k.client.PurgeTopicsFromProducing(records[0].Topic) // One that was recreated is another topic.
	if err := k.client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		t.Fatalf("produce to %s: %v", records[0].Topic, err)
	}
	return records
}

// deleteRecords has Kafka delete what is below an offset, as its retention does.
func (k *kafka) deleteRecords(t *testing.T, topic string, partition int32, before int64) {
	t.Helper()
	var offsets kadm.Offsets
	offsets.AddOffset(topic, partition, before, -1)
	result, err := k.admin.DeleteRecords(t.Context(), offsets)
	if err == nil {
		err = result.Error()
	}
	if err != nil {
		t.Fatalf("delete records of %s: %v", topic, err)
	}
}
