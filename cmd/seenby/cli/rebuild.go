package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime/metrics"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/services/projector"
	"github.com/seenby/seenby/services/projector/protocol"
)

// rebuildCommand makes a node's state from the log.
type rebuildCommand struct {
	Quiet bool `help:"Print no progress."`
	JSON  bool `help:"Print the summary as JSON." name:"json"`

	nodeFlags `embed:""`
}

// rebuilt is the summary.
type rebuilt struct {
	projector.Rebuilt
	// GCPauseP99 is in seconds; PeakAnonymous and PeakResident in bytes, 0 where the
	// system does not tell.
	GCPauseP99    float64 `json:"gc_pause_p99_seconds"`
	PeakResident  int64   `json:"peak_resident_bytes"`
	AnonymousLast int64   `json:"anonymous_bytes"`
}

// Run rebuilds until it is done or ctx ends.
func (c *rebuildCommand) Run(ctx context.Context, io IO, log logFlags) error {
	config, err := c.config(newProcess("rebuild", io, log))
	if err != nil {
		return err
	}
	c.bound(config)
	report := func(protocol.Progress) {}
	if !c.Quiet {
		report = (&progressLine{to: io.Stderr, terminal: io.ErrTerminal, now: io.Now}).show
	}
	done, err := projector.Rebuild(ctx, config, report)
	if errors.Is(err, projector.ErrConfig) {
		return usage(err)
	}
	if err != nil {
		return err
	}
	summary := rebuilt{Rebuilt: done, GCPauseP99: pauseP99()}
	summary.AnonymousLast, summary.PeakResident = memoryOf()
	if c.JSON {
		if err := json.MarshalWrite(io.Stdout, summary, jsontext.Multiline(true), json.Deterministic(true)); err != nil {
			return err
		}
		_, err := fmt.Fprintln(io.Stdout)
		return err
	}
	return summary.print(io.Stdout)
}

func (r *rebuilt) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "topic\t%s (%s), lineage %s\n", r.Topic, r.TopicID, r.Lineage)
	fmt.Fprintf(t, "partitions\t%d\n", r.Partitions)
	fmt.Fprintf(t, "events\t%s in %.1f s, %s a second\n", humanize.Comma(r.Events), r.Seconds, humanize.Comma(int64(r.PerSecond)))
	for _, o := range projections.Outcomes() {
		if n := r.Outcomes[o.String()]; n > 0 {
			fmt.Fprintf(t, "  %s\t%s\n", o, humanize.Comma(n))
		}
	}
	for _, stage := range []string{"open", "wait", "apply", "commit", "close"} {
		fmt.Fprintf(t, "  %s\t%.2f s\n", stage, r.Stages[stage])
	}
	fmt.Fprintf(t, "store\t%s\n", humanize.IBytes(uint64(r.StoreBytes)))
	if r.PeakResident > 0 {
		fmt.Fprintf(t, "memory\t%s resident at most\n", humanize.IBytes(uint64(r.PeakResident)))
	}
	return t.Flush()
}

// progressLine shows how far a rebuild is: on a terminal in one line, else a line
// every ten seconds.
type progressLine struct {
	to       io.Writer
	terminal bool
	now      func() time.Time
	shown    time.Time
}

func (l *progressLine) show(p protocol.Progress) {
	every := 10 * time.Second
	if l.terminal {
		every = 200 * time.Millisecond
	}
	now := l.now()
	if p.Remaining > 0 && now.Sub(l.shown) < every {
		return
	}
	l.shown = now
	left := "?"
	if p.PerSecond > 0 {
		left = time.Duration(math.Ceil(p.SecondsLeft) * float64(time.Second)).String()
	}
	line := fmt.Sprintf("%s of %s events, %s a second, %s left", humanize.Comma(p.Applied), humanize.Comma(p.Applied+p.Remaining),
		humanize.Comma(int64(p.PerSecond)), left)
	switch {
	case !l.terminal:
		fmt.Fprintln(l.to, line)
	case p.Remaining > 0:
		fmt.Fprintf(l.to, "\r\x1b[K%s", line)
	default:
		fmt.Fprintf(l.to, "\r\x1b[K%s\n", line)
	}
}

// pauseP99 is the 99th percentile of the garbage collector's pauses, in seconds,
// as the upper end of its bucket.
func pauseP99() float64 {
	sample := []metrics.Sample{{Name: "/sched/pauses/total/gc:seconds"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindFloat64Histogram {
		return 0
	}
	h := sample[0].Value.Float64Histogram()
	var total, seen uint64
	for _, n := range h.Counts {
		total += n
	}
	for i, n := range h.Counts {
		if seen += n; n > 0 && float64(seen) >= 0.99*float64(total) {
			if upper := h.Buckets[i+1]; !math.IsInf(upper, 1) {
				return upper
			}
			return h.Buckets[i]
		}
	}
	return 0
}

// memoryOf returns the anonymous memory of the process now, and its resident
// memory at its peak, as Linux tells them.
func memoryOf() (anonymous, peak int64) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(line, ":")
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			continue
		}
		switch name {
		case "RssAnon":
			anonymous = kib << 10
		case "VmHWM":
			peak = kib << 10
		}
	}
	return anonymous, peak
}
