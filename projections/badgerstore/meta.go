package badgerstore

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/materialize"
)

// FormatVersion is the version of what this build writes, and the only one that
// it reads.
const FormatVersion = 2

// Owner is the node that a store is made for: a node with other partitions must
// not take it over.
type Owner struct {
	// Copy names the copy.
	Copy string `json:"copy"`
	// Nodes is how many nodes the copy has, and Node which of them this is,
	// from 0.
	Nodes int `json:"nodes"`
	Node  int `json:"node"`
}

// meta says what the store is. Its value is the format version as a uvarint,
// then JSON, for whoever looks at it by hand; what follows the version may be
// different in another format.
type meta struct {
	TopicID      string   `json:"topic_id"`
	Partitions   int32    `json:"partitions"`
	Generation   uint32   `json:"generation"`
	FoldVersion  int      `json:"fold_version"`
	WaitingLimit int      `json:"waiting_limit"`
	RetentionMS  int64    `json:"retention_ms"`
	Skips        []string `json:"skips"`
	Owner        Owner    `json:"owner"`
}

func metaOf(l projections.Lineage, o Owner) meta {
	m := meta{
		TopicID:      hex.EncodeToString(l.TopicID[:]),
		Partitions:   l.Partitions,
		Generation:   l.Generation,
		FoldVersion:  l.FoldVersion,
		WaitingLimit: l.Limits.Waiting,
		RetentionMS:  l.Retention.Milliseconds(),
		Skips:        []string{},
		Owner:        o,
	}
	for _, s := range l.SortedSkips() {
		m.Skips = append(m.Skips, s.String())
	}
	return m
}

// Meta says what a store is.
type Meta struct {
	Format  int
	Lineage projections.Lineage
	Owner   Owner
}

// exported is what metaOf was given.
func (m meta) exported() (Meta, error) {
	l := projections.Lineage{
		Partitions:  m.Partitions,
		Generation:  m.Generation,
		FoldVersion: m.FoldVersion,
		Limits:      projections.Limits{Waiting: m.WaitingLimit},
		Retention:   time.Duration(m.RetentionMS) * time.Millisecond,
	}
	topic, err := hex.DecodeString(m.TopicID)
	if err != nil || len(topic) != len(l.TopicID) {
		return Meta{}, corrupt(metaKey, fmt.Errorf("topic ID %q", m.TopicID))
	}
	l.TopicID = [16]byte(topic)
	for _, text := range m.Skips {
		var s projections.Skip
		if n, err := fmt.Sscanf(text, "%d@%d", &s.Partition, &s.Offset); n != 2 || err != nil {
			return Meta{}, corrupt(metaKey, fmt.Errorf("skip %q", text))
		}
		l.Skips = append(l.Skips, s)
	}
	if m.Owner.Nodes < 1 || m.Owner.Node < 0 || m.Owner.Node >= m.Owner.Nodes {
		return Meta{}, corrupt(metaKey, fmt.Errorf("node %d of %d", m.Owner.Node, m.Owner.Nodes))
	}
	return Meta{FormatVersion, l, m.Owner}, nil
}

func encodeMeta(m meta) ([]byte, error) {
	body, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	return append(binary.AppendUvarint(nil, FormatVersion), body...), nil
}

func decodeMeta(b []byte) (m meta, err error) {
	version, n := binary.Uvarint(b)
	if n <= 0 {
		return m, corrupt(metaKey, errShort)
	}
	if version != FormatVersion {
		return m, fmt.Errorf("%w: version %d, and this build knows version %d: start it on an empty data directory and let it read the log again, or use the build that made the store",
			materialize.ErrFormat, version, FormatVersion)
	}
	if err := json.Unmarshal(b[n:], &m); err != nil {
		return m, corrupt(metaKey, err)
	}
	return m, nil
}

// difference is one setting in which the store and its process differ.
type difference struct {
	what, stored, wanted any
}

// differences are those in everything but the skips.
func (m meta) differences(want meta) (all []difference) {
	add := func(what string, stored, wanted any) {
		if stored != wanted {
			all = append(all, difference{what, stored, wanted})
		}
	}
	add("topic ID", m.TopicID, want.TopicID)
	add("number of partitions", m.Partitions, want.Partitions)
	add("generation", m.Generation, want.Generation)
	add("fold version", m.FoldVersion, want.FoldVersion)
	add("limit of waiting events", m.WaitingLimit, want.WaitingLimit)
	add("retention", time.Duration(m.RetentionMS)*time.Millisecond, time.Duration(want.RetentionMS)*time.Millisecond)
	add("copy", m.Owner.Copy, want.Owner.Copy)
	add("number of nodes of the copy", m.Owner.Nodes, want.Owner.Nodes)
	add("number of the node", m.Owner.Node, want.Owner.Node)
	return all
}

func lineageError(all []difference) error {
	return fmt.Errorf("%w: %s: start with the settings that it was made with, or on an empty data directory, which is filled from the log again", materialize.ErrLineage, describeAll(all))
}

func describeAll(all []difference) string {
	var b strings.Builder
	for i, d := range all {
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "its %s is %v, not %v", d.what, d.stored, d.wanted)
	}
	return b.String()
}

// SameLineage returns an error that names in what a lineage differs from a store's.
func SameLineage(stored, other projections.Lineage) error {
	a, b := metaOf(stored, Owner{}), metaOf(other, Owner{})
	all := a.differences(b)
	if !slices.Equal(a.Skips, b.Skips) {
		all = append(all, difference{"list of records to skip", a.Skips, b.Skips})
	}
	if len(all) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", materialize.ErrLineage, describeAll(all))
}

// claim makes an empty store that of a lineage and owner, and refuses one that
// is of another.
func (s *Store) claim(l projections.Lineage, o Owner) error {
	want := metaOf(l, o)
	var stored meta
	var found bool
	err := s.db.View(func(txn *badger.Txn) (err error) {
		stored, found, err = readMeta(txn)
		return err
	})
	switch {
	case err != nil:
		return err
	case !found:
		return s.writeMeta(want)
	}
	all := stored.differences(want)
	if slices.Equal(stored.Skips, want.Skips) {
		if len(all) > 0 {
			return lineageError(all)
		}
		return nil
	}
	if late, err := s.lateSkips(stored, l); err != nil {
		return err
	} else if late != "" {
		all = append(all, difference{"list of records to skip", stored.Skips, fmt.Sprintf("%v (%s)", want.Skips, late)})
	}
	if len(all) > 0 {
		return lineageError(all)
	}
	// Only skips ahead of the positions were added: what was folded so far was
	// folded as if they had always been there.
	return s.writeMeta(want)
}

// readMeta finds none in an empty store; in one with anything else it is an
// error that there is none.
func readMeta(txn *badger.Txn) (m meta, found bool, err error) {
	item, err := txn.Get(metaKey)
	if errors.Is(err, badger.ErrKeyNotFound) {
		it := txn.NewIterator(badger.IteratorOptions{})
		defer it.Close()
		if it.Rewind(); it.Valid() {
			return m, false, fmt.Errorf("%w: a Badger database that is not seenby's", materialize.ErrFormat)
		}
		return m, false, nil
	}
	if err != nil {
		return m, false, err
	}
	return m, true, item.Value(func(value []byte) (err error) {
		m, err = decodeMeta(value)
		return err
	})
}

func (s *Store) writeMeta(m meta) error {
	value, err := encodeMeta(m)
	if err != nil {
		return err
	}
	return s.commit([]write{{metaKey, value}})
}

// lateSkips says which changes of the skips come too late: one that is no longer
// there, and one for a record that is behind its partition's position.
func (s *Store) lateSkips(stored meta, l projections.Lineage) (late string, err error) {
	want := make(map[string]bool)
	for _, skip := range l.SortedSkips() {
		name := skip.String()
		want[name] = true
		if slices.Contains(stored.Skips, name) {
			continue
		}
		saved, found, err := s.Restore(skip.Partition)
		if err != nil {
			return "", err
		}
		if found && skip.Offset < saved.Checkpoint.Position {
			return fmt.Sprintf("%s was folded already: the partition is at %d", name, saved.Checkpoint.Position), nil
		}
	}
	for _, name := range stored.Skips {
		if !want[name] {
			return fmt.Sprintf("%s is missing", name), nil
		}
	}
	return "", nil
}
