package protocol

import (
	"reflect"
	"testing"
	"time"

	"github.com/seenby/seenby/services/contract"
)

var testAnswer = &BatchAnswer{
	Results:  []BatchResult{{}, {Done: true}, {Body: []byte(`{"a":1}`)}, {Body: []byte(`{}`), Done: true}, {Failed: contract.NotFound}},
	Position: contract.Position{Log: 7, Next: map[int32]int64{0: 1, 63: 1 << 40}},
	Lag:      30 * time.Millisecond,
	Poll:     contract.DefaultPoll,
}

func TestBatchAnswerRoundTrip(t *testing.T) {
	b := testAnswer.Append(nil)
	got, err := ParseBatchAnswer(b)
	if err != nil || !reflect.DeepEqual(got, testAnswer) {
		t.Errorf("got %+v, %v", got, err)
	}
	for i := range b {
		if got, err := ParseBatchAnswer(b[:i]); err == nil {
			t.Errorf("cut off at %d: %+v", i, got)
		}
	}
	if got, err := ParseBatchAnswer(append(b, 0)); err == nil {
		t.Errorf("with something behind: %+v", got)
	}
}

func FuzzParseBatchAnswer(f *testing.F) {
	f.Add(testAnswer.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := ParseBatchAnswer(b)
		if err != nil {
			return
		}
		again, err := ParseBatchAnswer(a.Append(nil))
		if err != nil || len(again.Results) != len(a.Results) || !reflect.DeepEqual(again.Position, a.Position) {
			t.Errorf("%+v came back as %+v, %v", a, again, err)
		}
	})
}
