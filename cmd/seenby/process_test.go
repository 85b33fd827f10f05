package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// build builds the command.
func build(t *testing.T, binary string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
}

// startStandalone runs the command in dir until the test ends, and returns its
// address.
func startStandalone(t *testing.T, dir string) string {
	t.Helper()
	cmd, address := startProcess(t, filepath.Join(dir, "bin", "seenby"), filepath.Join(dir, "data"))
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("standalone: %v", err)
		}
	})
	awaitReady(t, address)
	return address
}

// startProcess starts a standalone, and returns its address once it listens. It
// is killed at the end of the test, unless it has ended.
func startProcess(t *testing.T, binary, data string) (*exec.Cmd, string) {
	t.Helper()
	// Not the test's context: that ends before the clean-up does.
	cmd := exec.CommandContext(context.Background(), binary, "standalone", "--data", data, "--listen", "127.0.0.1:0", "--log-format", "json")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	address, log := make(chan string, 1), make(chan string, 1)
	go func() { log <- readAddress(stderr, address) }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // Most have ended.
		text := <-log
		_ = cmd.Wait() // It was killed, or was waited for.
		if t.Failed() {
			t.Log(text)
		}
	})
	select {
	case a := <-address:
		return cmd, a
	case text := <-log:
		log <- text
		t.Fatal("standalone ended")
	case <-time.After(time.Minute):
		t.Fatal("standalone is not listening after a minute")
	}
	return nil, ""
}

// awaitReady waits until the process at the address says that it is ready.
func awaitReady(t *testing.T, address string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-again.C {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/readyz", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(request)
		if err == nil {
			err = resp.Body.Close()
			if err == nil && resp.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is not ready after a minute: %v", address, err)
		}
	}
}

// readAddress sends the address that the log names, and returns the log.
func readAddress(r io.Reader, address chan<- string) string {
	var log strings.Builder
	for lines := bufio.NewScanner(r); lines.Scan(); {
		log.WriteString(lines.Text() + "\n")
		var line struct{ Msg, Address string }
		if json.Unmarshal(lines.Bytes(), &line) != nil || line.Msg != "listening" {
			continue
		}
		if _, _, err := net.SplitHostPort(line.Address); err == nil {
			address <- line.Address
		}
	}
	return log.String()
}
