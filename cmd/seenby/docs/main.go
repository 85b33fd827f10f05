// Command docs writes the reference pages that follow from the code, or, with
// -check, fails if they are not what it would write.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/services/openapi"
)

func main() {
	out := flag.String("out", "docs/reference", "the `directory` of the pages")
	check := flag.Bool("check", false, "compare instead of write")
	flag.Parse()
	keep := write
	if *check {
		keep = compare
	}
	if err := run(*out, keep); err != nil {
		fmt.Fprintln(os.Stderr, "docs:", err)
		os.Exit(1)
	}
}

// pages are the reference pages by file name.
var pages = []struct {
	file string
	text func() ([]byte, error)
}{
	{"cli.md", commandLine},
	{"metrics.md", metricsPage},
	{"routes.md", routesPage},
	{"openapi.json", func() ([]byte, error) { return openapi.Document(), nil }},
	{"asyncapi.json", func() ([]byte, error) { return events.AsyncAPI(), nil }},
}

func run(dir string, keep func(file string, text []byte) error) error {
	var all error
	for _, page := range pages {
		text, err := page.text()
		if err == nil {
			err = keep(filepath.Join(dir, page.file), text)
		}
		if err != nil {
			all = errors.Join(all, fmt.Errorf("%s: %w", page.file, err))
		}
	}
	return all
}

func write(file string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o644)
}

var errStale = errors.New("not up to date: run make docs, and commit what it writes")

func compare(file string, text []byte) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if !bytes.Equal(old, text) {
		return errStale
	}
	return nil
}
