package bench

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// shell is a configuration that runs commands.
func shell(t *testing.T) Config {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Config{Child: []string{self, asChild}, Progress: new(bytes.Buffer), Now: time.Now, Scratch: t.TempDir()}
}

// TestUsage has a process take memory, time and writes that it can be held to.
func TestUsage(t *testing.T) {
	c := shell(t)
	file := filepath.Join(t.TempDir(), "file")
	// The shell keeps 30 MB in a variable, and writes as much.
	script := `x=$(head -c 30000000 /dev/zero | tr '\0' x); printf %s "$x" > ` + file + `; echo '{"seconds": 2}'; read -r end; exit 0`
	p, err := c.start(t.Context(), []string{"/bin/sh", "-c", script}, nil)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, 64)
	n, err := p.stdout.Read(out)
	if err != nil || string(out[:n]) != "{\"seconds\": 2}\n" {
		t.Fatalf("%q, %v", out[:n], err)
	}
	u, err := p.stop()
	if err != nil {
		t.Fatal(err)
	}
	if u.PeakAnonymous < 30_000_000 || u.PeakResident < u.PeakAnonymous || u.Called < 30_000_000 {
		t.Errorf("%+v", u)
	}
	if u.WallSeconds <= 0 || u.UserSeconds+u.SystemSeconds <= 0 {
		t.Errorf("%+v", u)
	}
	d, err := diskUsage(filepath.Dir(file))
	if err != nil || d.Apparent != 30_000_000 {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestDiskUsage(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "a", "b"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, size := range map[string]int{"x": 1, "a/y": 5_000, "a/b/z": 100_000} {
		if err := os.WriteFile(filepath.Join(dir, name), bytes.Repeat([]byte{1}, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// A hole is length that takes no blocks.
	if err := os.Truncate(filepath.Join(dir, "x"), 10<<20); err != nil {
		t.Fatal(err)
	}
	d, err := diskUsage(dir)
	if err != nil {
		t.Fatal(err)
	}
	if d.Apparent < 10<<20+105_000 || d.Allocated < 105_000 || d.Allocated > 5<<20 {
		t.Errorf("%+v", d)
	}
	if _, err := diskUsage(filepath.Join(dir, "none")); err == nil {
		t.Error("a directory that is missing has a size")
	}
}

// TestLimit has a process go beyond its limit.
func TestLimit(t *testing.T) {
	l, err := newLimit(32 << 20)
	if err != nil {
		t.Skipf("requires cgroups and root: %v", err)
	}
	defer func() {
		if err := l.close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(l.dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", l.dir, err)
		}
	}()
	c := shell(t)
	var answer map[string]int
	if _, err := c.run(t.Context(), []string{"/bin/sh", "-c", `echo '{"n": 1}'`}, l, &answer); err != nil || answer["n"] != 1 {
		t.Errorf("within the limit: %v, %v", answer, err)
	}
	_, err = c.run(t.Context(), []string{"/bin/sh", "-c", `x=$(head -c 100000000 /dev/zero | tr '\0' x); echo '{}'`}, l, &answer)
	if !errors.Is(err, errKilled) || !errors.Is(err, ErrChild) {
		t.Errorf("beyond the limit: %v", err)
	}
	if _, err := c.run(t.Context(), []string{"/bin/sh", "-c", `exit 3`}, l, &answer); errors.Is(err, errKilled) || !errors.Is(err, ErrChild) {
		t.Errorf("within the limit again: %v", err)
	}
}
