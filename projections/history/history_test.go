package history_test

import (
	"bytes"
	"math"
	"reflect"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/projections/history"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func generate(t *testing.T, seed uint64) history.History {
	t.Helper()
	src := history.Seeded(seed)
	h, err := history.Generate(src, history.RandomSpec(src))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestASeedAlwaysGivesTheSameHistory(t *testing.T) {
	for seed := range uint64(20) {
		if a, b := generate(t, seed), generate(t, seed); !reflect.DeepEqual(a, b) {
			t.Fatalf("seed %d:\n%v\n\n%v", seed, a, b)
		}
	}
	if reflect.DeepEqual(generate(t, 1), generate(t, 2)) {
		t.Error("two seeds gave one history")
	}
}

func TestTimestampsRunBackWithinTheSlack(t *testing.T) {
	back := false
	for seed := range uint64(200) {
		h := generate(t, seed)
		latest, offset := int64(math.MinInt64/2), int64(-1)
		for _, rec := range h.Records {
			if rec.Timestamp < latest-history.Slack.Milliseconds() {
				t.Fatalf("seed %d: %s runs back by more than %v", seed, history.Format(rec), history.Slack)
			}
			if rec.Offset <= offset {
				t.Fatalf("seed %d: offset %d after %d", seed, rec.Offset, offset)
			}
			back = back || rec.Timestamp < latest
			latest, offset = max(latest, rec.Timestamp), rec.Offset
		}
	}
	if !back {
		t.Error("no timestamp ever ran back")
	}
}

func TestIDsUsedOnceAreSentWithinADay(t *testing.T) {
	for seed := range uint64(300) {
		src := history.Seeded(seed)
		spec := history.RandomSpec(src)
		spec.IDs = history.UsedOnce
		h, err := history.Generate(src, spec)
		if err != nil {
			t.Fatal(err)
		}
		first := make(map[string]int64)
		for _, rec := range h.Records {
			e, err := new(events.Decoder).Decode(rec.Key, rec.Value)
			if err != nil {
				continue
			}
			sent, ok := e.(*events.MessageSent)
			if !ok {
				continue
			}
			id, sentAt := string(rec.Key), min(sent.SentAt, rec.Timestamp)
			if before, again := first[id]; again && sentAt > before+(24*time.Hour).Milliseconds() {
				t.Fatalf("seed %d: %s is sent again after more than a day\n%v", seed, id, h)
			} else if !again || sentAt < before {
				first[id] = sentAt
			}
		}
	}
}

func TestWhatIsWrittenCanBeReadBack(t *testing.T) {
	for seed := range uint64(100) {
		for _, rec := range generate(t, seed).Records {
			checkRoundTrip(t, rec)
		}
	}
}

func checkRoundTrip(t *testing.T, rec events.Record) {
	t.Helper()
	line := history.Format(rec)
	back, err := history.Parse(line, 0)
	if err != nil {
		t.Fatal(err)
	}
	if rec.Control { // Its key and value are the broker's.
		rec.Key, rec.Value = nil, nil
	}
	if back.Offset != rec.Offset || back.Timestamp != rec.Timestamp || back.LeaderEpoch != rec.LeaderEpoch || back.Control != rec.Control ||
		!bytes.Equal(back.Key, rec.Key) || !bytes.Equal(back.Value, rec.Value) || (back.Value == nil) != (rec.Value == nil) {
		t.Errorf("%s\n was %+v\n and came back as %+v", line, rec, back)
	}
}

func FuzzParse(f *testing.F) {
	for _, line := range []string{
		"7@1h0m0.001s/3 sent m in c by a at -1s to b,c out c",
		"0s sent m in c by a count 7", "1s read m by b at 0s", "1s recall m", "1s erase a", "1s control",
		`1s raw null "hi\x20"`, "1s read m by", "x", "",
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		rec, err := history.Parse(line, 3)
		if err != nil {
			return
		}
		checkRoundTrip(t, rec)
	})
}

func TestShrinkFindsWhatMatters(t *testing.T) {
	h := generate(t, 5)
	first, last := h.Records[10].Offset, h.Records[len(h.Records)-3].Offset
	short := h.Shrink(func(h history.History) bool {
		n := 0
		for _, rec := range h.Records {
			if rec.Offset == first || rec.Offset == last {
				n++
			}
		}
		return n == 2
	})
	if len(short.Records) != 2 || short.Records[0].Offset != first || short.Records[1].Offset != last {
		t.Errorf("want the records at %d and %d alone:\n%v", first, last, short)
	}
}

func TestAnImpossibleSpecIsRefused(t *testing.T) {
	good := history.RandomSpec(history.Seeded(1))
	for name, spoil := range map[string]func(*history.Spec){
		"partition":  func(s *history.Spec) { s.Partition = s.Partitions },
		"partitions": func(s *history.Spec) { s.Partitions = 0 },
		"active":     func(s *history.Spec) { s.Active = 0 },
		"people":     func(s *history.Spec) { s.People = 0 },
		"retention":  func(s *history.Spec) { s.Retention = 0 },
		"records":    func(s *history.Spec) { s.Records = -1 },
	} {
		spec := good
		spoil(&spec)
		if _, err := history.Generate(history.Seeded(1), spec); err == nil {
			t.Errorf("%s: accepted %+v", name, spec)
		}
	}
}
