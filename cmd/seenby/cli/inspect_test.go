package cli_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/seenby/seenby/cmd/seenby/cli"
	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/badgerstore"
	"github.com/seenby/seenby/projections/materialize"
	"github.com/seenby/seenby/services/projector/protocol"
)

// storeWithGarbage makes a store whose partition 1 skipped two records.
func storeWithGarbage(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	s, err := badgerstore.Open(badgerstore.Options{
		Dir: dir, Owner: badgerstore.Owner{Copy: "a", Nodes: 2, Node: 1}, Logger: slog.New(slog.DiscardHandler),
		Lineage: projections.Lineage{TopicID: [16]byte{1}, Partitions: 4, Generation: 1, FoldVersion: projections.FoldVersion, Retention: time.Hour},
	})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Commit(1, &materialize.Batch{
		Checkpoint: projections.Checkpoint{Position: 10}, UndecodableTotal: 5,
		Undecodable: []materialize.Undecodable{
			{Offset: 3, Timestamp: 1000, Outcome: projections.Undecodable, Reason: "not an Event", Value: []byte("\x1b[2Jhi\u202e"), ValueSize: 9},
			{Offset: 7, Timestamp: 2000, Outcome: projections.Misplaced, Reason: "elsewhere", Key: []byte("m1"), Value: []byte{8}, KeySize: 2, ValueSize: 5000},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestInspectUndecodable(t *testing.T) {
	dir := storeWithGarbage(t)
	table := run(t.Context(), "inspect", "undecodable", "--data", dir)
	if table.code != cli.Done {
		t.Fatalf("%+v", table)
	}
	for _, want := range []string{
		`1          3       1970-01-01T00:00:01.000Z  undecodable  not an Event  null  "\x1b[2Jhi\u202e"`,
		`1          7       1970-01-01T00:00:02.000Z  misplaced    elsewhere     "m1"  "\b"… (5000 bytes)`,
		"skipped in all: 5; kept and shown: 2",
	} {
		if !strings.Contains(table.stdout, want) {
			t.Errorf("no line\n%s\nin\n%s", want, table.stdout)
		}
	}
	for _, c := range table.stdout {
		if c < ' ' && c != '\n' || c > 0x7f && c != '…' {
			t.Errorf("%q reaches the terminal", c)
		}
	}

	lines := run(t.Context(), "inspect", "undecodable", "--data", dir, "--json", "--partition", "1")
	var got protocol.Undecodable
	if err := json.Unmarshal([]byte(lines.stdout), &got); lines.code != cli.Done || err != nil {
		t.Fatalf("%+v, %v", lines, err)
	}
	if got.Partition != 1 || got.Total != 5 || len(got.Records) != 2 || got.Records[0].Key != nil || string(got.Records[1].Key) != "m1" {
		t.Errorf("%+v", got)
	}

	if other := run(t.Context(), "inspect", "undecodable", "--data", dir, "--partition", "2"); other.code != cli.Failed || !strings.Contains(other.stderr, "partition 2") {
		t.Errorf("of another node: %+v", other)
	}
	if none := run(t.Context(), "inspect", "undecodable", "--data", t.TempDir()); none.code != cli.Failed {
		t.Errorf("of no store: %+v", none)
	}
}

// storeWithMessages makes a store of one partition: a message that two of three have
// read, one that was recalled, and a receipt that waits.
func storeWithMessages(t *testing.T, now int64, name string) string {
	t.Helper()
	dir := t.TempDir()
	lineage := projections.Lineage{TopicID: [16]byte{1}, Partitions: 1, Generation: 1, FoldVersion: projections.FoldVersion,
		Limits: projections.Limits{Waiting: 10}, Retention: 24 * time.Hour}
	s, err := badgerstore.Open(badgerstore.Options{Dir: dir, Owner: badgerstore.Owner{Copy: "a", Nodes: 1}, Logger: slog.New(slog.DiscardHandler), Lineage: lineage})
	if err != nil {
		t.Fatal(err)
	}
	p, err := materialize.Open(materialize.Config{Lineage: lineage, Store: s, Memory: materialize.NewMemory(1 << 20), FlushBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	p.StartAt(0)
	var recs []events.Record
	for _, e := range []events.Event{
		&events.MessageSent{MessageID: []byte("m1"), ConversationID: []byte("c"), SenderID: []byte("alice"), SentAt: now,
			Recipients: [][]byte{[]byte("bob"), []byte("carol"), []byte("\u202edan"), []byte("out")}, OptedOut: [][]byte{[]byte("out")}},
		&events.MessageRead{MessageID: []byte("m1"), ReaderID: []byte("\u202edan"), ReadAt: events.Unclaimed},
		&events.MessageRead{MessageID: []byte("m1"), ReaderID: []byte(name), ReadAt: events.Unclaimed},
		&events.MessageSent{MessageID: []byte("m2"), ConversationID: []byte("c"), SenderID: []byte("alice"), SentAt: now, CountOnly: true, RecipientCount: 9},
		&events.MessageRecalled{MessageID: []byte("m2")},
		&events.MessageRead{MessageID: []byte("m3"), ReaderID: []byte("bob"), ReadAt: events.Unclaimed},
	} {
		value, err := events.AppendEncode(nil, e)
		if err != nil {
			t.Fatal(err)
		}
		recs = append(recs, events.Record{Offset: int64(len(recs)), Timestamp: now + 1000, Key: e.Key(), Value: value})
	}
	if err := p.Apply(recs); err != nil {
		t.Fatal(err)
	}
	if err := p.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// shows runs a command, and holds its exit code and table to what is wanted.
func shows(t *testing.T, code int, args []string, wants ...string) {
	t.Helper()
	r := run(t.Context(), args...)
	if r.code != code {
		t.Errorf("%v: %+v", args, r)
	}
	for _, want := range wants {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("%v: no %q in\n%s", args, want, r.stdout)
		}
	}
	for _, c := range r.stdout {
		if c < ' ' && c != '\n' || c > 0x7f && c != '…' {
			t.Errorf("%v: %q reaches the terminal", args, c)
		}
	}
}

func TestInspectMessage(t *testing.T) {
	dir := storeWithMessages(t, time.Now().UnixMilli(), "bob")
	shows(t, cli.Done, []string{"inspect", "message", "m1", "--data", dir}, `"m1"`, "partition 0, node 0, at position 6", `sender        "alice"`,
		"2 of 3, 1 opted out", `3: "bob" "carol" "\u202edan"`, "last changed by offset 2", "open chunk of 2 in", `"bob"`, "READ_AT")
	shows(t, cli.Done, []string{"inspect", "message", "m2", "--data", dir}, "recalled      yes", "9 given")
	shows(t, cli.Done, []string{"inspect", "message", "m3", "--data", dir}, "there is no such message (yet)", `receipt  "bob"   unclaimed`)
	shows(t, cli.Failed, []string{"inspect", "message", "m4", "--data", dir}, "there is no such message (yet)")

	r := run(t.Context(), "inspect", "message", "m1", "--data", dir, "--json")
	var m protocol.Message
	if err := json.Unmarshal([]byte(r.stdout), &m); r.code != cli.Done || err != nil {
		t.Fatalf("%+v, %v", r, err)
	}
	if m.Message == nil || m.Hot != nil || len(m.Message.Receipts) != 2 || m.Message.Receipts[1].Reader != "bob" || m.Message.Roster.OptedOut[0] != "out" {
		t.Errorf("%+v", m)
	}
}

func TestInspectPartition(t *testing.T) {
	dir := storeWithMessages(t, time.Now().UnixMilli(), "bob")
	shows(t, cli.Done, []string{"inspect", "partition", "0", "--data", dir}, "of copy a, node 0 of 1", "position 6", "2, 2 receipts",
		"message          2", "waiting event    1", "HOUR", "1, 0 had to give way")
	shows(t, cli.Failed, []string{"inspect", "partition", "1", "--data", dir})
	r := run(t.Context(), "inspect", "partition", "0", "--data", dir, "--json")
	var p protocol.Partition
	if err := json.Unmarshal([]byte(r.stdout), &p); r.code != cli.Done || err != nil || p.Waiting != 1 || p.Status != nil || len(p.Hours) == 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestVerify(t *testing.T) {
	now := time.Now().UnixMilli()
	one, other := storeWithMessages(t, now, "bob"), storeWithMessages(t, now, "carol")
	shows(t, cli.Done, []string{"verify", "--data", one}, "PARTITION", "It is sound.")
	shows(t, cli.Failed, []string{"verify", "--data", one, "--against", other}, "They differ", `message "m1"`, `receipts only in the first: "bob" at`)
	same := fmt.Sprint(one, "-copied")
	if err := os.CopyFS(same, os.DirFS(one)); err != nil {
		t.Fatal(err)
	}
	shows(t, cli.Done, []string{"verify", "--data", one, "--against", same}, "They are equal.")
	r := run(t.Context(), "verify", "--data", one, "--against", other, "--json")
	var report struct {
		Sound      bool
		Partitions []struct {
			Compared struct{ Differences []struct{ Message string } }
		}
	}
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil || r.code != cli.Failed {
		t.Fatalf("%+v, %v", r, err)
	}
	if report.Sound || report.Partitions[0].Compared.Differences[0].Message != "m1" {
		t.Errorf("%+v", report)
	}
}
