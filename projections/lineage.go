package projections

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"time"
)

// FoldVersion counts the changes of the fold's rules. Two builds of the same
// FoldVersion fold equal logs into equal state.
const FoldVersion = 2

// Lineage is what, besides the log, decides the state. Copies of one lineage
// hold the same state, and the same versions, at the same position.
type Lineage struct {
	TopicID [16]byte
	// Partitions is the topic's number of partitions. It must not change.
	Partitions int32
	// Generation is raised by the operator after the log lost records.
	Generation uint32
	// FoldVersion is [FoldVersion] of the build that folds.
	FoldVersion int
	Limits      Limits
	// Retention is how long after its sent_at a message expires.
	Retention time.Duration
	// Skips are records that the operator has every copy pass over.
	Skips []Skip
}

// Limits bound what a partition keeps beside its messages. They are part of the
// lineage because hitting one shows.
type Limits struct {
	// Waiting is how many receipts and recalls of messages that have not been
	// sent yet may wait in one partition.
	Waiting int
}

// Skip names one record to pass over, whatever it is.
type Skip struct {
	Partition int32
	Offset    int64
}

func (s Skip) String() string { return fmt.Sprintf("%d@%d", s.Partition, s.Offset) }

func compareSkips(a, b Skip) int {
	if a.Partition != b.Partition {
		return int(a.Partition - b.Partition)
	}
	switch {
	case a.Offset < b.Offset:
		return -1
	case a.Offset > b.Offset:
		return 1
	}
	return 0
}

// SortedSkips returns the skips in order and without repeats.
func (l Lineage) SortedSkips() []Skip {
	s := slices.Clone(l.Skips)
	slices.SortFunc(s, compareSkips)
	return slices.Compact(s)
}

// Skipped says whether the operator has the record at offset passed over.
func (l Lineage) Skipped(partition int32, offset int64) bool {
	return slices.Contains(l.Skips, Skip{partition, offset})
}

// LogID names the log: the topic and its generation. Versions and positions of
// another log say nothing about this one.
func (l Lineage) LogID() uint32 { return LogID(l.TopicID, l.Generation) }

// LogID is the first four bytes of SHA-256 over the topic's ID and the
// generation.
func LogID(topicID [16]byte, generation uint32) uint32 {
	sum := sha256.Sum256(binary.BigEndian.AppendUint32(topicID[:], generation))
	return binary.BigEndian.Uint32(sum[:])
}

// ID is the first four bytes of SHA-256 over everything in the lineage. It is
// part of every version.
func (l Lineage) ID() uint32 {
	b := append([]byte(nil), l.TopicID[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(l.Partitions))
	b = binary.BigEndian.AppendUint32(b, l.Generation)
	b = binary.BigEndian.AppendUint32(b, uint32(l.FoldVersion))
	b = binary.BigEndian.AppendUint64(b, uint64(l.Limits.Waiting))
	b = binary.BigEndian.AppendUint64(b, uint64(l.Retention.Milliseconds()))
	for _, s := range l.SortedSkips() {
		b = binary.BigEndian.AppendUint32(b, uint32(s.Partition))
		b = binary.BigEndian.AppendUint64(b, uint64(s.Offset))
	}
	sum := sha256.Sum256(b)
	return binary.BigEndian.Uint32(sum[:])
}
