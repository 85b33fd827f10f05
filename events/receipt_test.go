package events

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// FuzzReceipt holds the short way of decoding receipts to the long one.
func FuzzReceipt(f *testing.F) {
	for _, e := range []*MessageRead{
		{MessageID: []byte("m"), ReaderID: []byte("bob"), ReadAt: Unclaimed},
		{MessageID: []byte("01234567-0123-0123-0123-0123456789ab"), ReaderID: []byte("bob"), ReadAt: 1_795_420_800_000},
		{MessageID: []byte("m"), ReaderID: []byte("b"), ReadAt: -1},
		{MessageID: []byte("m"), ReaderID: bytes.Repeat([]byte("ö"), 64), ReadAt: 0},
	} {
		value, err := AppendEncode(nil, e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(e.MessageID, value)
		f.Add([]byte("a\x7f"), value)
		f.Add(e.MessageID, value[:len(value)-1])
		f.Add(e.MessageID, protowire.AppendVarint(protowire.AppendTag(value, 7, protowire.VarintType), 1))
		for i := range value {
			broken := bytes.Clone(value)
			broken[i] ^= 0x81
			f.Add(e.MessageID, broken)
		}
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		var short, long Decoder
		taken := short.receipt(key, value)
		e, err := long.decode(key, value)
		if !taken {
			return
		}
		want, is := e.(*MessageRead)
		if err != nil || !is || !bytes.Equal(want.MessageID, short.read.MessageID) || !bytes.Equal(want.ReaderID, short.read.ReaderID) || want.ReadAt != short.read.ReadAt {
			t.Fatalf("%q, %x: %+v, but %+v, %v", key, value, short.read, e, err)
		}
	})
}

// Nearly all receipts are to take the short way.
func TestReceiptsTakeTheShortWay(t *testing.T) {
	for _, readAt := range []int64{Unclaimed, 0, 1_795_420_800_000} {
		e := &MessageRead{MessageID: []byte("m"), ReaderID: bytes.Repeat([]byte("r"), 100), ReadAt: readAt}
		value, err := AppendEncode(nil, e)
		if err != nil {
			t.Fatal(err)
		}
		if !new(Decoder).receipt(e.MessageID, value) {
			t.Errorf("a receipt read at %d does not", readAt)
		}
	}
}
