package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/seenby/seenby/events/topic"
	"github.com/seenby/seenby/services/bench"
)

// benchCommand measures.
type benchCommand struct {
	Rebuild   benchRebuildCommand   `cmd:"" help:"Measure a rebuild against raw consumption of the same log."`
	Ingest    benchIngestCommand    `cmd:"" help:"Measure what ingest takes by HTTP against raw produce, and against a bare Echo handler."`
	Freshness benchFreshnessCommand `cmd:"" help:"Measure how soon a receipt is seen against raw produce and fetch."`
	Pull      benchPullCommand      `cmd:"" help:"Measure pulls on one core against a bare Echo handler that answers a constant."`
	Page      benchPageCommand      `cmd:"" help:"Make a page with plots of what the others wrote."`
	Child     benchChildCommand     `cmd:"" hidden:"" help:"What is measured runs by this."`
}

// benchFlags are those of every measurement.
type benchFlags struct {
	Brokers    []string `help:"Some of Kafka's brokers; the others are learnt from them." required:"" placeholder:"HOST:PORT"`
	ClientID   string   `help:"The name that the brokers' logs and quotas know this process by." default:"seenby-bench" name:"client-id"`
	loginFlags `embed:""`
	Partitions int32  `help:"How many partitions the topic has that is made, and removed at the end." default:"64"`
	Replicas   int16  `help:"How many brokers have each partition." default:"1"`
	Turns      int    `help:"How often each side is measured, in turns; the median is told." default:"3"`
	Seed       uint64 `help:"What IDs and the order of the events are made of." default:"1"`
	Scratch    string `help:"Where stores are made, and removed; without, the system's directory for what is temporary." type:"path" placeholder:"DIR"`
	JSON       string `help:"Write all figures to this file as JSON; - is stdout, instead of the table." placeholder:"FILE" name:"json"`
}

// config returns what the flags say, or a usage error.
func (f benchFlags) config(io IO) (bench.Config, error) {
	connection, err := brokerFlags{Topic: "seenby-bench", ClientID: f.ClientID, loginFlags: f.loginFlags}.connection(f.Brokers)
	if err != nil {
		return bench.Config{}, err
	}
	connection.Topic = ""
	child, err := bench.Self("bench", "child")
	return bench.Config{
		Connection: connection, Partitions: f.Partitions, Replicas: f.Replicas, Turns: f.Turns, Scratch: f.Scratch,
		Child: child, Progress: io.Stderr, Now: io.Now,
	}, err
}

// print prints a report, or says why there is none.
func (f benchFlags) print(io IO, report bench.Report, err error) error {
	switch {
	case errors.Is(err, bench.ErrConfig), errors.Is(err, bench.ErrWorkload), errors.Is(err, topic.ErrBrokers):
		return usage(err)
	case err != nil:
		return err
	}
	report.Command, report.Version = "seenby "+strings.Join(io.Args, " "), version()
	if f.JSON != "-" {
		if err := report.Table(io.Stdout); err != nil {
			return err
		}
	}
	if f.JSON == "" {
		return nil
	}
	text, err := json.Marshal(report, jsontext.Multiline(true), json.Deterministic(true))
	if err != nil {
		return fmt.Errorf("--json: %w", err)
	}
	text = append(text, '\n')
	if f.JSON == "-" {
		_, err = io.Stdout.Write(text)
		return err
	}
	if err := os.WriteFile(f.JSON, text, 0o644); err != nil {
		return fmt.Errorf("--json: %w", err)
	}
	return nil
}

// benchRebuildCommand measures a rebuild.
type benchRebuildCommand struct {
	Workload    string `help:"Which events: large (one group of 2,000 readers), small (20,000 groups of 8) or trickle (200 groups of 200, all messages being read at once)." default:"large" enum:"large,small,trickle"`
	Messages    int    `help:"How many messages; 0 for the workload's."`
	Groups      int    `help:"How many groups; 0 for the workload's."`
	Readers     int    `help:"How many people beside the sender are in a group; 0 for the workload's."`
	Alive       int    `help:"How many messages are being read at a time; 0 for the workload's."`
	MemoryLimit size   `help:"How much memory each side may take, by a cgroup (which needs root) and without swap; 0 for any." default:"512MiB"`
	benchFlags  `embed:""`
}

// Help is what kong prints under the command's own help.
func (*benchRebuildCommand) Help() string {
	return "What is measured is `seenby rebuild`, in a process of its own. Its settings are those of its variables, such as SEENBY_MEMORY."
}

// Run measures and prints.
func (c *benchRebuildCommand) Run(ctx context.Context, io IO) error {
	config, err := c.config(io)
	if err != nil {
		return err
	}
	w, err := bench.Named(c.Workload)
	if err != nil {
		return usage(err)
	}
	all := w.Alive == w.Messages
	w.Messages, w.Groups = cmp.Or(c.Messages, w.Messages), cmp.Or(c.Groups, w.Groups)
	w.Readers, w.Alive, w.Seed = cmp.Or(c.Readers, w.Readers), cmp.Or(c.Alive, w.Alive), c.Seed
	if c.Alive == 0 && (all || w.Alive > w.Messages) {
		w.Alive = w.Messages
	}
	rebuild, err := bench.Self("rebuild")
	if err != nil {
		return err
	}
	report, err := bench.Rebuild(ctx, bench.RebuildConfig{Config: config, Workload: w, Rebuild: rebuild, MemoryLimit: int64(c.MemoryLimit)})
	return c.print(io, report, err)
}

// benchIngestCommand measures ingest.
type benchIngestCommand struct {
	Receipts      int `help:"How many receipts are sent in batches, in each turn." default:"2000000"`
	Batch         int `help:"How many a request has." default:"100"`
	Clients       int `help:"Over how many connections." default:"256"`
	Singles       int `help:"How many are sent one by one, in each turn." default:"200000"`
	SingleClients int `help:"Over how many connections." default:"2048"`
	Procs         int `help:"How many cores the load generator uses; 0 for half of them."`
	benchFlags    `embed:""`
}

// Run measures and prints.
func (c *benchIngestCommand) Run(ctx context.Context, io IO) error {
	config, err := c.config(io)
	if err != nil {
		return err
	}
	report, err := bench.Ingest(ctx, bench.IngestConfig{
		Config: config, Receipts: c.Receipts, Batch: c.Batch, Clients: c.Clients,
		Singles: c.Singles, SingleClients: c.SingleClients, Procs: procs(c.Procs), Seed: c.Seed,
	})
	return c.print(io, report, err)
}

// benchFreshnessCommand measures how soon a receipt is seen.
type benchFreshnessCommand struct {
	Rate       int `help:"How many receipts a second." default:"20000"`
	Batch      int `help:"How many a request has; one of each is looked for." default:"100"`
	Seconds    int `help:"How long each turn takes." default:"20"`
	Warm       int `help:"For how many seconds each side runs before that, without counting." default:"2"`
	Clients    int `help:"Over how many connections." default:"64"`
	Procs      int `help:"How many cores the load generator uses; 0 for half of them."`
	benchFlags `embed:""`
}

// Run measures and prints.
func (c *benchFreshnessCommand) Run(ctx context.Context, io IO) error {
	config, err := c.config(io)
	if err != nil {
		return err
	}
	report, err := bench.Freshness(ctx, bench.FreshnessConfig{
		Config: config, Rate: c.Rate, Batch: c.Batch, Seconds: c.Seconds, Warm: c.Warm, Clients: c.Clients, Procs: procs(c.Procs), Seed: c.Seed,
	})
	return c.print(io, report, err)
}

// benchPullCommand measures pulls.
type benchPullCommand struct {
	Messages   int `help:"How many messages of groups of 50 there are to pull." default:"10000"`
	Lists      int `help:"How many messages there are whose 2,000 readers are listed." default:"600"`
	Senders    int `help:"How many people pull, each with a token." default:"1000"`
	Requests   int `help:"How many requests of each kind, in each turn." default:"100000"`
	Clients    int `help:"Over how many connections." default:"32"`
	Seconds    int `help:"For how long delays are measured, in each turn, at half load." default:"5"`
	Procs      int `help:"How many cores the load generator uses; 0 for half of them. The servers use one."`
	benchFlags `embed:""`
}

// Run measures and prints.
func (c *benchPullCommand) Run(ctx context.Context, io IO) error {
	config, err := c.config(io)
	if err != nil {
		return err
	}
	report, err := bench.Pull(ctx, bench.PullConfig{
		Config: config, Messages: c.Messages, Lists: c.Lists, Senders: c.Senders, Requests: c.Requests, Clients: c.Clients,
		Seconds: c.Seconds, Procs: procs(c.Procs), Seed: c.Seed,
	})
	return c.print(io, report, err)
}

// procs is how many cores a load generator uses: half of them, as what it measures
// needs the others.
func procs(n int) int { return cmp.Or(n, max(1, runtime.NumCPU()/2)) }

// benchPageCommand makes the page of results.
type benchPageCommand struct {
	From []string `help:"The files that --json of the others wrote." required:"" placeholder:"FILE"`
	Out  string   `help:"The directory of the page; made if missing." required:"" type:"path" placeholder:"DIR"`
}

// Run writes the page.
func (c *benchPageCommand) Run() error {
	var reports []bench.Report
	for _, name := range c.From {
		text, err := os.ReadFile(name)
		if err != nil {
			return usage(fmt.Errorf("--from: %w", err))
		}
		var r bench.Report
		if err := json.Unmarshal(text, &r); err != nil {
			return usage(fmt.Errorf("--from: %s is not what `seenby bench` writes: %w", name, err))
		}
		reports = append(reports, r)
	}
	return bench.WritePage(c.Out, reports)
}

// benchChildCommand is one side of a measurement.
type benchChildCommand struct {
	Task string `arg:"" help:"What to do, as its parent says it."`
}

// Run does what the parent says.
func (c *benchChildCommand) Run(ctx context.Context, io IO) error {
	return bench.Child(ctx, c.Task, io.Stdin, io.Stdout)
}
