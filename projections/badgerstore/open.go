// Package badgerstore keeps the state of a projector node's partitions in one
// Badger database. What was committed survives a crash of the process and of the
// machine, together with its checkpoint; how, and what it needs from the file
// system, is said at [Store]. It is a materialize.Store.
package badgerstore

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"

	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/materialize"
)

// Options say where a store is, whose, and how much memory it may take.
type Options struct {
	// Dir is made if it does not exist. One process at a time may use it.
	Dir     string
	Lineage projections.Lineage
	Owner   Owner
	// Logger gets what Badger has to say.
	Logger *slog.Logger

	// MemTableSize is the size in bytes of a memtable, or 0 for
	// [DefaultMemTableSize]. There may be three of them, each with half as much
	// again for its index. A transaction holds 15 % of one, see MaxBatch.
	MemTableSize int64
	// BlockCacheSize bounds the decompressed blocks in memory, and
	// IndexCacheSize the tables' indexes and Bloom filters, in bytes; 0 for the
	// defaults.
	BlockCacheSize int64
	IndexCacheSize int64
}

// What is used where Options have 0.
const (
	// DefaultMemTableSize lets 10,000 events wait in a partition: the largest
	// record that there may be then, and a flush of some size, fit 15 % of it.
	// While one is written to a table, it takes about five times as much.
	DefaultMemTableSize   = 16 << 20
	DefaultBlockCacheSize = 16 << 20
	DefaultIndexCacheSize = 16 << 20

	minMemTableSize = 4 << 20
)

// Store is a [materialize.Store] in a directory.
//
// Commits are durable when they return: Badger's log is synced with each
// (msync), and so is the directory, because Badger does not sync the name of a
// log file that it begins. Badger writes tables in the background, and drops the
// log that they replace, without syncing their names in between. The file system
// must therefore make a new file's name durable together with its content, as
// ext4, XFS, Btrfs and F2FS do when a file is synced; POSIX does not ask it to.
//
// All methods may be called concurrently as materialize.Store says.
type Store struct {
	dirPath  string
	db       *badger.DB
	dir      *os.File
	reserve  uint64
	maxBatch int

	// mu is held by each write. Badger writes one after the other anyway, and
	// syncs after each. But a write must not begin before it is known that the
	// one before it did not fail. queue is what waits to be written.
	mu      sync.Mutex
	queueMu sync.Mutex
	queue   []*pending
	failed  atomic.Pointer[error]

	// fresh has the partitions that were empty when the store was opened.
	freshMu sync.RWMutex
	fresh   map[int32]*fresh
}

var _ materialize.Store = (*Store)(nil)

// Open opens a store, or makes an empty one. What it returns for one that cannot
// be used names the directory, and wraps [materialize.ErrFormat],
// [materialize.ErrLineage] or [materialize.ErrCorrupt] where that is why.
//
// Records to skip may be added to a store's lineage while their partitions have
// not reached them; nothing else of it may change.
func Open(o Options) (_ *Store, err error) {
	s, err := open(o, badgerOptions)
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", o.Dir, err)
	}
	return s, nil
}

func open(o Options, settings func(Options) badger.Options) (_ *Store, err error) {
	if o.Dir == "" || o.Logger == nil {
		return nil, errors.New("a directory and a logger are required")
	}
	o.MemTableSize = orDefault(o.MemTableSize, DefaultMemTableSize)
	if o.MemTableSize < minMemTableSize {
		return nil, fmt.Errorf("memtables of %d bytes are too small: %d at least", o.MemTableSize, minMemTableSize)
	}
	if err := makeDir(o.Dir); err != nil {
		return nil, err
	}
	db, err := openDatabase(o, settings)
	if err != nil {
		return nil, err
	}
	dir, err := os.Open(o.Dir)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	s := &Store{dirPath: o.Dir, db: db, dir: dir, reserve: reserveOf(o.MemTableSize)}
	s.maxBatch = int(min(db.MaxBatchSize(), db.MaxBatchCount()*materialize.RecordSize)) - batchSlack
	if err := s.claim(o.Lineage, o.Owner); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// batchSlack is for what Badger adds to a transaction, and because its limits
// are themselves too much.
const batchSlack = 1024

func orDefault(n, otherwise int64) int64 {
	if n == 0 {
		return otherwise
	}
	return n
}

// blockSize is four times Badger's default: fewer blocks to index take 1 % less disk
// and 10 % less of a rebuild's time. Blocks that are not compressed are read where they
// are mapped, so that what is looked up in one costs no more for its size.
const blockSize = 16 << 10

func badgerOptions(o Options) badger.Options {
	const smallestValueLog = 1 << 20
	return badger.DefaultOptions(o.Dir).
		WithLogger(badgerLogger{o.Logger}).
		WithMetricsEnabled(false). // they are global to the process
		// The promise of Commit.
		WithSyncWrites(true).
		// Each partition has one writer, so that nothing can conflict, and old
		// versions of a record are nobody's.
		WithDetectConflicts(false).
		WithNumVersionsToKeep(1).
		// All values stay out of the value log: none is longer than a piece. A
		// value log would need its own garbage collection, and Badger does not
		// report it when syncing it fails. The file is there, of the least size.
		WithValueThreshold(min(1<<20, o.MemTableSize*15/100)).
		WithValueLogFileSize(smallestValueLog).
		// One memtable is written while another is filled; flushes are seconds
		// apart, and a third would be memory for nothing.
		WithMemTableSize(o.MemTableSize).
		WithNumMemtables(1).
		WithNumCompactors(2).
		// Little is overwritten, so that tables gain little by being merged early:
		// twice as many as Badger's default may pile up first, which saves a rebuild
		// of many small messages a fifth of its CPU. Each costs a lookup one more
		// Bloom filter.
		WithNumLevelZeroTables(10).
		WithNumLevelZeroTablesStall(20).
		// What builds a table takes twice its size, several are built at a time, and
		// their memory is kept: with tables of 8 MiB a rebuild of 200 million receipts
		// lay so near its memory's limit that it took half as long again, for garbage
		// collection.
		WithBaseTableSize(2 << 20).
		// What is stored is packed already: Snappy makes it 5 % smaller where messages
		// are small and nothing where they are large, ZSTD 8 and 1 %, at half as much CPU
		// again for a rebuild of many small messages; and Snappy keeps the buffers that
		// it compresses from, eight of up to 60 MiB. What tables there are changes
		// no size, nor does compacting level 0 when the store is closed.
		WithCompression(options.None).
		WithBlockSize(blockSize).
		WithBlockCacheSize(orDefault(o.BlockCacheSize, DefaultBlockCacheSize)).
		// Without a bound the indexes of all tables would be in memory.
		WithIndexCacheSize(orDefault(o.IndexCacheSize, DefaultIndexCacheSize))
}

// MaxBatch is the largest Batch.Size that Commit is sure to take: 15 % of a
// memtable.
func (s *Store) MaxBatch() int { return s.maxBatch }

// Close releases the directory. After a failed write it does not wait for
// Badger, which would try to write its memtable for ever.
func (s *Store) Close() error {
	closed := make(chan error, 1)
	go func() { closed <- s.db.Close() }()
	if err := s.failed.Load(); err != nil {
		return errors.Join(s.dir.Close(), fmt.Errorf("store %s: not closed cleanly: a write had failed: %w", s.dirPath, *err))
	}
	return errors.Join(<-closed, s.dir.Close())
}

// writable refuses to write after a failed write, and when the disk is nearly
// full: Badger writes to its files by memory map, and a page that finds no room
// on the disk kills the process.
func (s *Store) writable() error {
	if err := s.failed.Load(); err != nil {
		return fmt.Errorf("a write had failed before: %w", *err)
	}
	free, err := freeBytes(s.dir)
	if err != nil {
		return err
	}
	if free < s.reserve {
		return fmt.Errorf("the disk has %d MiB free, and the store keeps %d MiB: make room", free>>20, s.reserve>>20)
	}
	return nil
}

// fail keeps the first failure of a write.
func (s *Store) fail(err error) { s.failed.CompareAndSwap(nil, &err) }

// reserveOf is room for a memtable's log, the one before it, and their tables.
func reserveOf(memTableSize int64) uint64 { return uint64(4 * memTableSize) }
