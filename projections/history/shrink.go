package history

import (
	"fmt"
	"slices"
	"strings"

	"github.com/seenby/seenby/events"
)

// Shrink takes out records for as long as fails stays true of what is left, and
// returns the shortest history found. Offsets stay, so that skips do.
func (h History) Shrink(fails func(History) bool) History {
	for size := max(len(h.Records)/2, 1); size > 0; size /= 2 {
		for removed := true; removed; {
			removed = false
			for at := 0; at < len(h.Records); {
				less := h
				less.Records = slices.Delete(slices.Clone(h.Records), at, min(at+size, len(h.Records)))
				if fails(less) {
					h, removed = less, true
				} else {
					at += size
				}
			}
		}
	}
	return h
}

// String is the history for a person to read: the lineage, and a record a line.
func (h History) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "partition %d of %d, retention %v, waiting %d", h.Partition, h.Lineage.Partitions,
		h.Lineage.Retention, h.Lineage.Limits.Waiting)
	for _, s := range h.Lineage.Skips {
		if slices.ContainsFunc(h.Records, func(r events.Record) bool { return r.Offset == s.Offset }) {
			fmt.Fprintf(&b, ", skip %s", s)
		}
	}
	for _, rec := range h.Records {
		b.WriteString("\n" + Format(rec))
	}
	return b.String()
}
