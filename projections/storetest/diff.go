// Package storetest is what every store has to pass.
package storetest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/seenby/seenby/projections"
)

// DiffMessage says in what two messages differ that anybody can be shown, or is
// empty. Their receipts are whole.
func DiffMessage(got, want *projections.Message) string {
	if got == nil || want == nil {
		if got == want {
			return ""
		}
		return fmt.Sprintf("found is %v, not %v", got != nil, want != nil)
	}
	if g, w := shown(got), shown(want); g != w {
		return fmt.Sprintf("it is\n  %s\nnot\n  %s", g, w)
	}
	return ""
}

func shown(m *projections.Message) string {
	var s strings.Builder
	sender, known := m.SenderID()
	fmt.Fprintf(&s, "%q in %q by %q (%v), sent at %d, version %d, taken away %d, recalled %v, count-only %v, read by %d of %d, opted out %d, truncated %v, digest %v:", m.ID, m.ConversationID,
		sender, known, m.SentAt, m.Version(), m.TakenAway(), m.Recalled, m.CountOnly(), m.ReadCount(), m.RecipientCount(), m.OptedOutCount(), m.Truncated(), m.Digest())
	err := m.EachReceipt(0, func(r projections.Receipt) bool {
		if counts, listed := m.Shown(r); listed {
			fmt.Fprintf(&s, " %q at %d, offset %d;", m.Reader(r), r.ReadAt, r.Offset)
		} else if counts {
			fmt.Fprintf(&s, " somebody at %d, offset %d;", r.ReadAt, r.Offset)
		}
		return true
	})
	if err != nil {
		s.WriteString(err.Error())
	}
	return s.String()
}

// loaded is a message as if it came from a store.
func loaded(m *projections.Message) *projections.Message {
	var chunks [][]byte
	for i := range m.Receipts.Sealed() {
		chunks = append(chunks, bytes.Clone(m.Receipts.Chunk(i).Bytes))
	}
	c := &projections.Message{ID: m.ID, ConversationID: m.ConversationID, SentAt: m.SentAt, Sent: m.Sent, Changed: m.Changed, Recalled: m.Recalled,
		Sender: m.Sender, Receipts: projections.RestoreReceipts(chunks, bytes.Clone(m.Receipts.Open().Bytes))}
	if m.Roster != nil {
		c.Roster = new(*m.Roster)
	} else {
		c.Crowd = &projections.Crowd{Sender: m.Crowd.Sender, Given: m.Crowd.Given, Taken: slices.Clone(m.Crowd.Taken), TakenCount: m.Crowd.TakenCount,
			TakenAt: m.Crowd.TakenAt, Lost: m.Crowd.Lost, Settled: m.Crowd.Settled}
	}
	return c
}

// diffStored says in what a message, as a store returned it or a fold has it,
// differs from another in what stores keep, or is empty.
func diffStored(got, want *projections.Message, gotRef, wantRef projections.RosterRef) string {
	for _, f := range []struct {
		name      string
		got, want any
	}{
		{"ID", got.ID, want.ID},
		{"ConversationID", got.ConversationID, want.ConversationID},
		{"SentAt", got.SentAt, want.SentAt},
		{"Sent", got.Sent, want.Sent},
		{"Changed", got.Changed, want.Changed},
		{"Recalled", got.Recalled, want.Recalled},
		{"roster's ref", gotRef, wantRef},
		{"Sender", got.Sender, want.Sender},
		{"Crowd", got.Crowd != nil, want.Crowd != nil},
		{"Sealed", got.Receipts.Sealed(), want.Receipts.Sealed()},
	} {
		if f.got != f.want {
			return fmt.Sprintf("%s is %v, not %v", f.name, f.got, f.want)
		}
	}
	if got.Crowd != nil {
		if g, w := crowdText(got.Crowd), crowdText(want.Crowd); g != w {
			return fmt.Sprintf("Crowd is\n  %.500s\nnot\n  %.500s", g, w)
		}
	}
	for i := range want.Receipts.Sealed() {
		if !bytes.Equal(got.Receipts.Chunk(i).Bytes, want.Receipts.Chunk(i).Bytes) {
			return fmt.Sprintf("chunk %d is %x, not %x", i, got.Receipts.Chunk(i).Bytes, want.Receipts.Chunk(i).Bytes)
		}
	}
	if !bytes.Equal(got.Receipts.Open().Bytes, want.Receipts.Open().Bytes) {
		return fmt.Sprintf("the open chunk is %x, not %x", got.Receipts.Open().Bytes, want.Receipts.Open().Bytes)
	}
	return ""
}

// crowdText has all but Settled, which is stored only with a change.
func crowdText(c *projections.Crowd) string {
	return fmt.Sprint(c.Sender, " of ", c.Given, " taken ", c.Taken, c.TakenCount, " at ", c.TakenAt, " lost ", c.Lost)
}

// rosterText has all that a roster's messages need, and none of the names of those
// who are gone.
func rosterText(r *projections.Roster, keepUntil int64) string {
	var s strings.Builder
	fmt.Fprintf(&s, "%016x until %d, %x, gone", uint64(r.Ref), keepUntil, r.Names.Hash())
	gone := make(map[uint32]bool)
	if g := r.Gone(); g != nil {
		fmt.Fprint(&s, *g)
		for _, p := range g.People {
			gone[p.Number] = true
		}
	}
	for i := range uint32(r.Names.Len()) {
		if name := r.Names.Name(i); !gone[i] {
			fmt.Fprint(&s, " ", name)
		}
		if r.Names.OptedOut(i) {
			fmt.Fprint(&s, " (out)")
		}
	}
	return s.String()
}
