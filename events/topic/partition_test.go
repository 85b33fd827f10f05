package topic

import (
	"math/rand/v2"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/seenby/seenby/events"
)

// Other producers find the same partition for a key as we do.
func TestPartitionIsKafkas(t *testing.T) {
	theirs := kgo.StickyKeyPartitioner(nil).ForTopic("t")
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		key := make([]byte, 1+rnd.IntN(130))
		for i := range key {
			key[i] = byte(rnd.Uint32())
		}
		n := 1 + rnd.Int32N(200)
		if ours, want := events.Partition(key, n), theirs.Partition(&kgo.Record{Key: key}, int(n)); int(ours) != want {
			t.Fatalf("key %x of %d: %d, not %d", key, n, ours, want)
		}
	}
}
