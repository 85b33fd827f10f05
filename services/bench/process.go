package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Usage is what a process used, from its start to its end, as the kernel counts
// it; what a system does not tell is 0.
type Usage struct {
	// WallSeconds is from the start of the process to its end.
	WallSeconds   float64 `json:"wall_seconds"`
	UserSeconds   float64 `json:"user_seconds"`
	SystemSeconds float64 `json:"system_seconds"`
	// PeakAnonymous is the largest RssAnon seen, looking every 20 ms; PeakResident
	// is VmHWM, which the kernel keeps.
	PeakAnonymous int64 `json:"peak_rss_anon_bytes"`
	PeakResident  int64 `json:"peak_vm_hwm_bytes"`
	// Written is write_bytes of /proc/PID/io: what the process had the kernel write
	// to block devices, by dirtying pages, of files mapped into memory too, whole
	// pages at a time. Cancelled is the part of it that was removed before it was
	// written. Called is wchar: what it passed to write calls, sockets included.
	Written   int64 `json:"write_bytes"`
	Cancelled int64 `json:"cancelled_write_bytes"`
	Called    int64 `json:"wchar_bytes"`
}

// sampleEvery is how often a process's memory is looked at.
const sampleEvery = 20 * time.Millisecond

// child is a process that runs.
type child struct {
	name   string
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout io.Reader
	stderr bytes.Buffer
	begun  time.Time
	limit  *limit
	killed int64 // how many the limit had killed before
	// sampled is handed over once the process has ended, and is not reaped yet.
	sampled chan Usage
	ended   chan struct{}
}

// killAfter is how long a process has to end after it was told to.
const killAfter = 20 * time.Second

// start starts a command, under a limit if there is one. It is told to end when
// ctx does.
func (c Config) start(ctx context.Context, command []string, under *limit) (*child, error) {
	name := strings.Join(command[:min(3, len(command))], " ")
	if under != nil {
		wrapped, err := c.command(task{Role: roleEnter, Enter: &enterTask{Files: under.files(), Command: command}})
		if err != nil {
			return nil, err
		}
		command = wrapped
	}
	p := &child{name: name, limit: under, killed: under.killed(), begun: time.Now(), sampled: make(chan Usage, 1), ended: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, command[0], command[1:]...)
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	p.cmd.WaitDelay = killAfter
	p.cmd.Stderr = &p.stderr
	// Where this process's --json goes is a variable too, and is none of a child's.
	p.cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "SEENBY_JSON=") })
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("starting `%s`: %w", name, err)
	}
	if p.stdout, err = p.cmd.StdoutPipe(); err != nil {
		return nil, fmt.Errorf("starting `%s`: %w", name, err)
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting `%s`: %w", name, err)
	}
	go func() { p.sampled <- sample(p.cmd.Process.Pid, p.ended) }()
	return p, nil
}

// wait waits until the process has ended, and everything that it printed was
// read. Its error has the last lines that it printed to stderr.
func (p *child) wait() (Usage, error) {
	awaitExit(p.cmd.Process.Pid)
	close(p.ended)
	usage := <-p.sampled
	err := p.cmd.Wait()
	usage.WallSeconds = time.Since(p.begun).Seconds()
	if state := p.cmd.ProcessState; state != nil {
		usage.UserSeconds, usage.SystemSeconds = state.UserTime().Seconds(), state.SystemTime().Seconds()
	}
	if err != nil {
		err = fmt.Errorf("%w: `%s`: %w%s", ErrChild, p.name, err, lastLines(p.stderr.String()))
		if p.limit.killed() > p.killed {
			err = fmt.Errorf("%w of %s: %w", errKilled, size(p.limit.bytes), err)
		}
	}
	return usage, err
}

// stop has a server end, and waits for that.
func (p *child) stop() (Usage, error) {
	_ = p.stdin.Close() // it may have ended by itself, which wait tells
	return p.wait()
}

const lastLinesShown = 8

func lastLines(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	if len(lines) == 1 && lines[0] == "" {
		return ""
	}
	return ":\n  " + strings.Join(lines[max(0, len(lines)-lastLinesShown):], "\n  ")
}

// disk is what a directory takes.
type disk struct {
	// Allocated counts the blocks of all files, Apparent their lengths.
	Allocated, Apparent int64
}

func diskUsage(dir string) (disk, error) {
	var sum disk
	entries, err := os.ReadDir(dir)
	if err != nil {
		return sum, fmt.Errorf("measuring %s: %w", dir, err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return sum, fmt.Errorf("measuring %s: %w", dir, err)
		}
		sum.Apparent += info.Size()
		sum.Allocated += allocated(info)
		if e.IsDir() {
			below, err := diskUsage(dir + "/" + e.Name())
			if err != nil {
				return sum, err
			}
			sum.Apparent += below.Apparent
			sum.Allocated += below.Allocated
		}
	}
	return sum, nil
}
