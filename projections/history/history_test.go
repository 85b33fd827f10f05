package history_test

import (
	"bytes"
	"fmt"
	"math"
	"reflect"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/history"
	"github.com/seenby/seenby/projections/oracle"
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
		!bytes.Equal(back.Key, rec.Key) || !bytes.Equal(back.Value, rec.Value) || (back.Value == nil) != (rec.Value == nil) || (back.Key == nil) != (rec.Key == nil) {
		t.Errorf("%s\n was %+v\n and came back as %+v", line, rec, back)
	}
}

func FuzzParse(f *testing.F) {
	for _, line := range []string{
		"7@1h0m0.001s/3 sent m in c by a at -1s to b,c out c",
		"0s sent m in c by a count 7", "1s read m by b at 0s", "1s recall m", "1s erase a", `1s erase a key ""`, "1s control",
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
		"erasures":   func(s *history.Spec) { s.Erasures = 101 },
	} {
		spec := good
		spoil(&spec)
		if _, err := history.Generate(history.Seeded(1), spec); err == nil {
			t.Errorf("%s: accepted %+v", name, spec)
		}
	}
}

// What erasures never meet, no history would judge.
func TestErasuresMeetEverything(t *testing.T) {
	seen := make(map[string]int)
	for seed := range uint64(150) {
		h := generate(t, seed)
		end := oracle.Judge(h.Lineage, h.Partition, 0, h.Records).Messages
		for i, rec := range h.Records {
			if outcome := oracle.Judge(h.Lineage, h.Partition, 0, h.Records[i:i+1]).Outcomes[0]; outcome != projections.Erased {
				continue
			}
			before := oracle.Judge(h.Lineage, h.Partition, 0, h.Records[:i])
			after := oracle.Judge(h.Lineage, h.Partition, 0, h.Records[:i+1])
			seen["erasures"]++
			if rec.Key != nil {
				seen["empty keys"]++
			}
			if len(after.Waiting) < len(before.Waiting) {
				seen["what waited"]++
			}
			changed := 0
			for id, was := range before.Messages {
				if is := after.Messages[id]; is.Version > was.Version {
					changed++
					notice(seen, was, is, end[id], counted(h.Records[:i], id))
				}
			}
			switch {
			case changed == 0:
				seen["nobody"]++
			case changed > 1:
				seen["several messages"]++
			}
		}
		noticeRosters(seen, h)
	}
	for _, what := range []string{"erasures", "empty keys", "what waited", "nobody", "several messages",
		"sender", "recipient", "opted out", "receipt", "after a recall", "before a receipt", "before an erasure",
		"sender of a count", "receipt of a count", "no recipient left to count", "roster before and after"} {
		if seen[what] < 20 {
			t.Errorf("%s: %d times", what, seen[what])
		}
	}
	t.Log(seen)
}

func TestACrowdLosesPeopleOnAndOffItsList(t *testing.T) {
	h, err := history.Crowd(history.Seeded(1), projections.MaxListedReaders+600)
	if err != nil {
		t.Fatal(err)
	}
	last := len(h.Records) - 3 // a recall, and two erasures
	judge := func(n int) oracle.View {
		for _, v := range oracle.Judge(h.Lineage, h.Partition, 0, h.Records[:n]).Messages {
			return v
		}
		return oracle.View{}
	}
	seen := make(map[string]int)
	for i := last - 1; seen["erased"] < 15; i-- {
		if oracle.Judge(h.Lineage, h.Partition, 0, h.Records[i:i+1]).Outcomes[0] != projections.Erased {
			continue
		}
		seen["erased"]++
		was, is := judge(i), judge(i+1)
		if len(is.Readers) < len(was.Readers) {
			seen["listed"]++
		}
		if len(is.Unlisted) < len(was.Unlisted) {
			seen["unlisted"]++
		}
	}
	full := judge(last)
	for _, r := range full.Readers {
		if r.Offset > full.Unlisted[0].Offset {
			seen["listed late"]++
		}
	}
	for _, what := range []string{"listed", "unlisted", "listed late"} {
		if seen[what] < 3 {
			t.Errorf("%s: %d times", what, seen[what])
		}
	}
	if v := judge(last + 3); !v.Recalled || v.Sender != "" || v.TakenAway != h.Records[last+2].Offset+1 || v.Version != v.TakenAway {
		t.Errorf("in the end it is %+v", v)
	}
	t.Log(seen)
}

// notice counts what an erasure did to a message, and what the message came to.
func notice(seen map[string]int, was, is, end oracle.View, counted bool) {
	of := ""
	if counted {
		of = " of a count"
	}
	for what, happened := range map[string]bool{
		"sender" + of:                was.Sender != is.Sender,
		"recipient" + of:             was.RecipientCount > is.RecipientCount,
		"opted out":                  was.OptedOutCount > is.OptedOutCount,
		"receipt" + of:               was.ReadCount > is.ReadCount,
		"no recipient left to count": counted && was.ReadCount > is.ReadCount && was.RecipientCount == 0,
		"after a recall":             was.Recalled,
		"before a receipt":           end.SentAt == is.SentAt && end.ReadCount > is.ReadCount,
		"before an erasure":          end.SentAt == is.SentAt && end.TakenAway > is.TakenAway,
	} {
		if happened {
			seen[what]++
		}
	}
}

// counted says whether the message was never sent to a list of recipients.
func counted(records []events.Record, message string) bool {
	return !slices.ContainsFunc(records, func(rec events.Record) bool {
		e, err := new(events.Decoder).Decode(rec.Key, rec.Value)
		sent, is := e.(*events.MessageSent)
		return err == nil && is && string(sent.MessageID) == message && !sent.CountOnly
	})
}

// noticeRosters counts the rosters that are used both before and after somebody
// in them is erased.
func noticeRosters(seen map[string]int, h history.History) {
	used := make(map[string]map[string]bool) // which were, by participant
	broken := make(map[string]bool)
	for _, rec := range h.Records {
		e, err := new(events.Decoder).Decode(rec.Key, rec.Value)
		if err != nil {
			continue
		}
		switch e := e.(type) {
		case *events.UserErased:
			for roster := range used[string(e.UserID)] {
				broken[roster] = true
			}
		case *events.MessageSent:
			people := append(slices.Clone(e.Recipients), e.SenderID)
			slices.SortFunc(people, bytes.Compare)
			people = slices.CompactFunc(people, bytes.Equal)
			roster := fmt.Sprintf("%q %q", people, e.OptedOut)
			if broken[roster] {
				seen["roster before and after"]++
				delete(broken, roster)
			}
			for _, person := range people {
				if used[string(person)] == nil {
					used[string(person)] = make(map[string]bool)
				}
				used[string(person)][roster] = true
			}
		}
	}
}
