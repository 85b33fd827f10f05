package projector

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seenby/seenby/events/topic"
	"github.com/seenby/seenby/projections"
)

func TestConfigValidate(t *testing.T) {
	good := Config{
		Connection: topic.Connection{Brokers: []string{"localhost:9092"}, Topic: "events"}, Generation: DefaultGeneration,
		Retention: DefaultRetention, WaitingLimit: DefaultWaitingLimit, Copy: "copy-a", Nodes: 2, Node: 1, DataDir: "state",
		MemoryBytes: DefaultMemoryBytes, CacheBytes: DefaultCacheBytes, MemtableBytes: DefaultMemtableBytes,
		FlushBytes: DefaultFlushBytes, FlushEvery: DefaultFlushEvery, MaxWait: DefaultMaxWait,
		PollInterval: DefaultPollInterval, PollWindow: DefaultPollWindow, PollSlowest: DefaultPollSlowest, VisibleTo: Sender,
		Secret: testKeys(t), Registerer: prometheus.NewRegistry(), Now: time.Now,
	}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, k := range []struct {
		says   string
		change func(*Config)
	}{
		{"brokers", func(c *Config) { c.Connection.Brokers = nil }},
		{"--generation", func(c *Config) { c.Generation = 0 }},
		{"--retention", func(c *Config) { c.Retention = time.Minute }},
		{"--retention", func(c *Config) { c.Retention = time.Hour + time.Microsecond }},
		{"--waiting-limit", func(c *Config) { c.WaitingLimit = -1 }},
		{"--skip-record", func(c *Config) { c.Skips = []projections.Skip{{Partition: 0, Offset: -1}} }},
		{"--copy", func(c *Config) { c.Copy = "" }},
		{"--copy", func(c *Config) { c.Copy = "a b" }},
		{"--nodes", func(c *Config) { c.Nodes = 0 }},
		{"--waiting-limit", func(c *Config) { c.WaitingLimit = 1 << 60 }},
		{"--node must be from 0 to --nodes less one (1), not 2", func(c *Config) { c.Node = 2 }},
		{"--node", func(c *Config) { c.Node = -1 }},
		{"--data", func(c *Config) { c.DataDir = "" }},
		{"--memory", func(c *Config) { c.MemoryBytes = 0 }},
		{"--store-cache", func(c *Config) { c.CacheBytes = 0 }},
		{"--store-memtable", func(c *Config) { c.MemtableBytes = 0 }},
		{"--flush-bytes", func(c *Config) { c.FlushBytes = 0 }},
		{"--flush-every", func(c *Config) { c.FlushEvery = 0 }},
		{"--max-wait", func(c *Config) { c.MaxWait = -1 }},
		{"--poll-interval", func(c *Config) { c.PollInterval = 0 }},
		{"--poll-slowest", func(c *Config) { c.PollSlowest = time.Second }},
		{"--poll-window", func(c *Config) { c.PollWindow = time.Second }},
		{"--visible-to", func(c *Config) { c.VisibleTo = "everybody" }},
		{"--internal-secret-file", func(c *Config) { c.Secret = nil }},
	} {
		c := good
		k.change(&c)
		if err := c.Validate(); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), k.says) || strings.Count(err.Error(), "\n") > 0 {
			t.Errorf("%s: %v", k.says, err)
		}
		if _, err := New(c); !errors.Is(err, ErrConfig) {
			t.Errorf("New with a bad %s: %v", k.says, err)
		}
	}
	bad := good
	bad.Copy, bad.DataDir = "", ""
	if err := bad.Validate(); err == nil || !strings.Contains(err.Error(), "--copy") || !strings.Contains(err.Error(), "--data") {
		t.Errorf("two mistakes: %v", err)
	}
}

// TestGate: nobody comes in once it is closed, closing waits for those inside,
// and there are only so many.
func TestGate(t *testing.T) {
	var g gate
	for range maxInside {
		if problem := g.enter(); problem != nil {
			t.Fatal(problem)
		}
	}
	if problem := g.enter(); problem == nil || problem.Code != "overloaded" {
		t.Errorf("one too many: %v", problem)
	}
	for range maxInside - 1 {
		g.leave()
	}
	empty := g.shut()
	if problem := g.enter(); problem == nil || problem.Code != "owner_unavailable" {
		t.Errorf("after it was closed: %v", problem)
	}
	select {
	case <-empty:
		t.Error("it is said to be empty while somebody is inside")
	default:
	}
	g.leave()
	<-empty
	var unused gate
	unused.close()
}
