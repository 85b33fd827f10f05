package server

import (
	"testing"
	"time"
)

// TestCharge: what a request costs beyond one is owed, and those that follow wait.
func TestCharge(t *testing.T) {
	l := newUserLimits(2, 4)
	now := time.Now()
	if wait := l.take("alice", now); wait != 0 {
		t.Fatalf("the first waits %v", wait)
	}
	l.charge("alice", 10, now) // of 3 that are left: 7 are owed
	if wait := l.take("alice", now); wait != 4*time.Second {
		t.Errorf("waits %v", wait)
	}
	if wait := l.take("bob", now); wait != 0 {
		t.Errorf("another one waits %v", wait)
	}
	if wait := l.take("alice", now.Add(4*time.Second)); wait != 0 {
		t.Errorf("waits still %v", wait)
	}
	var none *userLimits
	none.charge("alice", 10, now)
}
