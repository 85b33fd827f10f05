package topic

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// How a Reader knows that a log continues what it has handed out.
//
// A partition's log is written by one leader at a time, and every batch carries
// the epoch of the leader that wrote it. A replica's part of an epoch is the
// beginning of what that epoch's leader wrote. So two logs that hold the same
// offset with the same epoch are equal up to there, and a log continues ours if
// it holds the record before our position, with the epoch that it had when it
// was handed out. That is what check asks of every leader, before the first
// fetch from it: OffsetForLeaderEpoch says where the epoch ends in its log.
//
// The races, and why they are none:
//
//   - A leader changes between check and fetch, and the new one has lost
//     records. Both requests carry the leader epoch that the partition was
//     claimed in, and brokers fence it: the new leader, and the old one as soon
//     as it knows that it is deposed, answer with an error and no data. A leader
//     does not lose records within its epoch. So data is only ever taken from
//     the leader, in the epoch, that was checked, and no record of another log
//     is handed out before its check; there is no window.
//   - A deposed leader does not know yet that it is, and answers. What it holds
//     below its high watermark was once acknowledged; if its successor lost it,
//     then the check of the successor fails, just as if we had read it earlier.
//   - A leader, just elected, does not know its high watermark yet. Its answer
//     would say that the partition ends sooner than it does. ListOffsets refuses
//     to answer then (OFFSET_NOT_AVAILABLE) and check is tried again, so that
//     the ends that fetch takes from answers never miss an acknowledged record.
//   - The topic is recreated. Fetch asks by topic ID, and so never gets the new
//     topic's records. ListOffsets and OffsetForLeaderEpoch ask by name and may
//     be answered by the new topic; if that passes for the old log, Fetch is
//     refused; if not, the topic's ID is looked at again before anything is
//     concluded, for the right reason to be given.
//   - Retention passes the position between check and fetch. Fetch answers
//     OFFSET_OUT_OF_RANGE, and check is asked again.
//
// What cannot be seen: a single replica that loses records in a crash, is leader
// again in the same epoch, and has as many new ones before it is asked. Hence
// `seenby topic check` on replication.

// verdict is what check found against a claim.
type verdict struct {
	claim
	why *Discontinued
}

// check finds out, for those claims that need it, whether the leader's log
// continues them. It returns the claims that may be fetched, and those whose
// reading has to end.
func (f *fetcher) check(ctx context.Context, claims []claim) (ready []claim, broken []verdict) {
	var due []claim
	for _, c := range claims {
		if c.checkedIn == c.leaderEpoch {
			ready = append(ready, c)
		} else {
			due = append(due, c)
		}
	}
	if len(due) == 0 {
		return ready, nil
	}
	found, err := f.facts(ctx, due)
	if err != nil {
		f.retry(ctx, err, due...)
		return ready, nil
	}
	for _, c := range due {
		why, err := f.judge(ctx, c, found[c.id])
		switch {
		case err != nil:
			f.retry(ctx, err, c)
		case why != nil:
			broken = append(broken, verdict{c, why})
		default:
			f.settle(c, found[c.id])
			ready = append(ready, c)
		}
	}
	return ready, broken
}

// conclude ends partitions, after a last look whether the topic, and its
// leaders, are still those that were asked. If they are not, then the partitions
// have ended for that reason, or are checked again.
func (f *fetcher) conclude(ctx context.Context, broken []verdict) {
	err := f.r.surveyOnce(ctx)
	for _, v := range broken {
		if err != nil {
			f.retry(ctx, err, v.claim)
			continue
		}
		f.r.mu.Lock()
		if v.leader.epoch == v.leaderEpoch {
			f.r.conclude(v.partition, v.why)
		}
		f.r.mu.Unlock()
	}
}

// facts are what a leader says of its log.
type facts struct {
	err           error
	start, end    int64 // the log's first offset, and its high watermark
	lastEpoch     int32 // the largest epoch up to the claim's, -1 if it has none
	lastEpochEnds int64 // and where it ends, -1 if it has none
}

const unanswered int64 = -3

func (f *fetcher) facts(ctx context.Context, claims []claim) (map[int32]*facts, error) {
	found := make(map[int32]*facts, len(claims))
	for _, c := range claims {
		found[c.id] = &facts{start: unanswered, end: unanswered, lastEpochEnds: unanswered}
	}
	if err := f.listOffsets(ctx, claims, -2, func(id int32, offset int64, err error) {
		if is := found[id]; is != nil {
			is.start, is.err = offset, err
		}
	}); err != nil {
		return nil, err
	}
	if err := f.listOffsets(ctx, claims, -1, func(id int32, offset int64, err error) {
		if is := found[id]; is != nil {
			is.end, is.err = offset, errors.Join(is.err, err)
		}
	}); err != nil {
		return nil, err
	}
	return found, f.epochEnds(ctx, claims, found)
}

// listOffsets asks for the offset at a special timestamp: -2, the log's start,
// or -1, its high watermark.
func (f *fetcher) listOffsets(ctx context.Context, claims []claim, at int64, each func(id int32, offset int64, err error)) error {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic = f.r.config.Topic
	for _, c := range claims {
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Partition, p.CurrentLeaderEpoch, p.Timestamp = c.id, c.leaderEpoch, at
		t.Partitions = append(t.Partitions, p)
	}
	req.Topics = []kmsg.ListOffsetsRequestTopic{t}
	kresp, err := f.request(ctx, req)
	if err != nil {
		return err
	}
	for _, t := range kresp.(*kmsg.ListOffsetsResponse).Topics {
		for _, p := range t.Partitions {
			err := kerr.ErrorForCode(p.ErrorCode)
			if err == nil && p.Offset < 0 {
				err = fmt.Errorf("offset %d listed", p.Offset)
			}
			if err != nil {
				err = fmt.Errorf("broker %d: ListOffsets: %w", f.node, err)
			}
			each(p.Partition, p.Offset, err)
		}
	}
	return nil
}

// epochEnds asks where the epoch of each claim's last record ends.
func (f *fetcher) epochEnds(ctx context.Context, claims []claim, found map[int32]*facts) error {
	req := kmsg.NewPtrOffsetForLeaderEpochRequest()
	req.ReplicaID = -1
	t := kmsg.NewOffsetForLeaderEpochRequestTopic()
	t.Topic = f.r.config.Topic
	for _, c := range claims {
		if !c.hasEpochs() {
			continue
		}
		p := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
		p.Partition, p.CurrentLeaderEpoch, p.LeaderEpoch = c.id, c.leaderEpoch, c.epoch
		t.Partitions = append(t.Partitions, p)
	}
	if len(t.Partitions) == 0 {
		return nil
	}
	req.Topics = []kmsg.OffsetForLeaderEpochRequestTopic{t}
	kresp, err := f.request(ctx, req)
	if err != nil {
		return err
	}
	for _, t := range kresp.(*kmsg.OffsetForLeaderEpochResponse).Topics {
		for _, p := range t.Partitions {
			is := found[p.Partition]
			if is == nil {
				continue
			}
			is.lastEpoch, is.lastEpochEnds = p.LeaderEpoch, p.EndOffset
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				is.err = errors.Join(is.err, fmt.Errorf("broker %d: OffsetForLeaderEpoch: %w", f.node, err))
			}
		}
	}
	return nil
}

// judge says whether the log that the facts are about continues the claim. An
// error means that it cannot be told now.
func (f *fetcher) judge(ctx context.Context, c claim, is *facts) (*Discontinued, error) {
	switch {
	case is.err != nil:
		return nil, is.err
	case is.start == unanswered || is.end == unanswered || c.hasEpochs() && is.lastEpochEnds == unanswered:
		return nil, fmt.Errorf("broker %d: %w", f.node, errNotAnswered)
	case c.fresh:
		return nil, nil
	}
	id := f.r.config.Identity
	d := &Discontinued{
		Partition: c.id, Position: c.position, Epoch: c.epoch, LogStart: is.start, End: is.end,
		LeaderEpoch: c.leaderEpoch, LastEpoch: is.lastEpoch, EpochEnd: max(is.lastEpochEnds, -1), Was: id, Is: id,
	}
	if c.position < is.start {
		d.Reason = Expired
		return d, nil
	}
	d.Reason = Lost
	switch {
	case !c.hasEpochs():
		if c.position > is.end {
			return d, nil
		}
	case is.lastEpochEnds < 0:
		held, err := f.holds(ctx, c)
		if err != nil {
			return nil, err
		}
		if !held {
			return d, nil
		}
	case is.lastEpoch != c.epoch || is.lastEpochEnds < c.position:
		return d, nil
	}
	return nil, nil
}

var errNotAnswered = errors.New("no answer about the partition")

// holds asks for the record before the claim's position itself, of a leader that
// says that it knows nothing of its epoch. Kafka says so only if that is true.
// Other brokers also say so while their newest batch is of that epoch but they
// lead in a later one.
func (f *fetcher) holds(ctx context.Context, c claim) (bool, error) {
	before := &partition{id: c.id, position: c.position - 1}
	kresp, err := f.request(ctx, f.fetchRequest([]claim{{before, c.leaderEpoch}}, 0, 1, 1))
	if err != nil {
		return false, err
	}
	answer := f.fetched(kresp.(*kmsg.FetchResponse))[c.id]
	if answer == nil {
		return false, fmt.Errorf("broker %d: Fetch: %w", f.node, errNotAnswered)
	}
	switch err := kerr.ErrorForCode(answer.ErrorCode); {
	case errors.Is(err, kerr.OffsetOutOfRange):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("broker %d: Fetch: %w", f.node, err)
	}
	epoch, found := epochAt(answer.RecordBatches, before.position)
	return found && epoch == c.epoch, nil
}

// settle notes that the leader's log continues the claim.
func (f *fetcher) settle(c claim, is *facts) {
	f.r.mu.Lock()
	defer f.r.mu.Unlock()
	c.checkedIn = c.leaderEpoch
	if c.fresh {
		c.position = is.start
	}
}
