package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReference(t *testing.T) {
	dir := t.TempDir()
	if err := run(dir, compare); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("with no pages: %v", err)
	}
	if err := run(dir, write); err != nil {
		t.Fatal(err)
	}
	if err := run(dir, compare); err != nil {
		t.Error(err)
	}
	page := filepath.Join(dir, "cli.md")
	for file, wants := range map[string][]string{
		page: {
			"## seenby token", "| `--ttl` | `SEENBY_TTL` | `1h` |", "| `--subject` | `SEENBY_SUBJECT` | required |", "| `--log-level` |",
			"## seenby topic create", "## seenby inspect undecodable",
		},
		filepath.Join(dir, "metrics.md"): {"| `seenby_http_requests_total` | `", "| `seenby_keys` | `file` |"},
		filepath.Join(dir, "routes.md"):  {"| PUT | `/v1/messages/{message_id}` | the chat backend | 2048 KiB |", "| GET | `/v1/messages/{message_id}/receipts` | whoever has a token | none |"},
	} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if !strings.Contains(string(text), want) {
				t.Errorf("%s lacks %q", file, want)
			}
		}
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(page, append(text, '.'), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run(dir, compare); !errors.Is(err, errStale) {
		t.Errorf("with a changed page: %v", err)
	}
}
