package topic

import (
	"errors"
	"testing"
	"time"
)

// TestRemove removes a topic, and none that has its name and another ID.
func TestRemove(t *testing.T) {
	onEach(t, func(t *testing.T, c *cluster) {
		ctx := testContext(t)
		at := c.topic(t, 2)
		identity, err := Identify(ctx, at)
		if err != nil {
			t.Fatal(err)
		}
		other := identity
		other.ID[0]++
		if err := Remove(ctx, at, other); !errors.Is(err, ErrTopicChanged) {
			t.Errorf("of another identity: %v", err)
		}
		if is, err := Identify(ctx, at); err != nil || is != identity {
			t.Errorf("it was removed as another: %v, %v", is, err)
		}
		if err := Remove(ctx, at, identity); err != nil {
			t.Fatal(err)
		}
		client, err := RawClient(at)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		// Kafka removes it some time after it said that it would.
		for deadline := time.Now().Add(patience); ; {
			if _, err := describe(ctx, client, at.Topic); errors.Is(err, ErrNoTopic) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("it is still there")
			}
		}
		if err := Remove(ctx, at, identity); err != nil {
			t.Errorf("again: %v", err)
		}
	})
}
