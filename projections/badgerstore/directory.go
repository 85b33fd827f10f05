package badgerstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/dgraph-io/badger/v4"
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

// openDatabase opens Badger on a directory as any crash may have left it.
func openDatabase(o Options, settings func(Options) badger.Options) (*badger.DB, error) {
	largest, err := prepareLogs(o.Dir)
	if err != nil {
		return nil, err
	}
	if err := verifyTables(o.Dir); err != nil {
		return nil, err
	}
	// Badger reads a log into a memtable of the size that is set now. One that is
	// from larger memtables would not fit, and end the process; so it is read with
	// room enough first. Its file is twice its memtable's size, or was cut to what
	// is in it, which may take twice as much in memory.
	if largest > o.MemTableSize/2 && largest != 2*o.MemTableSize {
		roomy := o
		roomy.MemTableSize = max(2*largest, o.MemTableSize)
		db, err := badger.Open(settings(roomy))
		if err != nil {
			return nil, err
		}
		if err := db.Close(); err != nil {
			return nil, err
		}
	}
	return badger.Open(settings(o))
}

// prepareLogs removes log files without a byte, and returns the size of the
// largest. Badger makes a log file, then gives it its size, and when it is done
// with one it takes its size away, then its name; a crash in between leaves an
// empty file, and Badger refuses to open a directory that has one. This needs the
// same lock as Badger, which Badger takes again by itself.
func prepareLogs(path string) (largest int64, err error) {
	lock, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return 0, errInUse
		}
		return 0, fmt.Errorf("lock: %w", err)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return 0, err
	}
	for _, entry := range entries {
		memtable := strings.HasSuffix(entry.Name(), ".mem")
		if !memtable && !strings.HasSuffix(entry.Name(), ".vlog") {
			continue
		}
		info, err := entry.Info()
		if err != nil {
			return 0, err
		}
		if info.Size() == 0 {
			if err := os.Remove(filepath.Join(path, entry.Name())); err != nil {
				return 0, err
			}
		}
		if memtable {
			largest = max(largest, info.Size())
		}
	}
	return largest, nil
}

// freeBytes is how much may still be written to the directory's disk.
func freeBytes(dir *os.File) (uint64, error) {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &fs); err != nil {
		return 0, fmt.Errorf("ask for the free space: %w", err)
	}
	return fs.Bavail * uint64(fs.Bsize), nil
}
