package projector

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seenby/seenby/events/topic"
	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/badgerstore"
	"github.com/seenby/seenby/services/projector/protocol"
)

// Refold folds the log from its start, in an empty DataDir, up to these positions
// and not beyond: what a store of the lineage must be at them. It is refused for a
// topic that is not the lineage's. report is told how far it is, now and then.
func Refold(ctx context.Context, c Config, lineage projections.Lineage, to map[int32]int64, report func(protocol.Progress)) error {
	if err := c.validateState(); err != nil {
		return err
	}
	identity, err := topic.Identify(ctx, c.Connection)
	if err != nil {
		return err
	}
	if err := badgerstore.SameLineage(lineage, c.lineage(identity)); err != nil {
		return fmt.Errorf("topic %s: %w", c.Connection.Topic, err)
	}
	n, err := openNode(ctx, &c, identity, func(time.Duration) {})
	if err != nil {
		return err
	}
	return errors.Join(n.rebuild(ctx, to, report), n.close())
}
