package audit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/events/topic"
	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/badgerstore"
	"github.com/seenby/seenby/projections/materialize"
	"github.com/seenby/seenby/services/audit"
	"github.com/seenby/seenby/services/auth"
	"github.com/seenby/seenby/services/projector"
	"github.com/seenby/seenby/services/projector/protocol"
	"github.com/seenby/seenby/services/server"
)

const partitions = 3

var quiet = slog.New(slog.DiscardHandler)

// log is a topic on an embedded broker.
type log struct {
	t        *testing.T
	conn     topic.Connection
	appender *topic.Appender
	keys     *auth.Keys
	dir      string
}

func newLog(t *testing.T) *log {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	l := &log{t: t, conn: topic.Connection{Brokers: cluster.ListenAddrs(), Topic: "events"}, dir: t.TempDir()}
	if _, err := topic.Create(t.Context(), l.conn, topic.Spec{Partitions: partitions, Replicas: 1, MinInSync: 1, Retention: 30 * 24 * time.Hour}); err != nil {
		t.Fatal(err)
	}
	if l.appender, err = topic.NewAppender(t.Context(), topic.AppenderConfig{Connection: l.conn, Logger: quiet}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.appender.Close(context.Background()) })
	secret := filepath.Join(l.dir, "secret")
	if err := os.WriteFile(secret, []byte(strings.Repeat("k", 43)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if l.keys, err = auth.OpenKeys(secret); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *log) write(e events.Event) {
	l.t.Helper()
	value, err := events.AppendEncode(nil, e)
	if err != nil {
		l.t.Fatal(err)
	}
	var entries []topic.Entry
	if _, erasure := e.(*events.UserErased); erasure {
		for p := range int32(partitions) {
			entries = append(entries, topic.Entry{Value: value, Partition: p})
		}
	} else {
		entries = []topic.Entry{{Key: e.Key(), Value: value, Partition: topic.AnyPartition}}
	}
	if _, err := l.appender.Append(l.t.Context(), entries); err != nil {
		l.t.Fatal(err)
	}
}

// chat writes messages from number from on, and who reads them.
func (l *log) chat(from, n int) {
	l.t.Helper()
	now := time.Now().UnixMilli()
	for i := from; i < from+n; i++ {
		sent := &events.MessageSent{MessageID: id(i), ConversationID: []byte("c"), SenderID: person(0), SentAt: now - int64(i%3)*3_600_000}
		if i%4 == 3 {
			sent.CountOnly, sent.RecipientCount = true, 50
		} else {
			for p := range 6 {
				sent.Recipients = append(sent.Recipients, person(p))
			}
		}
		l.write(sent)
		for p := range 1 + i%5 {
			l.write(&events.MessageRead{MessageID: id(i), ReaderID: person(p + 1), ReadAt: events.Unclaimed})
		}
	}
}

func id(i int) []byte     { return fmt.Appendf(nil, "m%03d", i) }
func person(i int) []byte { return fmt.Appendf(nil, "person-%d", i) }

func (l *log) config(name string, nodes, node int) projector.Config {
	return projector.Config{
		Connection: l.conn, Generation: 1, Retention: 30 * 24 * time.Hour, WaitingLimit: 1000, Copy: name, Nodes: nodes, Node: node,
		DataDir: filepath.Join(l.dir, name, fmt.Sprint(node)), MemoryBytes: 8 << 20, CacheBytes: 2 << 20, MemtableBytes: 16 << 20,
		FlushBytes: 256 << 10, FlushEvery: 20 * time.Millisecond, MaxWait: time.Second, PollInterval: time.Second, PollWindow: 20 * time.Second, PollSlowest: time.Second,
		VisibleTo: projector.Sender, Secret: l.keys, Logger: quiet, Registerer: prometheus.NewRegistry(), Now: time.Now,
	}
}

// rebuild makes a copy's stores from the log, and returns their directories.
func (l *log) rebuild(name string, nodes int) (dirs []string) {
	l.t.Helper()
	for node := range nodes {
		c := l.config(name, nodes, node)
		if _, err := projector.Rebuild(l.t.Context(), c, func(protocol.Progress) {}); err != nil {
			l.t.Fatal(err)
		}
		dirs = append(dirs, c.DataDir)
	}
	return dirs
}

// running is a projector that serves.
type running struct {
	client  *protocol.Client
	service *projector.Service
	stop    func()
}

func (l *log) start(c projector.Config) *running {
	l.t.Helper()
	service, err := projector.New(c)
	if err != nil {
		l.t.Fatal(err)
	}
	s, err := server.New(server.Config{Listen: "127.0.0.1:0", Service: "test", Logger: quiet, Registry: prometheus.NewRegistry(), Routes: service.Routes(), Ready: service.Ready})
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- s.Run(ctx) }()
	go func() { done <- service.Run(ctx) }()
	stopped := false
	r := &running{service: service}
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := errors.Join(<-done, <-done); err != nil {
			l.t.Error(err)
		}
	}
	l.t.Cleanup(r.stop)
	if r.client, err = protocol.NewClient("http://"+s.Addr().String(), auth.Internal{Keys: l.keys, Now: time.Now}, nil); err != nil {
		l.t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	for service.Ready() != nil {
		if time.Now().After(deadline) {
			l.t.Fatal(service.Ready())
		}
		<-time.After(5 * time.Millisecond)
	}
	return r
}

func options() audit.Options {
	return audit.Options{Show: 5, Now: time.Now, Logger: quiet, Progress: func(string, int64) {}}
}

func table(t *testing.T, r audit.Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.Print(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// says holds a report to whether it is sound, and to parts of what it prints.
func says(t *testing.T, r audit.Report, err error, sound bool, parts ...string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	printed := table(t, r)
	if r.Sound != sound {
		t.Errorf("sound is %v:\n%s", r.Sound, printed)
	}
	for _, part := range parts {
		if !strings.Contains(printed, part) {
			t.Errorf("it does not say %q:\n%s", part, printed)
		}
	}
}

// tamper gives a stored message another sender's number, and tells its partition.
func tamper(t *testing.T, dir, id string) int32 {
	t.Helper()
	o, err := badgerstore.OpenOffline(dir, quiet)
	if err != nil {
		t.Fatal(err)
	}
	l, owner := o.Meta().Lineage, o.Meta().Owner
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := badgerstore.Open(badgerstore.Options{Dir: dir, Lineage: l, Owner: owner, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	p := events.Partition(id, l.Partitions)
	saved, _, err := s.Restore(p)
	if err != nil {
		t.Fatal(err)
	}
	m, ref, err := s.Message(p, []byte(id))
	if err != nil || m == nil {
		t.Fatalf("%v, %v", m, err)
	}
	roster, err := s.Roster(p, ref)
	if err != nil {
		t.Fatal(err)
	}
	m.Roster = roster.Roster
	if err := m.Rebuild(); err != nil {
		t.Fatal(err)
	}
	m.ConversationID = "another"
	if err := s.Commit(p, &materialize.Batch{Checkpoint: saved.Checkpoint, UndecodableTotal: saved.Undecodable,
		Messages: []materialize.Change{{Message: m, Stored: true, Sealed: m.Receipts.Sealed()}}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestStores(t *testing.T) {
	l := newLog(t)
	l.chat(0, 60)
	l.write(&events.UserErased{UserID: person(2)})
	l.write(&events.MessageRead{MessageID: []byte("to-come"), ReaderID: person(1), ReadAt: events.Unclaimed})
	a, b := l.rebuild("a", 1), l.rebuild("b", 2)

	r, err := audit.Store(t.Context(), a, options())
	says(t, r, err, true, "PARTITION", "It is sound.")
	r, err = audit.Stores(t.Context(), a, b, options())
	says(t, r, err, true, "They are equal.")
	if len(r.Partitions) != partitions || r.Partitions[0].Compared.Hours == 0 || r.Partitions[0].Compared.Messages == 0 {
		t.Errorf("%+v", r)
	}
	r, err = audit.Stores(t.Context(), a, b[:1], options())
	says(t, r, err, true, "partition 1 is only in "+a[0])
	if _, err := audit.Stores(t.Context(), a, append(b, b[0]), options()); err == nil || !strings.Contains(err.Error(), "in another of the directories too") {
		if err == nil || !strings.Contains(err.Error(), "in use") {
			t.Errorf("a directory twice: %v", err)
		}
	}

	l.chat(60, 20)
	later := l.rebuild("later", 1)
	r, err = audit.Stores(t.Context(), a, later, options())
	says(t, r, err, true, "at different positions", "They are equal.")

	other := l.config("other", 1, 0)
	other.Retention *= 2
	if _, err := projector.Rebuild(t.Context(), other, func(protocol.Progress) {}); err != nil {
		t.Fatal(err)
	}
	if _, err := audit.Stores(t.Context(), a, []string{other.DataDir}, options()); !errors.Is(err, materialize.ErrLineage) || !strings.Contains(err.Error(), "retention") {
		t.Errorf("another lineage: %v", err)
	}

	p := tamper(t, a[0], "m001")
	r, err = audit.Store(t.Context(), a, options())
	says(t, r, err, false, fmt.Sprintf("partition %d: the hour of", p), "It is damaged.")
	r, err = audit.Stores(t.Context(), a, b, options())
	says(t, r, err, false, fmt.Sprintf(`differs: partition %d, message "m001": conversation: another, and c`, p), "They differ")
	r, err = audit.Stores(t.Context(), a, later, options())
	says(t, r, err, false, `message "m001"`)

	damage(t, a[0])
	r, err = audit.Stores(t.Context(), a, b, options())
	says(t, r, err, false, "damaged: "+a[0]+": 0")
}

// damage flips a byte in the middle of a table.
func damage(t *testing.T, dir string) {
	t.Helper()
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("%v, %v", tables, err)
	}
	b, err := os.ReadFile(tables[0])
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/3] ^= 4
	if err := os.WriteFile(tables[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTopic(t *testing.T) {
	l := newLog(t)
	l.chat(0, 40)
	l.write(&events.UserErased{UserID: person(2)})
	dirs := l.rebuild("a", 2)
	l.chat(40, 40) // the fold must not go beyond the stores
	scratch := t.TempDir()
	c := l.config("x", 1, 0)
	check := func() (audit.Report, error) {
		return audit.Topic(t.Context(), dirs, c, scratch, options(), func(protocol.Progress) {})
	}
	r, err := check()
	says(t, r, err, true, "They are equal.")
	for _, p := range r.Partitions {
		if at := p.Compared.Positions; at[0] != at[1] || at[0] == 0 || p.Compared.Hours == 0 {
			t.Errorf("%+v", p.Compared)
		}
	}
	p := tamper(t, dirs[int(events.Partition("m002", partitions))%2], "m002")
	r, err = check()
	says(t, r, err, false, fmt.Sprintf(`differs: partition %d, message "m002": conversation: another, and c`, p))
	if left, err := os.ReadDir(scratch); err != nil || len(left) > 0 {
		t.Errorf("%v is left, %v", left, err)
	}

	other := newLog(t)
	c.Connection = other.conn
	if _, err := check(); !errors.Is(err, materialize.ErrLineage) || !strings.Contains(err.Error(), "topic ID") {
		t.Errorf("another topic: %v", err)
	}
}

func TestCopies(t *testing.T) {
	l := newLog(t)
	l.chat(0, 60)
	l.write(&events.UserErased{UserID: person(2)})
	tampered := l.rebuild("c", 1)
	p := tamper(t, tampered[0], "m004")
	a := l.start(l.config("a", 1, 0))
	b := []*running{l.start(l.config("b", 2, 0)), l.start(l.config("b", 2, 1))}
	first, second := audit.Copy{a.client}, audit.Copy{b[0].client, b[1].client}

	r, err := audit.Running(t.Context(), first, options())
	says(t, r, err, true, "It is sound.")
	saved(t, a, b[0], b[1])
	r, err = audit.Running(t.Context(), second, options())
	says(t, r, err, true, "It is sound.")
	if messages(r) != 60 {
		t.Errorf("%d messages were read", messages(r))
	}
	r, err = audit.Copies(t.Context(), first, second, audit.FromDisk, options())
	says(t, r, err, true, "They are equal.")

	// While the log is written to.
	ctx, cancel := context.WithCancel(t.Context())
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		for i := 60; ctx.Err() == nil && i < 900; i++ {
			l.chat(i, 1)
		}
	}()
	r, err = audit.Copies(t.Context(), first, second, audit.FromMemory, options())
	says(t, r, err, true, "They are equal.", "disk was not read")
	cancel()
	<-wrote

	c := l.start(l.config("c", 1, 0))
	saved(t, a, c)
	r, err = audit.Copies(t.Context(), first, audit.Copy{c.client}, audit.FromDisk, options())
	// The digests that it keeps up to date are right; its disk is not.
	says(t, r, err, false, fmt.Sprintf("%s: partition %d: the hour of", r.Sides[1], p))

	other := l.config("d", 1, 0)
	other.WaitingLimit++
	if _, err = audit.Copies(t.Context(), first, audit.Copy{l.start(other).client}, audit.FromMemory, options()); err == nil || !strings.Contains(err.Error(), "the lineage") {
		t.Errorf("another lineage: %v", err)
	}
}

// saved waits until all that was applied is on disk.
func saved(t *testing.T, nodes ...*running) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		done := true
		for _, n := range nodes {
			for _, p := range n.service.Status().Owned {
				done = done && p.Saved == p.Position && p.Position == p.End
			}
		}
		if done {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("it is not saved")
		}
		<-time.After(5 * time.Millisecond)
	}
}

func messages(r audit.Report) (n int64) {
	for _, p := range r.Partitions {
		n += p.Checked[0].Messages
	}
	return n
}

// TestCopiesDiffer: of two copies whose digests differ, the messages are named. A
// store that was folded from another log of the same name stands for the mistake.
func TestCopiesDiffer(t *testing.T) {
	l := newLog(t)
	l.chat(0, 30)
	dirs := l.rebuild("a", 1)
	l.rebuild("b", 1)
	p := forge(t, dirs[0], "m005")
	a, b := l.start(l.config("a", 1, 0)), l.start(l.config("b", 1, 0))
	saved(t, a, b)
	r, err := audit.Copies(t.Context(), audit.Copy{a.client}, audit.Copy{b.client}, audit.FromMemory, options())
	says(t, r, err, false, fmt.Sprintf(`differs: partition %d, message "m005": conversation: forged, and c`, p))
}

// forge changes a stored message and the digest of its hour alike.
func forge(t *testing.T, dir, id string) int32 {
	t.Helper()
	p := tamper(t, dir, id)
	o, err := badgerstore.OpenOffline(dir, quiet)
	if err != nil {
		t.Fatal(err)
	}
	l, owner := o.Meta().Lineage, o.Meta().Owner
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := badgerstore.Open(badgerstore.Options{Dir: dir, Lineage: l, Owner: owner, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	saved, _, err := s.Restore(p)
	if err != nil {
		t.Fatal(err)
	}
	m, ref, err := s.Message(p, []byte(id))
	if err != nil {
		t.Fatal(err)
	}
	roster, err := s.Roster(p, ref)
	if err != nil {
		t.Fatal(err)
	}
	m.Roster = roster.Roster
	if err := m.Rebuild(); err != nil {
		t.Fatal(err)
	}
	m.ConversationID = "c"
	before := m.Digest()
	m.ConversationID = "forged"
	i := slices.IndexFunc(saved.Digests, func(h projections.HourDigest) bool { return h.Hour == projections.Hour(m.SentAt) })
	h := saved.Digests[i]
	h.Digest = h.Digest.Sub(before).Add(m.Digest())
	if err := s.Commit(p, &materialize.Batch{Checkpoint: saved.Checkpoint, UndecodableTotal: saved.Undecodable, Digests: []projections.HourDigest{h},
		Messages: []materialize.Change{{Message: m, Stored: true, Sealed: m.Receipts.Sealed()}}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestInspectRunning asks a running projector for a message and a partition.
func TestInspectRunning(t *testing.T) {
	l := newLog(t)
	l.chat(0, 8)
	l.write(&events.MessageRead{MessageID: []byte("to-come"), ReaderID: person(1), ReadAt: 5})
	a := l.start(l.config("a", 1, 0))
	saved(t, a)
	if _, err := a.client.Status(t.Context()); err != nil {
		t.Fatal(err)
	}
	var m protocol.Message
	message := func(id string) {
		t.Helper()
		m = protocol.Message{}
		if err := a.client.Get(t.Context(), protocol.MessagePath, map[string][]string{"id": {id}}, &m); err != nil {
			t.Fatal(err)
		}
	}
	message("m002")
	if m.Hot == nil || !*m.Hot || m.Partition != events.Partition("m002", partitions) || m.Message == nil || m.Message.ReadCount != 3 ||
		len(m.Message.Receipts) != 3 || m.Message.Receipts[0].Reader != "person-1" || len(m.Message.Roster.Recipients) != 5 || *m.Message.Sender != "person-0" {
		t.Errorf("%+v", m)
	}
	message("to-come")
	if *m.Hot || m.Message != nil || len(m.Waiting) != 1 || m.Waiting[0].ReaderID != "person-1" || m.Waiting[0].ReadAt != 5 {
		t.Errorf("%+v", m)
	}
	var p protocol.Partition
	if err := a.client.Get(t.Context(), protocol.PartitionPath, protocol.Of(m.Partition), &p); err != nil {
		t.Fatal(err)
	}
	if p.Waiting != 1 || p.Status == nil || p.Status.State != protocol.Ready || p.Checkpoint.Position == 0 || len(p.Hours) == 0 || p.Hot == 0 {
		t.Errorf("%+v", p)
	}
	if err := a.client.Get(t.Context(), protocol.PartitionPath, protocol.Of(partitions), &p); err == nil || !strings.Contains(err.Error(), "not one of this node's") {
		t.Errorf("another's partition: %v", err)
	}
	if err := a.client.Get(t.Context(), protocol.DigestsPath, map[string][]string{"partition": {"0"}, "position": {"x"}}, &p); err == nil || !strings.Contains(err.Error(), "bad_parameter") {
		t.Errorf("a bad position: %v", err)
	}
	var c protocol.Check
	if err := a.client.Get(t.Context(), protocol.CheckPath, protocol.Of(0), &c); err != nil || c.State != protocol.CheckNone {
		t.Errorf("%+v, %v", c, err)
	}

	stranger, err := protocol.NewClient(a.client.Address(), auth.Internal{Keys: otherKeys(t), Now: time.Now}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{protocol.MessagePath, protocol.PartitionPath, protocol.DigestsPath, protocol.MessageDigestsPath, protocol.CheckPath} {
		if err := stranger.Get(t.Context(), path, nil, &p); err == nil || !strings.Contains(err.Error(), "bad_signature") {
			t.Errorf("%s without the secret: %v", path, err)
		}
	}
	if err := stranger.Post(t.Context(), protocol.CheckPath, protocol.Of(0), &c); err == nil || !strings.Contains(err.Error(), "bad_signature") {
		t.Errorf("a check without the secret: %v", err)
	}
}

func otherKeys(t *testing.T) *auth.Keys {
	t.Helper()
	name := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(name, []byte(strings.Repeat("o", 43)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := auth.OpenKeys(name)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}
