package topic

import (
	"encoding/binary"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/seenby/seenby/events"
)

// decode returns the records of a partition's answer that are to be handed out,
// from c.position on, and the position after them. If it fails, the records
// before what cannot be decoded are returned with the error.
func decode(topic string, c claim, answer *kmsg.FetchResponseTopicPartition) (records []events.Record, next int64, err error) {
	fp, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
		KeepControlRecords: true,
		Offset:             c.position,
		IsolationLevel:     kgo.ReadCommitted(),
		Topic:              topic,
		Partition:          c.id,
	}, answer, decompressor, nil)
	if fp.Err != nil {
		err = fmt.Errorf("decoding at offset %d: %w", next, fp.Err)
	}
	if err == nil && next == c.position && len(answer.RecordBatches) > 0 {
		err = fmt.Errorf("the broker's answer for offset %d holds %d bytes, but nothing from there on", next, len(answer.RecordBatches))
	}
	leftOut := next > c.position
	if n := len(fp.Records); n > 0 {
		leftOut = next > fp.Records[n-1].Offset+1
		records = make([]events.Record, 0, n+1)
	}
	for _, r := range fp.Records {
		records = append(records, events.Record{
			Offset:      r.Offset,
			Timestamp:   r.Timestamp.UnixMilli(),
			LeaderEpoch: r.LeaderEpoch,
			Control:     r.Attrs.IsControl(),
			Key:         r.Key,
			Value:       r.Value,
		})
	}
	if leftOut {
		records = append(records, standIn(answer.RecordBatches, next))
	}
	return records, next, err
}

// standIn is the record that stands for those that were left out before next.
// Its epoch has to be that of the batch that they were in, not of the last
// record before: that is what the log is held to from here on.
func standIn(batches []byte, next int64) events.Record {
	r := events.Record{Offset: next - 1, LeaderEpoch: noEpoch, Control: true}
	for len(batches) >= batchHeader {
		h := batches[:batchHeader]
		if first := int64(binary.BigEndian.Uint64(h)); first >= next {
			break
		}
		r.LeaderEpoch = int32(binary.BigEndian.Uint32(h[12:]))
		r.Timestamp = int64(binary.BigEndian.Uint64(h[35:]))
		length := int64(int32(binary.BigEndian.Uint32(h[8:]))) + 12
		if length < batchHeader || length > int64(len(batches)) {
			break
		}
		batches = batches[length:]
	}
	return r
}

// batchHeader is the size of a record batch before its records:
//
//	first offset 8 | length 4 | leader epoch 4 | magic 1 | CRC 4 | attributes 2 |
//	last offset delta 4 | first timestamp 8 | max timestamp 8 | producer 14 | records 4
const batchHeader = 61

// epochAt returns the leader epoch of the batch that offset is in, if batches
// hold it.
func epochAt(batches []byte, offset int64) (epoch int32, found bool) {
	if len(batches) < batchHeader {
		return 0, false
	}
	first := int64(binary.BigEndian.Uint64(batches))
	last := first + int64(int32(binary.BigEndian.Uint32(batches[23:])))
	if offset < first || offset > last {
		return 0, false
	}
	return int32(binary.BigEndian.Uint32(batches[12:])), true
}
