package auth_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/seenby/seenby/services/auth"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// key is a key of n bytes, as a line of a file.
func key(letter string, n int) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strings.Repeat(letter, n)))
}

var keyA, keyB, keyC = key("a", 32), key("b", 33), key("c", 64)

func keyFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	write(t, path, content)
	return path
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func openKeys(t *testing.T, lines ...string) *auth.Keys {
	t.Helper()
	keys, err := auth.OpenKeys(keyFile(t, strings.Join(lines, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestKeyFiles(t *testing.T) {
	tests := []struct {
		name, content string
		keys          int
		wrong         string
	}{
		{"one", keyA, 1, ""},
		{"line end", keyA + "\n", 1, ""},
		{"two", keyA + "\n" + keyB + "\n", 2, ""},
		{"padding", base64.URLEncoding.EncodeToString([]byte(strings.Repeat("a", 32))), 1, ""},
		{"comments, blank lines, white space, CRLF", "# old\r\n\r\n  " + keyA + " \r\n\t\n#" + keyB + "\n", 1, ""},
		{"nothing", "", 0, "holds no key"},
		{"comments alone", "# none\n\n", 0, "holds no key"},
		{"31 bytes", keyA + "\n" + key("z", 31), 0, ":2: a key of 31 bytes"},
		{"standard base64", keyA + "\n\n" + strings.Repeat("zz+/", 11), 0, ":3: not base64url"},
		{"a bad line among good ones", keyA + "\nzzzz zzzz\n" + keyB, 0, ":2: not base64url"},
		{"bits left over", key("z", 32)[:42] + "z", 0, ":1: not base64url"},
		{"too large", strings.Repeat(keyA+"\n", 2000), 0, "over 65536 bytes"},
		{"binary", "\x00\xff", 0, ":1: not base64url"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := keyFile(t, test.content)
			keys, err := auth.OpenKeys(path)
			if test.wrong == "" {
				if err != nil || keys.Len() != test.keys {
					t.Fatalf("got %v, %v", keys, err)
				}
				return
			}
			if !errors.Is(err, auth.ErrKeyFile) || !strings.Contains(err.Error(), test.wrong) || !strings.Contains(err.Error(), path) {
				t.Fatalf("got %v, want %q", err, test.wrong)
			}
			if strings.Contains(err.Error(), "zz") {
				t.Errorf("the error tells key material: %v", err)
			}
		})
	}
}

func TestKeyFileThatIsNone(t *testing.T) {
	for name, path := range map[string]string{"missing": filepath.Join(t.TempDir(), "none"), "directory": t.TempDir()} {
		if _, err := auth.OpenKeys(path); !errors.Is(err, auth.ErrKeyFile) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFirstSignsAllVerify(t *testing.T) {
	a, b, ab, ba := openKeys(t, keyA), openKeys(t, keyB), openKeys(t, keyA, keyB), openKeys(t, keyB, keyA)
	message := []byte("message")
	if !bytes.Equal(ab.Sign(message), a.Sign(message)) || !bytes.Equal(ba.Sign(message), b.Sign(message)) {
		t.Error("the first key does not sign")
	}
	for _, keys := range []*auth.Keys{ab, ba} {
		for _, mac := range [][]byte{a.Sign(message), b.Sign(message), a.Sign(message)[:16]} {
			if !keys.Verify(message, mac) {
				t.Error("a key does not verify")
			}
		}
	}
	mac := a.Sign(message)
	for name, mac := range map[string][]byte{"none": nil, "short": mac[:15], "long": append(mac, 0), "other key's": b.Sign(message), "zero": make([]byte, 32)} {
		if a.Verify(message, mac) {
			t.Errorf("%s: passes", name)
		}
	}
	if a.Verify([]byte("messagf"), mac) {
		t.Error("the MAC of another message passes")
	}
}

// running runs f in a bubble of time, while keys of a file are kept up to date.
func running(t *testing.T, content string, f func(t *testing.T, path string, keys *auth.Keys, log *bytes.Buffer)) {
	synctest.Test(t, func(t *testing.T) {
		path := keyFile(t, content)
		keys, err := auth.OpenKeys(path)
		if err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			keys.Run(ctx, slog.New(slog.NewTextHandler(&log, nil)))
			close(done)
		}()
		f(t, path, keys, &log)
		cancel()
		<-done
	})
}

// looks lets n looks at the file pass.
func looks(n int) {
	time.Sleep(time.Duration(n)*auth.WatchInterval + auth.WatchInterval/2)
	synctest.Wait()
}

func TestKeysReload(t *testing.T) {
	running(t, keyA, func(t *testing.T, path string, keys *auth.Keys, log *bytes.Buffer) {
		message := []byte("message")
		old := keys.Sign(message)
		write(t, path, keyB+"\n"+keyA)
		looks(2)
		if bytes.Equal(keys.Sign(message), old) || !keys.Verify(message, old) || keys.Len() != 2 {
			t.Error("the new key does not sign, or the old one does not verify")
		}
		write(t, path, keyB)
		looks(2)
		if keys.Verify(message, old) {
			t.Error("the removed key verifies")
		}
		if strings.Count(log.String(), "keys reloaded") != 2 || strings.Contains(log.String(), keyB) {
			t.Errorf("log: %s", log)
		}
	})
}

func TestKeysReloadOfASwappedLink(t *testing.T) {
	running(t, keyA, func(t *testing.T, path string, keys *auth.Keys, _ *bytes.Buffer) {
		// As Kubernetes does: keys -> ..data/keys, ..data -> a directory.
		dir := filepath.Dir(path)
		for name, content := range map[string]string{"1": keyA, "2": keyC} {
			if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, name, "keys"), content)
		}
		link := func(to, name string) {
			if err := os.Symlink(to, filepath.Join(dir, "new")); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		link("1", "..data")
		link("..data/keys", "keys")
		looks(2)
		before := keys.Sign(nil)
		link("2", "..data")
		looks(2)
		if bytes.Equal(keys.Sign(nil), before) || keys.Err() != nil {
			t.Errorf("the swapped link was not followed: %v", keys.Err())
		}
	})
}

func TestBadReloadKeepsTheOldKeys(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, path string){
		"bad line": func(t *testing.T, path string) { write(t, path, keyB+"\nsecretsecret") },
		"empty":    func(t *testing.T, path string) { write(t, path, "") },
		"gone": func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			running(t, keyA, func(t *testing.T, path string, keys *auth.Keys, log *bytes.Buffer) {
				reg := prometheus.NewRegistry()
				if err := keys.Register(reg, "auth"); err != nil {
					t.Fatal(err)
				}
				metrics := func(keys, failed string) {
					t.Helper()
					want := "# HELP seenby_keys Keys in force, by source: auth and internal are key files, jwks is a key set.\n# TYPE seenby_keys gauge\nseenby_keys{file=\"auth\"} " + keys + "\n" +
						"# HELP seenby_keys_reload_failed 1 while the source of keys as it is now cannot be used and older keys are in force, else 0.\n" +
						"# TYPE seenby_keys_reload_failed gauge\nseenby_keys_reload_failed{file=\"auth\"} " + failed + "\n"
					if err := testutil.GatherAndCompare(reg, strings.NewReader(want)); err != nil {
						t.Error(err)
					}
				}
				old := keys.Sign(nil)
				spoil(t, path)
				looks(10)
				if !bytes.Equal(keys.Sign(nil), old) || !errors.Is(keys.Err(), auth.ErrKeyFile) {
					t.Errorf("the old keys are not in force, or nobody learns why: %v", keys.Err())
				}
				if strings.Count(log.String(), "\n") != 1 || strings.Contains(log.String(), "secretsecret") {
					t.Errorf("log: %s", log)
				}
				metrics("1", "1")
				write(t, path, keyB+"\n"+keyC)
				looks(2)
				if bytes.Equal(keys.Sign(nil), old) || keys.Err() != nil {
					t.Errorf("a good file after a bad one is not taken: %v", keys.Err())
				}
				metrics("2", "0")
			})
		})
	}
}

// A file is replaced by rewriting it, and the first look comes when only half of
// the first key is written, which is a good key.
func TestHalfWrittenFileIsNotTaken(t *testing.T) {
	running(t, keyA, func(t *testing.T, path string, keys *auth.Keys, _ *bytes.Buffer) {
		old := keys.Sign(nil)
		write(t, path, keyC[:44])
		looks(0)
		time.Sleep(auth.WatchInterval / 2)
		synctest.Wait()
		if !bytes.Equal(keys.Sign(nil), old) {
			t.Fatal("what was half written signs")
		}
		write(t, path, keyC)
		looks(2)
		if !bytes.Equal(keys.Sign(nil), openKeys(t, keyC).Sign(nil)) {
			t.Error("the whole file is not taken")
		}
	})
}

func TestReloadAtOnce(t *testing.T) {
	path := keyFile(t, keyA)
	keys, err := auth.OpenKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, "bad")
	if err := keys.Reload(); !errors.Is(err, auth.ErrKeyFile) || keys.Len() != 1 {
		t.Errorf("got %v", err)
	}
	write(t, path, keyA+"\n"+keyB)
	if err := keys.Reload(); err != nil || keys.Len() != 2 || keys.Err() != nil {
		t.Errorf("got %v, %v", err, keys.Err())
	}
}
