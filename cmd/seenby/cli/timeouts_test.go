package cli_test

import (
	"strings"
	"testing"

	"github.com/seenby/seenby/cmd/seenby/cli"
)

// TestWaitsEndWithinRequests gives waits that a request's time-out would cut off.
func TestWaitsEndWithinRequests(t *testing.T) {
	key := keyFile(t)
	projector := []string{"projector", "--brokers", "127.0.0.1:1", "--data", t.TempDir(), "--internal-secret-file", key}
	query := []string{"query", "--projectors", "http://127.0.0.1:1", "--auth-key-file", key, "--internal-secret-file", key}
	for _, args := range [][]string{
		append(projector, "--max-wait", "10s"),
		append(projector, "--max-wait", "2s", "--request-timeout", "1s"),
		append(projector, "--max-wait", "10s", "--request-timeout", "0s"),
		append(query, "--owner-timeout", "10s"),
	} {
		// The address is wrong too, so that nothing is ever served.
		r := run(t.Context(), append(args[:len(args):len(args)], "--listen", "nowhere")...)
		if r.code != cli.Usage || !strings.Contains(r.stderr, "--request-timeout") {
			t.Errorf("%q: %d, %s", args, r.code, r.stderr)
		}
	}
}
