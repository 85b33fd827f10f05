package projector

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"
	"time"

	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/badgerstore"
	"github.com/seenby/seenby/projections/materialize"
)

// openStore opens the node's store. It refuses one of another lineage or node.
func openStore(c *Config, lineage projections.Lineage) (*badgerstore.Store, error) {
	store, err := badgerstore.Open(badgerstore.Options{
		Dir:            c.DataDir,
		Lineage:        lineage,
		Owner:          badgerstore.Owner{Copy: c.Copy, Nodes: c.Nodes, Node: c.Node},
		Logger:         c.Logger,
		MemTableSize:   c.MemtableBytes,
		BlockCacheSize: c.CacheBytes / 2,
		IndexCacheSize: c.CacheBytes / 2,
	})
	if errors.Is(err, materialize.ErrLineage) {
		return nil, fmt.Errorf("%w. If the topic was recreated: make new copies under a higher --generation, given to ingest too", err)
	}
	return store, err
}

// timed is a partition's store that tells how long each commit took.
type timed struct {
	materialize.Store
	now  func() time.Time
	took func(time.Duration)
}

func (s *timed) Commit(partition int32, b *materialize.Batch) error {
	begun := s.now()
	if err := s.Store.Commit(partition, b); err != nil {
		return err
	}
	s.took(s.now().Sub(begun))
	return nil
}

// diskUsage is how many bytes a directory's files take on disk. The store's logs
// are larger than what is written of them.
func diskUsage(dir string) (bytes int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			// The store has removed it since the directory was read.
			return nil
		}
		if err != nil {
			return err
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			bytes += stat.Blocks * 512
		}
		return nil
	})
	return bytes, err
}
