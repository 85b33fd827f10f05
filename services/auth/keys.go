package auth

import (
	"context"
	"crypto/hmac"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seenby/seenby/services/contract"
)

const (
	// MinKeySize is the shortest key, in decoded bytes: HMAC-SHA256 is no
	// stronger than its key.
	MinKeySize = 32
	// MaxKeyFile is the largest key file, in bytes.
	MaxKeyFile = 64 << 10

	// minMAC is the shortest cut-off MAC that Verify takes.
	minMAC = 16
)

// ErrKeyFile is wrapped by everything that is wrong with a key file. The error
// names the file, the line and the mistake, and never what the line says.
var ErrKeyFile = errors.New("bad key file")

// Keys are the HMAC keys of a file: one a line, base64url with or without
// padding, each [MinKeySize] bytes or more; blank lines and lines that begin
// with # do not count. The first signs, all verify. So a key is rotated by
// adding the new one below, moving it to the top once everybody has it, and
// removing the old one once nothing that it signed is of use any more.
//
// The file is read again while [Keys.Run] runs; what cannot be used leaves the
// old keys in force. All methods may be called concurrently.
type Keys struct {
	path    string
	current atomic.Pointer[keySet]
	failure failure
}

// keySet is one state of the file. It is immutable, so that its address stands
// for it.
type keySet struct {
	content []byte
	keys    [][]byte
}

var _ contract.Sealer = (*Keys)(nil)

// OpenKeys reads the keys of a file. Its error wraps [ErrKeyFile].
func OpenKeys(path string) (*Keys, error) {
	k := &Keys{path: path}
	if err := k.Reload(); err != nil {
		return nil, err
	}
	return k, nil
}

// Reload reads the file now. On an error the old keys stay in force.
func (k *Keys) Reload() error {
	content, err := readKeyFile(k.path, MaxKeyFile)
	if err == nil {
		err = k.use(content)
	}
	k.failure.note(err)
	return err
}

// Run takes over changes of the file until ctx ends. A file that cannot be used is
// logged once for each reason; [Keys.Err] tells it too.
func (k *Keys) Run(ctx context.Context, log *slog.Logger) {
	watch(ctx, log, watching{
		path: k.path, read: func() ([]byte, error) { return readKeyFile(k.path, MaxKeyFile) },
		inForce: func() []byte { return k.current.Load().content }, use: k.use, note: k.failure.note, count: k.Len,
	})
}

// Err is what is wrong with the file as it was last read, or nil. The keys that
// are in force are good whatever it says.
func (k *Keys) Err() error { return k.failure.Err() }

// Len is how many keys are in force.
func (k *Keys) Len() int { return len(k.current.Load().keys) }

// Sign returns the HMAC-SHA256 of message under the first key.
func (k *Keys) Sign(message []byte) []byte {
	return contract.Sum(k.current.Load().keys[0], message)
}

// Verify says whether mac, which may be cut to 16 bytes or more, is that of
// message under any of the keys.
func (k *Keys) Verify(message, mac []byte) bool {
	if len(mac) < minMAC {
		return false
	}
	for _, key := range k.current.Load().keys {
		sum := contract.Sum(key, message)
		if len(mac) <= len(sum) && hmac.Equal(sum[:len(mac)], mac) {
			return true
		}
	}
	return false
}

// Register adds the metrics of the file to reg. File is "auth" or "internal".
func (k *Keys) Register(reg prometheus.Registerer, file string) error {
	return registerKeys(reg, file, k.Len, k.Err)
}

func (k *Keys) use(content []byte) error {
	keys, err := parseKeys(k.path, content)
	if err != nil {
		return err
	}
	k.current.Store(&keySet{content: content, keys: keys})
	return nil
}

func readKeyFile(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	defer f.Close() //nolint:errcheck // Nothing was written.
	if info, err := f.Stat(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s: must be a regular file, as it is read again and again", ErrKeyFile, path)
	}
	content, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	if int64(len(content)) > most {
		return nil, fmt.Errorf("%w: %s: over %d bytes", ErrKeyFile, path, most)
	}
	return content, nil
}

var keyEncoding = base64.RawURLEncoding.Strict()

func parseKeys(path string, content []byte) ([][]byte, error) {
	var keys [][]byte
	number := 0
	for line := range strings.Lines(string(content)) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		// What the decoder says is not passed on: it could quote the key.
		key, err := keyEncoding.DecodeString(strings.TrimRight(line, "="))
		if err != nil {
			return nil, fmt.Errorf("%w: %s:%d: not base64url", ErrKeyFile, path, number)
		}
		if len(key) < MinKeySize {
			return nil, fmt.Errorf("%w: %s:%d: a key of %d bytes, must be %d or more", ErrKeyFile, path, number, len(key), MinKeySize)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%w: %s: holds no key: one a line, base64url of %d random bytes or more", ErrKeyFile, path, MinKeySize)
	}
	return keys, nil
}
