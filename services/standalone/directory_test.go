package standalone_test

import (
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seenby/seenby/services/standalone"
)

func openDirectory(t *testing.T, path string) *standalone.Directory {
	t.Helper()
	d, err := standalone.OpenDirectory(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() }) // some tests close it before
	return d
}

func TestDirectoryKeepsItsKeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "data")
	d := openDirectory(t, path)
	if d.AuthKey() != standalone.AuthKey(path) {
		t.Errorf("%s is not %s", d.AuthKey(), standalone.AuthKey(path))
	}
	keys := make(map[string]string)
	for _, name := range []string{d.AuthKey(), d.InternalKey()} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		key, err := base64.RawURLEncoding.DecodeString(strings.TrimSuffix(string(text), "\n"))
		if err != nil || len(key) != 32 {
			t.Errorf("%s holds %d bytes, %v", name, len(key), err)
		}
		info, err := os.Stat(name)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
		keys[name] = string(text)
	}
	if keys[d.AuthKey()] == keys[d.InternalKey()] {
		t.Error("both keys are one")
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	openDirectory(t, path)
	for name, before := range keys {
		if after, err := os.ReadFile(name); err != nil || string(after) != before {
			t.Errorf("%s changed: %v", name, err)
		}
	}
	if names, _ := filepath.Glob(filepath.Join(path, "*.key.*")); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
}

func TestDirectoryIsOneProcess(t *testing.T) {
	path := t.TempDir()
	d := openDirectory(t, path)
	if _, err := standalone.OpenDirectory(path); !errors.Is(err, standalone.ErrInUse) || !strings.Contains(err.Error(), path) {
		t.Errorf("opened twice: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	openDirectory(t, path)
}

func TestDirectoryRefusesPublicKeys(t *testing.T) {
	path := t.TempDir()
	d := openDirectory(t, path)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(d.AuthKey(), 0o640); err != nil {
		t.Fatal(err)
	}
	_, err := standalone.OpenDirectory(path)
	if err == nil || !strings.Contains(err.Error(), "auth.key") || !strings.Contains(err.Error(), "chmod 600") {
		t.Fatalf("opened with a public key: %v", err)
	}
	if err := os.Chmod(d.AuthKey(), 0o600); err != nil {
		t.Fatal(err)
	}
	openDirectory(t, path)
}
