package topic

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

const month = 30 * 24 * time.Hour

// A topic that Create made is one that Check finds nothing in, with the
// defaults and without.
func TestCreateAndCheck(t *testing.T) {
	onEach(t, func(t *testing.T, c *cluster) {
		for name, spec := range map[string]Spec{
			"defaults":    {Retention: month},
			"asked for 1": {Partitions: 3, Replicas: 1, MinInSync: 1, Retention: time.Hour},
		} {
			t.Run(name, func(t *testing.T) {
				conn := Connection{Brokers: c.brokers, Topic: c.unusedName(t)}
				id, err := Create(testContext(t), conn, spec)
				if err != nil {
					t.Fatal(err)
				}
				if want := max(spec.Partitions, DefaultPartitions*b2i(spec.Partitions == 0)); id.Partitions != want {
					t.Errorf("%d partitions, not %d", id.Partitions, want)
				}
				if got := identityOf(t, conn); got != id {
					t.Errorf("created %+v, found %+v", id, got)
				}
				if problems, err := Check(testContext(t), conn, spec); err != nil || len(problems) > 0 {
					t.Errorf("problems %v, error %v", problems, err)
				}
				if _, err := Create(testContext(t), conn, spec); !errors.Is(err, ErrTopicExists) || !strings.Contains(err.Error(), "`seenby topic check`") {
					t.Errorf("created again: %v", err)
				}
			})
		}
	})
}

func b2i(b bool) int32 {
	if b {
		return 1
	}
	return 0
}

// unusedName names a topic that the test's end deletes.
func (c *cluster) unusedName(t *testing.T) string {
	t.Helper()
	conn := c.topic(t, 1)
	c.delete(t, conn)
	eventually(t, "the name is free", func() bool {
		_, err := describe(testContext(t), c.client(t), conn.Topic)
		return errors.Is(err, ErrNoTopic)
	})
	return conn.Topic
}

// Each setting alone is found, and named with what it is, and nothing else is.
func TestCheckFinds(t *testing.T) {
	onEach(t, func(t *testing.T, c *cluster) {
		spec := Spec{Partitions: 2, Retention: month}
		conn := Connection{Brokers: c.brokers, Topic: c.unusedName(t)}
		if _, err := Create(testContext(t), conn, spec); err != nil {
			t.Fatal(err)
		}
		check := func(spec Spec) []string {
			t.Helper()
			problems, err := Check(testContext(t), conn, spec)
			if err != nil {
				t.Fatal(err)
			}
			var found []string
			for _, p := range problems {
				found = append(found, p.Setting+" "+p.Is)
				if p.Should == "" || p.Why == "" || !strings.Contains(p.String(), p.Setting+" is "+p.Is+" and should be "+p.Should+": ") {
					t.Errorf("a problem says too little: %+v", p)
				}
			}
			return found
		}
		for _, test := range []struct{ setting, bad string }{
			{"cleanup.policy", "compact"},
			{"cleanup.policy", "compact,delete"},
			{"message.timestamp.type", "CreateTime"},
			{"retention.ms", "2678399999"}, // a month and a day, less 1 ms
			{"retention.bytes", "1000000000"},
			{"min.insync.replicas", "1"},
			{"unclean.leader.election.enable", "true"},
			{"max.message.bytes", "2097152"},
		} {
			good := c.set(t, conn, test.setting, test.bad)
			if found := check(spec); !slices.Equal(found, []string{test.setting + " " + test.bad}) {
				t.Errorf("%s=%s: found %q", test.setting, test.bad, found)
			}
			c.set(t, conn, test.setting, good)
		}
		for _, test := range []struct{ setting, good string }{
			{"retention.ms", "-1"},
			{"retention.ms", "2678400000"},
			{"min.insync.replicas", "3"},
			{"max.message.bytes", "10000000"},
		} {
			before := c.set(t, conn, test.setting, test.good)
			if found := check(spec); len(found) > 0 {
				t.Errorf("%s=%s: found %q", test.setting, test.good, found)
			}
			c.set(t, conn, test.setting, before)
		}
		more := spec
		more.Partitions = 3
		if found := check(more); !slices.Equal(found, []string{"partitions 2"}) {
			t.Errorf("found %q", found)
		}
		anyNumber := spec
		anyNumber.Partitions = 0
		if found := check(anyNumber); len(found) > 0 {
			t.Errorf("found %q", found)
		}
		if c.fake == nil {
			more = spec
			more.Replicas = 4
			if found := check(more); !slices.Equal(found, []string{"replicas 3"}) {
				t.Errorf("found %q", found)
			}
		}
	})
}

// set changes a setting of the topic, waits until brokers tell of it, and
// returns what it was.
func (c *cluster) set(t *testing.T, conn Connection, name, value string) (was string) {
	t.Helper()
	admin := c.admin(t)
	read := func() string {
		configs, err := admin.DescribeTopicConfigs(testContext(t), conn.Topic)
		if err != nil {
			t.Fatal(err)
		}
		for _, config := range configs[0].Configs {
			if config.Key == name {
				return config.MaybeValue()
			}
		}
		return ""
	}
	was = read()
	r, err := admin.AlterTopicConfigs(testContext(t), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: name, Value: &value}}, conn.Topic)
	if err == nil {
		err = r[0].Err
	}
	if err != nil {
		t.Fatalf("setting %s: %v", name, err)
	}
	eventually(t, "all brokers tell of it", func() bool {
		for range 6 {
			if read() != value {
				return false
			}
		}
		return true
	})
	return was
}

func TestSpecRefused(t *testing.T) {
	conn := Connection{Brokers: []string{"127.0.0.1:1"}, Topic: "t"}
	for name, test := range map[string]struct {
		spec Spec
		want string
	}{
		"partitions":   {Spec{Partitions: -1, Retention: 1}, "partitions"},
		"replicas":     {Spec{Replicas: -1, Retention: 1}, "replicas"},
		"in sync":      {Spec{MinInSync: -1, Retention: 1}, "in-sync"},
		"more in sync": {Spec{Replicas: 1, Retention: 1}, "in-sync"},
		"retention":    {Spec{}, "retention"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Create(context.Background(), conn, test.spec); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("create: want an error with %q, got %v", test.want, err)
			}
			if _, err := Check(context.Background(), conn, test.spec); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("check: want an error with %q, got %v", test.want, err)
			}
		})
	}
}
