package bench

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// cgroups is where systems mount them.
const cgroups = "/sys/fs/cgroup"

// newLimit makes a cgroup below this process's own, or as near to it as it may. It
// needs root, or a cgroup that was delegated.
func newLimit(bytes int64) (*limit, error) {
	own := ownCgroups()
	if path, found := own["memory"]; found {
		return newLimitV1(filepath.Join(cgroups, "memory"), path, bytes)
	}
	path, found := own[""]
	if !found {
		return nil, errors.New("there are no cgroups")
	}
	return newLimitV2(cgroups, path, bytes)
}

// ownCgroups returns the process's path for each controller of version 1, and for
// "" that of version 2.
func ownCgroups() map[string]string {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil
	}
	own := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		if parts := strings.SplitN(strings.TrimSpace(line), ":", 3); len(parts) == 3 {
			for name := range strings.SplitSeq(parts[1], ",") {
				own[name] = parts[2]
			}
		}
	}
	return own
}

// upwards returns the directories from a path to a root: within a container the
// path may be one that only the host sees.
func upwards(root, path string) []string {
	var dirs []string
	for path = filepath.Clean("/" + path); ; path = filepath.Dir(path) {
		dirs = append(dirs, filepath.Join(root, path))
		if path == "/" {
			return dirs
		}
	}
}

func newLimitV1(root, path string, bytes int64) (*limit, error) {
	var errs []error
	for _, parent := range upwards(root, path) {
		dir := filepath.Join(parent, fmt.Sprintf("seenby-bench-%08x", rand.Uint32()))
		if err := os.Mkdir(dir, 0o755); err != nil {
			errs = append(errs, err)
			continue
		}
		l := &limit{bytes: bytes, dir: dir, procs: filepath.Join(dir, "cgroup.procs"),
			kills: filepath.Join(dir, "memory.oom_control"), killsName: "oom_kill "}
		err := write(dir, "memory.limit_in_bytes", bytes)
		if err == nil {
			// Where swap is not accounted, it is avoided.
			if err = write(dir, "memory.memsw.limit_in_bytes", bytes); errors.Is(err, os.ErrNotExist) {
				err = write(dir, "memory.swappiness", 0)
			}
		}
		if err == nil {
			return l, nil
		}
		errs = append(errs, err, l.close())
	}
	return nil, errors.Join(errs...)
}

func newLimitV2(root, path string, bytes int64) (*limit, error) {
	var errs []error
	for _, parent := range upwards(root, path) {
		// A cgroup with processes cannot hand its controllers on; one further up can.
		_ = os.WriteFile(filepath.Join(parent, "cgroup.subtree_control"), []byte("+memory"), 0)
		dir := filepath.Join(parent, fmt.Sprintf("seenby-bench-%08x", rand.Uint32()))
		if err := os.Mkdir(dir, 0o755); err != nil {
			errs = append(errs, err)
			continue
		}
		l := &limit{bytes: bytes, dir: dir, procs: filepath.Join(dir, "cgroup.procs"),
			kills: filepath.Join(dir, "memory.events"), killsName: "oom_kill "}
		err := write(dir, "memory.max", bytes)
		if err == nil {
			if err = write(dir, "memory.swap.max", 0); errors.Is(err, os.ErrNotExist) {
				err = nil // there is no swap
			}
		}
		if err == nil {
			return l, nil
		}
		errs = append(errs, err, l.close())
	}
	return nil, errors.Join(errs...)
}

// write sets a file that is there.
func write(dir, name string, value int64) error {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(strconv.FormatInt(value, 10))
	return errors.Join(err, f.Close())
}

// killed is how many processes were killed for going beyond the limit.
func (l *limit) killed() int64 {
	if l == nil {
		return 0
	}
	text, err := os.ReadFile(l.kills)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if value, found := strings.CutPrefix(line, l.killsName); found {
			n, _ := strconv.ParseInt(strings.TrimSpace(value), 10, 64) //nolint:errcheck // 0 says as much.
			return n
		}
	}
	return 0
}

// close removes the cgroup. One whose last process has just ended may be busy for a
// moment.
func (l *limit) close() error {
	if l == nil {
		return nil
	}
	var err error
	for range 100 {
		if err = os.Remove(l.dir); err == nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("removing the cgroup: %w", err)
}
