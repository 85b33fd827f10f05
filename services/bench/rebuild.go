package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/seenby/seenby/events/topic"
)

// RebuildConfig says what to rebuild.
type RebuildConfig struct {
	Config
	Workload Workload
	// Rebuild is the command that rebuilds, without what says from where and to
	// where; its other flags are those of its environment.
	Rebuild []string
	// MemoryLimit holds both sides to so many bytes; 0 for none.
	MemoryLimit int64
}

// RebuildReport is what came of it. Rates are of receipts: the messages that they
// are of come on top.
type RebuildReport struct {
	Workload Workload `json:"workload"`
	Receipts int64    `json:"receipts"`
	Filled   Filled   `json:"filled"`
	// MemoryLimit is the one that was in force, or 0 with the reason why there was
	// none.
	MemoryLimit   int64  `json:"memory_limit_bytes"`
	NoMemoryLimit string `json:"no_memory_limit,omitempty"`

	Raw   RawConsume `json:"raw"`
	Built []Rebuilt  `json:"built"`
	// Rate is the median of Built, Ratio how much of Raw's it is.
	Rate  float64 `json:"receipts_per_second"`
	Ratio float64 `json:"ratio"`
	// What follows are medians, but for the peaks, which are the largest.
	BytesPerReceipt    float64            `json:"bytes_per_receipt"`
	WriteAmplification float64            `json:"write_amplification"`
	PeakAnonymous      int64              `json:"peak_rss_anon_bytes"`
	PeakResident       int64              `json:"peak_vm_hwm_bytes"`
	GCPauseP99         float64            `json:"gc_pause_p99_seconds"`
	Stages             map[string]float64 `json:"stages_seconds"`
}

// RawConsume is the other side: franz-go reads the same records.
type RawConsume struct {
	Settings string      `json:"settings"`
	Tried    []Tried     `json:"tried"`
	Runs     []RawReread `json:"runs"`
	Rate     float64     `json:"receipts_per_second"`
	// PeakAnonymous is the largest.
	PeakAnonymous int64 `json:"peak_rss_anon_bytes"`
}

// Tried are settings that were tried for a moment, and the rate that they gave.
type Tried struct {
	Settings string  `json:"settings"`
	Rate     float64 `json:"records_per_second"`
}

// RawReread is one of its turns.
type RawReread struct {
	RawConsumed
	Usage Usage `json:"usage"`
}

// Rebuilt is one turn of seenby's.
type Rebuilt struct {
	rebuildSummary
	Usage Usage `json:"usage"`
	// Allocated and Apparent are what the directory takes after the end: blocks, and
	// lengths of files.
	Allocated int64 `json:"disk_allocated_bytes"`
	Apparent  int64 `json:"disk_apparent_bytes"`
}

// rebuildSummary is what `seenby rebuild --json` prints that is of interest here.
type rebuildSummary struct {
	Events     int64              `json:"events"`
	Outcomes   map[string]int64   `json:"outcomes"`
	Seconds    float64            `json:"seconds"`
	Stages     map[string]float64 `json:"stages"`
	GCPauseP99 float64            `json:"gc_pause_p99_seconds"`
	// PeakResident is the process's own look at its end.
	PeakResident int64 `json:"peak_resident_bytes"`
}

// counted is the outcome of a receipt that is in its reader set.
const counted = "counted"

// probeRecords is how many records settings are tried with.
const probeRecords = 3_000_000

// Rebuild measures a rebuild from the log of a workload, by the command that an
// operator would give, and raw consumption of the same log.
func Rebuild(ctx context.Context, c RebuildConfig) (Report, error) {
	if err := errors.Join(c.Validate(), c.Workload.Validate()); err != nil {
		return Report{}, err
	}
	if len(c.Rebuild) == 0 || c.MemoryLimit < 0 {
		return Report{}, fmt.Errorf("%w: --memory-limit must be 0 or more, and Rebuild be set", ErrConfig)
	}
	report := c.report(ctx, "rebuild")
	report.Rebuild = &RebuildReport{Workload: c.Workload, Receipts: c.Workload.Receipts()}
	err := c.withTopic(ctx, func(at topic.Connection) error { return c.measure(ctx, at, report.Rebuild) })
	return report, err
}

func (c RebuildConfig) measure(ctx context.Context, at topic.Connection, r *RebuildReport) (err error) {
	c.say("writing %d messages and %d receipts", c.Workload.Messages, c.Workload.Receipts())
	if r.Filled, err = fill(ctx, at, c.Partitions, c.Workload, c.clock); err != nil {
		return err
	}
	c.say("written in %.1f s, %s in the log", r.Filled.Seconds, size(r.Filled.LogBytes))
	under, reason := c.limit()
	r.NoMemoryLimit = reason
	if under != nil {
		r.MemoryLimit = under.bytes
		defer func() { err = errors.Join(err, under.close()) }()
	}
	best, tried, err := c.bestConsumer(ctx, at, under)
	if err != nil {
		return err
	}
	r.Raw.Settings, r.Raw.Tried = best.String(), tried
	for turn := range c.Turns {
		raw, err := c.reread(ctx, at, c.Workload.Events(), best, under)
		if err != nil {
			return err
		}
		c.say("turn %d: raw consume in %.2f s", turn+1, raw.Seconds)
		r.Raw.Runs = append(r.Raw.Runs, raw)
		built, err := c.rebuild(ctx, at, under)
		if err != nil {
			return err
		}
		c.say("turn %d: rebuilt in %.2f s", turn+1, built.Seconds)
		r.Built = append(r.Built, built)
	}
	r.conclude()
	return nil
}

// limit makes the memory limit, or says why there is none.
func (c RebuildConfig) limit() (*limit, string) {
	if c.MemoryLimit == 0 {
		return nil, "none was asked for"
	}
	under, err := newLimit(c.MemoryLimit)
	if err != nil {
		c.say("there is no memory limit: %v", err)
		return nil, err.Error()
	}
	return under, ""
}

// bestConsumer tries the settings with a part of the log.
func (c RebuildConfig) bestConsumer(ctx context.Context, at topic.Connection, under *limit) (best ConsumeSettings, tried []Tried, err error) {
	c.say("trying %d settings of raw consume", len(consumeCandidates))
	var fastest float64
	for _, s := range consumeCandidates {
		rate, err := c.probe(ctx, at, s, under)
		if err != nil {
			return best, tried, err
		}
		if rate == 0 {
			c.say("  %s: more than the memory limit", s)
			tried = append(tried, Tried{Settings: s.String() + ": more than the memory limit"})
			continue
		}
		c.say("  %s: %s records/s", s, count(rate))
		tried = append(tried, Tried{Settings: s.String(), Rate: rate})
		if rate > fastest {
			best, fastest = s, rate
		}
	}
	if fastest == 0 {
		return best, tried, fmt.Errorf("%w: no settings of raw consume fit; raise --memory-limit", errKilled)
	}
	return best, tried, nil
}

// probe is the better rate of two, as whatever else the machine does only slows;
// 0 if the settings take too much memory.
func (c RebuildConfig) probe(ctx context.Context, at topic.Connection, s ConsumeSettings, under *limit) (rate float64, err error) {
	for range 2 {
		run, err := c.reread(ctx, at, min(probeRecords, c.Workload.Events()), s, under)
		if errors.Is(err, errKilled) {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		rate = max(rate, float64(run.Records)/run.Seconds)
	}
	return rate, nil
}

func (c RebuildConfig) reread(ctx context.Context, at topic.Connection, records int64, s ConsumeSettings, under *limit) (done RawReread, err error) {
	t := task{Role: roleConsume, Connection: at, Partitions: c.Partitions, Consume: &consumeTask{Records: records, Settings: s}}
	if under != nil {
		t.Consume.MemoryLimit = under.bytes
	}
	done.Usage, err = c.do(ctx, t, under, &done.RawConsumed)
	return done, err
}

// rebuild is one turn, on an empty disk.
func (c RebuildConfig) rebuild(ctx context.Context, at topic.Connection, under *limit) (done Rebuilt, err error) {
	dir, remove, err := c.scratch()
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	data := filepath.Join(dir, "data")
	command := append(append([]string(nil), c.Rebuild...), connectionFlags(at)...)
	command = append(command, "--data="+data, "--nodes=1", "--node=0", "--quiet", "--json")
	if done.Usage, err = c.run(ctx, command, under, &done.rebuildSummary); err != nil {
		return done, err
	}
	done.Usage.PeakResident = max(done.Usage.PeakResident, done.PeakResident)
	if done.Events != c.Workload.Events() || done.Outcomes[counted] != c.Workload.Receipts() {
		return done, fmt.Errorf("%w: it applied %d events of %d, and counted %d receipts of %d (%v)", ErrChild,
			done.Events, c.Workload.Events(), done.Outcomes[counted], c.Workload.Receipts(), done.Outcomes)
	}
	used, err := diskUsage(data)
	done.Allocated, done.Apparent = used.Allocated, used.Apparent
	if err == nil && used.Apparent == 0 {
		err = fmt.Errorf("%w: nothing is in %s", ErrChild, data)
	}
	return done, err
}

// connectionFlags are the flags that reach a topic.
func connectionFlags(c topic.Connection) []string {
	var flags []string
	for _, b := range c.Brokers {
		flags = append(flags, "--brokers="+b)
	}
	flags = append(flags, "--topic="+c.Topic)
	if c.TLS {
		flags = append(flags, "--kafka-tls")
	}
	for name, value := range map[string]string{
		"client-id": c.ClientID, "kafka-ca-file": c.CAFile, "sasl-mechanism": c.SASLMechanism,
		"sasl-user": c.SASLUser, "sasl-password-file": c.SASLPasswordFile,
	} {
		if value != "" {
			flags = append(flags, "--"+name+"="+value)
		}
	}
	return flags
}

// conclude makes one figure of those of the turns.
func (r *RebuildReport) conclude() {
	receipts := float64(r.Receipts)
	// The share of the records that are receipts is the same on both sides.
	share := receipts / float64(r.Filled.Records)
	var raw []float64
	for _, run := range r.Raw.Runs {
		raw = append(raw, float64(run.Records)*share/run.Seconds)
		r.Raw.PeakAnonymous = max(r.Raw.PeakAnonymous, run.Usage.PeakAnonymous)
	}
	of := func(figure func(*Rebuilt) float64) float64 {
		var figures []float64
		for i := range r.Built {
			figures = append(figures, figure(&r.Built[i]))
		}
		return median(figures)
	}
	r.Raw.Rate = median(raw)
	r.Rate = of(func(b *Rebuilt) float64 { return receipts / b.Seconds })
	r.Ratio = r.Rate / r.Raw.Rate
	r.BytesPerReceipt = of(func(b *Rebuilt) float64 { return float64(b.Allocated) / receipts })
	r.WriteAmplification = of(func(b *Rebuilt) float64 { return float64(b.Usage.Written) / float64(max(1, b.Allocated)) })
	r.GCPauseP99 = of(func(b *Rebuilt) float64 { return b.GCPauseP99 })
	r.Stages = make(map[string]float64)
	for i := range r.Built {
		r.PeakAnonymous = max(r.PeakAnonymous, r.Built[i].Usage.PeakAnonymous)
		r.PeakResident = max(r.PeakResident, r.Built[i].Usage.PeakResident)
		for stage := range r.Built[i].Stages {
			r.Stages[stage] = of(func(b *Rebuilt) float64 { return b.Stages[stage] })
		}
	}
}

// executable is this program.
func executable() (string, error) {
	name, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("finding this program, to run it again: %w", err)
	}
	return name, nil
}

// Self returns the command that runs a subcommand of this program.
func Self(subcommand ...string) ([]string, error) {
	name, err := executable()
	return append([]string{name}, subcommand...), err
}
