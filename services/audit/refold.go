package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/seenby/seenby/services/projector"
	"github.com/seenby/seenby/services/projector/protocol"
)

// Topic holds stores to themselves, and to a fresh fold of the topic up to the
// positions that they have. What of the projector's configuration the stores do not
// say themselves is c's. The fold is made below scratch, and removed again.
func Topic(ctx context.Context, dirs []string, c projector.Config, scratch string, o Options, report func(protocol.Progress)) (_ Report, err error) {
	if scratch, err = os.MkdirTemp(scratch, "seenby-verify-"); err != nil {
		return Report{}, fmt.Errorf("make a directory for the fresh fold: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	var folds []string
	for i, dir := range dirs {
		fold := filepath.Join(scratch, fmt.Sprint(i))
		if err := refold(ctx, dir, fold, c, o, report); err != nil {
			return Report{}, err
		}
		folds = append(folds, fold)
	}
	r, err := Stores(ctx, dirs, folds, o)
	if len(r.Sides) == 2 {
		r.Sides[1] = "the topic"
	}
	return r, err
}

func refold(ctx context.Context, dir, fold string, c projector.Config, o Options, report func(protocol.Progress)) error {
	to := make(map[int32]int64)
	s, err := openSide(ctx, []string{dir}, o)
	if err != nil {
		return err
	}
	if len(s.stores) == 0 {
		return errors.Join(fmt.Errorf("store %s cannot be opened: see what verify --data alone says of it", dir), s.close())
	}
	owner := s.stores[0].Meta().Owner
	for _, p := range s.partitions() {
		snapshot := s.owner[p].Snapshot(p)
		saved, found, err := snapshot.Restore()
		snapshot.Close()
		if err != nil {
			return errors.Join(err, s.close())
		}
		if found {
			to[p] = saved.Position
		}
	}
	l := s.lineage
	if err := s.close(); err != nil {
		return err
	}
	c.DataDir, c.Copy, c.Nodes, c.Node = fold, owner.Copy, owner.Nodes, owner.Node
	c.Generation, c.Retention, c.WaitingLimit, c.Skips = l.Generation, l.Retention, l.Limits.Waiting, l.Skips
	c.Now, c.Logger = o.Now, o.Logger
	if err := projector.Refold(ctx, c, l, to, report); err != nil {
		return fmt.Errorf("fold the topic again: %w", err)
	}
	return nil
}
