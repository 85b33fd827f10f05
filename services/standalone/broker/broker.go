// Package broker runs a Kafka broker inside this process: franz-go's kfake, on a
// data directory with synced writes. It is for standalone, which is for trying,
// developing and small tests.
//
// Nobody but this process can reach it: it listens on no port, and [Broker.Options]
// make a client talk to it through memory. Its directory is the operator's to
// protect.
//
// Where it differs from Kafka: a record's timestamp is the one its producer gave
// (LogAppendTime is accepted and ignored); writes are synced one batch at a time,
// so it is slow where disks are; a killed broker forgets how far records were
// deleted, as the log then starts with the first batch on disk; and a partition
// that was emptied forgets its offsets, which is why [Broker.Retain] never empties one.
package broker

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Config says where a broker keeps its log.
type Config struct {
	// Dir is the log's directory. It is made, for its owner alone, if missing. It
	// must be one broker's at a time; the caller sees to that.
	Dir string
	// Logger gets what the broker has to say about its disk. The default is none.
	Logger *slog.Logger
}

// segmentBytes is the size from which a file of the log is followed by a new one.
// Retention frees whole files, and 64 partitions of them should not take the disk
// of whoever just tries.
const segmentBytes = "8388608"

// Broker is a running broker. Its methods may be called concurrently.
type Broker struct {
	cluster *kfake.Cluster
	network *network
	close   sync.Once
}

// Start loads the log, which takes time in proportion to it after a crash, and
// starts serving it.
func Start(cfg Config) (*Broker, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("the embedded log: %w", err)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	n := newNetwork()
	cluster, err := kfake.NewCluster(
		kfake.NumBrokers(1),
		kfake.ClusterID("seenby-standalone"),
		kfake.DataDir(cfg.Dir),
		kfake.SyncWrites(),
		kfake.BrokerConfigs(map[string]string{"log.segment.bytes": segmentBytes}),
		kfake.ListenFn(func(string, string) (net.Listener, error) { return n, nil }),
		kfake.WithLogger(logger{cfg.Logger}),
	)
	if err != nil {
		return nil, fmt.Errorf("the embedded log in %s: %w", cfg.Dir, err)
	}
	return &Broker{cluster: cluster, network: n}, nil
}

// Addresses are the brokers to give to a client that has [Broker.Options].
func (b *Broker) Addresses() []string { return []string{Address} }

// Options make a kgo client reach this broker.
func (b *Broker) Options() []kgo.Opt { return []kgo.Opt{kgo.Dialer(b.network.dial)} }

// Close ends all connections, and writes what makes the next start fast.
// Acknowledged records do not depend on it.
func (b *Broker) Close() {
	b.close.Do(func() {
		b.cluster.Close()
		b.network.closeAll()
	})
}

// logger passes on what kfake warns of: what is wrong with its files.
type logger struct{ log *slog.Logger }

// Logf is kfake's.
func (l logger) Logf(level kfake.LogLevel, format string, args ...any) {
	switch level {
	case kfake.LogLevelError, kfake.LogLevelWarn:
		l.log.Warn("the embedded broker reports", slog.String("report", fmt.Sprintf(format, args...)))
	}
}
