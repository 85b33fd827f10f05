package bench

import (
	"bytes"
	"context"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/seenby/seenby/events/topic"
)

// onEach runs a test on kfake, and on the real Kafka that SEENBY_TEST_BROKERS
// names.
func onEach(t *testing.T, test func(t *testing.T, c Config, progress *bytes.Buffer)) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	configured := func(t *testing.T, brokers []string) (Config, *bytes.Buffer) {
		progress := new(bytes.Buffer)
		return Config{
			Connection: topic.Connection{Brokers: brokers}, Partitions: 3, Replicas: 1, Turns: 2, Scratch: t.TempDir(),
			Child: []string{self, asChild}, Progress: progress, Now: time.Now,
		}, progress
	}
	t.Run("kfake", func(t *testing.T) {
		fake, err := kfake.NewCluster(kfake.NumBrokers(1))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(fake.Close)
		c, progress := configured(t, fake.ListenAddrs())
		test(t, c, progress)
	})
	t.Run("kafka", func(t *testing.T) {
		brokers := os.Getenv("SEENBY_TEST_BROKERS")
		if brokers == "" {
			t.Skip("requires kafka: set SEENBY_TEST_BROKERS=host:port,... to brokers of a cluster")
		}
		c, progress := configured(t, strings.Split(brokers, ",")[:1])
		test(t, c, progress)
	})
}

var madeTopic = regexp.MustCompile(`topic (` + topicPrefix + `[0-9a-f]{16}): made`)

// isClean fails if the topic of a measurement, or anything in its scratch
// directory, is still there.
func isClean(t *testing.T, c Config, progress *bytes.Buffer) {
	t.Helper()
	made := madeTopic.FindStringSubmatch(progress.String())
	if made == nil {
		t.Fatalf("no topic was made:\n%s", progress)
	}
	at := c.Connection
	at.Topic = made[1]
	client, err := topic.RawClient(at)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	// Kafka removes a topic some time after it said that it would.
	deadline := time.Now().Add(30 * time.Second)
	for {
		topics, err := kadm.NewClient(client).ListTopics(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !topics.Has(at.Topic) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("topic %s is still there", at.Topic)
		}
	}
	if left, err := os.ReadDir(c.Scratch); err != nil || len(left) > 0 {
		t.Errorf("in the scratch directory: %v, %v", left, err)
	}
}

// tiny is a workload that is written in no time.
var tiny = Workload{Name: "large", Messages: 30, Groups: 1, Readers: 20, Alive: 5, Seed: 3}

func TestRebuild(t *testing.T) {
	onEach(t, func(t *testing.T, c Config, progress *bytes.Buffer) {
		report, err := Rebuild(t.Context(), RebuildConfig{Config: c, Workload: tiny, Rebuild: []string{c.Child[0], asRebuild}})
		if err != nil {
			t.Fatal(err)
		}
		isClean(t, c, progress)
		r := report.Rebuild
		if r.Receipts != 600 || r.Filled.Records != 630 || len(r.Built) != c.Turns || len(r.Raw.Runs) != c.Turns {
			t.Errorf("%+v", r)
		}
		if r.Rate != 400 || r.Ratio <= 0 || r.Raw.Rate <= 0 || r.Raw.Runs[0].Records < 630 || r.Raw.Settings == "" || len(r.Raw.Tried) != len(consumeCandidates) {
			t.Errorf("%+v", r)
		}
		if r.MemoryLimit != 0 || r.NoMemoryLimit == "" || r.Built[0].Apparent < 10_000 || r.BytesPerReceipt <= 0 || r.Stages["apply"] != 1 {
			t.Errorf("%+v", r)
		}
		var out bytes.Buffer
		if err := report.Table(&out); err != nil || !strings.Contains(out.String(), "NONE was in force") {
			t.Errorf("%v\n%s", err, &out)
		}
	})
}

func TestPull(t *testing.T) {
	onEach(t, func(t *testing.T, c Config, progress *bytes.Buffer) {
		config := PullConfig{Config: c, Messages: 120, Lists: 4, Senders: 3, Requests: 50, Clients: 2, Procs: 1, Seconds: 1, Seed: 1}
		report, err := Pull(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		isClean(t, c, progress)
		if len(report.Pull.Cases) != 5 {
			t.Fatalf("%+v", report.Pull)
		}
		for i, k := range report.Pull.Cases {
			if len(k.Pull.Rates) != c.Turns || len(k.Echo.Rates) != c.Turns || k.Ratio <= 0 || (k.P99Ratio > 0) != (i < 2) || (k.Bytes == 0) != (k.Name == caseUnchanged) {
				t.Errorf("%+v", k)
			}
		}
		var out bytes.Buffer
		if err := report.Table(&out); err != nil || !strings.Contains(out.String(), caseBatch) {
			t.Errorf("%v\n%s", err, &out)
		}
		config.Messages = 99
		if _, err := Pull(t.Context(), config); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "--messages must be 100 or more") {
			t.Error(err)
		}
	})
}

// TestRebuildThatFails removes what was made all the same.
func TestRebuildThatFails(t *testing.T) {
	onEach(t, func(t *testing.T, c Config, progress *bytes.Buffer) {
		_, err := Rebuild(t.Context(), RebuildConfig{Config: c, Workload: tiny, Rebuild: []string{c.Child[0], asFailure}})
		if !errors.Is(err, ErrChild) || !strings.Contains(err.Error(), "the disk is full") {
			t.Error(err)
		}
		isClean(t, c, progress)
	})
}

// ender ends a context when it is told something.
type ender struct {
	*bytes.Buffer
	at  string
	end context.CancelFunc
}

func (e ender) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte(e.at)) {
		e.end()
	}
	return e.Buffer.Write(b)
}

func TestRebuildThatIsEnded(t *testing.T) {
	onEach(t, func(t *testing.T, c Config, progress *bytes.Buffer) {
		for _, at := range []string{"made", "trying", "turn 1: raw"} {
			progress.Reset()
			ctx, cancel := context.WithCancel(t.Context())
			c.Progress = ender{progress, at, cancel}
			_, err := Rebuild(ctx, RebuildConfig{Config: c, Workload: tiny, Rebuild: []string{c.Child[0], asRebuild}})
			cancel()
			if err == nil {
				t.Errorf("ended when it said %q: no error", at)
			}
			isClean(t, c, progress)
		}
	})
}

func TestIngest(t *testing.T) {
	onEach(t, func(t *testing.T, c Config, progress *bytes.Buffer) {
		report, err := Ingest(t.Context(), IngestConfig{
			Config: c, Receipts: 1_000, Batch: 100, Clients: 2, Singles: 40, SingleClients: 4, Procs: 1, Seed: 1,
		})
		if err != nil {
			t.Fatal(err)
		}
		isClean(t, c, progress)
		r := report.Ingest
		for name, m := range map[string]Measured{"batches": r.Batches, "produce": r.Produce, "single": r.Single, "echo": r.Echo} {
			if len(m.Rates) != c.Turns || m.Rate <= 0 {
				t.Errorf("%s: %+v", name, m)
			}
		}
		if r.Settings == "" || r.BatchesRatio <= 0 || r.SingleRatio <= 0 || len(r.Tried) != len(produceCandidates) {
			t.Errorf("%+v", r)
		}
		if err := report.Table(new(bytes.Buffer)); err != nil {
			t.Error(err)
		}
	})
}

func TestFreshness(t *testing.T) {
	onEach(t, func(t *testing.T, c Config, progress *bytes.Buffer) {
		report, err := Freshness(t.Context(), FreshnessConfig{
			Config: c, Rate: 200, Batch: 20, Seconds: 1, Clients: 4, Procs: 1, Seed: 1,
		})
		if err != nil {
			t.Fatal(err)
		}
		isClean(t, c, progress)
		r := report.Freshness
		if len(r.Turns) != c.Turns || len(r.Raw) != c.Turns || r.Pull.Samples != 10 || r.Fetch.Samples != 10 {
			t.Errorf("%+v", r)
		}
		if r.Pull.P99 <= 0 || r.Fetch.P99 <= 0 || r.Ratio <= 0 || r.Turns[0].Ack.Max <= 0 || r.Raw[0].Rate <= 0 || r.Settings == "" {
			t.Errorf("%+v", r)
		}
		if err := report.Table(new(bytes.Buffer)); err != nil {
			t.Error(err)
		}
	})
}

func TestConfigValidate(t *testing.T) {
	good := Config{
		Connection: topic.Connection{Brokers: []string{"127.0.0.1:1"}}, Partitions: 1, Replicas: 1, Turns: 1,
		Child: []string{"x"}, Progress: new(bytes.Buffer), Now: time.Now,
	}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for flag, spoil := range map[string]func(*Config){
		"--turns":      func(c *Config) { c.Turns = 0 },
		"--partitions": func(c *Config) { c.Partitions = 0 },
		"--replicas":   func(c *Config) { c.Replicas = 0 },
		"Child":        func(c *Config) { c.Child = nil },
		"brokers":      func(c *Config) { c.Connection.Brokers = nil },
	} {
		c := good
		spoil(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s: %v", flag, err)
		}
	}
}
