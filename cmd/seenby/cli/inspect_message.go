package cli

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/dustin/go-humanize"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/badgerstore"
	"github.com/seenby/seenby/projections/verify"
	"github.com/seenby/seenby/services/contract"
	"github.com/seenby/seenby/services/projector"
	"github.com/seenby/seenby/services/projector/protocol"
)

// inspectMessageCommand shows one message.
type inspectMessageCommand struct {
	ID   string `arg:"" help:"The message's ID." name:"id"`
	JSON bool   `help:"Print JSON." name:"json"`

	fromFlags `embed:""`
}

// Run prints the message.
func (c *inspectMessageCommand) Run(ctx context.Context, io IO, log logFlags) error {
	var m protocol.Message
	err := c.inspect(ctx, io, log, func(ctx context.Context, client *protocol.Client, _ protocol.Status) error {
		return client.Get(ctx, protocol.MessagePath, url.Values{"id": {c.ID}}, &m)
	}, func(store *badgerstore.Offline) (err error) {
		m, err = messageIn(store, c.ID)
		return err
	})
	if err != nil {
		return err
	}
	if c.JSON {
		err = printJSON(io.Stdout, m)
	} else {
		err = printMessage(io.Stdout, m)
	}
	if err == nil && m.Message == nil && len(m.Waiting) == 0 {
		err = fmt.Errorf("message %q: there is none, and nothing waits for it", c.ID)
	}
	return err
}

// messageIn reads a message of a store.
func messageIn(store *badgerstore.Offline, id string) (m protocol.Message, err error) {
	p := events.Partition(id, store.Meta().Lineage.Partitions)
	if owner := int(p) % store.Meta().Owner.Nodes; owner != store.Meta().Owner.Node {
		return m, fmt.Errorf("the message is in partition %d, which node %d of %d has: this is the store of node %d", p, owner, store.Meta().Owner.Nodes, store.Meta().Owner.Node)
	}
	m = protocol.Message{ID: id, Partition: p, Node: store.Meta().Owner.Node, Waiting: []protocol.WaitingEvent{}}
	snapshot := store.Snapshot(p)
	defer snapshot.Close()
	reader, found, err := verify.NewReader(snapshot, store.Meta().Lineage, p)
	if err != nil || !found {
		return m, err
	}
	m.Position = reader.Saved().Position
	m.Waiting = projector.WaitingEvents(projections.RestoreWaiting(reader.Saved().Waiting).Of(id))
	l, err := reader.Message([]byte(id))
	if err != nil || l == nil {
		return m, err
	}
	state, err := verify.StateOf(l.Message)
	m.Message = &state
	return m, err
}

func printJSON(w io.Writer, v any) error {
	if err := json.MarshalWrite(w, v, jsontext.Multiline(true), json.Deterministic(true)); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w)
	return err
}

// printMessage prints a table. IDs are quoted in ASCII: a terminal is never told
// what to do.
func printMessage(w io.Writer, m protocol.Message) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(what, format string, args ...any) { fmt.Fprintf(t, "%s\t%s\n", what, fmt.Sprintf(format, args...)) }
	row("message", "%+q", m.ID)
	row("where", "partition %d, node %d, at position %d%s", m.Partition, m.Node, m.Position, warmth(m.Hot))
	if s := m.Message; s != nil {
		describeMessage(row, s)
	} else {
		row("state", "there is no such message (yet)")
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if s := m.Message; s != nil && len(s.Receipts) > 0 {
		if err := printReceipts(w, s); err != nil {
			return err
		}
	}
	if len(m.Waiting) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	fmt.Fprintln(t, "WAITING\tREADER\tREAD_AT\tOFFSET\tTIME")
	for _, e := range m.Waiting {
		if e.Recall {
			fmt.Fprintf(t, "recall\t\t\t%d\t%s\n", e.Offset, contract.AppendTime(nil, e.Timestamp))
			continue
		}
		readAt := "unclaimed"
		if e.ReadAt != events.Unclaimed {
			readAt = string(contract.AppendTime(nil, e.ReadAt))
		}
		fmt.Fprintf(t, "receipt\t%+q\t%s\t%d\t%s\n", e.ReaderID, readAt, e.Offset, contract.AppendTime(nil, e.Timestamp))
	}
	return t.Flush()
}

func warmth(hot *bool) string {
	switch {
	case hot == nil:
		return ""
	case *hot:
		return ", hot"
	}
	return ", cold until now"
}

func describeMessage(row func(what, format string, args ...any), s *verify.State) {
	row("conversation", "%+q", s.ConversationID)
	row("sent", "%s, by offset %d", contract.AppendTime(nil, s.SentAt), s.Sent-1)
	if s.Sender != nil {
		row("sender", "%+q", *s.Sender)
	} else {
		row("sender", "erased")
	}
	row("version", "%d: last changed by offset %d", s.Version, s.Version-1)
	if s.TakenAway > 0 {
		row("taken away", "by offset %d", s.TakenAway-1)
	}
	if s.Recalled {
		row("recalled", "yes")
	}
	row("read by", "%s of %s, %s opted out", humanize.Comma(int64(s.ReadCount)), humanize.Comma(int64(s.RecipientCount)), humanize.Comma(int64(s.OptedOutCount)))
	if r := s.Roster; r != nil {
		row("roster", "%s, content %s", r.Ref, r.Hash)
		row("recipients", "%s", names(r.Recipients))
		row("opted out", "%s", names(r.OptedOut))
		var gone []string
		for _, g := range r.Gone {
			gone = append(gone, fmt.Sprintf("number %d by offset %d", g.Number, g.Offset))
		}
		row("erased", "%s", orNobody(strings.Join(gone, ", ")))
	} else {
		row("count-only", "%s given, %d readers erased, truncated: %v", humanize.Comma(int64(s.Given)), s.Taken, s.Truncated)
	}
	var chunks []string
	for _, c := range s.Chunks {
		chunks = append(chunks, fmt.Sprintf("%d in %d B", c.Receipts, c.Bytes))
	}
	row("receipts", "%d: %d sealed chunks (%s), open chunk of %d in %d B", s.ReceiptsTotal, len(s.Chunks)+s.ChunksOnDisk, strings.Join(chunks, ", "), s.Open.Receipts, s.Open.Bytes)
	row("digest", "%s", s.Digest)
}

func names(ids []string) string {
	quoted := make([]string, len(ids))
	for i, id := range ids {
		quoted[i] = strconv.QuoteToASCII(id)
	}
	if len(ids) == 0 {
		return "nobody"
	}
	return fmt.Sprintf("%d: %s", len(ids), strings.Join(quoted, " "))
}

func orNobody(s string) string {
	if s == "" {
		return "nobody"
	}
	return s
}

func printReceipts(w io.Writer, s *verify.State) error {
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "READER\tREAD_AT\tOFFSET")
	for _, r := range s.Receipts {
		who := strconv.QuoteToASCII(r.Reader)
		switch {
		case r.Gone:
			who = "erased"
		case r.Reader == "" && r.Hash != "":
			who = "not listed: " + r.Hash
		}
		fmt.Fprintf(t, "%s\t%s\t%d\n", who, contract.AppendTime(nil, r.ReadAt), r.Offset)
	}
	if n := s.ReceiptsTotal - len(s.Receipts); n > 0 {
		fmt.Fprintf(t, "and %d more\n", n)
	}
	return t.Flush()
}
