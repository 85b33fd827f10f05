package topic

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"testing"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/seenby/seenby/events"
)

// batch is one record batch as the log holds it; no values stand for one whose
// records were all compacted away.
func batch(first int64, epoch int32, attributes int16, values ...string) []byte {
	var records []byte
	for i, v := range values {
		var r []byte
		r = append(r, 0)
		r = kbin.AppendVarlong(r, 0)
		r = kbin.AppendVarint(r, int32(i))
		r = kbin.AppendVarintBytes(r, []byte{0, 0, 0, 0}) // as a marker: an abort
		r = kbin.AppendVarintBytes(r, []byte(v))
		r = kbin.AppendVarint(r, 0)
		records = append(kbin.AppendVarint(records, int32(len(r))), r...)
	}
	b := kmsg.NewRecordBatch()
	b.FirstOffset, b.PartitionLeaderEpoch, b.Attributes, b.Magic = first, epoch, attributes, 2
	b.LastOffsetDelta, b.NumRecords, b.Records = int32(max(len(values), 1)-1), int32(len(values)), records
	b.FirstTimestamp, b.MaxTimestamp, b.ProducerID = 1000+first, 1000+first, 1
	b.Length = int32(len(b.AppendTo(nil)) - 12)
	return repair(b.AppendTo(nil))
}

func TestStandIn(t *testing.T) {
	a, b, c := batch(5, 1, 0, "a", "b"), batch(7, 2, transactional, "c"), batch(8, 3, 0, "d")
	all := bytes.Join([][]byte{a, b, c}, nil)
	for name, test := range map[string]struct {
		batches   []byte
		next      int64
		epoch     int32
		timestamp int64
	}{
		"the last of all":            {all, 9, 3, 1008},
		"the last of those taken":    {all, 8, 2, 1007},
		"the first":                  {all, 7, 1, 1005},
		"nothing":                    {nil, 7, noEpoch, 0},
		"a header cut off":           {a[:batchHeader-1], 7, noEpoch, 0},
		"a batch cut off, not taken": {append(bytes.Clone(a), b[:batchHeader]...), 7, 1, 1005},
	} {
		t.Run(name, func(t *testing.T) {
			r := standIn(test.batches, test.next)
			if r.Offset != test.next-1 || r.LeaderEpoch != test.epoch || r.Timestamp != test.timestamp || !r.Control {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestEpochAt(t *testing.T) {
	b := batch(5, 3, 0, "a", "b", "c")
	for offset, want := range map[int64]bool{4: false, 5: true, 7: true, 8: false} {
		if epoch, found := epochAt(b, offset); found != want || found && epoch != 3 {
			t.Errorf("offset %d: %d %v", offset, epoch, found)
		}
	}
	if _, found := epochAt(b[:batchHeader-1], 5); found {
		t.Error("found in a header cut off")
	}
}

func TestDecode(t *testing.T) {
	aborted := []kmsg.FetchResponseTopicPartitionAbortedTransaction{{ProducerID: 1, FirstOffset: 5}}
	join := func(b ...[]byte) []byte { return bytes.Join(b, nil) }
	corrupt := batch(7, 1, 0, "c")
	corrupt[len(corrupt)-1]++
	change := func(b []byte, at int, to byte) []byte { b[at] = to; return repair(b) }
	for name, test := range map[string]struct {
		batches []byte
		aborted bool
		want    []events.Record // of which offset, epoch, control and value count
		fails   bool
	}{
		"nothing":                {nil, false, nil, false},
		"two batches":            {join(batch(5, 1, 0, "a", "b"), batch(7, 2, 0, "c")), false, []events.Record{rec(5, 1, "a"), rec(6, 1, "b"), rec(7, 2, "c")}, false},
		"from within":            {batch(3, 1, 0, "x", "y", "a"), false, []events.Record{rec(5, 1, "a")}, false},
		"aborted, then ended":    {join(batch(5, 1, transactional, "x", "y"), batch(7, 2, transactional|control, "")), true, []events.Record{ctl(7, 2)}, false},
		"aborted, not ended":     {join(batch(5, 1, transactional, "x"), batch(6, 2, transactional, "y", "z")), true, []events.Record{ctl(7, 2)}, false},
		"aborted after one":      {join(batch(5, 1, 0, "a"), batch(6, 2, transactional, "y")), false, []events.Record{rec(5, 1, "a"), rec(6, 2, "y")}, false},
		"compacted away":         {batch(5, 4, 0), false, []events.Record{ctl(5, 4)}, false},
		"the second cut off":     {join(batch(5, 1, 0, "a", "b"), batch(7, 2, 0, "c")[:70]), false, []events.Record{rec(5, 1, "a"), rec(6, 1, "b")}, false},
		"the second corrupt":     {join(batch(5, 1, 0, "a", "b"), corrupt), false, []events.Record{rec(5, 1, "a"), rec(6, 1, "b")}, true},
		"the first corrupt":      {corrupt, false, nil, true},
		"all before":             {batch(3, 1, 0, "a", "b"), false, nil, true},
		"not even a header":      {[]byte("hi"), false, nil, true},
		"an older format":        {change(batch(5, 1, 0, "a", "b"), 16, 1), false, nil, true},
		"more records than said": {change(batch(5, 1, 0, "a", "b"), 60, 1), false, nil, true},
		"fewer than said":        {change(batch(5, 1, 0, "a", "b"), 60, 3), false, nil, true},
		"beyond the last offset": {change(batch(5, 1, 0, "a", "b"), 26, 0), false, nil, true},
		"the same offset again":  {change(batch(5, 1, 0, "a", "b"), batchHeader+12+3, 0), false, nil, true},
		"ends before it starts":  {change(batch(5, 1, 0, "a"), 23, 0xff), false, nil, true},
		"a record too long":      {change(batch(5, 1, 0, "a", "b"), batchHeader, 80), false, nil, true},
		"a value too long":       {change(batch(5, 1, 0, "a"), batchHeader+9, 4), false, nil, true},
		"an unknown codec":       {change(batch(5, 1, 0, "a"), 22, 5), false, nil, true},
		"the only one, cut off":  {batch(5, 1, 0, "a", "b")[:70], false, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			answer := &kmsg.FetchResponseTopicPartition{RecordBatches: test.batches}
			if test.aborted {
				answer.AbortedTransactions = aborted
			}
			m, next, err := newDecoder(1<<20).decode(5, answer)
			got := m.records
			if (err != nil) != test.fails {
				t.Errorf("error %v", err)
			}
			if len(got) != len(test.want) {
				t.Fatalf("got %+v", got)
			}
			for i, w := range test.want {
				if g := got[i]; g.Offset != w.Offset || g.LeaderEpoch != w.LeaderEpoch || g.Control != w.Control || string(g.Value) != string(w.Value) || g.Timestamp < 1000 {
					t.Errorf("record %d: %+v, not %+v", i, g, w)
				}
			}
			want := int64(5)
			if n := len(got); n > 0 {
				want = got[n-1].Offset + 1
			}
			if next != want {
				t.Errorf("the next position is %d, not %d", next, want)
			}
		})
	}
}

func rec(offset int64, epoch int32, value string) events.Record {
	return events.Record{Offset: offset, LeaderEpoch: epoch, Value: []byte(value)}
}

func ctl(offset int64, epoch int32) events.Record {
	return events.Record{Offset: offset, LeaderEpoch: epoch, Control: true}
}

// Whatever a broker answers, decode does not panic, hands out offsets that rise
// from the position on, ends just before the next position, and keeps to its
// limits of memory.
func FuzzDecode(f *testing.F) {
	f.Add(batch(5, 1, 0, "a", "b"), int64(5), false)
	f.Add(batch(5, 1, 0, "a", "b"), int64(6), false)
	f.Add(batch(5, 1, transactional, "a", "b"), int64(5), true)
	f.Add(append(batch(5, 1, transactional, "a"), batch(6, 1, transactional|control, "")...), int64(5), true)
	f.Add(append(batch(5, 1, 0, "a"), batch(6, 1, 0, "b")[:70]...), int64(5), false)
	f.Add(batch(5, 1, 0), int64(5), false)
	f.Add([]byte("hi"), int64(0), false)
	for codec := range codecs {
		f.Add(pack(f, testBatch{first: 5, lastDelta: 1, attributes: codec, records: []testRecord{{value: []byte("a")}, {delta: 1, key: []byte("k")}}}), int64(5), false)
		f.Add(bomb(f, codec, 4<<20), int64(0), false)
	}
	f.Fuzz(func(t *testing.T, batches []byte, position int64, aborted bool) {
		if position < 0 || position > 1<<62 || len(batches) > 1<<16 {
			return
		}
		batches = repair(bytes.Clone(batches))
		answer := &kmsg.FetchResponseTopicPartition{RecordBatches: batches}
		if aborted {
			answer.AbortedTransactions = []kmsg.FetchResponseTopicPartitionAbortedTransaction{{ProducerID: 1}}
		}
		const limit = 1 << 20
		m, next, err := (&decoder{newUnpacker(limit), limit}).decode(position, answer)
		at := position
		for _, r := range m.records {
			if r.Offset < at {
				t.Fatalf("offset %d after position %d", r.Offset, at)
			}
			at = r.Offset + 1
		}
		if next != at {
			t.Fatalf("the next position is %d, but the records end before %d", next, at)
		}
		if len(m.records) == 0 && err == nil && len(batches) > 0 {
			t.Fatal("nothing came of the answer, and nothing is wrong with it")
		}
		// What is asked of the pools may be twice as large, for what is used and
		// for what is still expected.
		if size := m.size(); size > 16*limit {
			t.Fatalf("%d bytes are held, for %d that are used", size, m.used())
		}
		m.free()
	})
}

// repair fills in the checksums of whole batches.
func repair(batches []byte) []byte {
	for rest := batches; len(rest) >= batchHeader; {
		length := int64(int32(binary.BigEndian.Uint32(rest[8:]))) + 12
		if length < batchHeader || length > int64(len(rest)) {
			break
		}
		b := rest[:length]
		binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], castagnoli))
		rest = rest[length:]
	}
	return batches
}
