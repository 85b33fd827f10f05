package projections_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/history"
	"github.com/seenby/seenby/projections/oracle"
)

// The files of testdata/stories tell the rules, one each, by example: what is in
// the log, and what comes of it. The oracle reads along. After a change,
//
//	go test ./projections -run Stories -rewrite
//
// writes down what now comes of it, for a person to judge. The commands:
//
//	fold [retention=72h] [waiting=100] [partition=0] [partitions=1] [skip=(OFFSET,...)]
//	    begins a log.
//	log
//	    folds records, written as package history writes them, and tells their
//	    outcomes.
//	crowd message=ID first=N count=N at=TIME
//	    folds the receipts of so many readers, numbered from first on.
//	show
//	    tells what a pull of each message could show.
//	waiting
//	    tells what waits.
//	checkpoint
//	    tells where the fold is.
//	restart
//	    goes on from what a store keeps.
func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata/stories", func(t *testing.T, path string) {
		s := &story{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			out, err := s.run(t, d)
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			if err := s.ask(); err != nil {
				d.Fatalf(t, "the oracle says otherwise: %v", err)
			}
			return out
		})
	})
}

type story struct {
	h        history.History
	p        *partition
	outcomes []projections.Outcome
}

func (s *story) run(t *testing.T, d *datadriven.TestData) (string, error) {
	switch d.Cmd {
	case "fold":
		return "", s.begin(t, d)
	case "log":
		return s.log(d.Input)
	case "crowd":
		return s.crowd(t, d)
	case "show":
		return s.show(), nil
	case "waiting":
		return s.waiting(), nil
	case "checkpoint":
		c := s.p.fold.Checkpoint()
		return fmt.Sprintf("position %d, leader epoch %d, latest timestamp %s, %d evicted\n",
			c.Position, c.LeaderEpoch, since(c.Timestamp), c.Evicted), nil
	case "restart":
		var err error
		s.p, err = s.p.restart()
		return "", err
	}
	return "", fmt.Errorf("unknown command %s", d.Cmd)
}

func (s *story) begin(t *testing.T, d *datadriven.TestData) error {
	retention, waiting, partition, partitions := "72h", 100, 0, 1
	d.MaybeScanArgs(t, "retention", &retention)
	d.MaybeScanArgs(t, "waiting", &waiting)
	d.MaybeScanArgs(t, "partition", &partition)
	d.MaybeScanArgs(t, "partitions", &partitions)
	keep, err := time.ParseDuration(retention)
	if err != nil {
		return err
	}
	s.h = history.History{Partition: int32(partition), Lineage: projections.Lineage{
		Partitions: int32(partitions), Limits: projections.Limits{Waiting: waiting}, Retention: keep}}
	for _, arg := range d.CmdArgs {
		for i := range arg.Vals {
			if arg.Key == "skip" {
				var offset int64
				arg.Scan(t, i, &offset)
				s.h.Lineage.Skips = append(s.h.Lineage.Skips, projections.Skip{Partition: int32(partition), Offset: offset})
			}
		}
	}
	s.p, s.outcomes = newPartition(s.h, 0), nil
	return nil
}

func (s *story) log(input string) (string, error) {
	var out strings.Builder
	for line := range strings.Lines(input) {
		rec, err := history.Parse(line, s.p.fold.Checkpoint().Position)
		if err != nil {
			return "", err
		}
		outcome, err := s.fold(rec)
		if errors.Is(err, projections.ErrMustStop) {
			fmt.Fprintf(&out, "%d stops the partition\n", rec.Offset)
			break
		}
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&out, "%d %v\n", rec.Offset, outcome)
	}
	return out.String(), nil
}

func (s *story) crowd(t *testing.T, d *datadriven.TestData) (string, error) {
	var message, at string
	var first, count int
	d.ScanArgs(t, "message", &message)
	d.ScanArgs(t, "first", &first)
	d.ScanArgs(t, "count", &count)
	d.ScanArgs(t, "at", &at)
	seen := make(map[projections.Outcome]int)
	for i := range count {
		line := fmt.Sprintf("%s read %s by reader-%d", at, message, first+i)
		rec, err := history.Parse(line, s.p.fold.Checkpoint().Position)
		if err != nil {
			return "", err
		}
		outcome, err := s.fold(rec)
		if err != nil {
			return "", err
		}
		seen[outcome]++
	}
	var out strings.Builder
	for _, o := range projections.Outcomes() {
		if seen[o] > 0 {
			fmt.Fprintf(&out, "%d %v\n", seen[o], o)
		}
	}
	return out.String(), nil
}

func (s *story) fold(rec events.Record) (projections.Outcome, error) {
	some, err := s.p.apply([]events.Record{rec})
	if err != nil {
		return 0, err
	}
	s.h.Records = append(s.h.Records, rec)
	s.outcomes = append(s.outcomes, some[0])
	return some[0], nil
}

// ask compares with the oracle.
func (s *story) ask() error {
	got := s.p.verdict()
	got.Outcomes = s.outcomes
	return asError(differ(got, oracle.Judge(s.h.Lineage, s.h.Partition, 0, s.h.Records)))
}

func (s *story) show() string {
	var ids []string
	for id := range s.p.messages {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	var out strings.Builder
	for _, id := range ids {
		m := s.p.messages[id]
		s.p.settle(m)
		v := viewOf(m)
		if v.Sender == "" {
			v.Sender = "nobody known"
		}
		fmt.Fprintf(&out, "%s in %s by %s, sent at %s, version %d: ", id, v.Conversation, v.Sender, since(v.SentAt), v.Version)
		if v.Recalled {
			out.WriteString("recalled, ")
		}
		fmt.Fprintf(&out, "read by %d of %d", v.ReadCount, v.RecipientCount)
		if v.OptedOutCount > 0 {
			fmt.Fprintf(&out, ", %d opted out", v.OptedOutCount)
		}
		if v.Truncated {
			fmt.Fprintf(&out, ", %d listed", len(v.Readers))
		}
		out.WriteString("\n")
		for i, r := range v.Readers {
			if i == 10 {
				out.WriteString("  ...\n")
				break
			}
			fmt.Fprintf(&out, "  %s at %s, offset %d\n", r.ID, since(r.ReadAt), r.Offset)
		}
	}
	if len(ids) == 0 {
		return "no message\n"
	}
	return out.String()
}

func (s *story) waiting() string {
	var out strings.Builder
	for _, e := range s.p.fold.Waiting().All() {
		what := "a recall"
		if !e.Recall {
			what = "a receipt of " + e.ReaderID
		}
		fmt.Fprintf(&out, "%s waits for %s, offset %d\n", what, e.MessageID, e.Offset)
	}
	if out.Len() == 0 {
		return "nothing\n"
	}
	return out.String()
}

func since(t int64) string { return (time.Duration(t-history.Epoch) * time.Millisecond).String() }
