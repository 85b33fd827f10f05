package cli

import (
	"context"
	"os"
	"runtime/debug"
	"time"

	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/services/projector"
	"github.com/seenby/seenby/services/server"
)

// projectorCommand runs one node of a copy.
type projectorCommand struct {
	Listen             string `help:"The internal address, for query." default:"127.0.0.1:8081" placeholder:"HOST:PORT"`
	InternalSecretFile string `help:"The secret that query and projectors share: base64url, 32 bytes or more; one a line; the first signs, all verify. It is read again when it changes." required:"" type:"path" placeholder:"FILE"`

	nodeFlags   `embed:""`
	pullFlags   `embed:"" group:"Pulls"`
	serverFlags `embed:"" group:"HTTP"`
}

// nodeFlags say which node of which copy it is, of what log, and how it keeps its
// state.
type nodeFlags struct {
	Data       string `help:"The directory of the state; one process's at a time." required:"" type:"path" placeholder:"DIR"`
	Copy       string `help:"The copy's name. A projector commits its positions to a consumer group of that name, for lag tools." default:"seenby-a"`
	Nodes      int    `help:"How many nodes the copy has. It never changes: make another copy instead." default:"1"`
	Node       int    `help:"Which of them this is, from 0: it owns the partitions p with p mod nodes = node." default:"0"`
	SkipRecord []skip `help:"The last resort: a record to pass over, the same on all nodes of all copies." placeholder:"PARTITION@OFFSET"`

	agreedFlags `embed:""`
	stateFlags  `embed:"" group:"State"`
	kafkaFlags  `embed:"" group:"Kafka"`
}

// config is what the flags say, but for what concerns whom it serves.
func (f nodeFlags) config(r *running) (projector.Config, error) {
	connection, err := f.connection()
	if err != nil {
		return projector.Config{}, err
	}
	c := projector.Config{
		Connection: connection, Generation: f.Generation, Retention: f.Retention,
		Copy: f.Copy, Nodes: f.Nodes, Node: f.Node, DataDir: f.Data,
		Logger: r.log, Registerer: r.metrics, Now: r.io.Now,
	}
	for _, s := range f.SkipRecord {
		c.Skips = append(c.Skips, projections.Skip(s))
	}
	f.stateFlags.into(&c)
	return c, nil
}

// gcPercent is GOGC unless it is given. Most of a projector's memory is kept for
// long, or pooled, so that collecting earlier than Go does by default saves some
// 40 MiB of 330 and costs a rebuild of 50 million receipts no time.
const gcPercent = 60

// bound has Go collect garbage so that the process keeps to what its flags add up
// to, unless GOGC or GOMEMLIMIT say otherwise.
func (f stateFlags) bound(c projector.Config) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(c.MemoryNeeded())
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}

// stateFlags bound what a projector keeps.
type stateFlags struct {
	WaitingLimit  int           `help:"How many receipts and recalls may wait for their message in one partition; the same on all nodes of all copies." default:"10000"`
	Memory        size          `help:"Memory for messages. The process takes about 200 MiB more: see GOMEMLIMIT, which is set to fit unless it is given." default:"128MiB"`
	StoreCache    size          `help:"Memory for the store's caches." default:"32MiB"`
	StoreMemtable size          `help:"Size of one of the store's memtables, of which it has a few." default:"16MiB"`
	FlushBytes    size          `help:"How much of a partition may be unsaved." default:"2MiB"`
	FlushEvery    time.Duration `help:"How long what was applied may be unsaved. It is read again from the log after a crash." default:"3s"`
}

// pullFlags are what clients notice.
type pullFlags struct {
	VisibleTo    string        `help:"Who beside the backend may see the receipts of a message: sender, or participants (its recipients too, less the opted out)." default:"sender" enum:"sender,participants"`
	MaxWait      time.Duration `help:"How long a pull waits for the position that it presents." default:"2s"`
	PollInterval time.Duration `help:"How often clients are told to pull." default:"2s"`
	PollWindow   time.Duration `help:"For how long they are told to." default:"20s"`
	PollSlowest  time.Duration `help:"How often under load: the interval grows by steps while the process takes more than 85 % of its CPUs, and shrinks again below 60 %." default:"8s"`
}

func (f stateFlags) into(c *projector.Config) {
	c.WaitingLimit, c.MemoryBytes, c.CacheBytes, c.MemtableBytes = f.WaitingLimit, int64(f.Memory), int64(f.StoreCache), int64(f.StoreMemtable)
	c.FlushBytes, c.FlushEvery = int(f.FlushBytes), f.FlushEvery
}

func (f pullFlags) into(c *projector.Config) {
	c.VisibleTo = projector.VisibleTo(f.VisibleTo)
	c.MaxWait, c.PollInterval, c.PollWindow, c.PollSlowest = f.MaxWait, f.PollInterval, f.PollWindow, f.PollSlowest
}

// Run serves until ctx ends.
func (c *projectorCommand) Run(ctx context.Context, io IO, log logFlags) error {
	p := newProcess("projector", io, log)
	config, err := c.config(p)
	if err != nil {
		return err
	}
	if config.Secret, err = p.keys("internal", "--internal-secret-file", c.InternalSecretFile); err != nil {
		return err
	}
	c.pullFlags.into(&config)
	if err := config.Validate(); err != nil {
		return usage(err)
	}
	if err := c.within("--max-wait", c.MaxWait); err != nil {
		return err
	}
	service, err := projector.New(config)
	if err != nil {
		return err
	}
	c.bound(config)
	http := server.Config{Listen: c.Listen, Routes: service.Routes(), Ready: service.Ready}
	c.serverFlags.into(&http)
	return p.serve(ctx, http, service.Run)
}
