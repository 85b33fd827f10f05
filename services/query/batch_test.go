package query

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/services/contract"
	"github.com/seenby/seenby/services/projector/protocol"
)

// batchOf answers every message of a batch with its ID; "u…" is unchanged, "g…" is
// no message, and "d…" is done.
func batchOf(node int) func(context.Context, *AskBatch) (*protocol.BatchAnswer, *contract.Problem, error) {
	return func(_ context.Context, ask *AskBatch) (*protocol.BatchAnswer, *contract.Problem, error) {
		a := &protocol.BatchAnswer{
			Position: contract.Position{Log: 1, Next: map[int32]int64{int32(node): int64(ask.Readers)}},
			Lag:      time.Duration(node+1) * time.Second,
			Poll:     contract.Poll{Interval: time.Duration(node+2) * time.Second, Window: time.Duration(20-node) * time.Second},
		}
		for _, item := range ask.Batch.Items {
			r := protocol.BatchResult{Done: item.MessageID[0] == 'd'}
			switch item.MessageID[0] {
			case 'u':
			case 'g':
				r.Failed = contract.NotFound
			default:
				r.Body = fmt.Appendf(nil, `{"message_id":%q,"node":%d}`, item.MessageID, node)
			}
			a.Results = append(a.Results, r)
		}
		return a, nil, nil
	}
}

type batchReply struct {
	Messages []struct {
		MessageID string `json:"message_id"`
		Node      int    `json:"node"`
	} `json:"messages"`
	Unchanged []string `json:"unchanged"`
	Failed    []struct {
		MessageID string `json:"message_id"`
		Code      string `json:"code"`
	} `json:"failed"`
	Poll struct {
		IntervalMS int  `json:"interval_ms"`
		WindowMS   int  `json:"window_ms"`
		Stop       bool `json:"stop"`
	} `json:"poll"`
}

func (f *fixture) batch(ids ...string) (contract.Answer, string) {
	f.t.Helper()
	batch := &contract.Batch{Limit: 50}
	for _, id := range ids {
		batch.Items = append(batch.Items, contract.BatchItem{MessageID: id})
	}
	answer, problem := f.Batch(context.Background(), batch, contract.Caller{Subject: "alice"})
	if problem != nil {
		return answer, string(problem.Code)
	}
	var r batchReply
	if err := json.Unmarshal(answer.Body, &r); err != nil || answer.Status != 200 || r.Messages == nil || r.Unchanged == nil || r.Failed == nil {
		f.t.Fatalf("%d %s %v", answer.Status, answer.Body, err)
	}
	var said []string
	for _, m := range r.Messages {
		said = append(said, fmt.Sprintf("%s from %d", m.MessageID, m.Node))
	}
	for _, id := range r.Unchanged {
		said = append(said, id+" unchanged")
	}
	for _, x := range r.Failed {
		said = append(said, x.MessageID+" "+x.Code)
	}
	said = append(said, fmt.Sprintf("%d/%d %t", r.Poll.IntervalMS, r.Poll.WindowMS, r.Poll.Stop))
	return answer, strings.Join(said, "; ")
}

// idLike returns an ID with a prefix that node has, of so many.
func idLike(prefix string, node, nodes int) string {
	for i := 0; ; i++ {
		if id := fmt.Sprintf("%s%d", prefix, i); int(events.Partition(id, partitions))%nodes == node {
			return id
		}
	}
}

func newBatchFixture(t *testing.T, nodes int, change func(*Config)) *fixture {
	f := newFixture(t, nodes, change)
	for i, o := range f.owners {
		o.batch = batchOf(i)
	}
	f.run()
	f.becomesReady()
	return f
}

func TestBatchIsGathered(t *testing.T) {
	f := newBatchFixture(t, 3, nil)
	a, b, c := idLike("m", 0, 3), idLike("m", 1, 3), idLike("m", 2, 3)
	u, g, d := idLike("u", 2, 3), idLike("g", 1, 3), idLike("d", 0, 3)
	answer, got := f.batch(c, u, a, g, b, d)
	if want := fmt.Sprintf("%s from 2; %s from 0; %s from 1; %s from 0; %s unchanged; %s not_found; 4000/18000 false", c, a, b, d, u, g); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	p, err := contract.ParsePosition(answer.Header.Get("Seenby-Position"))
	// 5,000 readers in all, shared out by how many messages each has.
	if want := map[int32]int64{0: 1666, 1: 1666, 2: 1666}; err != nil || !reflect.DeepEqual(p.Next, want) {
		t.Errorf("position %v, %v", p, err)
	}
	if h := answer.Header; h.Get("Seenby-Lag-Ms") != "3000" || h.Get("Seenby-Poll") != "interval=4000, window=18000" || h.Get("Etag") != "" {
		t.Errorf("headers %v", h)
	}
	answer, got = f.batch(d)
	if want := d + " from 0; 2000/20000 true"; got != want || answer.Header.Get("Seenby-Poll") != "stop" {
		t.Errorf("got %s, %v", got, answer.Header)
	}
}

func TestBatchOfOneNode(t *testing.T) {
	f := newBatchFixture(t, 1, nil)
	answer, got := f.batch("m1", "u1", "d1")
	if want := "m1 from 0; d1 from 0; u1 unchanged; 2000/20000 false"; got != want {
		t.Errorf("got %s", got)
	}
	if p, _ := contract.ParsePosition(answer.Header.Get("Seenby-Position")); p.Next[0] != contract.MaxBatchReaders {
		t.Errorf("room for %d readers", p.Next[0])
	}
}

// TestPartOfABatchFails: the others are answered, and the failed are named.
func TestPartOfABatchFails(t *testing.T) {
	a, b := idLike("m", 0, 2), idLike("m", 1, 2)
	for name, k := range map[string]struct {
		change func(*fakeOwner)
		want   string
	}{
		"no answer": {func(o *fakeOwner) {
			o.batch = func(context.Context, *AskBatch) (*protocol.BatchAnswer, *contract.Problem, error) {
				return nil, nil, errors.New("reset")
			}
		}, a + " from 0; " + b + " owner_unavailable; 2000/20000 false"},
		"too slow": {func(o *fakeOwner) {
			o.batch = func(ctx context.Context, _ *AskBatch) (*protocol.BatchAnswer, *contract.Problem, error) {
				<-ctx.Done()
				return nil, nil, ctx.Err()
			}
		}, a + " from 0; " + b + " timeout; 2000/20000 false"},
		"starting": {func(o *fakeOwner) {
			o.batch = func(context.Context, *AskBatch) (*protocol.BatchAnswer, *contract.Problem, error) {
				return nil, contract.NewProblem(contract.Starting, "not yet"), nil
			}
		}, a + " from 0; " + b + " owner_unavailable; 2000/20000 false"},
		"overloaded": {func(o *fakeOwner) {
			o.batch = func(context.Context, *AskBatch) (*protocol.BatchAnswer, *contract.Problem, error) {
				return nil, contract.NewProblem(contract.Overloaded, "too many"), nil
			}
		}, a + " from 0; " + b + " overloaded; 2000/20000 false"},
		"position gone": {func(o *fakeOwner) {
			o.batch = func(context.Context, *AskBatch) (*protocol.BatchAnswer, *contract.Problem, error) {
				return nil, contract.NewProblem(contract.PositionGone, "of another topic"), nil
			}
		}, "position_gone"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newBatchFixture(t, 2, func(c *Config) { c.OwnerTimeout = 200 * time.Millisecond })
			f.owners[1].set(k.change)
			if _, got := f.batch(b, a); got != k.want {
				t.Errorf("got %s\nwant %s", got, k.want)
			}
		})
	}
}

func TestBatchWithoutOwners(t *testing.T) {
	f := newFixture(t, 2, nil)
	f.owners[1].batch = batchOf(1)
	if answer, got := f.batch("m1", "m2"); got != "m1 owner_unavailable; m2 owner_unavailable; 2000/20000 false" || answer.Header.Get("Seenby-Position") != "" {
		t.Errorf("before anybody told of the log: %s %v", got, answer.Header)
	}
	f.owners[0].err = errors.New("connection refused")
	f.run()
	f.saysUnready("node 0 (http://node-0) does not answer: connection refused")
	a, b := idLike("m", 0, 2), idLike("m", 1, 2)
	if _, got := f.batch(a, b); got != b+" from 1; "+a+" owner_unavailable; 3000/19000 false" {
		t.Errorf("got %s", got)
	}
}
