package projector

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"regexp"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seenby/seenby/events/topic"
	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/badgerstore"
	"github.com/seenby/seenby/services/auth"
)

// Config says what a projector node materializes, where, and for whom. What
// decides the state (Generation, Retention, WaitingLimit, Skips) must be the
// same on all nodes of all copies.
type Config struct {
	Connection topic.Connection
	// Generation is raised by the operator after the log lost records.
	Generation uint32
	// Retention is how long after its sent_at a message expires.
	Retention time.Duration
	// WaitingLimit is how many receipts and recalls may wait for their message in
	// one partition.
	WaitingLimit int
	// Skips are records to pass over, the operator's last resort.
	Skips []projections.Skip

	// Copy names the copy; its positions are committed to a consumer group of
	// that name. The node has the partitions p with p mod Nodes = Node.
	Copy        string
	Nodes, Node int

	// DataDir holds the state. One process at a time may use it.
	DataDir string
	// MemoryBytes bounds the messages that are kept in memory, CacheBytes the
	// store's caches, and MemtableBytes one of its memtables, of which it has a
	// few. FlushBytes is how much of a partition may be unsaved.
	MemoryBytes   int64
	CacheBytes    int64
	MemtableBytes int64
	FlushBytes    int
	// FlushEvery is how long what was applied may be unsaved. It is read again
	// from the log after a crash.
	FlushEvery time.Duration

	// MaxWait is how long a pull waits for the position that it presents.
	MaxWait time.Duration
	// PollInterval and PollWindow are what clients are told. Under load the interval
	// grows up to PollSlowest.
	PollInterval, PollWindow, PollSlowest time.Duration
	VisibleTo                             VisibleTo

	// Secret signs cursors, and authenticates query on the internal port.
	Secret *auth.Keys
	Logger *slog.Logger
	// Registerer gets the node's metrics.
	Registerer prometheus.Registerer
	// Now is the clock; it should have monotonic readings, as time.Now's have.
	Now func() time.Time
}

// MemoryNeeded is about how many bytes a node may take, garbage included, if
// nothing else in the process needs much: what the settings add up to. A memtable
// that is being written takes several times its size.
func (c *Config) MemoryNeeded() int64 {
	const rest = 96 << 20
	return c.MemoryBytes + c.CacheBytes + 5*c.MemtableBytes + backlogBytes + rest
}

// VisibleTo says who, beside the backend, may see the receipts of a message.
type VisibleTo string

// The values of VisibleTo.
const (
	// Sender: the message's sender.
	Sender VisibleTo = "sender"
	// Participants: its recipients too, less the opted out.
	Participants VisibleTo = "participants"
)

// The defaults of the flags.
const (
	DefaultGeneration    = 1
	DefaultRetention     = 30 * 24 * time.Hour
	DefaultWaitingLimit  = 10_000
	DefaultMemoryBytes   = 128 << 20
	DefaultCacheBytes    = 32 << 20
	DefaultMemtableBytes = badgerstore.DefaultMemTableSize
	DefaultFlushBytes    = 2 << 20
	DefaultFlushEvery    = 3 * time.Second
	DefaultMaxWait       = 2 * time.Second
	DefaultPollInterval  = 2 * time.Second
	DefaultPollWindow    = 20 * time.Second
	DefaultPollSlowest   = 8 * time.Second
)

// ErrConfig is wrapped by what Config.Validate returns.
var ErrConfig = errors.New("bad setting")

// copyName is what a copy may be called: what Kafka's tools, file names and
// metrics take as it is.
var copyName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

// mistakes collects what is wrong with a configuration.
type mistakes []error

func (m *mistakes) check(ok bool, format string, args ...any) {
	if !ok {
		*m = append(*m, fmt.Errorf("%w: %s", ErrConfig, fmt.Sprintf(format, args...)))
	}
}

// Validate returns an error for each mistake, joined; each names its flag, and
// wraps [ErrConfig].
func (c *Config) Validate() error {
	var errs mistakes
	check := errs.check
	check(copyName.MatchString(c.Copy), "--copy must be 1-100 of letters, digits, '.', '_' and '-', the first a letter or digit, not %q", c.Copy)
	check(c.MaxWait >= 0 && c.MaxWait <= 30*time.Second, "--max-wait must be from 0s to 30s, not %v", c.MaxWait)
	check(c.PollInterval >= 100*time.Millisecond && c.PollInterval <= time.Hour, "--poll-interval must be from 100ms to 1h, not %v", c.PollInterval)
	check(c.PollSlowest >= c.PollInterval && c.PollSlowest <= time.Hour, "--poll-slowest must be from --poll-interval to 1h, not %v", c.PollSlowest)
	check(c.PollWindow >= c.PollInterval && c.PollWindow <= 24*time.Hour, "--poll-window must be from --poll-interval to 24h, not %v", c.PollWindow)
	check(c.VisibleTo == Sender || c.VisibleTo == Participants, "--visible-to must be %s or %s, not %q", Sender, Participants, c.VisibleTo)
	check(c.Secret != nil, "--internal-secret-file must name a file of keys")
	return errors.Join(c.validateState(), errors.Join(errs...))
}

// validateState is Validate for what a rebuild needs.
func (c *Config) validateState() error {
	var errs mistakes
	check := errs.check
	if err := c.Connection.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("%w: %w", ErrConfig, err))
	}
	check(c.Generation > 0, "--generation must be 1 or more")
	check(c.Retention >= time.Hour && c.Retention%time.Millisecond == 0, "--retention must be an hour or more, in whole milliseconds, not %v", c.Retention)
	check(c.WaitingLimit >= 0 && c.WaitingLimit <= math.MaxInt32, "--waiting-limit must be from 0 to %d, not %d", math.MaxInt32, c.WaitingLimit)
	for _, s := range c.Skips {
		check(s.Partition >= 0 && s.Offset >= 0, "--skip-record must be PARTITION@OFFSET, neither negative, not %v", s)
	}
	check(c.Nodes >= 1, "--nodes must be 1 or more, not %d", c.Nodes)
	check(c.Nodes < 1 || c.Node >= 0 && c.Node < c.Nodes, "--node must be from 0 to --nodes less one (%d), not %d", c.Nodes-1, c.Node)
	check(c.DataDir != "", "--data must name a directory")
	check(c.MemoryBytes >= 1<<20, "--memory must be 1 MiB or more, not %d bytes", c.MemoryBytes)
	check(c.CacheBytes >= 1<<20, "--store-cache must be 1 MiB or more, not %d bytes", c.CacheBytes)
	check(c.MemtableBytes >= 4<<20, "--store-memtable must be 4 MiB or more, not %d bytes", c.MemtableBytes)
	check(c.FlushBytes >= 16<<10, "--flush-bytes must be 16 KiB or more, not %d bytes", c.FlushBytes)
	check(c.FlushEvery >= 10*time.Millisecond && c.FlushEvery <= time.Minute, "--flush-every must be from 10ms to 1m, not %v", c.FlushEvery)
	return errors.Join(errs...)
}
