package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/seenby/seenby/events/topic"
)

// The roles of a child.
const (
	roleEnter    = "enter"    // a cgroup, and become another program
	roleConsume  = "consume"  // raw
	roleProduce  = "produce"  // raw
	roleDelay    = "delay"    // raw, from produce to fetch
	roleServe    = "serve"    // seenby
	roleEcho     = "echo"     // a bare handler
	roleConstant = "constant" // a bare handler of a constant
)

// task is what a child is told to do. It is an argument of its command, and has no
// secrets.
type task struct {
	Role       string
	Connection topic.Connection
	Partitions int32

	Enter   *enterTask   `json:",omitempty"`
	Consume *consumeTask `json:",omitempty"`
	Produce *produceTask `json:",omitempty"`
	Delay   *delayTask   `json:",omitempty"`
	Serve   *serveTask   `json:",omitempty"`
}

type enterTask struct {
	Files   []string // that the process writes its ID to
	Command []string
}

type consumeTask struct {
	Records  int64
	Settings ConsumeSettings
	// MemoryLimit is the cgroup's, or 0. Go is told to keep to most of it.
	MemoryLimit int64
}

func (t *consumeTask) run(ctx context.Context, at topic.Connection, partitions int32) (RawConsumed, error) {
	if t.MemoryLimit > 0 {
		debug.SetMemoryLimit(t.MemoryLimit * 8 / 10)
	}
	return consume(ctx, at, partitions, t.Records, t.Settings)
}

// Child does what this program, run by itself, is told to do by task: it writes
// what came of it to stdout as JSON. Servers end when stdin does.
func Child(ctx context.Context, told string, stdin io.Reader, stdout io.Writer) error {
	var t task
	if err := json.Unmarshal([]byte(told), &t); err != nil {
		return fmt.Errorf("the task of a child of `seenby bench`, which is not to be run by hand: %w", err)
	}
	done, err := t.do(ctx, stdin, stdout)
	if err != nil {
		return err
	}
	if err := json.MarshalWrite(stdout, done); err != nil {
		return fmt.Errorf("telling what came of it: %w", err)
	}
	_, err = fmt.Fprintln(stdout)
	return err
}

func (t *task) do(ctx context.Context, stdin io.Reader, stdout io.Writer) (any, error) {
	switch {
	case t.Role == roleEnter && t.Enter != nil:
		return nil, t.Enter.run()
	case t.Role == roleConsume && t.Consume != nil:
		return t.Consume.run(ctx, t.Connection, t.Partitions)
	case t.Role == roleProduce && t.Produce != nil:
		return t.Produce.run(ctx, t.Connection, t.Partitions)
	case t.Role == roleDelay && t.Delay != nil:
		return t.Delay.run(ctx, t.Connection, t.Partitions)
	case t.Role == roleServe && t.Serve != nil:
		return t.Serve.run(untilEnd(ctx, stdin), t.Connection, stdout)
	case t.Role == roleEcho:
		return echoServer(untilEnd(ctx, stdin), stdout)
	case t.Role == roleConstant:
		return constantServer(untilEnd(ctx, stdin), stdout)
	}
	return nil, fmt.Errorf("a child of `seenby bench` has no role %q", t.Role)
}

// untilEnd ends when r does.
func untilEnd(ctx context.Context, r io.Reader) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, r)
		cancel()
	}()
	return ctx
}

// command is a child's.
func (c Config) command(t task) ([]string, error) {
	told, err := json.Marshal(t)
	if err != nil {
		return nil, fmt.Errorf("telling a child its task: %w", err)
	}
	return append(append([]string(nil), c.Child...), string(told)), nil
}

// do has a child do a task, under a limit if there is one, and reads what came of
// it.
func (c Config) do(ctx context.Context, t task, under *limit, into any) (Usage, error) {
	command, err := c.command(t)
	if err != nil {
		return Usage{}, err
	}
	return c.run(ctx, command, under, into)
}

// run runs a command to its end, and reads the JSON that it prints.
func (c Config) run(ctx context.Context, command []string, under *limit, into any) (Usage, error) {
	p, err := c.start(ctx, command, under)
	if err != nil {
		return Usage{}, err
	}
	out, readErr := io.ReadAll(p.stdout)
	usage, err := p.wait()
	if err != nil && ctx.Err() != nil {
		return usage, fmt.Errorf("measuring: %w", context.Cause(ctx))
	}
	if err == nil {
		err = readErr
	}
	if err == nil {
		if err = json.Unmarshal(bytes.TrimSpace(out), into); err != nil {
			err = fmt.Errorf("what `%s` printed: %w", p.name, err)
		}
	}
	return usage, err
}

// Machine is what was measured on.
type Machine struct {
	CPU    string `json:"cpu"`
	CPUs   int    `json:"cpus"`
	Memory int64  `json:"memory_bytes"`
	System string `json:"system"`
}

// Report is what came of a measurement.
type Report struct {
	Bench   string    `json:"bench"`
	At      time.Time `json:"at"`
	Command string    `json:"command"`
	Version string    `json:"version"`
	Kafka   string    `json:"kafka"`
	Machine Machine   `json:"machine"`
	// Partitions and Turns are those of the Config.
	Partitions int32 `json:"partitions"`
	Turns      int   `json:"turns"`

	Rebuild   *RebuildReport   `json:"rebuild,omitempty"`
	Ingest    *IngestReport    `json:"ingest,omitempty"`
	Freshness *FreshnessReport `json:"freshness,omitempty"`
	Pull      *PullReport      `json:"pull,omitempty"`
}

func (c Config) report(ctx context.Context, bench string) Report {
	at := c.Connection
	at.Topic = topicPrefix
	return Report{
		Bench: bench, At: c.Now().UTC().Truncate(time.Second), Kafka: kafkaVersion(ctx, at),
		Machine: thisMachine(), Partitions: c.Partitions, Turns: c.Turns,
	}
}

func thisMachine() Machine {
	m := Machine{CPUs: runtime.NumCPU(), System: runtime.GOOS + "/" + runtime.GOARCH}
	m.describe()
	return m
}

// ErrChild is wrapped by what is returned where a child fails.
var ErrChild = errors.New("a process that was measured failed")

// scratch makes a directory that is removed by the function returned.
func (c Config) scratch() (string, func() error, error) {
	dir, err := os.MkdirTemp(c.Scratch, "seenby-bench-")
	if err != nil {
		return "", nil, fmt.Errorf("%w: --scratch: %w", ErrConfig, err)
	}
	return dir, func() error { return os.RemoveAll(dir) }, nil
}
