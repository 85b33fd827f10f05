package bench

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Made anew by:
//
//	go test ./services/bench -run 'Page|Table' -rewrite
var rewrite = flag.Bool("rewrite", false, "write the files that the tests compare with")

// golden compares with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what it should be; -rewrite makes it anew, if it is right:\n%s", file, got)
	}
}

// rebuildOf is a report of a rebuild, twice as fast as raw at worst.
func rebuildOf(name string, messages, readers int, rate float64) Report {
	w := Workload{Name: name, Messages: messages, Groups: 3, Readers: readers, Alive: min(messages, 50), Seed: 1}
	r := &RebuildReport{Workload: w, Receipts: w.Receipts(), MemoryLimit: 512 << 20,
		Filled: Filled{Settings: fillSettings.String(), Records: w.Events(), Seconds: 9, Bytes: 100 * w.Events(), LogBytes: 45 * w.Events()}}
	r.Raw.Settings = consumeCandidates[3].String()
	for turn := range 3 {
		seconds := float64(w.Receipts()) / rate * (1 + float64(turn)/10)
		r.Raw.Runs = append(r.Raw.Runs, RawReread{RawConsumed{w.Events(), seconds / 2}, Usage{UserSeconds: seconds / 3, PeakAnonymous: 90 << 20}})
		r.Built = append(r.Built, Rebuilt{
			rebuildSummary: rebuildSummary{Events: w.Events(), Seconds: seconds, GCPauseP99: 0.0004, Stages: map[string]float64{"open": 0.1, "apply": seconds / 2, "commit": seconds / 4}},
			Usage:          Usage{UserSeconds: seconds, SystemSeconds: seconds / 10, PeakAnonymous: int64(100+turn) << 20, PeakResident: 150 << 20, Written: 12 * w.Receipts()},
			Allocated:      6 * w.Receipts(), Apparent: 5 * w.Receipts(),
		})
	}
	r.conclude()
	return stamped("rebuild", Report{Rebuild: r})
}

func stamped(bench string, r Report) Report {
	r.Bench, r.At = bench, time.Date(2026, 11, 25, 4, 0, 0, 0, time.UTC)
	r.Command, r.Version, r.Kafka = "seenby bench "+bench+" --brokers 127.0.0.1:9092", "seenby v1.0.0 go1.26", "v4.1"
	r.Machine = Machine{CPU: "Some <fast> CPU", CPUs: 2, Memory: 24 << 30, System: "Linux 6.18 linux/amd64"}
	r.Partitions, r.Turns = 64, 3
	return r
}

func someReports() []Report {
	return []Report{
		rebuildOf("small", 600_000, 8, 900_000), rebuildOf("large", 25_000, 2_000, 2_400_000), rebuildOf("large", 2_500, 2_000, 2_500_000),
		stamped("ingest", Report{Ingest: &IngestReport{
			Receipts: 2_000_000, Batch: 100, Clients: 64, Singles: 200_000, SingleClients: 512, Procs: 1,
			Batches: Measured{Rate: 181_671, Rates: []float64{1, 181_671, 200_000}}, Produce: Measured{Rate: 399_326}, Settings: produceCandidates[0].String(),
			BatchesRatio: 0.455, Single: Measured{Rate: 11_551}, Echo: Measured{Rate: 22_126}, SingleRatio: 0.522,
		}}),
		stamped("freshness", Report{Freshness: &FreshnessReport{
			Rate: 20_000, Batch: 100, Seconds: 20, Clients: 64, Procs: 1, Settings: delayCandidates[2].String(),
			Turns: []FreshnessTurn{{Pull: Latency{4_000, 5.4, 30, 80}, Ack: Latency{4_000, 7, 20, 30}, Rate: 19_998, NotFresh: 2}},
			Raw:   []RawDelay{{Fetch: Latency{4_000, 3.5, 20, 60}, AckToFetch: Latency{4_000, 1, 2, 3}, Rate: 20_001}},
			Pull:  Latency{4_000, 5.4, 30, 80}, Fetch: Latency{4_000, 3.5, 20, 60}, AckToFetch: Latency{4_000, 1, 2, 3}, Ratio: 1.5,
		}}),
		stamped("pull", Report{Pull: &PullReport{Messages: 10_000, Lists: 600, Senders: 1000, Clients: 32, Procs: 1, Cases: []PullCase{
			{Name: caseSmall, Bytes: 301, Baseline: caseSmall, Pull: Measured{Rate: 31_838}, Echo: Measured{Rate: 62_391}, Ratio: 0.51, PullP99: Measured{Rate: 6.94}, EchoP99: Measured{Rate: 2.09}, P99Ratio: 3.32},
			{Name: caseBatch, Bytes: 800, Baseline: caseSmall, Pull: Measured{Rate: 7_617}, Echo: Measured{Rate: 66_450}, Ratio: 0.115},
		}}}),
	}
}

func TestPage(t *testing.T) {
	dir := t.TempDir()
	if err := WritePage(filepath.Join(dir, "new"), someReports()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{pageFile, rateFile, diskFile, memoryFile} {
		text, err := os.ReadFile(filepath.Join(dir, "new", name))
		if err != nil {
			t.Fatal(err)
		}
		golden(t, filepath.Join("page", name), text)
		if filepath.Ext(name) != ".svg" {
			continue
		}
		for d := xml.NewDecoder(bytes.NewReader(text)); ; {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
	if err := WritePage(dir, nil); err == nil {
		t.Error("a page of nothing")
	}
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	reports := someReports()
	for i := range reports {
		if err := reports[i].Table(&out); err != nil {
			t.Fatal(err)
		}
		out.WriteString("\n")
	}
	golden(t, "tables.txt", out.Bytes())
}

func TestShort(t *testing.T) {
	for n, want := range map[float64]string{0: "0", 0.25: "0.25", 7: "7", 999: "999", 1_000: "1k", 2_500_000: "2.5M", 1e9: "1G"} {
		if got := short(n); got != want {
			t.Errorf("%v: %s", n, got)
		}
	}
}

// TestTicks has a few round numbers on each axis, whatever its top is.
func TestTicks(t *testing.T) {
	for top := 0.07; top < 1e9; top *= 1.7 {
		if ticks := linearTicks(top); len(ticks) < 4 || len(ticks) > 12 || ticks[len(ticks)-1] > top {
			t.Errorf("up to %v: %v", top, ticks)
		}
	}
}
