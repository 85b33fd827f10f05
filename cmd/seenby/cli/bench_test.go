package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seenby/seenby/cmd/seenby/cli"
)

// TestBenchPage makes a page of two files, of different measurements.
func TestBenchPage(t *testing.T) {
	dir := t.TempDir()
	var from []string
	for name, text := range map[string]string{
		"ingest.json":    `{"bench": "ingest", "command": "seenby bench ingest", "ingest": {"batch": 100, "batches": {"rate": 123456}}}`,
		"freshness.json": `{"bench": "freshness", "command": "seenby bench freshness", "freshness": {"pull": {"p99_ms": 12.5}}}`,
	} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		from = append(from, file)
	}
	out := filepath.Join(dir, "page")
	if got := run(t.Context(), "bench", "page", "--from", strings.Join(from, ","), "--out", out); got.code != cli.Done {
		t.Fatalf("%+v", got)
	}
	page, err := os.ReadFile(filepath.Join(out, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"123,456", "12.5 ms", "`seenby bench ingest`", "`seenby bench freshness`"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page lacks %s:\n%s", want, page)
		}
	}
}

// TestBenchFails says why nothing was measured.
func TestBenchFails(t *testing.T) {
	if got := run(t.Context(), "bench", "child", "nonsense"); got.code != cli.Failed || !strings.Contains(got.stderr, "not to be run by hand") {
		t.Errorf("%+v", got)
	}
}
