package projections_test

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/history"
)

// chunksOf are a message's chunks, the open one last.
func chunksOf(m *projections.Message) (chunks []projections.Chunk) {
	for i := range m.Receipts.Sealed() {
		chunks = append(chunks, m.Receipts.Chunk(i))
	}
	return append(chunks, m.Receipts.Open())
}

// Stores keep these bytes: they must not change.
func TestTheBytesOfReceiptsStay(t *testing.T) {
	p := newPartition(onePartition(10), 0)
	tell(t, p, `10s read listed by carol
10s read counted by carol
20s sent listed in c by alice at 15s to bob,carol,dave
20s sent counted in c by alice at 15s count 3
20.1s read listed by dave at 16s
20.2s read counted by dave
20.3s read listed by bob
1m erase carol`, "0 waits\n1 waits\n2 created\n3 created\n4 counted\n5 counted\n6 counted\n7 erased\n")
	p.verdict()
	for id, want := range map[string]string{
		//        number, offset + 1 - sent, read_at - sent_at; then the differences
		"listed":  "\x02\x03\x00" + "\x03\x04\xd0\x0f" + "\x01\x02\x98\x43",
		"counted": "\x81\x01\x03\x00" + "\x04dave\x04\xa0\x51",
	} {
		if got := string(p.messages[id].Receipts.Open().Bytes); got != want {
			t.Errorf("%s is %q, not %q", id, got, want)
		}
	}
}

func TestChunksHaveLimits(t *testing.T) {
	for name, group := range groups {
		t.Run(name, func(t *testing.T) {
			p, receipts := crowdOf(t, group)
			if _, err := p.apply(receipts); err != nil {
				t.Fatal(err)
			}
			m := p.messages[string(receipts[0].Key)]
			chunks, n := chunksOf(m), 0
			for i, c := range chunks {
				n += c.Len
				last := i == len(chunks)-1
				full := c.Len == projections.MaxChunk || len(c.Bytes) >= projections.MaxChunkBytes
				if !full && !last || c.Len > projections.MaxChunk || len(c.Bytes) > projections.MaxChunkBytes+events.MaxIDLen+32 {
					t.Errorf("chunk %d of %d has %d receipts in %d bytes", i, len(chunks), c.Len, len(c.Bytes))
				}
				if !last && cap(c.Bytes) > len(c.Bytes)*5/4 {
					t.Errorf("chunk %d has %d bytes of room for %d", i, cap(c.Bytes), len(c.Bytes))
				}
			}
			if n != len(receipts) || m.Receipts.Len() != n {
				t.Errorf("%d receipts, in chunks %d", m.Receipts.Len(), n)
			}
		})
	}
}

// What is read from an index on is what is read from the start, less as many; and
// reading ends when it is told to.
func TestReceiptsFromAnIndexOn(t *testing.T) {
	p, receipts := crowdOf(t, groups["listed"])
	if _, err := p.apply(receipts[:2500]); err != nil {
		t.Fatal(err)
	}
	m := p.messages[string(receipts[0].Key)]
	all := receiptsOf(m, 0)
	for _, from := range []int{0, 1, 1023, 1024, 1025, 2047, 2048, 2499, 2500, 9999} {
		got := receiptsOf(m, from)
		if len(got) != max(0, len(all)-from) || len(got) > 0 && got[0].Index != from {
			t.Errorf("from %d on there are %d", from, len(got))
		}
		for i, r := range got {
			if want := all[from+i]; r.Index != want.Index || r.Offset != want.Offset || r.Person != want.Person || r.ReadAt != want.ReadAt {
				t.Fatalf("from %d on, the one at %d is %+v, not %+v", from, i, r, want)
			}
		}
		left := 3
		if err := m.EachReceipt(from, func(projections.Receipt) bool { left--; return left > 0 }); err != nil || left < 0 {
			t.Errorf("it went on: %d, %v", left, err)
		}
	}
}

func TestDroppedChunks(t *testing.T) {
	p, receipts := crowdOf(t, groups["listed"])
	m := p.messages[string(receipts[0].Key)]
	apply := func(receipts []events.Record) {
		t.Helper()
		if _, err := p.apply(receipts); err != nil {
			t.Fatal(err)
		}
	}
	apply(receipts[:3000])
	before := chunksOf(m)[:2]
	if m.Receipts.Sealed() != 2 || !m.Receipts.Whole() {
		t.Fatal(m.Receipts.Sealed(), m.Receipts.Whole())
	}
	for n := 1; n <= 2; n++ {
		if got := m.Receipts.Drop(n); got != len(before[n-1].Bytes) {
			t.Errorf("dropping chunk %d dropped %d bytes", n, got)
		}
	}
	if m.Receipts.Drop(1) != 0 || m.Receipts.Whole() || m.Receipts.Len() != 3000 || m.ReadCount() != 3000 {
		t.Errorf("it has %d receipts, %d count", m.Receipts.Len(), m.ReadCount())
	}
	if err := m.EachReceipt(0, func(projections.Receipt) bool { return true }); err == nil {
		t.Error("dropped receipts can be read")
	}
	apply(receipts[3000:])
	if m.Receipts.Sealed() != 4 || m.Receipts.Len() != 5000 {
		t.Errorf("%d sealed, %d receipts", m.Receipts.Sealed(), m.Receipts.Len())
	}
	m.Receipts.Restore(before)
	all := receiptsOf(m, 0)
	if len(all) != 5000 || !m.Receipts.Whole() {
		t.Fatalf("%d receipts", len(all))
	}
	for i, r := range all {
		if m.Reader(r) != longID("reader", i) || r.Offset != int64(i)+1 {
			t.Fatalf("receipt %d is %+v of %s", i, r, m.Reader(r))
		}
	}
}

// An erasure leaves no name or hash behind in any chunk, and tells which sealed
// ones changed.
func TestErasedReadersAreScrubbed(t *testing.T) {
	p := newPartition(onePartition(0), 0)
	tell(t, p, "0s sent m in c by alice count 9", "0 created\n")
	m := p.messages["m"]
	for i, reader := range []string{"bob", "carol", "dave", "erin", "frank", "grace"} {
		if _, err := (&story{p: p}).log("1s read m by " + reader); err != nil {
			t.Fatal(err)
		}
		if i%2 == 1 && i < 5 {
			m.Receipts.Seal()
		}
	}
	p.settle(m)
	old := m.Snapshot()
	tell(t, p, "2s erase dave\n2s erase carol\n2s erase erin\n2s erase grace\n2s erase nobody",
		"7 erased\n8 erased\n9 erased\n10 erased\n11 erased\n")
	p.settle(m)
	rewritten := m.Receipts.TakeRewritten()
	slices.Sort(rewritten)
	if got := slices.Compact(rewritten); !slices.Equal(got, []int{0, 1}) || m.Receipts.TakeRewritten() != nil {
		t.Errorf("chunks %v were rewritten", got)
	}
	var bytes strings.Builder
	for _, c := range chunksOf(m) {
		bytes.Write(c.Bytes)
	}
	for _, gone := range []string{"carol", "dave", "erin", "grace"} {
		if strings.Contains(bytes.String(), gone) {
			t.Errorf("%s is still there: %q", gone, bytes.String())
		}
	}
	if v := viewOf(m); len(v.Readers) != 2 || v.Readers[0].ID != "bob" || v.Readers[1].ID != "frank" || v.Readers[1].Offset != 5 ||
		v.ReadCount != 2 || v.RecipientCount != 5 || v.Version != 11 {
		t.Errorf("it is %+v", v)
	}
	if v := viewOf(&old); len(v.Readers) != 6 || v.Version != 7 {
		t.Errorf("the snapshot is %+v", v)
	}
	// They may come back, and go again.
	tell(t, p, "3s read m by dave\n3s read m by bob\n4s erase dave", "12 counted\n13 repeated\n14 erased\n")
	p.settle(m)
	if v := viewOf(m); v.ReadCount != 2 || v.RecipientCount != 4 || v.Version != 15 || len(m.Crowd.Taken) != 5 {
		t.Errorf("it is %+v, %+v", v, m.Crowd)
	}
	if err := p.checkDigests(); err != nil {
		t.Error(err)
	}
}

// Bytes that no fold wrote are an error.
func TestBrokenReceipts(t *testing.T) {
	for name, c := range map[string]struct{ listed, counted string }{
		"ends after the person": {"\x01", "\x03bob"},
		"ends in the offset":    {"\x01\x80", "\x03bob\x80"},
		"ends after the offset": {"\x01\x02", "\x03bob\x02"},
		"ends in the time":      {"\x01\x02\x80", "\x03bob\x02\x80"},
		"ends in the person":    {"\x80", "\x03bo"},
		"ends in the hash":      {"\x80", "\x000123456789abcde"},
		"nobody":                {"\x03\x02\x02", "\x82\x01\x02\x02"},
		"twice":                 {"\x01\x02\x02\x01\x01\x00", "\x03bob\x02\x02\x03bob\x01\x00"},
		"scrubbed, not taken":   {"\x03\x02\x02", "\x81\x01\x02\x02"},
	} {
		for _, m := range garbled([]byte(c.listed), nil, nil) {
			if err := m.Rebuild(); !m.CountOnly() && err == nil {
				t.Errorf("%s: a message with a roster is well", name)
			}
		}
		for _, m := range garbled(nil, []byte(c.counted), nil) {
			if err := m.Rebuild(); m.CountOnly() && err == nil {
				t.Errorf("%s: a count-only message is well", name)
			}
		}
	}
	for _, taken := range [][]uint32{{1}, {0, 1}, {math.MaxUint32}} {
		m := garbled([]byte("\x03bob\x02\x02"), nil, taken)[1]
		if err := m.Rebuild(); err == nil {
			t.Errorf("receipts %v of one are taken out", taken)
		}
	}
}

// garbled returns a message with a roster and a count-only one of these bytes.
func garbled(sealed, open []byte, taken []uint32) [2]*projections.Message {
	var chunks [][]byte
	if len(sealed) > 0 {
		chunks = append(chunks, bytes.Clone(sealed))
	}
	listed := &projections.Message{ID: "m", SentAt: history.Epoch, Sent: 10, Changed: 10, Receipts: projections.RestoreReceipts(chunks, bytes.Clone(open)),
		Roster: projections.RestoreRoster(namesTo("alice", ids("bob", "carol"), nil), 1, 0, nil)}
	counted := &projections.Message{ID: "m", SentAt: history.Epoch, Sent: 10, Changed: 10, Receipts: projections.RestoreReceipts(chunks, bytes.Clone(open)),
		Crowd: &projections.Crowd{Sender: "alice", Given: 3, Taken: taken}}
	return [2]*projections.Message{listed, counted}
}

// No bytes make the fold panic; those that it takes, it goes on from.
func FuzzReceipts(f *testing.F) {
	f.Add([]byte("\x02\x03\x00\x01\x04\xd0\x0f"), []byte("\x00\x02\x98\x43"), 0)
	f.Add([]byte("\x81\x01\x03\x00\x04dave\x04\xa0\x51"), []byte("\x000123456789abcdef\x02\x00"), 1)
	f.Add([]byte("\x03bob\x02\x02"), []byte("\x05carol\x02\x02"), 0)
	f.Fuzz(func(t *testing.T, sealed, open []byte, taken int) {
		var out []uint32
		for i := range 4 {
			if taken>>i&1 == 1 {
				out = append(out, uint32(i))
			}
		}
		for _, m := range garbled(sealed, open, out) {
			if m.Rebuild() != nil {
				continue
			}
			p := newPartition(onePartition(0), 100)
			p.messages["m"] = m
			before := receiptsOf(m, 0)
			if len(before) != m.Receipts.Len() || m.ReadCount() < 0 {
				t.Fatalf("%d receipts, %d, %d count", len(before), m.Receipts.Len(), m.ReadCount())
			}
			digest := m.Digest()
			viewOf(m)
			tell(t, p, "0s erase bob\n0s erase alice", "100 erased\n101 erased\n")
			p.settle(m)
			if m.Digest() != digest {
				t.Fatal("an erasure changed the digest")
			}
			v := viewOf(m)
			for _, r := range v.Readers {
				if r.ID == "bob" {
					t.Fatal("bob is still there")
				}
			}
			again := *m
			again.Receipts = projections.RestoreReceipts(nil, nil)
			var chunks [][]byte
			for i := range m.Receipts.Sealed() {
				chunks = append(chunks, m.Receipts.Chunk(i).Bytes)
			}
			again.Receipts = projections.RestoreReceipts(chunks, m.Receipts.Open().Bytes)
			if err := again.Rebuild(); err != nil {
				t.Fatal(err)
			}
			if again.Digest() != digest || again.Receipts.Len() != m.Receipts.Len() {
				t.Fatal("a restart changed it")
			}
		}
	})
}
