// Package audit holds stores, and running copies, to what they must be, and to each
// other: it opens or asks both sides, has package verify compare them, and reports
// what was found.
package audit

import (
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/seenby/seenby/projections/verify"
)

// Options are how to go about it.
type Options struct {
	// Show is how many findings, and differing messages, of a partition are told.
	Show int
	Now  func() time.Time
	// Logger gets what stores have to say.
	Logger *slog.Logger
	// Progress is told now and then what is done, and how many messages were read for
	// it.
	Progress func(what string, messages int64)
}

// Report is what was found.
type Report struct {
	// Sides are what was compared, one or two.
	Sides []string `json:"sides"`
	// Damaged are files that are not what was written.
	Damaged    []Damaged   `json:"damaged"`
	Partitions []Partition `json:"partitions"`
	// Notes say what was not compared, or not promised.
	Notes []string `json:"notes"`
	// Sound says that nothing was found.
	Sound bool `json:"sound"`
}

// Damaged is a damaged file of one side.
type Damaged struct {
	Side string `json:"side"`
	verify.Damage
}

// Partition is what was found of one partition.
type Partition struct {
	Partition int32 `json:"partition"`
	// Checked is each side held to itself.
	Checked  []verify.Checked `json:"checked"`
	Compared *verify.Compared `json:"compared,omitempty"`
}

func (p *Partition) sound() bool {
	for _, c := range p.Checked {
		if c.Total > 0 {
			return false
		}
	}
	return p.Compared == nil || p.Compared.Total == 0
}

func (r *Report) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// conclude fills in Sound, and the notes that follow from the partitions.
func (r *Report) conclude() {
	r.Sound = len(r.Damaged) == 0
	var evicted, behind []string
	for i := range r.Partitions {
		p := &r.Partitions[i]
		r.Sound = r.Sound && p.sound()
		if p.Compared == nil {
			continue
		}
		if !p.Compared.Promised {
			evicted = append(evicted, strconv.Itoa(int(p.Partition)))
		}
		if at := p.Compared.Positions; at[0] != at[1] {
			behind = append(behind, fmt.Sprintf("%d (%d and %d, by %d)", p.Partition, at[0], at[1], max(at[0]-at[1], at[1]-at[0])))
		}
	}
	if len(evicted) > 0 {
		r.note("partitions %s: waiting events had to give way to the limit (--waiting-limit), so that it is not promised that folds are equal", strings.Join(evicted, ", "))
	}
	if len(behind) > 0 {
		r.note("at different positions, so that only messages that did not change between were compared: partitions %s", strings.Join(behind, ", "))
	}
}

// Print prints it as a table, then each finding in a line.
func (r *Report) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(r.Sides) == 1 {
		fmt.Fprintln(t, "PARTITION\tPOSITION\tMESSAGES\tRECEIPTS\tHOURS\tFOUND")
	} else {
		fmt.Fprintln(t, "PARTITION\tPOSITION\tMESSAGES\tRECEIPTS\tHOURS\tDIFFERING\tFOUND\tDIFFERENCES")
	}
	for _, p := range r.Partitions {
		r.row(t, &p)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, line := range r.lines() {
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

func (r *Report) row(w io.Writer, p *Partition) {
	each := func(f func(c *verify.Checked) string) string {
		var values []string
		for i := range p.Checked {
			if v := f(&p.Checked[i]); len(values) == 0 || values[0] != v {
				values = append(values, v)
			}
		}
		return strings.Join(values, " / ")
	}
	found := 0
	for _, c := range p.Checked {
		found += c.Total
	}
	position := each(func(c *verify.Checked) string { return strconv.FormatInt(c.Position, 10) })
	messages := each(func(c *verify.Checked) string { return humanize.Comma(c.Messages) })
	receipts := each(func(c *verify.Checked) string { return humanize.Comma(c.Receipts) })
	if p.Compared == nil {
		hours := each(func(c *verify.Checked) string { return strconv.Itoa(c.Compared) })
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%d\n", p.Partition, position, messages, receipts, hours, found)
		return
	}
	if len(p.Checked) == 0 {
		position, messages, receipts = strconv.FormatInt(p.Compared.Positions[0], 10), "-", "-"
	}
	fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%d\t%d\t%d\t%d\n", p.Partition, position, messages, receipts, p.Compared.Hours, p.Compared.Differing, found, p.Compared.Total)
}

// lines are what a table has no room for. IDs are quoted in ASCII: a terminal is
// never told what to do.
func (r *Report) lines() (lines []string) {
	for _, d := range r.Damaged {
		lines = append(lines, fmt.Sprintf("damaged: %s: %s", d.Side, d.Damage))
	}
	more := func(partition int32, total, shown int, what string) {
		if total > shown {
			lines = append(lines, fmt.Sprintf("partition %d: %d more %s", partition, total-shown, what))
		}
	}
	for _, p := range r.Partitions {
		for i, c := range p.Checked {
			side := ""
			if len(r.Sides) > 1 {
				side = r.Sides[i] + ": "
			}
			for _, f := range c.Shown {
				lines = append(lines, fmt.Sprintf("%spartition %d%s: %s", side, p.Partition, message(f.Message), bare(f.What)))
			}
			more(p.Partition, c.Total, len(c.Shown), "findings")
		}
		if p.Compared == nil {
			continue
		}
		for _, d := range p.Compared.Differences {
			for _, what := range d.What {
				lines = append(lines, fmt.Sprintf("differs: partition %d%s: %s", p.Partition, message(d.Message), bare(what)))
			}
		}
		more(p.Partition, p.Compared.Total, len(p.Compared.Differences), "differing messages")
	}
	for _, n := range r.Notes {
		lines = append(lines, "note: "+n)
	}
	switch {
	case !r.Sound && len(r.Sides) == 2:
		lines = append(lines, "They differ, or are damaged.")
	case !r.Sound:
		lines = append(lines, "It is damaged.")
	case len(r.Sides) == 2:
		lines = append(lines, "They are equal.")
	default:
		lines = append(lines, "It is sound.")
	}
	return lines
}

func message(id string) string {
	if id == "" {
		return ""
	}
	return ", message " + strconv.QuoteToASCII(id)
}

func bare(s string) string {
	quoted := strconv.QuoteToASCII(s)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}
