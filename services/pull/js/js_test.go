package js

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
)

// requireNode returns where Node is.
func requireNode(t *testing.T) string {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("requires node: install Node.js 20 or later, and have it in PATH")
	}
	return node
}

// runScript runs a script that prints a line of JSON for each of its tests, of which
// there are so many or more.
func runScript(t *testing.T, atLeast int, script ...string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), requireNode(t), script...)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, stderr.String())
	}
	lines := bufio.NewScanner(&stdout)
	lines.Buffer(nil, 1<<20)
	n := 0
	for lines.Scan() {
		var result struct {
			Name     string
			Problems []string
		}
		if err := json.Unmarshal(lines.Bytes(), &result); err != nil {
			t.Fatalf("%s: %v", lines.Bytes(), err)
		}
		n++
		t.Run(result.Name, func(t *testing.T) {
			if len(result.Problems) > 0 {
				t.Error(strings.Join(result.Problems, "\n"))
			}
		})
	}
	if err := lines.Err(); err != nil || n < atLeast {
		t.Errorf("%d tests were run, of %d or more; %v", n, atLeast, err)
	}
}

// TestScenarios runs the table that the Go client runs too.
func TestScenarios(t *testing.T) {
	runScript(t, 80, "testdata/scenarios.mjs", "../testdata/scenarios.json")
}

func TestReporter(t *testing.T) {
	runScript(t, 15, "testdata/reporter.mjs")
}

// TestSurface: what the module exports is what is documented.
func TestSurface(t *testing.T) {
	for _, line := range strings.Split(string(Module), "\n") {
		rest, exported := strings.CutPrefix(line, "export class ")
		if !exported {
			continue
		}
		name, _, _ := strings.Cut(rest, " ")
		if !bytes.Contains(Types, []byte("export class "+name+" ")) {
			t.Errorf("seenby.d.ts lacks %s", name)
		}
	}
}
