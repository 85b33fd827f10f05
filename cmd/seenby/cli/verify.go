package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/seenby/seenby/services/audit"
	"github.com/seenby/seenby/services/projector"
	"github.com/seenby/seenby/services/projector/protocol"
)

// verifyCommand holds a store, or a running copy, to what it must be.
type verifyCommand struct {
	Data      []string `help:"Directories of projectors that do not run (of a standalone: DIR/state), of some nodes of one copy." xor:"from" placeholder:"DIR"`
	Projector []string `help:"Internal addresses of running projectors, some nodes of one copy." xor:"from" placeholder:"URL"`
	Against   []string `help:"What it must be equal to: directories of another copy, or with --projector, its addresses." env:"-" placeholder:"DIR|URL"`
	Brokers   []string `help:"With --data: fold the topic again, up to where the stores are, and compare with that." env:"-" placeholder:"HOST:PORT"`
	Scratch   string   `help:"With --brokers: where the fresh fold is made, and removed again; without, where the system keeps temporary files." type:"path" placeholder:"DIR"`
	Show      int      `help:"How many findings, and how many differing messages, of a partition are told." default:"10"`
	Quick     bool     `help:"With --projector and --against: compare only the digests that are kept up to date, without reading disks."`
	JSON      bool     `help:"Print JSON." name:"json"`
	Quiet     bool     `help:"Print no progress."`

	internalFlags `embed:""`
	brokerFlags   `embed:"" group:"Kafka, with --brokers"`
	Memory        size `help:"With --brokers: memory for messages." default:"128MiB"`
}

// Help is what the reference says beside the flags.
func (*verifyCommand) Help() string {
	return "Every partition's state adds up to a digest for each hour of sent_at. This reads what is on disk, works the digests out again, and holds every message to " +
		"the rules of the fold. It compares with another copy, or with a fresh fold of the topic, at the same position; of stores at different positions only what did " +
		"not change between. Hours that have begun to expire are not compared. It exits with 1 if something differs or is damaged."
}

// errUnsound is told when something was found.
var errUnsound = errors.New("something is damaged, or differs: see above")

// Run verifies, and prints what was found.
func (c *verifyCommand) Run(ctx context.Context, io IO, log logFlags) error {
	progress := &readLine{to: io.Stderr, terminal: io.ErrTerminal, quiet: c.Quiet, now: io.Now}
	o := audit.Options{Show: c.Show, Now: io.Now, Logger: log.logger(io), Progress: progress.show}
	report, err := c.verify(ctx, io, o)
	progress.end()
	if err != nil {
		return err
	}
	if c.JSON {
		err = printJSON(io.Stdout, report)
	} else {
		err = report.Print(io.Stdout)
	}
	if err == nil && !report.Sound {
		err = errUnsound
	}
	return err
}

func (c *verifyCommand) verify(ctx context.Context, io IO, o audit.Options) (audit.Report, error) {
	switch {
	case c.Show < 0 || c.Show > 1000:
		return audit.Report{}, usage(fmt.Errorf("--show must be from 0 to 1000, not %d", c.Show))
	case len(c.Brokers) > 0 && (len(c.Data) == 0 || len(c.Against) > 0):
		return audit.Report{}, usage(errors.New("--brokers goes with --data, and without --against"))
	case len(c.Brokers) > 0:
		return c.topic(ctx, io, o)
	case len(c.Data) > 0 && len(c.Against) > 0:
		return audit.Stores(ctx, c.Data, c.Against, o)
	case len(c.Data) > 0:
		return audit.Store(ctx, c.Data, o)
	case len(c.Projector) == 0:
		return audit.Report{}, usage(errors.New("--projector or --data: name running projectors, or the directories of some that do not run"))
	}
	first, err := c.clients(io, "--projector", c.Projector...)
	if err != nil {
		return audit.Report{}, err
	}
	if len(c.Against) == 0 {
		return audit.Running(ctx, first, o)
	}
	second, err := c.clients(io, "--against", c.Against...)
	if err != nil {
		return audit.Report{}, err
	}
	quick := audit.FromDisk
	if c.Quick {
		quick = audit.FromMemory
	}
	return audit.Copies(ctx, first, second, quick, o)
}

func (c *verifyCommand) topic(ctx context.Context, io IO, o audit.Options) (audit.Report, error) {
	connection, err := c.connection(c.Brokers)
	if err != nil {
		return audit.Report{}, err
	}
	config := projector.Config{
		Connection: connection, MemoryBytes: int64(c.Memory), CacheBytes: projector.DefaultCacheBytes, MemtableBytes: projector.DefaultMemtableBytes,
		FlushBytes: projector.DefaultFlushBytes, FlushEvery: projector.DefaultFlushEvery,
	}
	stateFlags{}.bound(config)
	report := func(protocol.Progress) {}
	if !c.Quiet {
		report = (&progressLine{to: io.Stderr, terminal: io.ErrTerminal, now: io.Now}).show
	}
	r, err := audit.Topic(ctx, c.Data, config, c.Scratch, o, report)
	if errors.Is(err, projector.ErrConfig) {
		return r, usage(err)
	}
	return r, err
}

// readLine shows how much was read: on a terminal in one line, else a line every ten
// seconds.
type readLine struct {
	to              io.Writer
	terminal, quiet bool
	now             func() time.Time
	begun, shown    time.Time
	width           int
}

func (l *readLine) show(what string, messages int64) {
	now := l.now()
	if l.begun.IsZero() {
		l.begun, l.shown = now, now
	}
	every := 10 * time.Second
	if l.terminal {
		every = 200 * time.Millisecond
	}
	if l.quiet || now.Sub(l.shown) < every {
		return
	}
	l.shown = now
	line := what
	if messages > 0 {
		line += fmt.Sprintf(": %s messages read", humanize.Comma(messages))
	}
	line += fmt.Sprintf(", %s", now.Sub(l.begun).Round(time.Second))
	if !l.terminal {
		fmt.Fprintln(l.to, line)
		return
	}
	fmt.Fprintf(l.to, "\r\x1b[K%s", line)
	l.width = len(line)
}

// end makes room for what comes after.
func (l *readLine) end() {
	if l.width > 0 {
		fmt.Fprint(l.to, "\r\x1b[K")
	}
}
