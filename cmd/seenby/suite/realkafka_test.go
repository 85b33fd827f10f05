package suite

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/seenby/seenby/events"
)

// TestBrokersClock has producers whose clocks are wrong write to the topic
// directly: only the broker's clock says when a record was appended.
func TestBrokersClock(t *testing.T) {
	k := realKafka(t, "kfake takes the producer's timestamps")
	s := newSystem(t, k, 1).small()
	begun := time.Now().Truncate(time.Millisecond)
	s.send(putMessage("m1", "alice", "unclaimed", "early", "late"))
	var records []*kgo.Record
	for reader, clock := range map[string]time.Duration{"unclaimed": 3 * time.Hour, "early": -20 * day, "late": 3 * time.Hour} {
		read := &events.MessageRead{MessageID: []byte("m1"), ReaderID: []byte(reader), ReadAt: events.Unclaimed}
		if reader == "late" {
			read.ReadAt = time.Now().Add(clock).UnixMilli()
		}
		value, err := events.AppendEncode(nil, read)
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, &kgo.Record{Topic: s.topic, Key: []byte("m1"), Value: value, Timestamp: time.Now().Add(clock)})
	}
	k.produce(t, records...)
	ended := time.Now()
	s.awaitEnd(t)
	p, err := s.client.pullAll(t.Context(), "alice", "m1", nil)
	if err != nil {
		t.Fatal(err)
	}
	if p.ReadCount != 3 {
		t.Errorf("%d have read, not 3", p.ReadCount)
	}
	for _, e := range p.Readers {
		if at, err := time.Parse(clockForm, e.ReadAt); err != nil || at.Before(begun) || at.After(ended) {
			t.Errorf("%s: read_at %s, must be from %v to %v", e.Reader, e.ReadAt, begun, ended)
		}
	}
}

// TestMinInSync stops a broker without which too few have a partition: writes to
// it are refused, and accepted again when the broker is back.
func TestMinInSync(t *testing.T) {
	k := controlledKafka(t, "kfake has no replicas")
	topic := newName(t)
	code, out, errs := command(t, append(k.createArgs(topic, 1), "--replicas", "2", "--min-in-sync", "2")...)
	if code != 0 {
		t.Fatalf("seenby topic create: exit code %d\n%s%s", code, out, errs)
	}
	k.removeLater(t, topic)
	s := newSystemOn(t, k, topic, 1).small()
	s.send(putMessage("m1", "alice", "bob", "carol"))
	s.awaitRead(t, "alice", "m1", s.send(readMessages("bob", "m1")))

	p := k.partition(t, topic, 0)
	follower := strconv.Itoa(int(p.Replicas[slices.IndexFunc(p.Replicas, func(r int32) bool { return r != p.Leader })]))
	k.heal(t, follower)
	k.must(t, "kill", follower)
	await(t, func() (bool, string) {
		in := k.partition(t, topic, 0).ISR
		return len(in) == 1, fmt.Sprintf("in sync: %v", in)
	})
	begun := time.Now()
	a, err := s.client.ask(t.Context(), s.client.ingest[0], readMessages("carol", "m1"))
	if err != nil {
		t.Fatal(err)
	}
	s.expect(a, http.StatusServiceUnavailable, "kafka_unavailable")
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("the 503 took %v, must take at most 5 s", took)
	}
	s.expect(mustAsk(t, s, pullMessage("alice", "m1", nil)), http.StatusOK, "")

	k.must(t, "start", follower)
	if p := s.awaitRead(t, "alice", "m1", s.send(readMessages("carol", "m1"))); p.ReadCount != 2 {
		t.Errorf("after the broker came back: %+v", p)
	}
}

// partition is what Kafka says of one.
func (k *kafka) partition(t *testing.T, topic string, number int32) kadm.PartitionDetail {
	t.Helper()
	var detail kadm.PartitionDetail
	await(t, func() (bool, string) {
		topics, err := k.admin.ListTopics(t.Context(), topic)
		if err != nil {
			return false, err.Error()
		}
		detail = topics[topic].Partitions[number]
		return len(detail.Replicas) > 0, fmt.Sprintf("%s: %v", topic, topics[topic].Err)
	})
	return detail
}

// TestUncleanElection loses acknowledged records: a replica that did not have
// them becomes leader. The partition stops, and the other goes on. So it does in
// a copy that was down meanwhile, and finds a log that has grown beyond its
// position again: only leader epochs tell that it is another one.
//
//	replicas of partition 0: a (the leader), b        of partition 1: c, a
//	b is paused until it is out of sync; a takes more records, which are applied;
//	a is killed, b resumed: b is elected, and has never seen those records.
func TestUncleanElection(t *testing.T) {
	k := controlledKafka(t, "kfake loses nothing")
	topic := newName(t)
	k.removeLater(t, topic)
	const a, b, c = 1, 2, 3
	k.createUnsafe(t, topic, [][]int32{{a, b}, {c, a}})
	s := newSystemOn(t, k, topic, 2).small()
	lost, kept := s.idIn(0, "lost"), s.idIn(1, "kept")
	for _, id := range []string{lost, kept} {
		s.awaitRead(t, "alice", id, s.send(putMessage(id, "alice", "bob", "carol", "dave")))
	}
	down := newSystemOn(t, k, topic, 2)
	down.addProjectors(1)
	down.addQuery()
	down.start()

	k.heal(t, strconv.Itoa(a), strconv.Itoa(b))
	k.must(t, "pause", strconv.Itoa(b))
	await(t, func() (bool, string) {
		in := k.partition(t, topic, 0).ISR
		return slices.Equal(in, []int32{a}), fmt.Sprintf("in sync: %v", in)
	})
	position := s.send(readMessages("bob", lost))
	for _, s := range []*system{s, down} {
		if p := s.awaitRead(t, "alice", lost, position); p.ReadCount != 1 {
			t.Fatalf("before the loss: %+v", p)
		}
	}
	down.projectors[0].stop(syscall.SIGTERM)
	k.must(t, "kill", strconv.Itoa(a))
	k.must(t, "resume", strconv.Itoa(b))
	await(t, func() (bool, string) {
		leader := k.partition(t, topic, 0).Leader
		return leader == b, fmt.Sprintf("the leader is %d, not %d", leader, b)
	})
	for _, reader := range []string{"carol", "dave", "carol", "dave"} {
		s.send(readMessages(reader, lost))
	}
	s.stoppedAlone(t, lost, kept, "partition 0", "lost", "epoch", "--generation")
	down.projectors[0].start(t)
	t.Logf("/readyz: %s", down.projectors[0].awaitUnready(t, "partition 0", "lost", "epoch", "--generation"))

	k.must(t, "start", strconv.Itoa(a))
	s.projectors[0].awaitUnready(t, "partition 0", "lost")
}

// createUnsafe makes a topic that may lose what it acknowledged, with replicas on
// these brokers.
func (k *kafka) createUnsafe(t *testing.T, topic string, replicas [][]int32) {
	t.Helper()
	req := kmsg.NewPtrCreateTopicsRequest()
	rt := kmsg.NewCreateTopicsRequestTopic()
	rt.Topic, rt.NumPartitions, rt.ReplicationFactor = topic, -1, -1
	for p, brokers := range replicas {
		ra := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
		ra.Partition, ra.Replicas = int32(p), brokers
		rt.ReplicaAssignment = append(rt.ReplicaAssignment, ra)
	}
	for name, value := range map[string]string{
		"unclean.leader.election.enable": "true", "min.insync.replicas": "1", "message.timestamp.type": "LogAppendTime",
		"max.message.bytes": "4194304", "retention.ms": "-1",
	} {
		config := kmsg.NewCreateTopicsRequestTopicConfig()
		config.Name, config.Value = name, &value
		rt.Configs = append(rt.Configs, config)
	}
	req.Topics = append(req.Topics, rt)
	req.TimeoutMillis = 30_000
	resp, err := req.RequestWith(t.Context(), k.client)
	if err == nil {
		err = kerr.ErrorForCode(resp.Topics[0].ErrorCode)
	}
	if err != nil {
		t.Fatalf("create topic %s: %v", topic, err)
	}
	// The brokers learn of it one after the other, and what starts asks any.
	brokers, err := k.admin.ListBrokers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, broker := range brokers {
		ask := kmsg.NewPtrMetadataRequest()
		rt := kmsg.NewMetadataRequestTopic()
		rt.Topic = &topic
		ask.Topics = append(ask.Topics, rt)
		await(t, func() (bool, string) {
			resp, err := ask.RequestWith(t.Context(), k.client.Broker(int(broker.NodeID)))
			return err == nil && resp.Topics[0].ErrorCode == 0, fmt.Sprintf("broker %d does not know topic %s", broker.NodeID, topic)
		})
	}
}
