package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seenby/seenby/cmd/seenby/cli"
)

// stream is a writer that can be read meanwhile.
type stream struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *stream) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// TestStandaloneCommand boots it for real, as every process is booted: it says
// where it is and how to begin, logs JSON, and ends in order when its context
// does.
func TestStandaloneCommand(t *testing.T) {
	dir := t.TempDir()
	var stdout, stderr stream
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan int, 1)
	go func() {
		io := cli.IO{Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr, Now: time.Now}
		ended <- cli.Run(ctx, io, []string{"standalone", "--data", dir, "--listen", "127.0.0.1:0"})
	}()
	base := ""
	await(t, func() bool {
		if _, rest, found := strings.Cut(stdout.String(), "http://"); found {
			base, _, found = strings.Cut(rest, "\n")
			return found
		}
		return false
	})
	if said := stdout.String(); !strings.Contains(said, "never for production") || !strings.Contains(said, "seenby token --data "+dir+" --subject") {
		t.Errorf("it said %q", said)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	await(t, func() bool {
		resp, err := client.Get("http://" + base + "/readyz")
		if err != nil {
			return false
		}
		return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
	})

	second := run(t.Context(), "standalone", "--data", dir, "--listen", "127.0.0.1:0")
	if second.code != cli.Failed || !strings.Contains(second.stderr, dir) {
		t.Errorf("a second one in the directory: %+v", second)
	}

	cancel()
	if code := <-ended; code != cli.Done {
		t.Errorf("it ended with %d", code)
	}
	messages := make(map[string]bool)
	for line := range strings.Lines(stderr.String()) {
		var record struct{ Time, Level, Msg string }
		if err := json.Unmarshal([]byte(line), &record); err != nil || record.Msg == "" {
			t.Errorf("not a JSON log record: %s", line)
		}
		if record.Level != "INFO" {
			t.Errorf("an ordinary run says %s", line)
		}
		messages[record.Msg] = true
	}
	for _, want := range []string{"listening", "shutting down"} {
		if !messages[want] {
			t.Errorf("the log lacks %q:\n%s", want, stderr.String())
		}
	}
}

func TestTextLogs(t *testing.T) {
	var stdout, stderr stream
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // it ends as soon as it has begun
	io := cli.IO{Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr, Now: time.Now, ErrTerminal: true}
	key := keyFile(t)
	if code := cli.Run(ctx, io, []string{"query", "--projectors", "http://127.0.0.1:1", "--auth-key-file", key, "--internal-secret-file", key, "--listen", "127.0.0.1:0"}); code != cli.Done {
		t.Errorf("exit code %d: %s", code, stderr.String())
	}
	if log := stderr.String(); !strings.HasPrefix(log, "time=") || !strings.Contains(log, "msg=starting") {
		t.Errorf("on a terminal: %s", log)
	}
}

func await(t *testing.T, condition func() bool) {
	t.Helper()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(time.Minute); !condition(); <-again.C {
		if time.Now().After(deadline) {
			t.Fatal("it did not come to that within a minute")
		}
	}
}
