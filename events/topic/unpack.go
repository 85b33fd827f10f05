package topic

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Kafka's codecs, as the lowest bits of a record batch's attributes have them.
const (
	packedNot = iota
	packedGzip
	packedSnappy
	packedLZ4
	packedZstd
)

// unpackLimit bounds what one record batch may be unpacked to, together with
// what is kept of each of its records. What a broker lets through is bounded as
// it is packed (max.message.bytes), and a few kilobytes can stand for gigabytes.
const unpackLimit = 128 << 20

var errUnpacked = errors.New("it unpacks to too much")

func tooLarge(limit int) error {
	return fmt.Errorf("%w: one batch may take %d bytes; have its producer make smaller ones", errUnpacked, limit)
}

// unpacker unpacks record batches, one at a time.
type unpacker struct {
	limit int
	zstd  *zstd.Decoder
	gzip  gzip.Reader
	lz4   *lz4.Reader
	from  bytes.Reader
	// ratio is how many bytes came of one, lately at most. Most producers'
	// batches do not say.
	ratio float64
}

// startRatio is what is expected before anything was unpacked: too much costs
// some room, too little some time.
const startRatio = 8

func newUnpacker(limit int) *unpacker { return &unpacker{limit: limit, ratio: startRatio} }

// expect is how much room to have for what is packed, all told.
func (u *unpacker) expect(packed int) int {
	return int(min(float64(packed)*u.ratio*1.125+1<<10, float64(u.limit)))
}

// unpack returns what src holds. It lies in one of m's chunks; rest is how many
// bytes are expected to be unpacked next.
func (u *unpacker) unpack(codec int, src []byte, m *memory, rest int) ([]byte, error) {
	size := len(src)
	switch codec {
	case packedNot:
		// Copied, so that a few records do not keep a whole answer alive.
	case packedSnappy:
		n, err := snappySize(src)
		if err != nil {
			return nil, err
		}
		size = n
	default:
		size = u.expect(len(src))
	}
	if size > u.limit {
		return nil, tooLarge(u.limit)
	}
	c := m.tail(size, size+rest)
	from := len(c.bytes)
	dst := c.bytes[from:from:cap(c.bytes)]
	out, err := u.append(codec, dst, src)
	if err != nil {
		return nil, err
	}
	if codec != packedNot && len(src) > 0 {
		u.ratio = max(float64(len(out))/float64(len(src)), u.ratio*0.99)
	}
	if len(out) > 0 && (cap(dst) == 0 || &out[0] != &dst[:1][0]) { // it had to be put elsewhere
		m.chunks = append(m.chunks, &chunk{out})
		return out, nil
	}
	c.bytes = c.bytes[:from+len(out)]
	return out, nil
}

// append appends what src holds to dst, which is empty.
func (u *unpacker) append(codec int, dst, src []byte) ([]byte, error) {
	switch codec {
	case packedNot:
		return append(dst, src...), nil
	case packedSnappy:
		return appendSnappy(dst, src)
	case packedZstd:
		return u.appendZstd(dst, src)
	case packedGzip:
		u.from.Reset(src)
		defer u.from.Reset(nil)
		if err := u.gzip.Reset(&u.from); err != nil {
			return nil, err
		}
		return u.appendAll(dst, &u.gzip)
	case packedLZ4:
		u.from.Reset(src)
		defer u.from.Reset(nil)
		if u.lz4 == nil {
			u.lz4 = lz4.NewReader(nil)
		}
		u.lz4.Reset(&u.from)
		return u.appendAll(dst, u.lz4)
	}
	return nil, fmt.Errorf("compression codec %d is none of Kafka's", codec)
}

func (u *unpacker) appendZstd(dst, src []byte) ([]byte, error) {
	if u.zstd == nil {
		// Without a reader and with one decoder it runs no goroutine, and there
		// is nothing to close.
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(u.limit)))
		if err != nil {
			return nil, err
		}
		u.zstd = d
	}
	out, err := u.zstd.DecodeAll(src, dst)
	if errors.Is(err, zstd.ErrDecoderSizeExceeded) || errors.Is(err, zstd.ErrWindowSizeExceeded) {
		return nil, tooLarge(u.limit)
	}
	return out, err
}

// appendAll reads from to its end.
func (u *unpacker) appendAll(dst []byte, from io.Reader) ([]byte, error) {
	for {
		if len(dst) > u.limit {
			return nil, tooLarge(u.limit)
		}
		if len(dst) == cap(dst) {
			dst = append(dst, 0)[:len(dst)]
		}
		n, err := from.Read(dst[len(dst):min(cap(dst), u.limit+1)])
		dst = dst[:len(dst)+n]
		if errors.Is(err, io.EOF) {
			return dst, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// xerial begins what Java's Snappy stream writes: this, two versions of four
// bytes, and then blocks, each after its length.
var xerial = []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0}

const xerialHeader = 16

var errXerial = errors.New("malformed blocks of Snappy")

// snappyBlocks calls each with the blocks of src.
func snappyBlocks(src []byte, each func(block []byte) error) error {
	if len(src) < xerialHeader || !bytes.HasPrefix(src, xerial) {
		return each(src)
	}
	for src = src[xerialHeader:]; len(src) > 0; {
		if len(src) < 4 {
			return errXerial
		}
		size := int64(binary.BigEndian.Uint32(src))
		if src = src[4:]; size > int64(len(src)) {
			return errXerial
		}
		if err := each(src[:size]); err != nil {
			return err
		}
		src = src[size:]
	}
	return nil
}

// snappySize is what src says that it unpacks to.
func snappySize(src []byte) (size int, err error) {
	err = snappyBlocks(src, func(block []byte) error {
		n, err := s2.DecodedLen(block)
		size += n
		return err
	})
	return size, err
}

// appendSnappy appends to dst, which has room for snappySize.
func appendSnappy(dst, src []byte) ([]byte, error) {
	err := snappyBlocks(src, func(block []byte) error {
		n, err := s2.DecodedLen(block)
		if err != nil {
			return err
		}
		out, err := s2.Decode(dst[len(dst):len(dst)+n], block)
		dst = dst[:len(dst)+len(out)]
		return err
	})
	return dst, err
}
