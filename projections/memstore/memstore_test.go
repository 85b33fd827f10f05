package memstore_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/seenby/seenby/projections/materialize"
	"github.com/seenby/seenby/projections/memstore"
	"github.com/seenby/seenby/projections/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStore(t *testing.T) {
	storetest.Run(t, func(*testing.T) storetest.Opener {
		medium := &memstore.Medium{}
		return func() (materialize.Store, error) { return memstore.Open(medium, 4<<20), nil }
	})
}
