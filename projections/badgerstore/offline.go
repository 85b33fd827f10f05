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

// Offline is the store of a directory, opened without knowing whose it is, to look
// at. No process may have the store open. It changes no state, but leaves the
// directory as an opening and closing does. Errors name the directory. Any number of
// goroutines may use it.
type Offline struct {
	store *Store
	meta  Meta
}

// OpenOffline opens the store of a directory that has one. All that Badger has
// written to tables was held to its checksums then, as by [Open].
func OpenOffline(dir string, logger *slog.Logger) (*Offline, error) {
	o, err := openOffline(dir, logger)
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", dir, err)
	}
	return o, nil
}

func openOffline(dir string, logger *slog.Logger) (_ *Offline, err error) {
	// Badger would make a store where there is none.
	if _, err := os.Stat(filepath.Join(dir, badger.ManifestFilename)); err != nil {
		return nil, fmt.Errorf("no store: %w", err)
	}
	db, err := openDatabase(Options{Dir: dir, Logger: logger, MemTableSize: DefaultMemTableSize}, badgerOptions)
	if err != nil {
		return nil, err
	}
	o := &Offline{store: &Store{dirPath: dir, db: db}}
	err = db.View(func(txn *badger.Txn) error {
		m, found, err := readMeta(txn)
		if err == nil && !found {
			err = errors.New("it is empty")
		}
		if err == nil {
			o.meta, err = m.exported()
		}
		return err
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return o, nil
}

// Close releases the directory.
func (o *Offline) Close() error { return o.store.db.Close() }

// Meta says what the store is.
func (o *Offline) Meta() Meta { return o.meta }

// Partitions are those that the node has, whether they were ever committed or not.
func (o *Offline) Partitions() (all []int32) {
	for p := int32(o.meta.Owner.Node); p < o.meta.Lineage.Partitions; p += int32(o.meta.Owner.Nodes) {
		all = append(all, p)
	}
	return all
}

// View is [Store.View].
func (o *Offline) View(partition int32, f func(Reader) error) error {
	return o.store.View(partition, f)
}

// KeptUndecodable are the undecodable and misplaced records of one partition.
type KeptUndecodable struct {
	Partition int32
	// Total counts all of them, of which Records are the latest.
	Total   int64
	Records []materialize.Undecodable
}

// ReadUndecodable returns the undecodable and misplaced records in the store of a
// directory, by partition, without knowing its lineage. See [Offline].
func ReadUndecodable(dir string, logger *slog.Logger) (all []KeptUndecodable, err error) {
	o, err := OpenOffline(dir, logger)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	for _, p := range o.Partitions() {
		err := o.View(p, func(r Reader) error {
			saved, found, err := r.Restore()
			if err != nil || !found {
				return err
			}
			kept, err := r.Undecodable()
			all = append(all, KeptUndecodable{Partition: p, Total: saved.Undecodable, Records: kept})
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}
