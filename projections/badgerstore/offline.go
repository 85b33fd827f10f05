package badgerstore

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"

	"github.com/seenby/seenby/projections/materialize"
)

// KeptUndecodable are the undecodable and misplaced records of one partition.
type KeptUndecodable struct {
	Partition int32
	// Total counts all of them, of which Records are the latest.
	Total   int64
	Records []materialize.Undecodable
}

// ReadUndecodable returns the undecodable and misplaced records in the store of a
// directory, by partition, without knowing its lineage. No process may have the
// store open. It changes no state, but leaves the directory as an opening and
// closing does.
func ReadUndecodable(dir string, logger *slog.Logger) (all []KeptUndecodable, err error) {
	all, err = readOffline(dir, logger)
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", dir, err)
	}
	return all, nil
}

func readOffline(dir string, logger *slog.Logger) (all []KeptUndecodable, err error) {
	// Badger would make a store where there is none.
	if _, err := os.Stat(filepath.Join(dir, badger.ManifestFilename)); err != nil {
		return nil, fmt.Errorf("no store: %w", err)
	}
	o := Options{Dir: dir, Logger: logger, MemTableSize: DefaultMemTableSize}
	db, err := openDatabase(o, badgerOptions)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	s := &Store{dirPath: dir, db: db}
	var m meta
	err = db.View(func(txn *badger.Txn) (err error) {
		var found bool
		if m, found, err = readMeta(txn); err == nil && !found {
			err = errors.New("it is empty")
		}
		if err == nil && m.Owner.Nodes < 1 {
			err = corrupt("meta", errShort)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	for p := int32(m.Owner.Node); p < m.Partitions; p += int32(m.Owner.Nodes) {
		saved, found, err := s.Restore(p)
		if err != nil {
			return nil, err
		}
		if !found {
			continue
		}
		kept, err := s.Undecodable(p)
		if err != nil {
			return nil, err
		}
		all = append(all, KeptUndecodable{Partition: p, Total: saved.Undecodable, Records: kept})
	}
	return all, nil
}
