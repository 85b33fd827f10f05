package badgerstore

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/history"
	"github.com/seenby/seenby/projections/materialize"
	"github.com/seenby/seenby/projections/storetest"
)

// The workload is a process of its own, this test binary started again: it runs
// partitions on a store until it is killed. Its log is made up as it goes, each
// record from its offset alone, so that every start can fold the log again and
// hold what the store restored to it.
//
// It prints a line for what its parent has to know:
//
//	at PARTITION POSITION    the store restored this, and it is right
//	ack PARTITION POSITION   a flush of this returned
//	bad ...                  something is wrong
//	done                     all is right, and there was nothing else to do
const (
	workloadDir  = "SEENBY_TEST_WORKLOAD_DIR"
	workloadMode = "SEENBY_TEST_WORKLOAD_MODE"
)

// The modes of the workload, as it should be and as it must not be.
const (
	modeRun           = "run"
	modeVerify        = "verify" // and end
	modeNoSync        = "without synced writes"
	modeNoDirSync     = "without a synced directory"
	workloadPartition = 3
)

var workloadLineage = projections.Lineage{
	TopicID:     [16]byte{7},
	Partitions:  workloadPartition,
	FoldVersion: projections.FoldVersion,
	Limits:      projections.Limits{Waiting: 500},
	Retention:   time.Hour,
}

// runWorkload is main.
func runWorkload(dir string) (code int) {
	w := &workload{mode: os.Getenv(workloadMode)}
	if err := w.run(dir); err != nil {
		w.say("bad %s", strings.ReplaceAll(err.Error(), "\n", " "))
		return 1
	}
	w.say("done")
	return 0
}

type workload struct {
	mode string
}

func (*workload) say(format string, args ...any) {
	_, _ = fmt.Fprintf(os.Stdout, format+"\n", args...) // whoever does not listen has killed us
}

func (w *workload) open(dir string) (*Store, error) {
	o := testOptions(dir)
	o.Lineage = workloadLineage
	o.MemTableSize = minMemTableSize // full soon
	o.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	s, err := open(o, func(o Options) badger.Options { return badgerOptions(o).WithSyncWrites(w.mode != modeNoSync) })
	if err == nil && w.mode == modeNoDirSync {
		s.dir, err = os.Open(os.TempDir()) // sync another
	}
	return s, err
}

// roomyStore lets a Partition use memtables that are too small for the largest
// record that there may be; in this log there is none.
type roomyStore struct{ *Store }

func (roomyStore) MaxBatch() int { return 4 << 20 }

func (w *workload) run(dir string) error {
	s, err := w.open(dir)
	if err != nil {
		return err
	}
	memory := materialize.NewMemory(2 << 20)
	errs := make([]error, workloadPartition)
	var all sync.WaitGroup
	for number := range int32(workloadPartition) {
		p, err := materialize.Open(materialize.Config{
			Lineage: workloadLineage, Partition: number, Store: roomyStore{s}, Memory: memory,
			FlushBytes: 300_000,
		})
		if err != nil {
			return err
		}
		p.StartAt(0)
		all.Go(func() {
			if errs[number] = w.verify(number, p); errs[number] == nil && w.mode != modeVerify {
				errs[number] = w.load(number, p)
			}
		})
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return s.Close()
}

// load applies records for ever.
func (w *workload) load(number int32, p *materialize.Partition) error {
	src := rand.New(rand.NewPCG(rand.Uint64(), 0))
	for {
		var recs []events.Record
		for range 1 + src.IntN(50) {
			recs = append(recs, workloadRecord(number, p.Position()+int64(len(recs))))
		}
		if err := p.Apply(recs); err != nil {
			return err
		}
		if err := p.Flush(); err != nil {
			return err
		}
		w.say("ack %d %d", number, p.Position())
		if src.IntN(10) == 0 {
			if _, _, err := p.Prune(1 << 60); err != nil {
				return err
			}
		}
		if src.IntN(4) == 0 {
			if _, err := p.Scrub(); err != nil {
				return err
			}
		}
	}
}

// workloadFold is the fold with its messages in a map.
type workloadFold struct {
	*projections.Fold
	messages map[string]*projections.Message
	rosters  map[projections.RosterHash]*projections.Roster
}

func (f *workloadFold) Message(id []byte) (*projections.Message, error) {
	m := f.messages[string(id)]
	if m != nil {
		f.Settle(m)
	}
	return m, nil
}

func (f *workloadFold) Roster(e *events.MessageSent) (*projections.Roster, error) {
	names := projections.NewNames(e)
	r := f.rosters[names.Hash()]
	if r != nil {
		f.SettleRoster(r)
	}
	if r == nil || r.Gone() != nil {
		r = projections.RestoreRoster(names, 0, f.LastErasure(), nil)
		f.rosters[names.Hash()] = r
	}
	return r, nil
}

func (f *workloadFold) Create(m *projections.Message) { f.messages[m.ID] = m }
func (*workloadFold) Changed(*projections.Message)    {}

// verify holds what was restored to the fold of the log up to there.
func (w *workload) verify(number int32, p *materialize.Partition) error {
	f := &workloadFold{
		Fold:     projections.NewFold(workloadLineage, number, projections.Restored{Checkpoint: projections.Checkpoint{LeaderEpoch: -1}}),
		messages: make(map[string]*projections.Message), rosters: make(map[projections.RosterHash]*projections.Roster),
	}
	for offset := range p.Position() {
		if _, _, err := f.Apply(workloadRecord(number, offset), f); err != nil {
			return err
		}
	}
	checkpoint, found := p.Checkpoint()
	if found && checkpoint != f.Checkpoint() {
		return fmt.Errorf("partition %d: restored at %+v, the fold of that is at %+v", number, checkpoint, f.Checkpoint())
	}
	if got, want := p.Stats().Waiting, f.Waiting().Len(); got != want {
		return fmt.Errorf("partition %d: %d events wait, not %d", number, got, want)
	}
	pruned := checkpoint.Timestamp - workloadLineage.Retention.Milliseconds() - time.Hour.Milliseconds()
	for id, want := range f.messages {
		if projections.HourEnded(projections.Hour(want.SentAt), pruned) {
			continue
		}
		v, err := p.View([]byte(id), true)
		if err != nil {
			return err
		}
		f.Settle(want)
		if diff := storetest.DiffMessage(&v.Message, want); diff != "" {
			return fmt.Errorf("partition %d at %d: message %q: %s", number, p.Position(), id, diff)
		}
	}
	if err := w.verifyDigests(number, p, f, pruned); err != nil {
		return err
	}
	w.say("at %d %d", number, p.Position())
	return nil
}

// verifyDigests holds the digests to the fold's, for the hours that were not pruned.
func (*workload) verifyDigests(number int32, p *materialize.Partition, f *workloadFold, pruned int64) error {
	at, err := p.Digests(context.Background(), p.Position())
	if err != nil {
		return err
	}
	ended := func(h projections.HourDigest) bool { return projections.HourEnded(h.Hour, pruned) }
	got, want := slices.DeleteFunc(at.Hours, ended), slices.DeleteFunc(f.Digests(), ended)
	if !slices.Equal(got, want) {
		return fmt.Errorf("partition %d at %d: digests are %v, not %v", number, p.Position(), got, want)
	}
	return nil
}

// workloadRecord is the record at an offset of a partition.
func workloadRecord(number int32, offset int64) events.Record {
	const (
		sentEvery = 25
		everyMS   = 2000
	)
	src := rand.New(rand.NewPCG(uint64(number), uint64(offset)))
	// Those before it, the one at this offset, and the next, which is not sent yet.
	n := offset/sentEvery - int64(src.ExpFloat64()*5) + 1
	person := func() []byte { return workloadPeople[src.IntN(len(workloadPeople))] }
	var e events.Event
	switch {
	case offset%sentEvery == 0:
		sent := &events.MessageSent{MessageID: workloadID(number, offset/sentEvery), ConversationID: []byte("conversation"), SenderID: person(), SentAt: events.Unclaimed}
		if src.IntN(4) == 0 {
			sent.CountOnly, sent.RecipientCount = true, 1000
		} else {
			from := src.IntN(len(workloadPeople))
			sent.Recipients = workloadPeople[from : from+src.IntN(len(workloadPeople)-from)]
		}
		e = sent
	case src.IntN(500) == 0:
		e = &events.UserErased{UserID: person()}
	case src.IntN(200) == 0:
		e = &events.MessageRecalled{MessageID: workloadID(number, n)}
	default:
		e = &events.MessageRead{MessageID: workloadID(number, n), ReaderID: person(), ReadAt: events.Unclaimed}
	}
	value, err := events.AppendEncode(nil, e)
	if err != nil {
		panic(err)
	}
	if src.IntN(100) == 0 {
		value = []byte("hi")
	}
	return events.Record{Offset: offset, Timestamp: history.Epoch + offset*everyMS, LeaderEpoch: 1, Key: e.Key(), Value: value}
}

var workloadPeople = func() (all [][]byte) {
	for i := range 5000 {
		all = append(all, fmt.Appendf(nil, "person-%06d", i))
	}
	return all
}()

// workloadID is an ID that belongs to the partition.
func workloadID(number int32, n int64) []byte {
	for i := 0; ; i++ {
		if id := fmt.Appendf(nil, "m%d.%d", n, i); events.Partition(id, workloadPartition) == number {
			return id
		}
	}
}
