package ingest

import (
	"context"
	"errors"
	"time"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/events/topic"
	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/services/contract"
)

// entry encodes an event for the log.
func entry(e events.Event) (topic.Entry, *contract.Problem) {
	value, err := events.AppendEncode(nil, e)
	switch {
	case err == nil:
		return topic.Entry{Key: e.Key(), Value: value, Partition: topic.AnyPartition}, nil
	case errors.Is(err, events.ErrTooLarge):
		return topic.Entry{}, contract.NewProblem(contract.RosterTooLarge,
			"the event would be over %d bytes: give recipient_count instead of recipients", events.MaxEventSize).Because(err)
	}
	// What the contract's decoders take is an event.
	return topic.Entry{}, contract.NewProblem(contract.Internal, "").Because(err)
}

// receipts encodes receipts for the log. What the contract decodes is an event,
// and none of them is large, so that their values lie in one buffer.
func receipts(reads []events.MessageRead) ([]topic.Entry, *contract.Problem) {
	size := 0
	for i := range reads {
		size += len(reads[i].ReaderID) + receiptFrame
	}
	buffer, entries := make([]byte, 0, size), make([]topic.Entry, len(reads))
	for i := range reads {
		from := len(buffer)
		var err error
		if buffer, err = events.AppendEncode(buffer, &reads[i]); err != nil {
			return nil, contract.NewProblem(contract.Internal, "").Because(err)
		}
		entries[i] = topic.Entry{Key: reads[i].MessageID, Value: buffer[from:len(buffer):len(buffer)], Partition: topic.AnyPartition}
	}
	return entries, nil
}

// receiptFrame bounds what a receipt takes beside its reader's ID.
const receiptFrame = 24

// reached is the log, once Kafka was reached.
func (s *Service) reached() (*log, *contract.Problem) {
	if l := s.log.Load(); l != nil {
		return l, nil
	}
	return nil, unavailable(*s.trouble.Load())
}

// everywhere is e in each partition of the topic.
func (l *log) everywhere(e topic.Entry) []topic.Entry {
	entries := make([]topic.Entry, l.Identity().Partitions)
	for p := range entries {
		entries[p] = e
		entries[p].Partition = int32(p)
	}
	return entries
}

// append appends entries of one kind, and returns the position from which on all
// of them are applied.
func (s *Service) append(ctx context.Context, kind events.Kind, entries ...topic.Entry) (contract.Position, *contract.Problem) {
	l, problem := s.reached()
	if problem != nil {
		return contract.Position{}, problem
	}
	ctx, cancel := context.WithTimeout(ctx, AppendTimeout)
	defer cancel()
	m := s.metrics.kinds[kind]
	started := time.Now()
	appended, err := l.Append(ctx, entries)
	m.seconds.Observe(time.Since(started).Seconds())
	if err != nil {
		m.failures.Inc()
		return contract.Position{}, appendProblem(err)
	}
	m.appended.Add(float64(len(appended)))
	return position(l.id, appended), nil
}

// position covers every partition that was written.
func position(log uint32, appended []topic.Appended) contract.Position {
	p := contract.Position{Log: log, Next: make(map[int32]int64)}
	for _, a := range appended {
		p.Next[a.Partition] = max(p.Next[a.Partition], a.Offset+1)
	}
	return p
}

func logID(id topic.Identity, generation uint32) uint32 {
	return projections.LogID(id.ID, generation)
}

// appendProblem tells what the client can wait for from what an operator has to
// see to. Either way part may be written, and the same request may be sent again.
func appendProblem(err error) *contract.Problem {
	switch {
	case errors.Is(err, topic.ErrTopicChanged):
		return contract.NewProblem(contract.KafkaUnavailable, "the topic is not the one that this process began with; an operator has to see to it").
			After(10 * time.Second).Because(err)
	case errors.Is(err, topic.ErrUnavailable), errors.Is(err, topic.ErrClosed):
		return unavailable(err)
	}
	return contract.NewProblem(contract.Internal, "").Because(err)
}

func unavailable(err error) *contract.Problem {
	return contract.NewProblem(contract.KafkaUnavailable, "Kafka did not acknowledge it; send the same request again").
		After(time.Second).Because(err)
}
