// Package suite tests seenby from outside: it builds the binary, runs the real
// processes against a Kafka, and judges them by what their clients sent and what
// http.md promises. It knows nothing of their insides.
//
// Kafka is the one that SEENBY_TEST_BROKERS lists, or else kfake inside the test's
// process, which is enough for most tests and small loads. What needs a real one
// is skipped by name otherwise:
//
//	SEENBY_TEST_BROKERS        host:port,...  of three brokers, plaintext
//	SEENBY_TEST_KAFKA_CONTROL  a command that is called with "kill N", "start N",
//	                           "pause N" or "resume N" for broker N from 1 on, and
//	                           with "produce ARGS" for Kafka's console producer
//	SEENBY_TEST_PYTHON         a Python with kafka-python, confluent-kafka and
//	                           grpcio-tools
//	SEENBY_TEST_SEED           the seed of a run that failed, to repeat its load
//
// Tests that stop brokers, or load the machine, run one after another; those that
// mostly wait are parallel, which is after all others.
package suite

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"go.uber.org/goleak"

	// The suite runs a binary that it builds itself. The import tells go test
	// that its result depends on what the binary is built from.
	_ "github.com/seenby/seenby/cmd/seenby/cli"
)

// work is a directory for what the whole run shares: the binary.
var work string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) (code int) {
	var err error
	if work, err = os.MkdirTemp("", "seenby-suite-"); err != nil {
		fmt.Fprintln(os.Stderr, "suite:", err)
		return 1
	}
	defer os.RemoveAll(work) //nolint:errcheck // Nothing depends on it.
	code = m.Run()
	closeKafka()
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, "suite: goroutines leaked:", err)
		return 1
	}
	return code
}

// built is the path of seenby, built as the tests were: with the race detector
// if they have it.
var built = sync.OnceValues(func() (string, error) {
	path := filepath.Join(work, "seenby")
	args := []string{"build", "-o", path}
	if raceDetector {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, "github.com/seenby/seenby/cmd/seenby")...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

func seenby(t *testing.T) string {
	t.Helper()
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// random returns the test's source of chance, and has its seed printed if the
// test fails.
func random(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if s := os.Getenv("SEENBY_TEST_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("SEENBY_TEST_SEED: %v", err)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("to repeat this load: SEENBY_TEST_SEED=%d", seed)
		}
	})
	return rand.New(rand.NewPCG(seed, 0))
}
