package badgerstore

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/materialize"
)

var (
	drawText = rapid.StringOfN(rapid.RuneFrom([]rune("ab01é漢")), 1, 60, 128)
	drawUUID = rapid.Custom(func(t *rapid.T) string {
		return string(appendUUID(nil, rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "uuid")))
	})
	drawID     = rapid.OneOf(drawText, drawUUID)
	drawOffset = rapid.OneOf(rapid.Int64Range(0, 300), rapid.Int64Range(0, math.MaxInt64/2))
	drawTime   = rapid.OneOf(rapid.Int64Range(1_790_000_000_000, 1_800_000_000_000), rapid.Int64Range(-math.MaxInt64/4, math.MaxInt64/4))
	drawBytes  = rapid.SliceOfN(rapid.Byte(), 0, 500)
)

// drawMessage draws a message whose chunks are any bytes.
func drawMessage(t *rapid.T) *projections.Message {
	m := &projections.Message{
		ID:             drawID.Draw(t, "ID"),
		ConversationID: drawID.Draw(t, "conversation"),
		SentAt:         drawTime.Draw(t, "sent_at"),
		Sent:           drawOffset.Draw(t, "sent"),
		Recalled:       rapid.IntRange(0, 5).Draw(t, "recalled") == 0,
	}
	m.Changed = m.Sent + drawOffset.Draw(t, "changed")
	if rapid.Bool().Draw(t, "count-only") {
		m.Crowd = drawCrowd(t)
	} else {
		m.Roster = drawRoster(t).Roster
		m.Sender = uint32(rapid.IntRange(0, m.Roster.Names.Len()-1).Draw(t, "sender"))
	}
	if !m.Recalled {
		m.Receipts = projections.RestoreReceipts(rapid.SliceOfN(drawBytes, 0, 5).Draw(t, "chunks"), drawBytes.Draw(t, "open"))
	}
	return m
}

func drawCrowd(t *rapid.T) *projections.Crowd {
	c := &projections.Crowd{Given: rapid.Uint32().Draw(t, "given"), Settled: drawOffset.Draw(t, "settled")}
	if rapid.Bool().Draw(t, "has sender") {
		c.Sender = drawID.Draw(t, "sender")
	}
	if rapid.Bool().Draw(t, "taken") {
		c.TakenAt = 1 + drawOffset.Draw(t, "taken at")
		c.TakenCount = rapid.Uint32().Draw(t, "taken count")
		c.Lost = projections.Digest{Hi: rapid.Uint64().Draw(t, "hi"), Lo: rapid.Uint64().Draw(t, "lo")}
		c.Taken = slices.Compact(slices.Sorted(slices.Values(rapid.SliceOfN(rapid.Uint32(), 0, 50).Draw(t, "indexes"))))
	}
	return c
}

func drawRoster(t *rapid.T) *materialize.StoredRoster {
	e := &events.MessageSent{SenderID: []byte(drawID.Draw(t, "sender"))}
	draw := drawID
	if rapid.Bool().Draw(t, "only UUIDs") {
		draw = drawUUID
		e.SenderID = []byte(drawUUID.Draw(t, "sender"))
	}
	for _, name := range rapid.SliceOfN(draw, 0, 100).Draw(t, "names") {
		e.Recipients = append(e.Recipients, []byte(name))
		if rapid.IntRange(0, 9).Draw(t, "opted out") == 0 {
			e.OptedOut = append(e.OptedOut, []byte(name))
		}
	}
	if rapid.IntRange(0, 9).Draw(t, "large") == 0 {
		for i := range rapid.IntRange(1000, events.MaxRecipients-100).Draw(t, "more") {
			e.Recipients = append(e.Recipients, fmt.Appendf(nil, "%0128d", i))
		}
	}
	names := projections.NewNames(e)
	var gone []projections.GonePerson
	if rapid.Bool().Draw(t, "gone") {
		next := int64(1)
		for _, number := range slices.Compact(slices.Sorted(slices.Values(rapid.SliceOfN(rapid.IntRange(0, names.Len()-1), 1, 20).Draw(t, "numbers")))) {
			next += drawOffset.Draw(t, "next") / 100
			gone = append(gone, projections.GonePerson{Number: uint32(number), Next: next})
		}
	}
	return &materialize.StoredRoster{KeepUntil: rapid.Int64Range(-1<<40, 1<<40).Draw(t, "keep until"),
		Roster: projections.RestoreRoster(names, projections.RosterRef(rapid.Uint64().Draw(t, "ref")), drawOffset.Draw(t, "settled"), gone)}
}

func drawChange(t *rapid.T) materialize.Change {
	c := materialize.Change{Message: drawMessage(t), Stored: rapid.Bool().Draw(t, "stored")}
	if c.Stored {
		c.Sealed = rapid.IntRange(0, 5).Draw(t, "sealed")
		if !c.Message.Recalled {
			if c.Sealed = min(c.Sealed, c.Message.Receipts.Sealed()); c.Sealed > 0 {
				c.Rewritten = []int{c.Sealed - 1}
			}
		}
	}
	return c
}

func drawBatch(t *rapid.T) *materialize.Batch {
	b := &materialize.Batch{Checkpoint: projections.Checkpoint{
		Position: drawOffset.Draw(t, "position"), LeaderEpoch: rapid.Int32Min(-1).Draw(t, "epoch"),
		Timestamp: drawTime.Draw(t, "timestamp"), Evicted: drawOffset.Draw(t, "evicted"), LastErasure: drawOffset.Draw(t, "last erasure"),
	}}
	for range rapid.IntRange(0, 3).Draw(t, "messages") {
		b.Messages = append(b.Messages, drawChange(t))
	}
	for range rapid.IntRange(0, 3).Draw(t, "rosters") {
		b.Rosters = append(b.Rosters, materialize.RosterChange{StoredRoster: *drawRoster(t), Extended: rapid.Bool().Draw(t, "extended")})
	}
	for range rapid.IntRange(0, 3).Draw(t, "digests") {
		b.Digests = append(b.Digests, projections.HourDigest{Hour: drawOffset.Draw(t, "hour")})
	}
	for range rapid.IntRange(0, 3).Draw(t, "erasures") {
		b.ErasuresAdded = append(b.ErasuresAdded, drawErasure(t))
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

func drawErasure(t *rapid.T) projections.Erasure {
	return projections.Erasure{UserID: drawID.Draw(t, "user"), Offset: drawOffset.Draw(t, "offset"), Timestamp: drawTime.Draw(t, "timestamp")}
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
	rapid.Check(t, func(t *rapid.T) {
		b := drawBatch(t)
		e := encoder{partition: 3}
		e.batch(b)
		cost := 0
		for _, w := range e.writes {
			// Badger counts 12 bytes a record beside key and value, and MaxBatch
			// allows for as many records as RecordSize goes into it.
			cost += max(len(w.key)+len(w.value)+12, materialize.RecordSize)
			if len(w.value) > pieceSize+256 {
				t.Fatalf("a value of %d bytes", len(w.value))
			}
		}
		if cost > b.Size() {
			t.Fatalf("%d writes of %d bytes, and the batch says %d", len(e.writes), cost, b.Size())
		}
	})
}

func TestMessageRecord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawMessage(t)
		b := appendMessage(nil, m)
		if bound := messageBound(m); len(b)+len(messageKey(0, m.ID))+4 > bound {
			t.Fatalf("%d bytes are more than %d", len(b), bound)
		}
		h, err := decodeMessage(b, []byte(m.ID))
		if err != nil {
			t.Fatal(err)
		}
		if h.sealed != m.Receipts.Sealed() || string(h.open) != string(m.Receipts.Open().Bytes) || m.Roster != nil && h.ref != m.Roster.Ref {
			t.Fatalf("%+v", h)
		}
		got, want := *h.message, *m
		want.Roster, want.Receipts = nil, projections.Receipts{}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v\nnot\n%+v", got, want)
		}
	})
}

func TestRosterRecord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawRoster(t)
		b := encodeRoster(nil, s)
		if n := pieceCount(len(b)); n > piecesBound(s.Roster.Names.Len()) {
			t.Fatalf("%d pieces for %d people", n, s.Roster.Names.Len())
		}
		if keepUntil, n, err := decodeFirstPiece(b[:min(len(b), pieceSize)]); keepUntil != s.KeepUntil || n != pieceCount(len(b)) || err != nil {
			t.Fatalf("until %d in %d pieces, %v", keepUntil, n, err)
		}
		got, err := decodeRoster(b, s.Roster.Ref)
		if err != nil {
			t.Fatal(err)
		}
		checkRoster(t, got, s)
	})
}

func checkRoster(t *rapid.T, got, want *materialize.StoredRoster) {
	g, w := got.Roster, want.Roster
	if got.KeepUntil != want.KeepUntil || g.Ref != w.Ref || g.Settled() != w.Settled() || g.Names.Hash() != w.Names.Hash() || g.Names.Len() != w.Names.Len() || !reflect.DeepEqual(g.Gone(), w.Gone()) {
		t.Fatalf("%+v\nnot\n%+v", got, want)
	}
	for i := range uint32(w.Names.Len()) {
		name := w.Names.Name(i)
		if gone := w.Gone(); gone != nil && slices.ContainsFunc(gone.People, func(p projections.GonePerson) bool { return p.Number == i }) {
			name = ""
		}
		if g.Names.Name(i) != name || g.Names.OptedOut(i) != w.Names.OptedOut(i) {
			t.Fatalf("person %d is %q, not %q", i, g.Names.Name(i), name)
		}
	}
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
		e := drawErasure(t)
		if got, err := decodeErasure(encodeErasure(e), e.Offset); err != nil || got != e {
			t.Fatalf("erasure: %+v, %v", got, err)
		}
		b := drawBatch(t)
		if got, total, err := decodeCheckpoint(encodeCheckpoint(b.Checkpoint, b.UndecodableTotal)); err != nil || got != b.Checkpoint || total != b.UndecodableTotal {
			t.Fatalf("checkpoint: %+v, %d, %v", got, total, err)
		}
		if got, err := decodeRemoved(encodeRemoved(b.WaitingRemoved)); err != nil || !slices.Equal(got, b.WaitingRemoved) {
			t.Fatalf("removed: %v, %v", got, err)
		}
	})
}

func TestHourLists(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := &hourList{hour: rapid.Int64().Draw(t, "hour"), messages: rapid.SliceOfN(drawID, 0, 50).Draw(t, "messages")}
		for range rapid.SampledFrom([]int{0, 1, 3000}).Draw(t, "rosters") {
			l.rosters = append(l.rosters, projections.RosterRef(rapid.Uint64().Draw(t, "ref")))
		}
		want := *l
		got := hourList{hour: l.hour}
		for !l.empty() {
			part := l.cut()
			b := part.append(nil)
			if len(b) > part.bound() || len(b) > pieceSize {
				t.Fatalf("%d bytes are more than %d", len(b), part.bound())
			}
			read, err := decodeHourList(b, l.hour)
			if err != nil {
				t.Fatal(err)
			}
			got.messages, got.rosters = append(got.messages, read.messages...), append(got.rosters, read.rosters...)
		}
		if !slices.Equal(got.messages, want.messages) || !slices.Equal(got.rosters, want.rosters) {
			t.Fatalf("%+v, not %+v", got, want)
		}
	})
}

func TestKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hour, id := rapid.Int64().Draw(t, "hour"), drawID.Draw(t, "ID")
		if got, ok := parseHour(hourKey(1, kindDigest, hour)); !ok || got != hour {
			t.Fatalf("digest's hour: %d, %v", got, ok)
		}
		if got, ok := parseHour(appendListKey(nil, 1, hour, 5, 7)); !ok || got != hour {
			t.Fatalf("list's hour: %d, %v", got, ok)
		}
		if got, chunk, ok := parseMessageKey(messageKey(1, id)); !ok || string(got) != id || chunk != -1 {
			t.Fatalf("message: %q, %d, %v", got, chunk, ok)
		}
		if got, chunk, ok := parseMessageKey(chunkKey(1, id, 300)); !ok || string(got) != id || chunk != 300 {
			t.Fatalf("chunk: %q, %d, %v", got, chunk, ok)
		}
		ref := projections.RosterRef(rapid.Uint64().Draw(t, "ref"))
		for piece := range 3 {
			if got, n, ok := parseRosterKey(rosterKey(1, ref, piece)); !ok || got != ref || n != piece {
				t.Fatalf("roster: %x, %d, %v", uint64(got), n, ok)
			}
		}
	})
}

// FuzzDecode gives arbitrary bytes to everything that decodes.
func FuzzDecode(f *testing.F) {
	names := projections.NewNames(&events.MessageSent{SenderID: []byte("s"), Recipients: [][]byte{[]byte("a"), []byte("b")}, OptedOut: [][]byte{[]byte("b")}})
	roster := &materialize.StoredRoster{Roster: projections.RestoreRoster(names, 1, 2, []projections.GonePerson{{Number: 1, Next: 5}})}
	crowd := &projections.Crowd{Sender: "s", TakenAt: 7, Taken: []uint32{1, 5}}
	for _, seed := range [][]byte{
		appendMessage(nil, &projections.Message{ConversationID: "c", Roster: roster.Roster, Receipts: projections.RestoreReceipts(nil, []byte("open"))}),
		appendMessage(nil, &projections.Message{ConversationID: "c", Crowd: crowd}),
		encodeRoster(nil, roster),
		(&hourList{messages: []string{"m"}, rosters: []projections.RosterRef{1}}).append(nil),
		encodeCheckpoint(projections.Checkpoint{Position: 7}, 3),
		encodeErasure(projections.Erasure{UserID: "u"}),
		encodeWaiting(projections.WaitingEvent{MessageID: "m", ReaderID: "r"}),
		encodeUndecodable(materialize.Undecodable{Key: []byte("k"), Value: []byte("v")}),
		encodeRemoved([]int64{1, 5, 9}), {FormatVersion, '{', '}'},
		chunkKey(1, "m", 3), rosterKey(1, 3, 4), appendListKey(nil, 1, 2, 3, 4),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _ = unseal([]byte("key"), b)
		_, _, _ = decodeCheckpoint(b)
		_, _ = decodeMessage(b, []byte("m"))
		_, _ = decodeRoster(b, 1)
		_, _, _ = decodeFirstPiece(b)
		_, _ = decodeHourList(b, 1)
		_, _ = decodeErasure(b, 1)
		_, _ = decodeWaiting(b, 1)
		_, _ = decodeUndecodable(b)
		_, _ = decodeRemoved(b)
		if m, err := decodeMeta(b); err == nil {
			_, _ = m.exported()
		}
		_ = describe(b)
		if len(b) > prefixLen {
			for kind := range byte(128) {
				_ = describe(append(append(slices.Clone(b[:prefixLen-1]), kind), b[prefixLen:]...))
			}
		}
	})
}
