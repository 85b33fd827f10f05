package main

import (
	"bufio"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestWatch looks at a message while it is read, until all have read it.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	binary, data := filepath.Join(dir, "bin", "seenby"), filepath.Join(dir, "data")
	build(t, binary)
	address := startStandalone(t, dir)
	c := newClient(t, address, data)
	c.must("PUT", "/v1/messages/m1", "chat", `{"conversation_id":"c","sender_id":"alice","recipients":["bob","carol"]}`)
	read := `{"receipts":[{"message_id":"m1"}]}`
	c.must("POST", "/v1/receipts", "bob", read)

	cmd := exec.CommandContext(t.Context(), binary, "watch", "m1", "--url", "http://"+address, "--data", data, "--subject", "alice")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		said = append(said, lines.Text())
		if strings.HasPrefix(lines.Text(), "read by 1 of 2") {
			c.must("POST", "/v1/receipts", "carol", read)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("seenby watch: %v", err)
	}
	all := strings.Join(said, "\n")
	for _, want := range []string{"read by 1 of 2: ", " bob\n", "read by 2 of 2: ", " carol\n", "stopped: complete"} {
		if !strings.Contains(all, want) {
			t.Errorf("no %q in\n%s", want, all)
		}
	}

	// A token of a key that is not the server's ends the look at once.
	other := filepath.Join(dir, "other")
	if err := exec.CommandContext(t.Context(), "cp", filepath.Join(data, "internal.key"), other).Run(); err != nil {
		t.Fatal(err)
	}
	refused, err := exec.CommandContext(t.Context(), binary, "watch", "m1", "--url", "http://"+address, "--auth-key-file", other, "--subject", "alice").CombinedOutput()
	if exit := new(exec.ExitError); err == nil || !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(refused), "stopped: ") {
		t.Errorf("with another key: %v\n%s", err, refused)
	}
}
