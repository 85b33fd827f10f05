package bench

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The page's files.
const (
	pageFile   = "README.md"
	rateFile   = "rate.svg"
	diskFile   = "disk.svg"
	memoryFile = "memory.svg"
)

// WritePage writes the page of results, with its plots, to a directory, which is
// made if it is missing.
func WritePage(dir string, reports []Report) error {
	if len(reports) == 0 {
		return errors.New("the page of results: there are none")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("the page of results: %w", err)
	}
	for name, content := range page(reports) {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return fmt.Errorf("the page of results: %w", err)
		}
	}
	return nil
}

// page returns the page's files.
func page(reports []Report) map[string][]byte {
	var rebuilds, ingests, freshness, pulled []Report
	for _, r := range reports {
		switch {
		case r.Rebuild != nil:
			rebuilds = append(rebuilds, r)
		case r.Ingest != nil:
			ingests = append(ingests, r)
		case r.Freshness != nil:
			freshness = append(freshness, r)
		case r.Pull != nil:
			pulled = append(pulled, r)
		}
	}
	slices.SortStableFunc(rebuilds, func(a, b Report) int {
		return cmp.Or(strings.Compare(a.Rebuild.Workload.Name, b.Rebuild.Workload.Name), cmp.Compare(a.Rebuild.Receipts, b.Rebuild.Receipts))
	})
	files := make(map[string][]byte)
	var b strings.Builder
	b.WriteString("# Measured\n\n" +
		"Made by `seenby bench page` of what `seenby bench` measured; not edited by hand. Each figure stands beside what franz-go\n" +
		"alone did in the same run with the same records, in turns; both are medians of the turns. Both sides ran on the machine that\n" +
		"the brokers ran on, if it was reached by loopback.\n")
	if len(rebuilds) > 0 {
		rebuildSection(&b, rebuilds)
		files[rateFile], files[diskFile], files[memoryFile] = ratePlot(rebuilds).svg(), diskPlot(rebuilds).svg(), memoryPlot(rebuilds).svg()
	}
	if len(ingests) > 0 {
		ingestSection(&b, ingests)
	}
	if len(freshness) > 0 {
		freshnessSection(&b, freshness)
	}
	if len(pulled) > 0 {
		pullSection(&b, pulled)
	}
	provenance(&b, slices.Concat(rebuilds, ingests, freshness, pulled))
	files[pageFile] = []byte(strings.ReplaceAll(b.String(), "\n\n\n", "\n\n"))
	return files
}

// table writes a table in Markdown.
func table(b *strings.Builder, rows ...[]string) {
	b.WriteString("\n")
	for i, row := range rows {
		fmt.Fprintf(b, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			fmt.Fprintf(b, "| %s |\n", strings.Join(slices.Repeat([]string{"---"}, len(row)), " | "))
		}
	}
	b.WriteString("\n")
}

func rebuildSection(b *strings.Builder, reports []Report) {
	b.WriteString("\n## Rebuild\n\n" +
		"`seenby rebuild` of a whole topic onto an empty disk, until everything is durable and closed, against a consumer that does\n" +
		"nothing with what it reads. `large` is one group of 2,000 readers, `small` many of 8, `trickle` 200 of 200 whose messages are\n" +
		"all being read at once, in random order.\n")
	fmt.Fprintf(b, "\n![Rate over topic size](%s)\n\n![Bytes a receipt over group size](%s)\n\n![Memory over topic size](%s)\n", rateFile, diskFile, memoryFile)
	rows := [][]string{{"workload", "receipts", "readers", "raw consume, receipts/s", "rebuild, receipts/s", "ratio", "bytes a receipt on disk", "in the log",
		"RssAnon, peak", "VmHWM", "memory limit", "GC pause p99", "write amplification", "CPU"}}
	stages := [][]string{{"workload", "receipts", "time in each stage", "raw consume's settings"}}
	for i := range reports {
		r := reports[i].Rebuild
		under := "none: " + r.NoMemoryLimit
		if r.MemoryLimit > 0 {
			under = size(r.MemoryLimit)
		}
		rows = append(rows, []string{r.Workload.Name, count(float64(r.Receipts)), count(float64(r.Workload.Readers)), count(r.Raw.Rate), count(r.Rate),
			fmt.Sprintf("%.2f", r.Ratio), fmt.Sprintf("%.2f", r.BytesPerReceipt), fmt.Sprintf("%.1f", r.logBytesPerReceipt()), size(r.PeakAnonymous), size(r.PeakResident),
			under, fmt.Sprintf("%.2f ms", 1e3*r.GCPauseP99), fmt.Sprintf("%.2f", r.WriteAmplification), r.cpu()})
		stages = append(stages, []string{r.Workload.Name, count(float64(r.Receipts)), r.stages(), r.Raw.Settings})
	}
	table(b, rows...)
	b.WriteString("Bytes on disk are the blocks of all files in the directory, closed, for each receipt. The memory limit is a cgroup's, without\n" +
		"swap, and was on both sides; page cache counts. Write amplification is what the process had the kernel write to block devices\n" +
		"(`write_bytes` of /proc/PID/io, whole pages, those of mapped files too) over the size on disk. Stages of partitions add up, but\n" +
		"for open and close.\n")
	table(b, stages...)
}

func (r *RebuildReport) logBytesPerReceipt() float64 {
	return float64(r.Filled.LogBytes) / float64(max(1, r.Receipts))
}

func ingestSection(b *strings.Builder, reports []Report) {
	b.WriteString("\n## Ingest\n\n" +
		"Receipts by HTTP, with tokens, acknowledged by Kafka, against franz-go producing the same records (all in-sync replicas); and\n" +
		"single receipts against an Echo handler that binds and answers the same JSON and does nothing else.\n")
	rows := [][]string{{"", "seenby", "baseline", "ratio", "load"}}
	for i := range reports {
		r := reports[i].Ingest
		rows = append(rows,
			[]string{fmt.Sprintf("batches of %d, receipts/s", r.Batch), count(r.Batches.Rate), fmt.Sprintf("%s: raw produce, %s", count(r.Produce.Rate), r.Settings),
				fmt.Sprintf("%.2f", r.BatchesRatio), fmt.Sprintf("%d connections, GOMAXPROCS=%d", r.Clients, r.Procs)},
			[]string{"single receipts, requests/s", count(r.Single.Rate), count(r.Echo.Rate) + ": bare Echo handler",
				fmt.Sprintf("%.2f", r.SingleRatio), fmt.Sprintf("%d connections, GOMAXPROCS=%d", r.SingleClients, r.Procs)})
	}
	table(b, rows...)
}

func freshnessSection(b *strings.Builder, reports []Report) {
	b.WriteString("\n## Freshness\n\n" +
		"From the 202 of a receipt to the answer of a pull, with its position, that shows it, against franz-go from producing a record to\n" +
		"fetching it, and from its acknowledgement, at the same rate.\n")
	rows := [][]string{{"load", "", "p50", "p99", "max", "samples a turn"}}
	for i := range reports {
		r := reports[i].Freshness
		load := fmt.Sprintf("%s receipts/s in batches of %d, %d s", count(float64(r.Rate)), r.Batch, r.Seconds)
		for _, side := range []struct {
			name string
			l    Latency
		}{{"202 to pull", r.Pull}, {"raw produce to fetch, " + r.Settings, r.Fetch}, {"raw acknowledgement to fetch", r.AckToFetch}} {
			rows = append(rows, []string{load, side.name, fmt.Sprintf("%.1f ms", side.l.P50), fmt.Sprintf("%.1f ms", side.l.P99),
				fmt.Sprintf("%.1f ms", side.l.Max), count(float64(side.l.Samples))})
		}
		rows = append(rows, []string{load, "202 to pull / raw produce to fetch", "", fmt.Sprintf("%.2f", r.Ratio), "", ""})
	}
	table(b, rows...)
}

func pullSection(b *strings.Builder, reports []Report) {
	b.WriteString("\n## Pulls\n\n" +
		"Projector and query in one process on one core, with tokens, against an Echo handler without middleware that answers a constant:\n" +
		"JSON of the small pull's size, or a 304. Delays are those of both at half of the rate that the slower one has.\n")
	rows := [][]string{{"", "bytes", "seenby, requests/s", "bare Echo, requests/s", "ratio", "p99", "bare Echo's p99", "ratio"}}
	for i := range reports {
		for _, k := range reports[i].Pull.Cases {
			cells := []string{k.Name, count(float64(k.Bytes)), count(k.Pull.Rate), count(k.Echo.Rate) + ": " + k.Baseline, fmt.Sprintf("%.3f", k.Ratio), "", "", ""}
			if k.P99Ratio > 0 {
				cells[5], cells[6], cells[7] = fmt.Sprintf("%.2f ms", k.PullP99.Rate), fmt.Sprintf("%.2f ms", k.EchoP99.Rate), fmt.Sprintf("%.2f", k.P99Ratio)
			}
			rows = append(rows, cells)
		}
	}
	table(b, rows...)
}

// provenance says what was run, when, on what.
func provenance(b *strings.Builder, reports []Report) {
	b.WriteString("\n## On what\n")
	rows := [][]string{{"when", "command", "turns", "Kafka", "seenby", "machine"}}
	for i := range reports {
		r := &reports[i]
		rows = append(rows, []string{r.At.Format("2006-01-02 15:04 MST"), "`" + r.Command + "`", fmt.Sprint(r.Turns),
			fmt.Sprintf("%s, %d partitions", r.Kafka, r.Partitions), r.Version, r.Machine.String()})
	}
	table(b, rows...)
}

// byWorkload makes two lines of each workload: seenby's, and what it is compared
// with. Runs of groups of another size than the workload's are of another one.
func byWorkload(reports []Report, own, other string, of func(*RebuildReport) (own, other point)) (lines []line) {
	for i := range reports {
		r := reports[i].Rebuild
		if usual, err := Named(r.Workload.Name); err == nil && usual.Readers != r.Workload.Readers {
			continue
		}
		if n := len(lines); n == 0 || lines[n-2].name != r.Workload.Name+own {
			lines = append(lines, line{name: r.Workload.Name + own}, line{name: r.Workload.Name + other, dashed: true})
		}
		a, b := of(r)
		n := len(lines)
		lines[n-2].points, lines[n-1].points = append(lines[n-2].points, a), append(lines[n-1].points, b)
	}
	return lines
}

func ratePlot(reports []Report) plot {
	return plot{title: "Rate over topic size", x: "receipts in the topic", y: "receipts a second", logX: true,
		lines: byWorkload(reports, ", rebuild", ", raw consume", func(r *RebuildReport) (point, point) {
			return point{float64(r.Receipts), r.Rate}, point{float64(r.Receipts), r.Raw.Rate}
		})}
}

func memoryPlot(reports []Report) plot {
	return plot{title: "Memory over topic size", x: "receipts in the topic", y: "peak RssAnon, MiB", logX: true,
		lines: byWorkload(reports, ", rebuild", ", raw consume", func(r *RebuildReport) (point, point) {
			return point{float64(r.Receipts), float64(r.PeakAnonymous) / (1 << 20)}, point{float64(r.Receipts), float64(r.Raw.PeakAnonymous) / (1 << 20)}
		})}
}

// diskPlot has one line over all workloads, of the largest topic of each group
// size: small ones tell of what a store takes at least.
func diskPlot(reports []Report) plot {
	largest := make(map[int]*RebuildReport)
	for i := range reports {
		r := reports[i].Rebuild
		if l := largest[r.Workload.Readers]; l == nil || r.Receipts > l.Receipts {
			largest[r.Workload.Readers] = r
		}
	}
	store, log := line{name: "on disk, closed"}, line{name: "in the log, compressed", dashed: true}
	for _, r := range largest {
		store.points = append(store.points, point{float64(r.Workload.Readers), r.BytesPerReceipt})
		log.points = append(log.points, point{float64(r.Workload.Readers), r.logBytesPerReceipt()})
	}
	for _, l := range []line{store, log} {
		slices.SortFunc(l.points, func(a, b point) int { return cmp.Compare(a.x, b.x) })
	}
	return plot{title: "Bytes a receipt over group size", x: "readers of a message", y: "bytes", logX: true, lines: []line{store, log}}
}
