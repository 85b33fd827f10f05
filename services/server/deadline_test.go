package server

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

type contextKey struct{}

func newDeadline(parent context.Context, after time.Duration) *deadline {
	return &deadline{parent: parent, at: time.Now().Add(after)}
}

func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDeadline(context.WithValue(t.Context(), contextKey{}, "value"), time.Second)
		if at, ok := d.Deadline(); !ok || !at.Equal(time.Now().Add(time.Second)) || d.Err() != nil || d.Value(contextKey{}) != "value" {
			t.Fatal("a deadline that was not asked for Done is none")
		}
		if d.inner != nil {
			t.Error("it has a timer already")
		}
		started := time.Now()
		<-d.Done()
		if time.Since(started) != time.Second || !errors.Is(d.Err(), context.DeadlineExceeded) || d.Value(contextKey{}) != "value" {
			t.Errorf("ended after %v with %v", time.Since(started), d.Err())
		}
		d.release()
		if !errors.Is(d.Err(), context.DeadlineExceeded) {
			t.Error("the reason changed")
		}
	})
}

func TestDeadlineWithoutTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDeadline(t.Context(), time.Second)
		time.Sleep(time.Second)
		if !errors.Is(d.Err(), context.DeadlineExceeded) {
			t.Errorf("got %v", d.Err())
		}
		parent, cancel := context.WithCancel(t.Context())
		d = newDeadline(parent, time.Second)
		cancel()
		if !errors.Is(d.Err(), context.Canceled) {
			t.Errorf("got %v", d.Err())
		}
		d = newDeadline(t.Context(), time.Second)
		d.release()
		if !errors.Is(d.Err(), context.Canceled) {
			t.Errorf("got %v", d.Err())
		}
		<-d.Done()
		if !errors.Is(d.Err(), context.Canceled) {
			t.Errorf("got %v", d.Err())
		}
	})
}

// Contexts derived from it end with it, and without goroutines of their own.
func TestDerivedDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDeadline(t.Context(), time.Second)
		goroutines := runtime.NumGoroutine()
		derived, cancel := context.WithTimeout(d, time.Hour)
		defer cancel()
		if n := runtime.NumGoroutine(); n > goroutines {
			t.Errorf("%d goroutines more", n-goroutines)
		}
		<-derived.Done()
		if !errors.Is(derived.Err(), context.DeadlineExceeded) {
			t.Errorf("got %v", derived.Err())
		}
		d = newDeadline(t.Context(), time.Hour)
		derived, cancel = context.WithCancel(d)
		defer cancel()
		d.release()
		synctest.Wait()
		if !errors.Is(derived.Err(), context.Canceled) {
			t.Errorf("got %v", derived.Err())
		}
	})
}

func TestUserLimits(t *testing.T) {
	if wait := newUserLimits(0, 0).take("a", time.Now()); wait != 0 {
		t.Error("no rate limits somebody")
	}
	now := time.Unix(1e9, 0)
	l := newUserLimits(50, 0)
	for i := range 100 {
		if wait := l.take("a", now); wait != 0 {
			t.Fatalf("request %d of a burst of two seconds has to wait %v", i, wait)
		}
	}
	if wait := l.take("a", now); wait != 20*time.Millisecond {
		t.Errorf("has to wait %v", wait)
	}
	if wait := l.take("a", now.Add(5*time.Millisecond)); wait != 15*time.Millisecond {
		t.Errorf("has to wait %v for three quarters of a request", wait)
	}
	if wait := l.take("b", now); wait != 0 {
		t.Errorf("another user has to wait %v", wait)
	}
	if wait := l.take("a", now.Add(20*time.Millisecond)); wait != 0 {
		t.Errorf("has to wait %v after having waited", wait)
	}
	if wait := l.take("a", now.Add(20*time.Millisecond)); wait == 0 {
		t.Error("waiting once is enough for two")
	}
}
