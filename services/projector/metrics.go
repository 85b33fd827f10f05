package projector

import (
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/materialize"
	"github.com/seenby/seenby/services/projector/protocol"
)

// metrics is what a projector says of itself beside what every HTTP server does.
// What can be read from the state is read when it is asked for.
type metrics struct {
	pulls *prometheus.CounterVec
	flush prometheus.Histogram
	state *stateCollector
}

func newMetrics(s *Service) *metrics {
	return &metrics{
		pulls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "seenby_projector_pulls_total",
			Help: "Pulls by what came of them: full, delta, restricted (by at or at_version), not_modified, unread (a list of who has not read), or the code of a problem. Each message of a batch is one.",
		}, []string{"result"}),
		flush: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "seenby_projector_flush_seconds",
			Help:    "Seconds that a flush of a partition took to be durable.",
			Buckets: prometheus.ExponentialBuckets(.001, 2, 14),
		}),
		state: &stateCollector{service: s},
	}
}

func (m *metrics) register(r prometheus.Registerer) error {
	return errors.Join(r.Register(m.pulls), r.Register(m.flush), r.Register(m.state))
}

func (m *metrics) pulled(result string)         { m.pulls.WithLabelValues(result).Inc() }
func (m *metrics) committed(took time.Duration) { m.flush.Observe(took.Seconds()) }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("seenby_projector_"+name, help, labels, nil)
}

// A topic's partitions are few and fixed, so that they may be labels.
var (
	descPosition = desc("position", "The next offset to apply.", "partition")
	descSaved    = desc("saved_position", "The position that is on disk. Absent before the first flush.", "partition")
	descEnd      = desc("end", "The last known end of the log: its last stable offset.", "partition")
	descLag      = desc("lag_seconds", "Seconds since everything was applied, as far as is known. Absent until it was once since the start.", "partition")
	descState    = desc("partition_state", "1 for the state that the partition is in: starting, ready, behind or stopped.", "partition", "state")

	descRecords        = desc("records_total", "Applied records by what they came to.", "outcome")
	descUndecodable    = desc("undecodable", "Undecodable and misplaced records since the log's start. The latest can be inspected.")
	descWaiting        = desc("waiting", "Receipts and recalls that wait for their message.")
	descWaitingEvicted = desc("waiting_evicted", "Waiting receipts and recalls that had to give way since the log's start. Unless it is 0, a copy with another start may differ.")
	descMessages       = desc("messages_hot", "Messages in memory.")
	descDirty          = desc("messages_dirty", "Messages in memory that changed since the last flush of their partition.")
	descMemory         = desc("memory_bytes", "Bytes that the messages in memory take, about.")
	descMemoryLimit    = desc("memory_limit_bytes", "Bytes that they may take.")
	descLoads          = desc("loads_total", "Messages that pulls loaded from the store.")
	descEvicted        = desc("evicted_total", "Messages that gave way in memory.")
	descPruned         = desc("pruned_total", "Messages that were removed after they expired.")
	descFlushes        = desc("flushes_total", "Flushes.")
	descErasures       = desc("erasures_pending", "Erased people, of all partitions, whose names may still be in the store's files; nobody is shown them.")
	descRemaining      = desc("records_remaining", "Records of the log that are not applied yet.")
	descRate           = desc("records_per_second", "Records applied a second, over the last seconds.")
	descStore          = desc("store_bytes", "Bytes that the store takes on disk.")
	descCommitFailures = desc("position_commit_failures_total", "Times that positions could not be committed to the consumer group that lag tools look at.")
)

// stateCollector reads the node's state. Before the state is restored it has
// nothing to tell.
type stateCollector struct{ service *Service }

func (c *stateCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descPosition, descSaved, descEnd, descLag, descState, descRecords, descUndecodable, descWaiting,
		descWaitingEvicted, descMessages, descDirty, descMemory, descMemoryLimit, descLoads, descEvicted, descPruned, descFlushes,
		descErasures, descRemaining, descRate, descStore, descCommitFailures} {
		ch <- d
	}
}

func (c *stateCollector) Collect(ch chan<- prometheus.Metric) {
	n := c.service.node.Load()
	if n == nil || n.readers.enter() != nil {
		return
	}
	defer n.readers.leave()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	var sum materialize.Stats
	sum.Outcomes = make([]int64, len(projections.Outcomes()))
	for _, o := range n.owned {
		collectPartition(o.status(), gauge)
		addStats(&sum, o.state.Stats())
	}
	for _, outcome := range projections.Outcomes() {
		counter(descRecords, sum.Outcomes[outcome], outcome.String())
	}
	gauge(descUndecodable, float64(sum.Undecodable))
	gauge(descWaiting, float64(sum.Waiting))
	gauge(descWaitingEvicted, float64(sum.WaitingEvicted))
	gauge(descMessages, float64(sum.Messages))
	gauge(descDirty, float64(sum.Dirty))
	gauge(descMemory, float64(n.memory.Used()))
	gauge(descMemoryLimit, float64(n.memory.Limit()))
	counter(descLoads, sum.Loads)
	counter(descEvicted, sum.Evicted)
	counter(descPruned, sum.Pruned)
	counter(descFlushes, sum.Flushes)
	gauge(descErasures, float64(sum.Erasures))
	progress := n.progress(nil)
	gauge(descRemaining, float64(progress.Remaining))
	gauge(descRate, progress.PerSecond)
	if bytes, err := diskUsage(n.config.DataDir); err == nil {
		gauge(descStore, float64(bytes))
	} else {
		ch <- prometheus.NewInvalidMetric(descStore, err)
	}
	counter(descCommitFailures, int64(n.publisher.failed.Load()))
}

func collectPartition(p protocol.PartitionStatus, gauge func(*prometheus.Desc, float64, ...string)) {
	label := strconv.Itoa(int(p.Partition))
	gauge(descPosition, float64(p.Position), label)
	if p.Saved >= 0 {
		gauge(descSaved, float64(p.Saved), label)
	}
	if p.End >= 0 {
		gauge(descEnd, float64(p.End), label)
	}
	if p.LagMS >= 0 {
		gauge(descLag, float64(p.LagMS)/1000, label)
	}
	for _, state := range []protocol.State{protocol.Starting, protocol.Ready, protocol.Behind, protocol.Stopped} {
		in := 0.0
		if p.State == state {
			in = 1
		}
		gauge(descState, in, label, string(state))
	}
}

func addStats(sum *materialize.Stats, s materialize.Stats) {
	for i, n := range s.Outcomes {
		sum.Outcomes[i] += n
	}
	sum.Undecodable += s.Undecodable
	sum.Waiting += s.Waiting
	sum.WaitingEvicted += s.WaitingEvicted
	sum.Messages += s.Messages
	sum.Dirty += s.Dirty
	sum.Loads += s.Loads
	sum.Evicted += s.Evicted
	sum.Pruned += s.Pruned
	sum.Flushes += s.Flushes
	sum.Erasures += s.Erasures
}
