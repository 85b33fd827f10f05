package bench

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"testing"

	"github.com/seenby/seenby/events"
)

// still is a clock that stands.
func still() int64 { return 1_795_600_000_000 }

// small sizes of each named workload, both ways of ordering reads among them.
var sizes = []Workload{
	{Name: "large", Messages: 12, Groups: 1, Readers: 70, Alive: 5, Seed: 1},
	{Name: "small", Messages: 300, Groups: 20, Readers: 8, Alive: 40, Seed: 1},
	{Name: "trickle", Messages: 50, Groups: 7, Readers: 20, Alive: 50, Seed: 1},
	{Name: "one", Messages: 1, Groups: 1, Readers: 1, Alive: 1, Seed: 1},
}

// TestWorkloadIsRead holds a workload to what it says: each message is sent once,
// to a whole group, and read once by everybody in it but its sender, after it was
// sent; and no more than so many are being read at a time.
func TestWorkloadIsRead(t *testing.T) {
	for _, w := range sizes {
		t.Run(w.Name, func(t *testing.T) {
			left := make(map[string]map[string]bool)
			var count, finished int64
			groups := make(map[string]bool)
			err := w.Each(still, func(e events.Event) error {
				count++
				value, err := events.AppendEncode(nil, e)
				if err != nil {
					return err
				}
				if e, err = new(events.Decoder).Decode(e.Key(), value); err != nil {
					return err
				}
				if p := events.Partition(e.Key(), 64); p < 0 || p > 63 {
					return fmt.Errorf("partition %d", p)
				}
				switch e := e.(type) {
				case *events.MessageSent:
					if left[string(e.MessageID)] != nil {
						return errors.New("a message is sent twice")
					}
					to := make(map[string]bool)
					for _, r := range e.Recipients {
						to[string(r)] = true
					}
					if len(to) != w.Readers || to[string(e.SenderID)] || len(e.MessageID) != 36 || len(e.SenderID) != 36 || len(e.ConversationID) != 36 {
						return fmt.Errorf("it has %d recipients: %+v", len(to), e)
					}
					left[string(e.MessageID)] = to
					groups[string(e.ConversationID)] = true
				case *events.MessageRead:
					if !left[string(e.MessageID)][string(e.ReaderID)] {
						return errors.New("somebody reads what is not sent to them, or again")
					}
					if e.ReadAt < still() || e.ReadAt > still()+maxLate {
						return fmt.Errorf("read at %d", e.ReadAt)
					}
					delete(left[string(e.MessageID)], string(e.ReaderID))
					if len(left[string(e.MessageID)]) == 0 {
						finished++
					}
				}
				if alive := int64(len(left)) - finished; alive > int64(w.Alive) {
					return fmt.Errorf("%d messages are being read at a time", alive)
				}
				return nil
			})
			if err != nil {
				t.Fatalf("after %d events: %v", count, err)
			}
			if count != w.Events() || finished != int64(w.Messages) || len(groups) > w.Groups || len(groups) < w.Groups/2 {
				t.Errorf("%d events of %d, %d messages of %d, %d groups of %d", count, w.Events(), finished, w.Messages, len(groups), w.Groups)
			}
		})
	}
}

// digestOf sums a workload up.
func digestOf(t *testing.T, w Workload) string {
	t.Helper()
	h := sha256.New()
	if err := w.Each(still, func(e events.Event) error { return add(h, e) }); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

func add(h hash.Hash, e events.Event) error {
	value, err := events.AppendEncode(nil, e)
	h.Write(e.Key())
	h.Write(value)
	return err
}

func TestWorkloadIsDeterministic(t *testing.T) {
	for _, w := range sizes {
		first := digestOf(t, w)
		if again := digestOf(t, w); again != first {
			t.Errorf("%s: another run makes other events", w.Name)
		}
		w.Seed++
		if other := digestOf(t, w); other == first {
			t.Errorf("%s: another seed makes the same events", w.Name)
		}
	}
}

func TestWorkloadEndsWithAnError(t *testing.T) {
	enough := errors.New("enough")
	for _, w := range sizes {
		n := 0
		err := w.Each(still, func(events.Event) error {
			if n++; n == 2 {
				return enough
			}
			return nil
		})
		if !errors.Is(err, enough) || n != 2 {
			t.Errorf("%s: %d events, %v", w.Name, n, err)
		}
	}
}

func TestPermutation(t *testing.T) {
	for _, n := range []uint64{1, 2, 3, 4, 5, 16, 17, 1000, 4096, 65_537} {
		seen := make([]bool, n)
		p := newPermutation(n, 7)
		var inOrder uint64
		for i := range n {
			at := p.at(i)
			if at >= n || seen[at] {
				t.Fatalf("of %d: %d comes twice, or is too large", n, at)
			}
			if seen[at] = true; at == i {
				inOrder++
			}
		}
		if n >= 1000 && inOrder > 20 {
			t.Errorf("of %d: %d are where they were", n, inOrder)
		}
	}
}

func TestWorkloadValidate(t *testing.T) {
	for _, w := range presets {
		if err := w.Validate(); err != nil {
			t.Errorf("%s: %v", w.Name, err)
		}
	}
	good := sizes[0]
	for name, spoil := range map[string]func(*Workload){
		"no messages":      func(w *Workload) { w.Messages = 0 },
		"no groups":        func(w *Workload) { w.Groups = 0 },
		"no readers":       func(w *Workload) { w.Readers = 0 },
		"too many readers": func(w *Workload) { w.Readers = events.MaxRecipients + 1 },
		"none alive":       func(w *Workload) { w.Alive = 0 },
		"too many alive":   func(w *Workload) { w.Alive = w.Messages + 1 },
	} {
		w := good
		spoil(&w)
		if err := w.Validate(); !errors.Is(err, ErrWorkload) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Named("huge"); !errors.Is(err, ErrWorkload) {
		t.Error(err)
	}
}

func BenchmarkEach(b *testing.B) {
	w := Workload{Messages: 2_500, Groups: 1, Readers: 2_000, Alive: 50}
	var n int
	var value []byte
	enough := errors.New("enough")
	for n < b.N {
		_ = w.Each(still, func(e events.Event) (err error) {
			if n++; n > b.N {
				return enough
			}
			value, err = events.AppendEncode(value[:0], e)
			return err
		})
	}
}
