package broker_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/seenby/seenby/services/standalone/broker"
)

// childDir tells this test's binary to be the process that is killed.
const childDir = "SEENBY_TEST_BROKER_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		fmt.Println("child:", produceForEver(dir))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// produceForEver writes to every partition and prints what was acknowledged.
func produceForEver(dir string) error {
	b, err := broker.Start(broker.Config{Dir: dir})
	if err != nil {
		return err
	}
	cl, err := kgo.NewClient(append(b.Options(), kgo.SeedBrokers(b.Addresses()...),
		kgo.DefaultProduceTopic(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		return err
	}
	var out sync.Mutex
	failed := make(chan error)
	for p := range int32(partitions) {
		go func() {
			for i := 0; ; i++ {
				value := fmt.Sprintf("%d/%d/%d", os.Getpid(), p, i)
				r := &kgo.Record{Partition: p, Value: []byte(value + strings.Repeat(".", rand.IntN(4000)))}
				if err := cl.ProduceSync(context.Background(), r).FirstErr(); err != nil {
					failed <- err
					return
				}
				out.Lock()
				fmt.Printf("acked %d %d %s\n", p, r.Offset, value)
				out.Unlock()
			}
		}()
	}
	return <-failed
}

const partitions = 4

type at struct {
	partition int32
	offset    int64
}

// TestAcknowledgedSurvivesKill kills the broker's process in the middle of its
// writes, again and again: whatever it had acknowledged is there, where it said.
func TestAcknowledgedSurvivesKill(t *testing.T) {
	const kills = 20
	dir := t.TempDir()
	b := start(t, dir)
	create(t, client(t, b), partitions)
	b.Close()

	acked := make(map[at]string)
	for range kills {
		killAfter(t, dir, 1+rand.IntN(60), acked)
	}

	b = start(t, dir)
	cl := client(t, b, kgo.ConsumeTopics(topic))
	ends, err := kadm.NewClient(cl).ListEndOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	want, read := int64(0), int64(0)
	ends.Each(func(o kadm.ListedOffset) { want += o.Offset })
	for read < want {
		fetches := cl.PollFetches(t.Context())
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		for _, r := range fetches.Records() {
			read++
			where := at{r.Partition, r.Offset}
			if value, ok := acked[where]; ok && !strings.HasPrefix(string(r.Value), value+".") && string(r.Value) != value {
				t.Errorf("%v holds %.20s, acknowledged was %s", where, r.Value, value)
			}
			delete(acked, where)
		}
	}
	for where, value := range acked {
		t.Errorf("%v: %s was acknowledged and is lost", where, value)
	}
}

// killAfter runs the child and kills it after it acknowledged n records; it
// notes every acknowledgement.
func killAfter(t *testing.T, dir string, n int, acked map[at]string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var where at
		var value string
		if _, err := fmt.Sscanf(lines.Text(), "acked %d %d %s", &where.partition, &where.offset, &value); err != nil {
			// The line that the kill cut off says nothing.
			if seen < n {
				t.Fatalf("the child said %q", lines.Text())
			}
			continue
		}
		if before, ok := acked[where]; ok {
			t.Errorf("%v was acknowledged as %s and again as %s", where, before, value)
		}
		acked[where] = value
		if seen++; seen == n {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait() // it was killed
	if seen < n {
		t.Fatalf("the child ended after %d of %d", seen, n)
	}
}
