package suite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	// patience is how long a condition that must come true is waited for. It is
	// long, as it says nothing about how fast seenby is: a test that passes does
	// not wait for it.
	patience = 90 * time.Second
	// pollEvery is how often a condition is looked at.
	pollEvery = 20 * time.Millisecond
	// tailLines is how much of each process's log a failed test prints.
	tailLines = 40
)

// process is one seenby process: killed and started again, it keeps its address
// and its flags.
type process struct {
	name string
	// listen is its host:port, or empty if it does not listen.
	listen string
	args   []string
	log    string

	mu     sync.Mutex
	cmd    *exec.Cmd
	exited chan struct{}
}

// newProcess prepares a process; its flags may be changed until it is started.
func newProcess(t *testing.T, name, listen string, args ...string) *process {
	t.Helper()
	p := &process{name: name, listen: listen, args: args, log: filepath.Join(t.TempDir(), name+".log")}
	t.Cleanup(func() {
		p.stop(syscall.SIGKILL)
		for _, bad := range []string{"WARNING: DATA RACE", "panic:"} {
			if strings.Contains(p.text(), bad) {
				t.Errorf("the log of %s has %q: %s", name, bad, p.text())
			}
		}
		if t.Failed() {
			t.Logf("the end of the log of %s (seenby %s):\n%s", name, strings.Join(p.args, " "), p.tail())
		}
	})
	return p
}

// start starts the process and does not wait for it.
func (p *process) start(t *testing.T) {
	t.Helper()
	if err := p.launch(seenby(t)); err != nil {
		t.Fatal(err)
	}
}

func (p *process) launch(binary string) error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // The process has its own descriptor.
	cmd := exec.Command(binary, p.args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = environment()
	cmd.SysProcAttr = dieWithParent()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		_ = cmd.Wait() // How it ended is in its ProcessState.
	}()
	p.mu.Lock()
	p.cmd, p.exited = cmd, exited
	p.mu.Unlock()
	return nil
}

// environment is the tests' own without what would be seenby's flags.
func environment() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "SEENBY_") {
			env = append(env, v)
		}
	}
	return env
}

// stop sends the signal and waits for the end of the process. It returns its exit
// code, or -1 if the signal killed it or it did not run.
func (p *process) stop(signal syscall.Signal) int {
	p.signal(signal)
	return p.wait()
}

// signal sends a signal and does not wait for what comes of it.
func (p *process) signal(signal syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		_ = p.cmd.Process.Signal(signal) // It may have ended by itself.
	}
}

// wait waits for the process to end and returns its exit code.
func (p *process) wait() int {
	p.mu.Lock()
	cmd, exited := p.cmd, p.exited
	p.mu.Unlock()
	if cmd == nil {
		return -1
	}
	<-exited
	return cmd.ProcessState.ExitCode()
}

// running says whether the process has not ended.
func (p *process) running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

func (p *process) url(path string) string { return "http://" + p.listen + path }

// text is what the process has logged so far, over all its lives.
func (p *process) text() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error() // It was never started.
	}
	return string(b)
}

func (p *process) tail() string {
	lines := bytes.Split([]byte(p.text()), []byte("\n"))
	if len(lines) > tailLines {
		lines = lines[len(lines)-tailLines:]
	}
	return string(bytes.Join(lines, []byte("\n")))
}

// ready asks /readyz, and returns what it says when it is not 200.
func (p *process) ready(ctx context.Context) (bool, string) {
	status, body, err := get(ctx, p.url("/readyz"))
	if err != nil {
		return false, err.Error()
	}
	return status == http.StatusOK, body
}

// awaitReady waits until /readyz is 200.
func (p *process) awaitReady(t *testing.T) {
	t.Helper()
	p.awaitReadiness(t, "ready", func(ready bool, _ string) bool { return ready })
}

// awaitUnready waits until /readyz is 503 and says each of the words.
func (p *process) awaitUnready(t *testing.T, words ...string) string {
	t.Helper()
	return p.awaitReadiness(t, "unready, saying "+strings.Join(words, ", "), func(ready bool, says string) bool {
		for _, w := range words {
			if !strings.Contains(says, w) {
				return false
			}
		}
		return !ready
	})
}

func (p *process) awaitReadiness(t *testing.T, what string, ok func(ready bool, says string) bool) (says string) {
	t.Helper()
	await(t, func() (bool, string) {
		if !p.running() {
			t.Fatalf("%s has ended by itself", p.name)
		}
		var ready bool
		ready, says = p.ready(t.Context())
		return ok(ready, says), p.name + " is not " + what + ": " + says
	})
	return says
}

// metric returns the sum of the samples of a metric whose labels contain all of
// these, written as label="value".
func (p *process) metric(t *testing.T, name string, labels ...string) float64 {
	t.Helper()
	_, body, err := get(t.Context(), p.url("/metrics"))
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for line := range strings.Lines(body) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if series != name && !strings.HasPrefix(series, name+"{") {
			continue
		}
		all := true
		for _, l := range labels {
			all = all && strings.Contains(series, l)
		}
		var v float64
		if _, err := fmt.Sscan(value, &v); all && err == nil {
			sum += v
		}
	}
	return sum
}

// plain is for what is asked of a process beside the contract. It keeps no
// connection, so that each question meets the process as it is now.
var plain = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}

func get(ctx context.Context, url string) (status int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := plain.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close() //nolint:errcheck // It was read.
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// await waits until the condition holds, and fails the test with what it says if
// it does not in time.
func await(t *testing.T, condition func() (bool, string)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	said := ""
	err := poll(ctx, func() bool {
		var ok bool
		ok, said = condition()
		return ok
	})
	if err != nil {
		t.Fatalf("waited %v: %s", patience, said)
	}
}

// poll returns nil when the condition holds.
func poll(ctx context.Context, condition func() bool) error {
	for !condition() {
		if err := pause(ctx, pollEvery); err != nil {
			return err
		}
	}
	return nil
}

// pause lets some time pass between two looks or two tries.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// freeAddress returns an address that nobody listens on. A process that is killed
// comes back to its address, so it is not one of those that the kernel hands out
// to whoever connects somewhere meanwhile.
func freeAddress() (string, error) {
	for range 1000 {
		address := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(8_000))
		l, err := net.Listen("tcp", address)
		if err == nil {
			return address, l.Close()
		}
	}
	return "", errors.New("no free port from 10000 to 17999")
}

func mustFreeAddress(t *testing.T) string {
	t.Helper()
	address, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// command runs seenby to its end and returns its exit code and output.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), seenby(t), args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Env = &out, &errs, environment()
	if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatalf("seenby %s: %v", strings.Join(args, " "), err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}
