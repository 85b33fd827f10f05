package bench

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// sample watches a process until ended is closed, which must be while it is not
// reaped yet.
func sample(pid int, ended <-chan struct{}) Usage {
	var u Usage
	ticker := time.NewTicker(sampleEvery)
	defer ticker.Stop()
	for {
		status := figures(fmt.Sprintf("/proc/%d/status", pid))
		u.PeakAnonymous = max(u.PeakAnonymous, status["RssAnon"]<<10)
		u.PeakResident = max(u.PeakResident, status["VmHWM"]<<10)
		select {
		case <-ended:
			// A process that has ended has no memory left, but its counts of I/O.
			io := figures(fmt.Sprintf("/proc/%d/io", pid))
			u.Written, u.Cancelled, u.Called = io["write_bytes"], io["cancelled_write_bytes"], io["wchar"]
			return u
		case <-ticker.C:
		}
	}
}

// figures reads a file of lines like "name: 123 kB".
func figures(file string) map[string]int64 {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	read := make(map[string]int64)
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		if n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64); err == nil {
			read[name] = n
		}
	}
	return read
}

// awaitExit waits until a child has ended, and leaves it to be reaped.
func awaitExit(pid int) {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// allocated is how many bytes of blocks a file has.
func allocated(info fs.FileInfo) int64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return stat.Blocks * 512
	}
	return info.Size()
}

// run enters the cgroup and becomes the command, so that all that the command ever
// takes counts.
func (e *enterTask) run() error {
	for _, file := range e.Files {
		if err := os.WriteFile(file, []byte(strconv.Itoa(os.Getpid())), 0); err != nil {
			return fmt.Errorf("entering the cgroup: %w", err)
		}
	}
	err := syscall.Exec(e.Command[0], e.Command, os.Environ())
	return fmt.Errorf("starting %s: %w", e.Command[0], err)
}

// describe asks the kernel.
func (m *Machine) describe() {
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
				m.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	m.Memory = figures("/proc/meminfo")["MemTotal"] << 10
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		release, _, _ := bytes.Cut(u.Release[:], []byte{0})
		m.System = "Linux " + string(release) + " " + m.System
	}
}
