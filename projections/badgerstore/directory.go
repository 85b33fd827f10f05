package badgerstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// errInUse is for a directory that another store, of any process, has open.
var errInUse = errors.New("the directory is in use by another process")

// makeDir makes a directory whose name survives a crash, if it does not exist.
func makeDir(path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	parent, err := os.Open(filepath.Dir(filepath.Clean(path)))
	if err != nil {
		return err
	}
	return errors.Join(parent.Sync(), parent.Close())
}

// removeEmptyLogs removes log files without a byte. Badger makes a log file, then
// gives it its size, and when it is done with one it takes its size away, then
// its name; a crash in between leaves an empty file, and Badger refuses to open a
// directory that has one. It needs the same lock as Badger, which Badger takes
// again by itself.
func removeEmptyLogs(dir *os.File) error {
	lock, err := os.Open(dir.Name())
	if err != nil {
		return err
	}
	defer lock.Close() //nolint:errcheck // it was opened only to be locked
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return errInUse
		}
		return fmt.Errorf("lock: %w", err)
	}
	entries, err := os.ReadDir(dir.Name())
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), ".mem") && !strings.HasSuffix(entry.Name(), ".vlog") {
			continue
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if info.Size() > 0 {
			continue
		}
		if err := os.Remove(filepath.Join(dir.Name(), entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

// freeBytes is how much may still be written to the directory's disk.
func freeBytes(dir *os.File) (uint64, error) {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &fs); err != nil {
		return 0, fmt.Errorf("ask for the free space: %w", err)
	}
	return fs.Bavail * uint64(fs.Bsize), nil
}
