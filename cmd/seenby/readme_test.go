package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestReadme runs the shell blocks of README.md as they stand, but for the
// address, in a directory that is laid out like a checkout, and holds what they
// print to the blocks that follow them, in which … stands for anything.
func TestReadme(t *testing.T) {
	for _, tool := range []string{"bash", "curl", "sed"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("requires %s: install it", tool)
		}
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	const address = "127.0.0.1:8080"
	blocks := shellBlocks(string(readme))
	if len(blocks) == 0 || !strings.Contains(blocks[0].script, address) {
		t.Fatalf("README.md has no shell block that names %s", address)
	}
	dir := t.TempDir()
	build(t, filepath.Join(dir, "bin", "seenby"))
	ours := startStandalone(t, dir)

	var script strings.Builder
	script.WriteString("set -euo pipefail\n")
	const separator = "--- next block ---"
	for _, b := range blocks {
		script.WriteString(strings.ReplaceAll(b.script, address, ours))
		fmt.Fprintf(&script, "echo; echo '%s'\n", separator)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script.String())
	cmd.Dir = dir
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("the shell: %v", err)
	}
	outputs := strings.Split(strings.ReplaceAll(string(out), "\r", ""), separator)
	for i, b := range blocks {
		if i >= len(outputs)-1 {
			t.Fatalf("this block was not run to its end:\n%s", b.script)
		}
		if !b.matches(outputs[i]) {
			t.Errorf("the block\n%sprinted\n%s\nand not\n%s", b.script, outputs[i], b.output)
		}
	}
}

// block is a shell block, and what it is said to print.
type block struct{ script, output string }

var fenced = regexp.MustCompile("(?s)```sh\n(.*?)```\n(?:\n```\n(.*?)```\n)?")

func shellBlocks(markdown string) []block {
	var blocks []block
	for _, m := range fenced.FindAllStringSubmatch(markdown, -1) {
		blocks = append(blocks, block{script: m[1], output: m[2]})
	}
	return blocks
}

func (b block) matches(output string) bool {
	pattern := strings.ReplaceAll(regexp.QuoteMeta(strings.TrimSpace(b.output)), "…", ".*?")
	return regexp.MustCompile(`(?s)^` + pattern + `$`).MatchString(strings.TrimSpace(output))
}

func TestReadmeBlocks(t *testing.T) {
	blocks := shellBlocks("text\n```sh\na=1\n```\n\nmore\n\n```sh\necho $a\n```\n\n```\n{\"a\":…}\nok\n```\n")
	if len(blocks) != 2 || blocks[0] != (block{script: "a=1\n"}) || blocks[1].script != "echo $a\n" {
		t.Fatalf("%+v", blocks)
	}
	for output, want := range map[string]bool{"{\"a\":1}\nok\n\n": true, "{\"a\":1}\nno": false, "x{\"a\":1}\nok": false} {
		if blocks[1].matches(output) != want {
			t.Errorf("%q", output)
		}
	}
}
