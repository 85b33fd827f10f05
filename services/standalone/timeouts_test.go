package standalone

import (
	"testing"
	"time"
)

// A pull that waits as long as it may is told so, not cut off.
func TestTimeoutsAreBeyondTheWait(t *testing.T) {
	for _, wait := range []time.Duration{0, 2 * time.Second, 30 * time.Second} {
		c := Config{MaxWait: wait}
		if owner, request := c.ownerTimeout(), c.requestTimeout(); owner <= wait || request <= owner {
			t.Errorf("a wait of %v: %v for the owner, %v for the request", wait, owner, request)
		}
	}
}
