package badgerstore

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"

	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/badger/v4/y"

	"github.com/seenby/seenby/projections/verify"
)

// DamagedTables says which of the store's tables cannot be read, and what is in them.
// Before each table it calls step, which may take its time; an error ends it.
func (s *Store) DamagedTables(step func() error) ([]verify.Damage, error) {
	damaged, err := damagedTables(s.dirPath, step)
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", s.dirPath, err)
	}
	return damaged, nil
}

// DamagedIn is DamagedTables for the directory of a store that nobody has open; one
// that has damaged tables cannot be opened.
func DamagedIn(dir string, step func() error) ([]verify.Damage, error) {
	// It takes the lock for a moment.
	if _, err := prepareLogs(dir); err != nil {
		return nil, fmt.Errorf("store %s: %w", dir, err)
	}
	damaged, err := damagedTables(dir, step)
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", dir, err)
	}
	return damaged, nil
}

// damagedTables finds all bad tables, and looks into them.
func damagedTables(dir string, step func() error) (damaged []verify.Damage, err error) {
	err = badTables(dir, step, func(id uint64, compression options.CompressionType, wrong error) error {
		d := verify.Damage{File: table.IDToFilename(id), What: "it is not what was written: " + cutLine(wrong.Error())}
		d.After, d.Before = locate(dir, id, compression)
		damaged = append(damaged, d)
		return nil
	})
	return damaged, err
}

// locate reads a damaged table from its beginning until it cannot go on, and then
// from its end: what is between is what is damaged. It returns nothing if the table's
// index is.
func locate(dir string, id uint64, compression options.CompressionType) (after, before string) {
	defer func() {
		// What Badger takes for true it panics over.
		_ = recover()
	}()
	data, err := os.ReadFile(table.NewFilename(id, dir))
	if err != nil {
		return "", ""
	}
	t, err := table.OpenInMemoryTable(data, id, &table.Options{BlockSize: blockSize, Compression: compression, ChkMode: options.OnBlockRead})
	if err != nil {
		return "", ""
	}
	return place(lastKey(t, 0)), place(lastKey(t, table.REVERSED))
}

// lastKey is the last key that can be read in a direction, or nil.
func lastKey(t *table.Table, direction int) (last []byte) {
	defer func() { _ = recover() }()
	it := t.NewIterator(table.NOCACHE | direction)
	defer it.Close() //nolint:errcheck // It only reads.
	for it.Rewind(); it.Valid(); it.Next() {
		last = append(last[:0], y.ParseKey(it.Key())...)
	}
	return last
}

// place names a key with its partition.
func place(k []byte) string {
	switch {
	case len(k) < prefixLen:
		return ""
	case string(k) == string(metaKey):
		return "meta"
	}
	return fmt.Sprintf("partition %d, %s", binary.BigEndian.Uint32(k), describe(k))
}

// cutLine is the beginning of an error that Badger says much in.
func cutLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s[:min(len(s), 200)]
}
