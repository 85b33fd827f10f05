package bench

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/dustin/go-humanize"
)

// Table prints a report for people.
func (r *Report) Table(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	row("machine", "%s", r.Machine)
	row("kafka", "%s, %d partitions", r.Kafka, r.Partitions)
	switch {
	case r.Rebuild != nil:
		r.Rebuild.rows(row)
	case r.Ingest != nil:
		r.Ingest.rows(row)
	case r.Freshness != nil:
		r.Freshness.rows(row)
	case r.Pull != nil:
		r.Pull.rows(row)
	}
	return t.Flush()
}

func (m Machine) String() string {
	return fmt.Sprintf("%d × %s, %s, %s", m.CPUs, m.CPU, size(m.Memory), m.System)
}

func (w Workload) String() string {
	return fmt.Sprintf("%s: %s messages × %s readers, %s groups, %s messages being read at a time, seed %d", w.Name,
		count(float64(w.Messages)), count(float64(w.Readers)), count(float64(w.Groups)), count(float64(w.Alive)), w.Seed)
}

func (r *RebuildReport) rows(row func(string, string, ...any)) {
	row("workload", "%s", r.Workload)
	row("log", "%s records, %s (%s before compression); written in %.1f s", count(float64(r.Filled.Records)), size(r.Filled.LogBytes), size(r.Filled.Bytes), r.Filled.Seconds)
	if r.MemoryLimit > 0 {
		row("memory limit", "%s, by a cgroup, without swap", size(r.MemoryLimit))
	} else {
		row("memory limit", "NONE was in force: %s", r.NoMemoryLimit)
	}
	row("raw consume", "%s receipts/s (%s)", count(r.Raw.Rate), r.Raw.Settings)
	row("rebuild", "%s receipts/s, in turns with raw consume, median of %d", count(r.Rate), len(r.Built))
	row("ratio", "%.2f of raw consume", r.Ratio)
	row("disk", "%.2f bytes a receipt (blocks allocated, closed, everything in the directory)", r.BytesPerReceipt)
	row("write amplification", "%.2f (write_bytes of the process over the size on disk)", r.WriteAmplification)
	row("memory", "%s RssAnon, %s VmHWM at most; raw consume %s RssAnon", size(r.PeakAnonymous), size(r.PeakResident), size(r.Raw.PeakAnonymous))
	row("GC pauses", "%.3f ms (p99)", 1e3*r.GCPauseP99)
	row("CPU", "%s", r.cpu())
	row("stages", "%s", r.stages())
}

func (r *RebuildReport) cpu() string {
	var user, system, rawUser, rawSystem []float64
	for i := range r.Built {
		user, system = append(user, r.Built[i].Usage.UserSeconds), append(system, r.Built[i].Usage.SystemSeconds)
	}
	for i := range r.Raw.Runs {
		rawUser, rawSystem = append(rawUser, r.Raw.Runs[i].Usage.UserSeconds), append(rawSystem, r.Raw.Runs[i].Usage.SystemSeconds)
	}
	return fmt.Sprintf("%.2f s user, %.2f s system; raw consume %.2f s, %.2f s", median(user), median(system), median(rawUser), median(rawSystem))
}

func (r *RebuildReport) stages() string {
	var words []string
	for _, stage := range slices.Sorted(maps.Keys(r.Stages)) {
		words = append(words, fmt.Sprintf("%s %.2f s", stage, r.Stages[stage]))
	}
	return strings.Join(words, ", ")
}

func (r *IngestReport) rows(row func(string, string, ...any)) {
	row("load generator", "GOMAXPROCS=%d", r.Procs)
	row("batches", "%s receipts/s by HTTP, %d a request, %d connections, median of %d", count(r.Batches.Rate), r.Batch, r.Clients, len(r.Batches.Rates))
	row("raw produce", "%s records/s (%s)", count(r.Produce.Rate), r.Settings)
	row("ratio", "%.2f of raw produce", r.BatchesRatio)
	row("single receipts", "%s requests/s, %d connections", count(r.Single.Rate), r.SingleClients)
	row("bare Echo handler", "%s requests/s", count(r.Echo.Rate))
	row("ratio", "%.2f of a bare Echo handler", r.SingleRatio)
}

func (r *FreshnessReport) rows(row func(string, string, ...any)) {
	row("load", "%s receipts/s in batches of %d, for %d s, one of each batch looked for; GOMAXPROCS=%d", count(float64(r.Rate)), r.Batch, r.Seconds, r.Procs)
	row("202 to pull", "%s, median of %d", r.Pull, len(r.Turns))
	for i, turn := range r.Turns {
		row(fmt.Sprintf("  turn %d", i+1), "%s; %s receipts/s; 202 after %s; told to come again: %d", turn.Pull, count(turn.Rate), turn.Ack, turn.NotFresh)
	}
	row("raw produce to fetch", "%s (%s)", r.Fetch, r.Settings)
	for i, raw := range r.Raw {
		row(fmt.Sprintf("  turn %d", i+1), "%s; %s receipts/s; acknowledgement to fetch %s", raw.Fetch, count(raw.Rate), raw.AckToFetch)
	}
	row("raw ack to fetch", "%s", r.AckToFetch)
	row("ratio", "%.2f of raw produce to fetch (p99)", r.Ratio)
}

func (l Latency) String() string {
	return fmt.Sprintf("p50 %.1f ms, p99 %.1f ms, max %.1f ms", l.P50, l.P99, l.Max)
}

// count writes a number for people.
func count(n float64) string { return humanize.Comma(int64(n + 0.5)) }
