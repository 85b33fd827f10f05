package cli_test

import (
	"strings"
	"testing"

	"github.com/seenby/seenby/cmd/seenby/cli"
)

// TestFlagOverExcludedVariable: variables that other commands need do not stand in
// the way of a flag, and two flags still do.
func TestFlagOverExcludedVariable(t *testing.T) {
	key := keyFile(t)
	t.Setenv("SEENBY_DATA", t.TempDir())
	if got := run(t.Context(), "token", "--subject", "alice", "--auth-key-file", key); got.code != cli.Done {
		t.Errorf("a flag over the variable of another: %+v", got)
	}
	got := run(t.Context(), "token", "--subject", "alice", "--auth-key-file", key, "--data", t.TempDir())
	if got.code != cli.Usage || !strings.Contains(got.stderr, "can't be used together") {
		t.Errorf("two flags: %+v", got)
	}
	t.Setenv("SEENBY_AUTH_KEY_FILE", key)
	if got := run(t.Context(), "token", "--subject", "alice"); got.code != cli.Usage || !strings.Contains(got.stderr, "can't be used together") {
		t.Errorf("two variables: %+v", got)
	}
}
