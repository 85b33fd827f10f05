package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"go.uber.org/goleak"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/events/topic"
)

// The first argument has the test's binary be what a measurement starts.
const (
	asChild   = "be-child"
	asRebuild = "be-rebuild"
	asFailure = "be-failure"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		var err error
		switch os.Args[1] {
		case asChild:
			err = Child(context.Background(), os.Args[2], os.Stdin, os.Stdout)
		case asRebuild:
			err = rebuildNothing(os.Args[2:])
		case asFailure:
			err = errors.New("the disk is full")
		default:
			goleak.VerifyTestMain(m)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// rebuildNothing takes the place of `seenby rebuild`: it reads the log that its
// flags name, counts what is there, and keeps a file of it.
func rebuildNothing(args []string) error {
	flags := make(map[string]string)
	for _, arg := range args {
		name, value, _ := strings.Cut(arg, "=")
		flags[name] = value
	}
	if flags["--nodes"] != "1" || flags["--node"] != "0" {
		return fmt.Errorf("the flags are %v", args)
	}
	ctx := context.Background()
	at := topic.Connection{Brokers: []string{flags["--brokers"]}, Topic: flags["--topic"]}
	client, err := topic.RawClient(at)
	if err != nil {
		return err
	}
	ends, err := endsOf(ctx, client, at.Topic)
	client.Close()
	if err != nil {
		return err
	}
	s := rebuildSummary{Seconds: 1.5, GCPauseP99: 0.001, Outcomes: make(map[string]int64), Stages: map[string]float64{"apply": 1}}
	identity, err := topic.Identify(ctx, at)
	if err != nil {
		return err
	}
	start := make(map[int32]topic.Start)
	for p, end := range ends {
		start[p] = topic.Start{Position: topic.LogStart, LeaderEpoch: -1}
		s.Events += end
	}
	reader, err := topic.NewReader(ctx, topic.ReaderConfig{Connection: at, Identity: identity, Start: start})
	if err != nil {
		return err
	}
	defer reader.Close()
	decoder := new(events.Decoder)
	for seen := int64(0); seen < s.Events; {
		batches, err := reader.Poll(ctx)
		if err != nil {
			return err
		}
		for _, b := range batches {
			for _, r := range b.Records {
				if r.Control {
					continue // an empty partition's beginning
				}
				seen++
				e, err := decoder.Decode(r.Key, r.Value)
				if err != nil {
					return err
				}
				if events.Partition(r.Key, identity.Partitions) != b.Partition {
					return fmt.Errorf("a record of partition %d is misplaced", b.Partition)
				}
				if e.Kind() == events.KindMessageRead {
					s.Outcomes[counted]++
				}
			}
		}
	}
	if err := os.MkdirAll(filepath.Join(flags["--data"], "below"), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(flags["--data"], "below", "file"), make([]byte, 10_000), 0o600); err != nil {
		return err
	}
	return json.MarshalWrite(os.Stdout, s)
}
