package process_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/seenby/seenby/services/process"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ends notes the order in which actors end.
type ends struct {
	mu    sync.Mutex
	order []string
}

func (e *ends) actor(name string, begun chan<- string, result error) process.Actor {
	return func(ctx context.Context) error {
		begun <- name
		<-ctx.Done()
		e.mu.Lock()
		defer e.mu.Unlock()
		e.order = append(e.order, name)
		return result
	}
}

func TestFrontEndsFirst(t *testing.T) {
	errFront, errBack := errors.New("front"), errors.New("back")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var e ends
	begun := make(chan string, 3)
	go func() {
		for range 3 {
			<-begun
		}
		cancel()
	}()
	err := process.Run(ctx, e.actor("front", begun, errFront), e.actor("back", begun, errBack), e.actor("back", begun, nil))
	if !errors.Is(err, errFront) || !errors.Is(err, errBack) {
		t.Errorf("error %v", err)
	}
	if want := []string{"front", "back", "back"}; !slices.Equal(e.order, want) {
		t.Errorf("ended in the order %v", e.order)
	}
}

func TestAnActorEndsEverything(t *testing.T) {
	errFailed := errors.New("failed")
	fail := func(context.Context) error { return errFailed }
	for _, failing := range []string{"front", "back"} {
		var e ends
		begun := make(chan string, 2)
		front, back := e.actor("front", begun, nil), e.actor("back", begun, nil)
		if failing == "front" {
			front = fail
		} else {
			back = fail
		}
		if err := process.Run(t.Context(), front, back); !errors.Is(err, errFailed) {
			t.Errorf("%s failed: %v", failing, err)
		}
	}
}
