package protocol

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/seenby/seenby/services/contract"
)

// BatchPath is the route of a batch: its body is that of POST /v1/pulls with the
// messages of one node, and ReadersParameter says how many readers there may be in
// the answer.
const (
	BatchPath        = "/internal/v1/pulls"
	ReadersParameter = "readers"
)

// BatchAnswer is what a node answers to its part of a batch.
type BatchAnswer struct {
	// Results are those of the messages, in the order in which they were asked for.
	Results []BatchResult
	// Position is that of the partitions of all messages that were answered.
	Position contract.Position
	// Lag is the longest of these partitions'.
	Lag  time.Duration
	Poll contract.Poll
}

// BatchResult is what came of one message.
type BatchResult struct {
	// Failed is why it is not answered, or empty.
	Failed contract.Code
	// Body is its JSON; nil says that it is unchanged.
	Body []byte
	// Done says that it is complete or recalled.
	Done bool
}

// An answer's bytes are, integers being uvarints,
//
//	format u8 | log ID u32 | lag, interval and window in ms
//	positions: how many, then partition and next of each
//	results:   how many, then for each: kind u8, and length and text of what has some
const batchFormat = 1

// The kinds of results. Two of them say that the message is done, too.
const (
	resultUnchanged = iota
	resultUnchangedDone
	resultBody
	resultBodyDone
	resultFailed
	resultKinds
)

// Append appends the answer's bytes.
func (a *BatchAnswer) Append(b []byte) []byte {
	b = append(b, batchFormat)
	b = binary.BigEndian.AppendUint32(b, a.Position.Log)
	for _, d := range []time.Duration{a.Lag, a.Poll.Interval, a.Poll.Window} {
		b = binary.AppendUvarint(b, uint64(d.Milliseconds()))
	}
	b = binary.AppendUvarint(b, uint64(len(a.Position.Next)))
	for partition, next := range a.Position.Next {
		b = binary.AppendUvarint(b, uint64(partition))
		b = binary.AppendUvarint(b, uint64(next))
	}
	b = binary.AppendUvarint(b, uint64(len(a.Results)))
	for i := range a.Results {
		b = a.Results[i].append(b)
	}
	return b
}

func (r *BatchResult) append(b []byte) []byte {
	kind, text := byte(resultUnchanged), r.Body
	switch {
	case r.Failed != "":
		kind, text = resultFailed, []byte(r.Failed)
	case r.Body != nil:
		kind = resultBody
	}
	if r.Done && r.Failed == "" {
		kind++
	}
	b = append(b, kind)
	if kind >= resultBody {
		b = binary.AppendUvarint(b, uint64(len(text)))
		b = append(b, text...)
	}
	return b
}

var errBatch = errors.New("an answer to a batch that is not whole: is this the internal port of a projector?")

// ParseBatchAnswer parses what Append appended. The bodies lie in b.
func ParseBatchAnswer(b []byte) (*BatchAnswer, error) {
	r := batchReader{b: b}
	if r.byte() != batchFormat {
		return nil, errBatch
	}
	a := &BatchAnswer{Position: contract.Position{Next: make(map[int32]int64)}}
	a.Position.Log = binary.BigEndian.Uint32(r.take(4, []byte{0, 0, 0, 0}))
	for _, d := range []*time.Duration{&a.Lag, &a.Poll.Interval, &a.Poll.Window} {
		*d = time.Duration(r.number()) * time.Millisecond
	}
	for range r.count() {
		partition := int32(r.number())
		a.Position.Next[partition] = r.number()
	}
	for range r.count() {
		a.Results = append(a.Results, r.result())
	}
	if r.bad || len(r.b) > 0 {
		return nil, errBatch
	}
	return a, nil
}

func (r *batchReader) result() (result BatchResult) {
	kind := r.byte()
	result.Done = kind == resultUnchangedDone || kind == resultBodyDone
	if kind >= resultKinds {
		r.bad = true
	}
	if kind < resultBody || r.bad {
		return result
	}
	text := r.take(r.count(), []byte{})
	if kind == resultFailed {
		result.Failed = contract.Code(text)
	} else {
		result.Body = text
	}
	return result
}

// batchReader reads from the front of b, until that is bad.
type batchReader struct {
	b   []byte
	bad bool
}

func (r *batchReader) byte() byte { return r.take(1, []byte{0})[0] }

func (r *batchReader) number() int64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || int64(v) < 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return int64(v)
}

// count is the number of things that follow, each of a byte or more.
func (r *batchReader) count() int {
	n := r.number()
	if n > int64(len(r.b)) {
		r.bad = true
		return 0
	}
	return int(n)
}

// take returns the next n bytes, or otherwise if there are not so many.
func (r *batchReader) take(n int, otherwise []byte) []byte {
	if r.bad || len(r.b) < n {
		r.bad = true
		return otherwise
	}
	taken := slices.Clip(r.b[:n])
	r.b = r.b[n:]
	return taken
}
