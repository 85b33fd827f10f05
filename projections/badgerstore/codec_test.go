package badgerstore

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/materialize"
	"github.com/seenby/seenby/projections/storetest"
)

var (
	drawID     = rapid.StringOfN(rapid.RuneFrom([]rune("ab01é漢")), 1, 60, 128)
	drawOffset = rapid.OneOf(rapid.Int64Range(0, 300), rapid.Int64Range(0, math.MaxInt64/2))
	drawTime   = rapid.OneOf(rapid.Int64Range(1_790_000_000_000, 1_800_000_000_000), rapid.Int64Range(-math.MaxInt64/4, math.MaxInt64/4))
)

func drawMessage(t *rapid.T) *projections.Message {
	m := &projections.Message{
		ID:             drawID.Draw(t, "ID"),
		ConversationID: drawID.Draw(t, "conversation"),
		SentAt:         drawTime.Draw(t, "sent_at"),
		Version:        drawOffset.Draw(t, "version"),
	}
	n := rapid.IntRange(0, 400).Draw(t, "readers")
	if rapid.Bool().Draw(t, "count-only") {
		m.SenderName, m.RecipientsGiven = drawID.Draw(t, "sender"), rapid.Uint32().Draw(t, "recipients")
		for i := range n {
			m.Readers = append(m.Readers, fmt.Sprintf("%s%d", m.SenderName[:min(len(m.SenderName), 100)], i))
		}
		for i := range rapid.IntRange(0, 400).Draw(t, "hashes") {
			m.Unlisted = append(m.Unlisted, projections.HashReader(fmt.Append(nil, i)))
		}
	} else {
		names := slices.Compact(slices.Sorted(slices.Values(rapid.SliceOfN(drawID, 1, 400).Draw(t, "names"))))
		m.Roster = &projections.Roster{Names: names}
		for range names {
			m.Roster.OptedOut = append(m.Roster.OptedOut, rapid.Bool().Draw(t, "opted out"))
		}
		m.Sender = uint32(rapid.IntRange(0, len(names)-1).Draw(t, "sender"))
		n = min(n, len(names))
	}
	offset := drawOffset.Draw(t, "first offset")
	for i := range n {
		m.Receipts = append(m.Receipts, projections.Receipt{Person: uint32(i), ReadAt: m.SentAt + rapid.Int64Range(0, math.MaxInt64/2).Draw(t, "read_at"), Offset: offset})
		offset += rapid.Int64Range(0, 1<<40).Draw(t, "offset")
	}
	return m
}

func drawChange(t *rapid.T) materialize.Change {
	m := drawMessage(t)
	c := materialize.Change{Message: m, Stored: rapid.Bool().Draw(t, "stored")}
	if c.Stored {
		c.Receipts = rapid.IntRange(0, len(m.Receipts)).Draw(t, "stored receipts")
		c.Unlisted = rapid.IntRange(0, len(m.Unlisted)).Draw(t, "stored hashes")
	}
	if rapid.IntRange(0, 5).Draw(t, "recalled") == 0 {
		m.Recalled, m.Receipts, m.Readers, m.Unlisted = true, nil, nil, nil
	}
	return c
}

func drawBatch(t *rapid.T) *materialize.Batch {
	b := &materialize.Batch{Checkpoint: projections.Checkpoint{
		Position: drawOffset.Draw(t, "position"), LeaderEpoch: rapid.Int32Min(-1).Draw(t, "epoch"),
		Timestamp: drawTime.Draw(t, "timestamp"), Evicted: drawOffset.Draw(t, "evicted"),
	}}
	for range rapid.IntRange(0, 3).Draw(t, "messages") {
		b.Messages = append(b.Messages, drawChange(t))
	}
	for range rapid.IntRange(0, 5).Draw(t, "waiting") {
		b.WaitingAdded = append(b.WaitingAdded, drawWaiting(t))
	}
	for range rapid.SampledFrom([]int{0, 1, 5, 600, 20_000}).Draw(t, "leaving") {
		b.WaitingRemoved = append(b.WaitingRemoved, int64(len(b.WaitingRemoved))<<rapid.SampledFrom([]int{0, 40}).Draw(t, "far"))
	}
	for range rapid.IntRange(0, 3).Draw(t, "undecodable") {
		b.Undecodable = append(b.Undecodable, drawUndecodable(t))
	}
	b.UndecodableTotal = int64(len(b.Undecodable)) + drawOffset.Draw(t, "total")
	return b
}

func drawWaiting(t *rapid.T) projections.WaitingEvent {
	w := projections.WaitingEvent{MessageID: drawID.Draw(t, "message"), Offset: drawOffset.Draw(t, "offset"), Timestamp: drawTime.Draw(t, "timestamp")}
	if w.Recall = rapid.Bool().Draw(t, "recall"); !w.Recall {
		w.ReaderID, w.ReadAt = drawID.Draw(t, "reader"), rapid.Int64().Draw(t, "read_at")
	}
	return w
}

func drawUndecodable(t *rapid.T) materialize.Undecodable {
	u := materialize.Undecodable{
		Offset: drawOffset.Draw(t, "offset"), Timestamp: drawTime.Draw(t, "timestamp"),
		Outcome: rapid.SampledFrom(projections.Outcomes()).Draw(t, "outcome"),
		Reason:  rapid.StringN(0, 20, 200).Draw(t, "reason"),
		Value:   rapid.SliceOfN(rapid.Byte(), 0, 1024).Draw(t, "value"),
		KeySize: rapid.IntRange(0, math.MaxInt32).Draw(t, "key size"), ValueSize: rapid.IntRange(0, math.MaxInt32).Draw(t, "value size"),
	}
	if rapid.Bool().Draw(t, "has key") {
		u.Key = rapid.SliceOfN(rapid.Byte(), 0, 1024).Draw(t, "key")
	}
	return u
}

// TestBatchSize holds Batch.Size to what Badger counts.
func TestBatchSize(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { checkBatchSize(t, drawBatch(t)) })
}

// TestGrowthSize has sets that grow by one, with numbers as long as they get:
// what is written again counts for more than what is new.
func TestGrowthSize(t *testing.T) {
	for stored := range 3 * chunkLen {
		m := &projections.Message{ID: "m", Version: 1, Roster: &projections.Roster{Names: make([]string, 3*chunkLen+1)}}
		c := &projections.Message{ID: "c", Version: 1, SenderName: "s"}
		u := &projections.Message{ID: "u", Version: 1, SenderName: "s", Unlisted: make([]projections.ReaderHash, stored+1)}
		for i := range stored + 1 {
			r := projections.Receipt{Person: uint32(i), ReadAt: math.MaxInt64 - int64(i), Offset: int64(i) << 48}
			m.Receipts, c.Receipts = append(m.Receipts, r), append(c.Receipts, r)
			c.Readers = append(c.Readers, fmt.Sprintf("%0128d", i))
		}
		for _, grown := range []*projections.Message{m, c, u} {
			change := materialize.Change{Message: grown, Stored: true, Receipts: max(0, len(grown.Receipts)-1), Unlisted: max(0, len(grown.Unlisted)-1)}
			checkBatchSize(t, &materialize.Batch{Messages: []materialize.Change{change}})
		}
	}
}

func checkBatchSize(t interface{ Fatalf(string, ...any) }, b *materialize.Batch) {
	writes, _ := encodeBatch(3, b)
	cost := 0
	for _, w := range writes {
		// Badger counts 12 bytes a record beside key and value, and MaxBatch
		// allows for as many records as RecordSize goes into it.
		cost += max(len(w.key)+len(w.value)+12, materialize.RecordSize)
		if len(w.value) > pieceSize+256 {
			t.Fatalf("a value of %d bytes", len(w.value))
		}
	}
	if cost > b.Size() {
		t.Fatalf("%d writes of %d bytes, and the batch says %d", len(writes), cost, b.Size())
	}
}

func TestBirth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawMessage(t)
		b := encodeBirth(m)
		if n := birthLen(m); n != len(b) {
			t.Fatalf("birthLen is %d, and there are %d bytes", n, len(b))
		}
		got := &projections.Message{ID: m.ID, SentAt: m.SentAt, Version: m.Version}
		if err := decodeBirth(b, got); err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(m.Receipts); i += chunkLen {
			to := min(len(m.Receipts), i+chunkLen)
			if err := decodeReceipts(encodeReceipts(m, i, to), got, to-i); err != nil {
				t.Fatal(err)
			}
		}
		if err := decodeUnlisted(encodeUnlisted(m.Unlisted), got, len(m.Unlisted)); err != nil {
			t.Fatal(err)
		}
		if diff := storetest.DiffMessage(got, m); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestRecords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWaiting(t)
		if got, err := decodeWaiting(encodeWaiting(w), w.Offset); err != nil || got != w {
			t.Fatalf("waiting: %+v, %v", got, err)
		}
		u := drawUndecodable(t)
		if got, err := decodeUndecodable(encodeUndecodable(u)); err != nil || !reflect.DeepEqual(got, u) {
			t.Fatalf("undecodable: %+v, %v, not %+v", got, err, u)
		}
		b := drawBatch(t)
		if got, total, err := decodeCheckpoint(encodeCheckpoint(b.Checkpoint, b.UndecodableTotal)); err != nil || got != b.Checkpoint || total != b.UndecodableTotal {
			t.Fatalf("checkpoint: %+v, %d, %v", got, total, err)
		}
		if got, err := decodeRemoved(encodeRemoved(b.WaitingRemoved)); err != nil || !slices.Equal(got, b.WaitingRemoved) {
			t.Fatalf("removed: %v, %v", got, err)
		}
		h := head{recalled: rapid.Bool().Draw(t, "recalled"), sentAt: drawTime.Draw(t, "sent_at"), version: drawOffset.Draw(t, "version"),
			receipts: rapid.IntRange(0, math.MaxInt32).Draw(t, "receipts"), unlisted: rapid.IntRange(0, 9).Draw(t, "hashes"), pieces: rapid.IntRange(0, 9).Draw(t, "pieces")}
		if got, err := decodeHead(h.encode()); err != nil || got != h {
			t.Fatalf("head: %+v, %v", got, err)
		}
		hour := rapid.Int64().Draw(t, "hour")
		if got, id, ok := parseHourKey(hourKey(1, hour, w.MessageID)); !ok || got != hour || string(id) != w.MessageID {
			t.Fatalf("hour: %d, %q, %v", got, id, ok)
		}
	})
}

// FuzzDecode gives arbitrary bytes to everything that decodes.
func FuzzDecode(f *testing.F) {
	m := largeMessage("m", 20)
	for _, seed := range [][]byte{
		encodeBirth(m), encodeReceipts(m, 0, 10), head{receipts: 3}.encode(),
		encodeBirth(&projections.Message{SenderName: "s"}),
		encodeCheckpoint(projections.Checkpoint{Position: 7}, 3),
		encodeWaiting(projections.WaitingEvent{MessageID: "m", ReaderID: "r"}),
		encodeUndecodable(materialize.Undecodable{Key: []byte("k"), Value: []byte("v")}),
		encodeRemoved([]int64{1, 5, 9}), {FormatVersion, '{', '}'},
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = unseal([]byte("key"), b)
		_, _, _ = decodeCheckpoint(b)
		_, _ = decodeHead(b)
		_, _ = decodeWaiting(b, 1)
		_, _ = decodeUndecodable(b)
		_, _ = decodeRemoved(b)
		_, _ = decodeMeta(b)
		_, _, _ = parseHourKey(b)
		_, _ = parseNumberKey(b)
		got := &projections.Message{}
		if err := decodeBirth(b, got); err == nil {
			_ = decodeReceipts(b, got, 100)
			if again := encodeBirth(got); len(again) > len(b)+1 {
				t.Errorf("%d bytes became %d", len(b), len(again))
			}
			got.Rebuild()
			_ = got.SenderID()
		}
		listed := &projections.Message{Roster: m.Roster}
		_ = decodeReceipts(b, listed, 100)
		_ = decodeUnlisted(b, listed, len(b)/16)
		listed.Rebuild()
	})
}
