package cli_test

import (
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/seenby/seenby/cmd/seenby/cli"
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
