package badgerstore

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/table"

	"github.com/seenby/seenby/projections/materialize"
)

// Badger tells nobody of a block of a table that it cannot read: to whoever reads or
// compacts, the block, and what follows it in the table, is not there. Of a table
// whose index is broken it says in its log that it ignores it. So it is the store
// that reads the tables and holds each block, and each index, to its checksum: all of
// them before Badger opens them, at 1.5 GB a second if the disk is as fast, and whenever
// somebody asks for what is damaged.
//
// And Badger does not verify blocks as it reads them. When one bit of a table was
// flipped, in 60 places, and all partitions read, a Badger that verifies (OnBlockRead)
// left something out, and said nothing, 60 times. One that does not had the checksums
// of the records tell of it 58 times; once it panicked, and once the bit was in
// nothing that is read. With Snappy, where such a block seldom can be decompressed,
// they told of 30, and 28 were silent.

// verifyTables fails for the first table of a directory that is not what was written.
func verifyTables(dir string) error {
	return badTables(dir, func() error { return nil }, func(id uint64, _ options.CompressionType, wrong error) error {
		return fmt.Errorf("%w: file %s: %w: delete the data directory, which is filled from the log again, and look at the disk", materialize.ErrCorrupt, table.IDToFilename(id), wrong)
	})
}

// badTables calls f with the tables of a directory that are not what was written, and
// what is wrong. Before each table it calls step. It ends with the error that one of
// them returns. Compaction may go on in the directory.
func badTables(dir string, step func() error, f func(id uint64, compression options.CompressionType, wrong error) error) error {
	tables, err := listTables(dir)
	if err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(tables)) {
		if err := step(); err != nil {
			return err
		}
		compression := tables[id].Compression
		wrong := verifyTable(dir, id, compression)
		if errors.Is(wrong, fs.ErrNotExist) {
			// It was compacted, or it is lost.
			left, err := listTables(dir)
			if err != nil {
				return err
			}
			if _, listed := left[id]; !listed {
				continue
			}
		}
		if wrong == nil {
			continue
		}
		if err := f(id, compression, wrong); err != nil {
			return err
		}
	}
	return nil
}

// listTables returns what Badger's manifest lists. Other files are none of it.
func listTables(dir string) (map[uint64]badger.TableManifest, error) {
	file, err := os.Open(filepath.Join(dir, badger.ManifestFilename))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // a new store
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	manifest, _, err := badger.ReplayManifestFile(file, 0, badger.Options{})
	if err != nil {
		return nil, fmt.Errorf("%w: file %s: %w", materialize.ErrCorrupt, badger.ManifestFilename, err)
	}
	return manifest.Tables, nil
}

func verifyTable(dir string, id uint64, compression options.CompressionType) (err error) {
	data, err := os.ReadFile(table.NewFilename(id, dir))
	if err != nil {
		return err
	}
	// Badger panics where a length is out of range, and for a block that it cannot
	// decompress.
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("it cannot be decoded: %.100s", fmt.Sprint(r))
		}
	}()
	t, err := table.OpenInMemoryTable(data, id, &table.Options{BlockSize: blockSize, Compression: compression})
	if err != nil {
		return err
	}
	return t.VerifyChecksum()
}
