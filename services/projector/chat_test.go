package projector

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/materialize"
	"github.com/seenby/seenby/projections/memstore"
	"github.com/seenby/seenby/services/auth"
	"github.com/seenby/seenby/services/contract"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testRetention = 24 * time.Hour

var (
	alice   = contract.Caller{Subject: "alice"}
	bob     = contract.Caller{Subject: "bob"}
	backend = contract.Caller{Subject: "chat", Backend: true}
)

// chat is one partition in memory, what is written to it, and the clock: a
// pull's source without Kafka.
type chat struct {
	t        testing.TB
	state    *materialize.Partition
	next     int64
	now      time.Time
	stopped  error
	caughtUp time.Time
	answers  answers
	keys     *auth.Keys
}

var _ source = (*chat)(nil)

func newChat(t testing.TB) *chat {
	lineage := projections.Lineage{TopicID: [16]byte{1}, Partitions: 1, Generation: 1, FoldVersion: projections.FoldVersion,
		Limits: projections.Limits{Waiting: 100}, Retention: testRetention}
	c := &chat{t: t, now: time.UnixMilli(t0), keys: testKeys(t)}
	c.caughtUp = c.now
	c.open(lineage)
	c.answers = answers{
		paging:    paging{log: lineage.LogID(), lineage: lineage.ID(), sealer: c.keys},
		retention: testRetention,
		visibleTo: Sender,
		wait:      50 * time.Millisecond,
		pace:      newPollPace(contract.Poll{Interval: DefaultPollInterval, Window: DefaultPollWindow}, DefaultPollSlowest),
		waits:     new(waits),
		now:       func() time.Time { return c.now },
	}
	return c
}

func (c *chat) open(lineage projections.Lineage) {
	state, err := materialize.Open(materialize.Config{
		Lineage: lineage, Partition: 0, Store: memstore.Open(new(memstore.Medium), 8<<20), Memory: materialize.NewMemory(64 << 20),
		FlushBytes: 1 << 20,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	state.StartAt(0)
	c.state = state
}

// testKeys are the keys of a file of its own.
func testKeys(t testing.TB) *auth.Keys {
	return openKeys(t, filepath.Join(t.TempDir(), "secret"), byte(len(t.Name())))
}

func openKeys(t testing.TB, path string, seed byte) *auth.Keys {
	key := make([]byte, 32)
	key[0] = seed
	if err := os.WriteFile(path, []byte(base64.RawURLEncoding.EncodeToString(key)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := auth.OpenKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func (c *chat) Number() int32       { return 0 }
func (c *chat) Stopped() error      { return c.stopped }
func (c *chat) CaughtUp() time.Time { return c.caughtUp }
func (c *chat) Position() int64     { return c.state.Position() }
func (c *chat) View(id []byte, receipts bool) (materialize.View, error) {
	return c.state.View(id, receipts)
}
func (c *chat) Wait(ctx context.Context, need int64) error { return c.state.Wait(ctx, need) }

// write applies an event, and returns the position after it.
func (c *chat) write(e events.Event) int64 {
	c.t.Helper()
	value, err := events.AppendEncode(nil, e)
	if err != nil {
		c.t.Fatal(err)
	}
	rec := events.Record{Offset: c.next, Timestamp: c.now.UnixMilli(), LeaderEpoch: -1, Key: e.Key(), Value: value}
	c.next++
	if err := c.state.Apply([]events.Record{rec}); err != nil {
		c.t.Fatal(err)
	}
	return c.next
}

// send writes a MessageSent from alice. A leading ! marks an opted-out
// recipient; #N instead of people makes it count-only.
func (c *chat) send(id string, people ...string) int64 {
	c.t.Helper()
	return c.write(sentEvent(id, "alice", people...))
}

func sentEvent(id, sender string, people ...string) *events.MessageSent {
	e := &events.MessageSent{MessageID: []byte(id), ConversationID: []byte("c1"), SenderID: []byte(sender), SentAt: events.Unclaimed}
	for _, p := range people {
		if n, count := strings.CutPrefix(p, "#"); count {
			e.CountOnly = true
			_, _ = fmt.Sscan(n, &e.RecipientCount)
			continue
		}
		name, out := strings.CutPrefix(p, "!")
		e.Recipients = append(e.Recipients, []byte(name))
		if out {
			e.OptedOut = append(e.OptedOut, []byte(name))
		}
	}
	return e
}

// sentAt has a MessageSent claim a time.
func sentAt(e *events.MessageSent, ms int64) *events.MessageSent {
	e.SentAt = ms
	return e
}

func (c *chat) read(id string, readers ...string) int64 {
	c.t.Helper()
	for _, reader := range readers {
		c.write(&events.MessageRead{MessageID: []byte(id), ReaderID: []byte(reader), ReadAt: events.Unclaimed})
	}
	return c.next
}

// readAt is read for one who claims to have read so many milliseconds after t0.
func (c *chat) readAt(id, reader string, ms int64) int64 {
	c.t.Helper()
	return c.write(&events.MessageRead{MessageID: []byte(id), ReaderID: []byte(reader), ReadAt: t0 + ms})
}

// erase writes a UserErased.
func (c *chat) erase(user string) int64 {
	c.t.Helper()
	return c.write(&events.UserErased{UserID: []byte(user)})
}

func (c *chat) recall(id string) int64 {
	c.t.Helper()
	return c.write(&events.MessageRecalled{MessageID: []byte(id)})
}

// version is the string of a version of this log and lineage.
func (c *chat) version(id string, next int64) string {
	return contract.Version{Log: c.answers.log, Lineage: c.answers.lineage, Next: next}.Encode(id)
}

func (c *chat) position(next int64) string {
	return contract.Position{Log: c.answers.log, Next: map[int32]int64{0: next}}.Encode()
}

// reply is an answer as a client sees it.
type reply struct {
	status int
	header http.Header
	raw    string

	MessageID     string  `json:"message_id"`
	State         string  `json:"state"`
	Version       string  `json:"version"`
	ReadCount     int     `json:"read_count"`
	RecipientCnt  int     `json:"recipient_count"`
	OptedOutCount *int    `json:"opted_out_count"`
	Complete      bool    `json:"complete"`
	Truncated     bool    `json:"truncated"`
	Delta         bool    `json:"delta"`
	Next          *string `json:"next"`
	Readers       []struct {
		ReaderID string `json:"reader_id"`
	} `json:"readers"`
	Code string `json:"code"`
}

// readers are the reader IDs, joined.
func (r reply) readers() string {
	var ids []string
	for _, one := range r.Readers {
		ids = append(ids, one.ReaderID)
	}
	return strings.Join(ids, " ")
}

// page says what matters of a 200 in one line.
func (r reply) page() string {
	if r.status != http.StatusOK {
		return fmt.Sprintf("%d %s", r.status, r.Code)
	}
	kind := "full"
	if r.Delta {
		kind = "delta"
	}
	s := fmt.Sprintf("%s %s [%s] %d of %d", r.State, kind, r.readers(), r.ReadCount, r.RecipientCnt)
	if r.Complete {
		s += " complete"
	}
	if r.Truncated {
		s += " truncated"
	}
	if r.Next != nil {
		s += " more"
	}
	return s
}

// toClient is what a client gets of it.
func toClient(answer contract.Answer, problem *contract.Problem) contract.Answer {
	if problem != nil {
		return problem.Answer()
	}
	return answer
}

func parseReply(t testing.TB, a contract.Answer) reply {
	t.Helper()
	r := reply{status: a.Status, header: a.Header, raw: string(a.Body)}
	if len(a.Body) > 0 {
		if err := json.Unmarshal(a.Body, &r); err != nil {
			t.Fatalf("%s: %v", a.Body, err)
		}
	}
	return r
}

// pull is what a client's GET comes to. params are a query string; tags, the
// lines of If-None-Match.
func (c *chat) pull(caller contract.Caller, id, params string, tags ...string) reply {
	c.t.Helper()
	pull, problem := contract.ParsePull(id, params, http.Header{"If-None-Match": tags}, c.keys)
	if problem != nil {
		return parseReply(c.t, problem.Answer())
	}
	answer, _, problem := c.answers.receipts(context.Background(), c, pull, caller)
	if problem != nil {
		answer = problem.Answer()
	}
	return parseReply(c.t, answer)
}

func params(pairs ...string) string {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		v.Add(pairs[i], pairs[i+1])
	}
	return v.Encode()
}

// eventually polls a condition; it is for what another goroutine brings about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for tick := time.NewTicker(5 * time.Millisecond); ; {
		if ok() {
			tick.Stop()
			return
		}
		select {
		case <-deadline:
			tick.Stop()
			t.Fatalf("waited in vain for: %s", what)
		case <-tick.C:
		}
	}
}
