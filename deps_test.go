package seenby_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/seenby/seenby"

// rule is one sentence about who may import what. Packages and imports are
// named as patterns: a path stands for itself, a path with /... for itself and
// everything below it; seenby's own are given without the module's path, and
// the empty pattern is the standard library.
type rule struct {
	// from are the packages that the rule is about, except those in but.
	from, but []string
	// Of the imports in of (all, if there are none), only those in only may be
	// imported, and none in never.
	of, only, never []string
	// tests says that the rule is for test files too.
	tests bool
	why   string
}

var rules = []rule{
	{
		from: []string{"events"}, of: []string{module + "/..."}, only: []string{"events"},
		why: "events is the vocabulary of everything else: what it imported, every producer would depend on",
	},
	{
		from: []string{"events/..."}, of: []string{module + "/..."}, only: []string{"events/..."},
		why: "imports point one way, cmd -> services -> projections -> events: what happened does not depend on what is made of it",
	},
	{
		from: []string{"projections/..."}, of: []string{module + "/..."}, only: []string{"events", "projections/..."},
		why: "imports point one way, cmd -> services -> projections -> events: how events fold does not depend on who serves the state, nor on how records come (events/topic)",
	},
	{
		from: []string{"services/..."}, never: []string{"cmd/..."},
		why: "imports point one way, cmd -> services -> projections -> events: cmd only wires, there is nothing in it to reuse",
	},
	{
		from: []string{"..."}, but: []string{"cmd/..."}, never: []string{"cmd/..."}, tests: true,
		why: "nothing imports cmd: a part is booted by its own package, in tests too",
	},
	{
		from: []string{"projections"}, only: []string{
			"events", "bytes", "cmp", "crypto/sha256", "encoding/binary", "encoding/hex", "errors", "fmt", "hash/...", "iter", "maps",
			"math", "math/bits", "slices", "sort", "strconv", "strings", "time", "unsafe", "github.com/zeebo/xxh3",
		},
		why: "the fold is pure: no clock, no I/O, no randomness, no logging; two copies could not be equal otherwise (of time, only the types)",
	},
	{
		from: []string{"..."}, but: []string{"services/bench/...", "cmd/..."}, never: []string{"services/bench/..."}, tests: true,
		why: "bench judges the services from outside; none has a part that is there to be measured",
	},
	{
		from: []string{"services/pull"}, only: []string{""},
		why: "whoever imports the client inherits no dependency",
	},
	{
		from: []string{"..."}, but: []string{"events/topic/...", "services/standalone/...", "services/bench/...", "cmd/..."},
		never: []string{"github.com/twmb/franz-go/..."},
		why:   "Kafka's client is behind events/topic: what may happen to a record is decided in one place (standalone runs a broker, bench measures the client itself)",
	},
	{
		from: []string{"..."}, but: []string{"services/standalone/...", "cmd/..."},
		never: []string{"github.com/twmb/franz-go/pkg/kfake"},
		why:   "the embedded broker is for standalone and for tests, never in the path of a real log",
	},
	{
		from: []string{"..."}, but: []string{"projections/badgerstore/..."}, never: []string{"github.com/dgraph-io/..."},
		why: "what lies on disk, and how, is badgerstore's alone: the form of the store is changed there",
	},
	{
		from: []string{"..."}, but: []string{"services/...", "cmd/..."}, never: []string{"github.com/labstack/...", "net/http"},
		why: "HTTP is how services are reached; events and projections do not know that they are",
	},
	{
		from: []string{"..."}, but: []string{"cmd/..."}, never: []string{"github.com/alecthomas/kong", "flag"},
		why: "flags are the command line's: parts take a Config, so that tests and standalone can boot them",
	},
	{
		from: []string{"..."}, never: []string{
			"testing", "github.com/stretchr/...", "go.uber.org/goleak", "pgregory.net/rapid", "net/http/httptest",
			"github.com/hanwen/go-fuse/...", "github.com/bufbuild/protocompile/...",
		},
		but: []string{"projections/storetest/...", "projections/history/..."},
		why: "test libraries stay in tests: a binary that links them carries their flags and their panics (storetest and history are libraries of tests)",
	},
	{
		from: []string{"..."}, but: []string{"projections/storetest/...", "projections/history/...", "projections/oracle/...", "projections/memstore/..."},
		never: []string{"projections/storetest/...", "projections/history/...", "projections/oracle/...", "projections/memstore/..."},
		why:   "these judge the fold and the store; a service that used one would be judged by itself",
	},
	{
		from: []string{"..."}, never: []string{"log", "math/rand", "io/ioutil", "expvar"}, tests: true,
		why: "there is one way to do a thing: log/slog, math/rand/v2, io and os, Prometheus",
	},
}

// TestImportDirection reads the imports of every file of the module and holds
// them to the rules.
func TestImportDirection(t *testing.T) {
	files := sourceFiles(t)
	for _, r := range rules {
		for _, f := range files {
			if f.test && !r.tests || !matchAny(r.from, f.pkg) || matchAny(r.but, f.pkg) {
				continue
			}
			for _, imported := range f.imports {
				if !r.allows(imported) {
					t.Errorf("%s: package %q must not import %q: %s", f.name, f.pkg, imported, r.why)
				}
			}
		}
	}
	if len(files) == 0 {
		t.Error("no source file was found")
	}
}

// TestImportRulesApply fails where a rule cannot: one that names packages of
// seenby that do not exist.
func TestImportRulesApply(t *testing.T) {
	files := sourceFiles(t)
	for _, r := range rules {
		for _, pattern := range slices.Concat(r.from, r.but) {
			if !slices.ContainsFunc(files, func(f sourceFile) bool { return match(pattern, f.pkg) }) {
				t.Errorf("the rule %q names %q, which is no package", r.why, pattern)
			}
		}
	}
}

func TestImportRule(t *testing.T) {
	pure := rule{only: []string{"events", "errors", "hash/..."}}
	client := rule{only: []string{""}}
	oneWay := rule{of: []string{module + "/..."}, only: []string{"events"}}
	never := rule{never: []string{"cmd/...", "net/http"}}
	for _, c := range []struct {
		rule     rule
		imported string
		allowed  bool
	}{
		{pure, module + "/events", true},
		{pure, module + "/events/topic", false},
		{pure, "errors", true},
		{pure, "hash/crc32", true},
		{pure, "os", false},
		{client, "net/http", true},
		{client, "golang.org/x/time/rate", false},
		{client, module + "/events", false},
		{oneWay, "github.com/twmb/franz-go/pkg/kgo", true},
		{oneWay, module + "/events", true},
		{oneWay, module + "/projections", false},
		{never, module + "/cmd/seenby", false},
		{never, "net/http", false},
		{never, "net/http/httptest", true},
	} {
		if got := c.rule.allows(c.imported); got != c.allowed {
			t.Errorf("%+v allows %q: %t", c.rule, c.imported, got)
		}
	}
}

func (r rule) allows(imported string) bool {
	name := strings.TrimPrefix(imported, module+"/")
	matches := func(patterns []string) bool { return matchAny(patterns, name) || matchAny(patterns, imported) }
	if matches(r.never) {
		return false
	}
	if len(r.only) == 0 || len(r.of) > 0 && !matches(r.of) {
		return true
	}
	return matches(r.only) || slices.Contains(r.only, "") && standard(imported)
}

// standard says whether an import is of the standard library: the first element
// of any other's path has a dot.
func standard(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return !strings.Contains(first, ".")
}

func matchAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return match(p, name) })
}

func match(pattern, name string) bool {
	if prefix, below := strings.CutSuffix(pattern, "..."); below {
		return strings.HasPrefix(name+"/", prefix)
	}
	return pattern != "" && pattern == name
}

// sourceFile is one Go file: its package's path within the module, and its
// imports.
type sourceFile struct {
	name    string
	pkg     string
	test    bool
	imports []string
}

// sourceFiles returns the module's Go files. Directories that have a go.mod of
// their own, or that Go ignores, are none of it.
func sourceFiles(t *testing.T) []sourceFile {
	t.Helper()
	var files []sourceFile
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := d.Name()
		if d.IsDir() {
			ignored := base != "." && strings.HasPrefix(base, ".") || base == "testdata" || name == "tools"
			if ignored || strings.HasPrefix(base, "_") {
				return filepath.SkipDir
			}
			return nil
		}
		if path.Ext(base) != ".go" {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		f := sourceFile{name: name, pkg: filepath.ToSlash(filepath.Dir(name)), test: strings.HasSuffix(base, "_test.go")}
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			f.imports = append(f.imports, imported)
		}
		files = append(files, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
