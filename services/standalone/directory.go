package standalone

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Directory is a data directory that this process has locked. It holds
//
//	auth.key       the keys of users' and backends' tokens
//	internal.key   the secret that cursors are signed with
//	log/           the embedded broker's
//	state/         the projector's
//	demo.json      what was said in the demo's chat
//	lock           locked while a standalone runs
type Directory struct {
	path string
	lock *os.File
}

// ErrInUse is wrapped by what [OpenDirectory] returns while another process has
// the directory.
var ErrInUse = errors.New("another standalone is running in it; stop that one, or give this one a directory of its own")

// stateDir is the projector's directory within.
const stateDir = "state"

// keyBytes is the size of a key that is made.
const keyBytes = 32

// OpenDirectory makes what is missing of the directory, and locks it until Close
// or until the process ends, however it ends.
func OpenDirectory(path string) (*Directory, error) {
	d, err := openDirectory(path)
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w", path, err)
	}
	return d, nil
}

func openDirectory(path string) (*Directory, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	lock, err := lockFile(filepath.Join(path, "lock"))
	if err != nil {
		return nil, err
	}
	d := &Directory{path: path, lock: lock}
	for _, name := range []string{d.AuthKey(), d.InternalKey()} {
		if err := ensureKey(name); err != nil {
			return nil, errors.Join(err, d.Close())
		}
	}
	return d, nil
}

// AuthKey is the file of the keys of users' and backends' tokens.
func (d *Directory) AuthKey() string { return AuthKey(d.path) }

// AuthKey is the key file in a data directory: what `seenby token --data` signs
// with.
func AuthKey(dir string) string { return filepath.Join(dir, "auth.key") }

// InternalKey is the file of the internal secret.
func (d *Directory) InternalKey() string { return filepath.Join(d.path, "internal.key") }

// Log is the embedded broker's directory.
func (d *Directory) Log() string { return filepath.Join(d.path, "log") }

// Chat is the file of the demo's chat.
func (d *Directory) Chat() string { return filepath.Join(d.path, "demo.json") }

// Close unlocks the directory.
func (d *Directory) Close() error { return d.lock.Close() }

// ensureKey makes a file with one key if there is none. One that others than its
// owner may read is refused: a key that leaked cannot be told from one that did
// not, so it is not for us to make it private.
func ensureKey(name string) error {
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return makeKey(name)
	case err != nil:
		return err
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%s may be read by others (mode %04o): remove it to have another one made, or chmod 600 it if nobody has read it", name, info.Mode().Perm())
	}
	return nil
}

// makeKey writes a new key. The file appears complete or not at all, since a key
// that was cut off would only be found when tokens fail.
func makeKey(name string) (err error) {
	key := make([]byte, keyBytes)
	rand.Read(key)                                                        // never fails
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.WriteString(base64.RawURLEncoding.EncodeToString(key) + "\n")
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
