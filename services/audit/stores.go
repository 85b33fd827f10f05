package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/badgerstore"
	"github.com/seenby/seenby/projections/verify"
)

// side is the stores of one side, which are those of some nodes of one copy.
type side struct {
	name    string
	stores  []*badgerstore.Offline
	damaged []Damaged
	lineage projections.Lineage
	// owner is whose store each partition is in.
	owner map[int32]*badgerstore.Offline
}

// openSide opens the stores of some directories. One that has a damaged table cannot
// be opened; then the side says so, and has no stores.
func openSide(ctx context.Context, dirs []string, o Options) (_ *side, err error) {
	s := &side{name: strings.Join(dirs, ","), owner: make(map[int32]*badgerstore.Offline)}
	for _, dir := range dirs {
		damaged, err := badgerstore.DamagedIn(dir, func() error {
			o.Progress("reading the files of "+dir, 0)
			return ctx.Err()
		})
		if err != nil {
			return nil, err
		}
		for _, d := range damaged {
			s.damaged = append(s.damaged, Damaged{dir, d})
		}
	}
	if len(s.damaged) > 0 {
		return s, nil
	}
	for _, dir := range dirs {
		store, err := badgerstore.OpenOffline(dir, o.Logger)
		if err != nil {
			return nil, errors.Join(err, s.close())
		}
		s.stores = append(s.stores, store)
		if err := s.take(dir, store); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	return s, nil
}

func (s *side) take(dir string, store *badgerstore.Offline) error {
	if v := store.Meta().Lineage.FoldVersion; v != projections.FoldVersion {
		return fmt.Errorf("store %s: it was folded by rules of version %d, and this build knows version %d: use the build that made it", dir, v, projections.FoldVersion)
	}
	if len(s.stores) == 1 {
		s.lineage = store.Meta().Lineage
	} else if err := badgerstore.SameLineage(s.lineage, store.Meta().Lineage); err != nil {
		return fmt.Errorf("store %s: %w", dir, err)
	}
	for _, p := range store.Partitions() {
		if s.owner[p] != nil {
			return fmt.Errorf("store %s: partition %d is in another of the directories too: name the stores of one copy", dir, p)
		}
		s.owner[p] = store
	}
	return nil
}

func (s *side) close() (err error) {
	for _, store := range s.stores {
		err = errors.Join(err, store.Close())
	}
	return err
}

// partitions are those of the side, ascending.
func (s *side) partitions() (all []int32) {
	for p := range s.owner {
		all = append(all, p)
	}
	slices.Sort(all)
	return all
}

// Store holds the stores of some nodes of one copy, none of which runs, to
// themselves.
func Store(ctx context.Context, dirs []string, o Options) (r Report, err error) {
	s, err := openSide(ctx, dirs, o)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	r.Sides, r.Damaged = []string{s.name}, s.damaged
	if len(s.damaged) > 0 {
		r.note("what is damaged cannot be opened, so that nothing else was looked at")
	}
	for _, p := range s.partitions() {
		checked, err := s.check(ctx, p, o)
		if err != nil {
			return r, err
		}
		r.Partitions = append(r.Partitions, Partition{Partition: p, Checked: []verify.Checked{checked}})
	}
	r.conclude()
	return r, nil
}

func (s *side) check(ctx context.Context, p int32, o Options) (verify.Checked, error) {
	snapshot := s.owner[p].Snapshot(p)
	defer snapshot.Close()
	return verify.Check(ctx, snapshot, s.lineage, p, o.steps(fmt.Sprintf("%s: partition %d", s.name, p)))
}

func (o Options) steps(what string) verify.Options {
	var read int64
	return verify.Options{Show: o.Show, Step: func(n int) error {
		read += int64(n)
		o.Progress(what, read)
		return nil
	}}
}

// Stores holds stores to themselves, and to others that must be equal to them.
func Stores(ctx context.Context, first, second []string, o Options) (r Report, err error) {
	var sides [2]*side
	for i, dirs := range [][]string{first, second} {
		if sides[i], err = openSide(ctx, dirs, o); err != nil {
			return r, err
		}
		s := sides[i]
		defer func() { err = errors.Join(err, s.close()) }()
		r.Sides, r.Damaged = append(r.Sides, s.name), append(r.Damaged, s.damaged...)
	}
	if len(sides[0].stores) == 0 || len(sides[1].stores) == 0 {
		r.conclude()
		r.note("what is damaged cannot be opened, so that nothing else was looked at")
		return r, nil
	}
	if err := badgerstore.SameLineage(sides[0].lineage, sides[1].lineage); err != nil {
		return r, fmt.Errorf("%s and %s cannot be compared: %w", sides[0].name, sides[1].name, err)
	}
	for _, p := range sides[0].partitions() {
		if sides[1].owner[p] == nil {
			r.note("partition %d is only in %s", p, sides[0].name)
			continue
		}
		one, err := comparePartition(ctx, sides, p, o)
		if err != nil {
			return r, err
		}
		r.Partitions = append(r.Partitions, one)
	}
	for _, p := range sides[1].partitions() {
		if sides[0].owner[p] == nil {
			r.note("partition %d is only in %s", p, sides[1].name)
		}
	}
	r.conclude()
	return r, nil
}

func comparePartition(ctx context.Context, sides [2]*side, p int32, o Options) (Partition, error) {
	one := Partition{Partition: p}
	var of [2]*verify.Side
	for i, s := range sides {
		snapshot := s.owner[p].Snapshot(p)
		defer snapshot.Close()
		checked, err := verify.Check(ctx, snapshot, s.lineage, p, o.steps(fmt.Sprintf("%s: partition %d", s.name, p)))
		if err != nil {
			return one, err
		}
		of[i] = &verify.Side{Snapshot: snapshot, Checked: checked}
		one.Checked = append(one.Checked, checked)
	}
	compared, err := verify.Compare(ctx, of[0], of[1], sides[0].lineage, o.Now().UnixMilli(), o.steps(fmt.Sprintf("comparing partition %d", p)))
	one.Compared = &compared
	return one, err
}
