package server

import (
	"bytes"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
)

// minCompressed is the shortest body that is compressed, in bytes: a list of some
// thirty readers. What is shorter fits one or two packets anyway, and most pulls are
// shorter: they pay nothing for this.
//
// Middleware that does this wraps the writer of every answer; here a body is whole
// before it is written.
const minCompressed = 2 << 10

// packed is a compressed body, and what compressed it.
type packed struct {
	bytes.Buffer
	writer *gzip.Writer
}

var packers = sync.Pool{New: func() any {
	// The fastest level packs a list of readers to a third, and better ones to little
	// less, for several times the work. An error is of a level that does not exist.
	w, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) //nolint:errcheck // See above.
	return &packed{writer: w}
}}

// compress returns the body as gzip, until it is released.
func compress(body []byte) *packed {
	p := packers.Get().(*packed) //nolint:errcheck // The pool has nothing else.
	p.Reset()
	p.writer.Reset(&p.Buffer)
	// A buffer takes all that is written to it.
	_, _ = p.writer.Write(body)
	_ = p.writer.Close()
	return p
}

func (p *packed) release() { packers.Put(p) }

// acceptsGzip says whether gzip is among the codings that a client takes (RFC 9110,
// section 12.5.3), by name or by *.
func acceptsGzip(lines []string) bool {
	others := false
	for _, line := range lines {
		for item := range strings.SplitSeq(line, ",") {
			coding, parameters, _ := strings.Cut(item, ";")
			switch coding = strings.TrimSpace(coding); {
			case strings.EqualFold(coding, "gzip"), strings.EqualFold(coding, "x-gzip"):
				return quality(parameters) > 0
			case coding == "*":
				others = quality(parameters) > 0
			}
		}
	}
	return others
}

// quality is the weight among some parameters: 1 if there is none, and 0 if it makes
// no sense.
func quality(parameters string) float64 {
	name, value, found := strings.Cut(parameters, "=")
	if !found || !strings.EqualFold(strings.TrimSpace(name), "q") {
		return 1
	}
	q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
	if err != nil || q < 0 || q > 1 {
		return 0
	}
	return q
}
