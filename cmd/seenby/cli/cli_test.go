package cli_test

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/seenby/seenby/cmd/seenby/cli"
	"github.com/seenby/seenby/services/auth"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// result is what a command left behind.
type result struct {
	code           int
	stdout, stderr string
}

// run runs a command to its end.
func run(ctx context.Context, args ...string) result {
	var stdout, stderr bytes.Buffer
	io := cli.IO{Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr, Now: time.Now}
	code := cli.Run(ctx, io, args)
	return result{code, stdout.String(), stderr.String()}
}

// keyFile makes a file with one key.
func keyFile(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(name, []byte(strings.Repeat("k", 43)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestUsage gives each command what it must refuse before it does anything: with
// exit code 2, and by the name of what is wrong.
func TestUsage(t *testing.T) {
	key := keyFile(t)
	projector := func(args ...string) []string {
		return append([]string{"projector", "--brokers", "127.0.0.1:1", "--data", t.TempDir(), "--internal-secret-file", key}, args...)
	}
	query := func(args ...string) []string {
		return append([]string{"query", "--projectors", "http://127.0.0.1:1", "--auth-key-file", key, "--internal-secret-file", key}, args...)
	}
	ingest := func(args ...string) []string {
		return append([]string{"ingest", "--brokers", "127.0.0.1:1", "--auth-key-file", key}, args...)
	}
	standalone := func(args ...string) []string {
		return append([]string{"standalone", "--data", t.TempDir(), "--listen", "127.0.0.1:0"}, args...)
	}
	for _, c := range []struct {
		args []string
		says string
	}{
		{nil, "expected one of"},
		{[]string{"no-such-command"}, "no-such-command"},
		{[]string{"token", "--no-such-flag"}, "--no-such-flag"},
		{[]string{"--log-level", "loud", "token"}, "--log-level"},
		{[]string{"--log-format", "xml", "token"}, "--log-format"},

		{[]string{"token", "--auth-key-file", key}, "--subject"},
		{[]string{"token", "--subject", "alice"}, "--data or --auth-key-file"},
		{[]string{"token", "--subject", "alice", "--auth-key-file", key, "--data", "."}, "--auth-key-file"},
		{[]string{"token", "--subject", "", "--auth-key-file", key}, "subject"},
		{[]string{"token", "--subject", "alice", "--auth-key-file", key, "--ttl", "soon"}, "--ttl"},
		{[]string{"token", "--subject", "alice", "--auth-key-file", key, "--ttl", "0s"}, "time to live"},

		{[]string{"topic"}, "create"},
		{[]string{"topic", "create"}, "--brokers"},
		{[]string{"topic", "create", "--brokers", "no-port"}, "--brokers"},
		{[]string{"topic", "create", "--brokers", "h:1", "--topic", "a/b"}, "--topic"},
		{[]string{"topic", "create", "--brokers", "h:1", "--partitions", "0"}, "--partitions"},
		{[]string{"topic", "create", "--brokers", "h:1", "--replicas", "0"}, "--replicas"},
		{[]string{"topic", "create", "--brokers", "h:1", "--replicas", "1"}, "--min-in-sync"},
		{[]string{"topic", "check", "--brokers", "h:1", "--retention", "-1h"}, "--retention"},
		{[]string{"topic", "check", "--brokers", "h:1", "--kafka-ca-file", key}, "--kafka-ca-file"},
		{[]string{"topic", "check", "--brokers", "h:1", "--sasl-user", "u"}, "--sasl-user"},
		{[]string{"topic", "check", "--brokers", "h:1", "--sasl-mechanism", "NONE"}, "--sasl-mechanism"},
		{[]string{"topic", "check", "--brokers", "h:1", "--sasl-mechanism", "PLAIN", "--sasl-user", "u"}, "--sasl-password-file"},

		{ingest("--generation", "0"), "--generation"},
		{ingest("--retention", "0s"), "--retention"},
		{ingest("--auth-key-file", "/no/such/file"), "--auth-key-file"},
		{ingest("--listen", "nowhere"), "--listen"},
		{ingest("--user-rate", "-1"), "--user-rate"},

		{projector("--node", "1"), "--node"},
		{projector("--nodes", "0"), "--nodes"},
		{projector("--memory", "big"), "--memory"},
		{projector("--memory", "1KiB"), "--memory"},
		{projector("--flush-every", "1h"), "--flush-every"},
		{projector("--skip-record", "7"), "PARTITION@OFFSET"},
		{projector("--skip-record=-1@3"), "PARTITION@OFFSET"},
		{projector("--visible-to", "everybody"), "--visible-to"},
		{projector("--copy", "a/b"), "--copy"},
		{projector("--internal-secret-file", "/no/such/file"), "--internal-secret-file"},
		{projector("--listen", "nowhere"), "--listen"},
		{projector("--tls-cert", key), "--tls-cert"},

		{query("--projectors", "somewhere"), "--projectors"},
		{query("--owner-timeout", "0s"), "--owner-timeout"},
		{query("--internal-ca-file", key), "--internal-ca-file"},
		{query("--listen", "nowhere"), "--listen"},

		{[]string{"verify"}, "--projector or --data"},
		{[]string{"verify", "--data", "a", "--projector", "http://h:1"}, "--projector"},
		{[]string{"verify", "--projector", "http://h:1"}, "--internal-secret-file"},
		{[]string{"verify", "--projector", "h:1", "--internal-secret-file", key}, "--projector must be like"},
		{[]string{"verify", "--projector", "http://h:1", "--against", "dir", "--internal-secret-file", key}, "--against must be like"},
		{[]string{"verify", "--data", "a", "--against", "b", "--brokers", "h:1"}, "--brokers"},
		{[]string{"verify", "--data", "a", "--brokers", "no-port"}, "--brokers"},
		{[]string{"verify", "--data", "a", "--show", "-1"}, "--show"},
		{[]string{"inspect", "message"}, "<id>"},
		{[]string{"inspect", "message", "m1"}, "--projector or --data"},
		{[]string{"inspect", "partition", "x", "--data", "a"}, "partition"},

		{standalone("--listen", "0.0.0.0:0"), "--allow-remote"},
		{standalone("--listen", "nowhere"), "--listen"},
		{standalone("--retention", "1s"), "--retention"},
		{standalone("--poll-interval", "1ms"), "--poll-interval"},
		{[]string{"standalone"}, "--data"},

		{[]string{"inspect", "undecodable", "--projector", "http://127.0.0.1:1"}, "--internal-secret-file"},
		{[]string{"watch"}, "message-id"},
		{[]string{"watch", "m1"}, "--token-file"},
		{[]string{"watch", "m1", "--auth-key-file", key}, "--subject"},
		{[]string{"watch", "m1", "--auth-key-file", key, "--subject", "alice", "--url", "nowhere"}, "--url"},
		{[]string{"watch", "m1", "--token-file", key, "--timeout", "0s"}, "--timeout"},
		{[]string{"watch", "..", "--token-file", key}, "ID"},
		{[]string{"inspect", "undecodable"}, "--projector or --data"},
		{[]string{"inspect", "undecodable", "--projector", "::", "--internal-secret-file", key}, "--projector"},

		{[]string{"bench"}, "rebuild"},
		{[]string{"bench", "rebuild"}, "--brokers"},
		{[]string{"bench", "rebuild", "--brokers", "nowhere"}, "--brokers"},
		{[]string{"bench", "rebuild", "--brokers", "h:1", "--workload", "huge"}, "--workload"},
		{[]string{"bench", "rebuild", "--brokers", "h:1", "--turns", "0"}, "--turns"},
		{[]string{"bench", "rebuild", "--brokers", "h:1", "--messages", "-1"}, "--messages"},
		{[]string{"bench", "rebuild", "--brokers", "h:1", "--messages", "10", "--alive", "11"}, "--alive"},
		{[]string{"bench", "rebuild", "--brokers", "h:1", "--memory-limit", "much"}, "--memory-limit"},
		{[]string{"bench", "ingest", "--brokers", "h:1", "--batch", "501"}, "--batch"},
		{[]string{"bench", "ingest", "--brokers", "h:1", "--partitions", "0"}, "--partitions"},
		{[]string{"bench", "freshness", "--brokers", "h:1", "--rate", "10"}, "--rate"},
		{[]string{"bench", "freshness", "--brokers", "h:1", "--seconds", "0"}, "--seconds"},
		{[]string{"bench", "page", "--out", "x"}, "--from"},
		{[]string{"bench", "page", "--from", "/no/such/file", "--out", "x"}, "--from"},
		{[]string{"bench", "page", "--from", key, "--out", "x"}, "--from"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		got := run(ctx, c.args...)
		cancel()
		if got.code != cli.Usage || !strings.Contains(got.stderr, c.says) || got.stdout != "" {
			t.Errorf("seenby %s\nexit code %d, want %d and a word of %s; it wrote\n%s%s", strings.Join(c.args, " "), got.code, cli.Usage, c.says, got.stdout, got.stderr)
		}
	}
}

// TestExitCodes are what scripts rely on.
func TestExitCodes(t *testing.T) {
	if codes := [3]int{cli.Done, cli.Failed, cli.Usage}; codes != [3]int{0, 1, 2} {
		t.Errorf("%v", codes)
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("SEENBY_AUTH_KEY_FILE", keyFile(t))
	t.Setenv("SEENBY_SUBJECT", "..")
	if got := run(t.Context(), "token"); got.code != cli.Usage || !strings.Contains(got.stderr, "subject") {
		t.Errorf("from the environment: %+v", got)
	}
	if got := run(t.Context(), "token", "--subject", "alice"); got.code != cli.Done {
		t.Errorf("a flag over a variable: %+v", got)
	}
	t.Setenv("SEENBY_TTL", "nonsense")
	if got := run(t.Context(), "token", "--subject", "alice"); got.code != cli.Usage || !strings.Contains(got.stderr, "SEENBY_TTL") {
		t.Errorf("a wrong variable: %+v", got)
	}
}

func TestHelp(t *testing.T) {
	for _, c := range []struct {
		args []string
		says []string
	}{
		{[]string{"--help"}, []string{"standalone", "ingest", "projector", "query", "topic", "token", "watch", "inspect", "bench"}},
		{[]string{"token", "--help"}, []string{"--subject", "$SEENBY_SUBJECT"}},
		{[]string{"topic", "create", "--help"}, []string{"--partitions", "$SEENBY_PARTITIONS"}},
	} {
		got := run(t.Context(), c.args...)
		if got.code != cli.Done || got.stderr != "" {
			t.Errorf("%v: %d, %s", c.args, got.code, got.stderr)
		}
		for _, want := range c.says {
			if !strings.Contains(got.stdout, want) {
				t.Errorf("%v lacks %s:\n%s", c.args, want, got.stdout)
			}
		}
	}
	if got := run(t.Context(), "--version"); got.code != cli.Done || !strings.HasPrefix(got.stdout, "seenby ") || !strings.Contains(got.stdout, "go1.") {
		t.Errorf("--version: %+v", got)
	}
}

func TestToken(t *testing.T) {
	key := keyFile(t)
	keys, err := auth.OpenKeys(key)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := auth.NewVerifier(auth.VerifierConfig{Keys: keys, Issuer: "us", Audience: "them"})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Link(key, filepath.Join(dir, "auth.key")); err != nil {
		t.Fatal(err)
	}
	for _, from := range [][]string{{"--auth-key-file", key}, {"--data", dir}} {
		for _, backend := range []bool{false, true} {
			args := append([]string{"token", "--subject", "alice", "--issuer", "us", "--audience", "them"}, from...)
			if backend {
				args = append(args, "--backend")
			}
			got := run(t.Context(), args...)
			if got.code != cli.Done || got.stderr != "" || strings.Count(got.stdout, "\n") != 1 {
				t.Fatalf("%v: %+v", args, got)
			}
			caller, problem := verifier.Verify(t.Context(), strings.TrimSpace(got.stdout))
			if problem != nil || caller.Subject != "alice" || caller.Backend != backend {
				t.Errorf("%v: a token of %+v, %v", args, caller, problem)
			}
		}
	}
	if got := run(t.Context(), "token", "--subject", "alice", "--auth-key-file", filepath.Join(dir, "none")); got.code != cli.Usage || got.stdout != "" {
		t.Errorf("with no such file: %+v", got)
	}
	if got := run(t.Context(), "token", "--subject", "alice", "--data", filepath.Join(dir, "none")); got.code != cli.Failed || !strings.Contains(got.stderr, "standalone") {
		t.Errorf("with no such directory: %+v", got)
	}
}

// TestFailure asks for what is right and cannot be done: exit code 1.
func TestFailure(t *testing.T) {
	key := keyFile(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close() //nolint:errcheck // Nothing is written.
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"query", "--projectors", "http://127.0.0.1:1", "--auth-key-file", key, "--internal-secret-file", key, "--listen", taken.Addr().String()}, "--listen"},
		{[]string{"topic", "check", "--brokers", "127.0.0.1:1", "--timeout", "100ms"}, "Kafka"},
		{[]string{"inspect", "undecodable", "--projector", "http://127.0.0.1:1", "--internal-secret-file", key}, "ask the projector"},
	} {
		got := run(t.Context(), c.args...)
		if got.code != cli.Failed || !strings.Contains(got.stderr, c.says) {
			t.Errorf("seenby %s: %+v", strings.Join(c.args, " "), got)
		}
	}
}
