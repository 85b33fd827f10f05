package standalone

import (
	"context"
	"log/slog"
	"time"

	"github.com/seenby/seenby/events/topic"
	"github.com/seenby/seenby/services/standalone/broker"
)

const (
	// retainEvery is how often the embedded log is cut.
	retainEvery = 10 * time.Minute
	// retainSlack is for clocks that were set back.
	retainSlack = time.Hour
)

// retain deletes what the embedded log need not keep, now and then until ctx
// ends. A failure is of the broker in this process: it is told, and tried again
// at the next turn, since what was not deleted does no harm.
func (s *Standalone) retain(ctx context.Context) error {
	ticker := time.NewTicker(retainEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		deleted, err := s.cut(ctx)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			s.config.Logger.Warn("the embedded log was not cut", slog.Any("err", err))
		case deleted > 0:
			s.config.Logger.Info("the embedded log was cut", slog.Int64("deleted", deleted))
		}
	}
}

// cut deletes what the embedded log need not keep now, and returns how many
// records those were.
func (s *Standalone) cut(ctx context.Context) (deleted int64, err error) {
	return s.broker.Retain(ctx, broker.Retention{
		Topic:   topicName,
		Before:  s.config.Now().Add(-s.config.Retention - topic.RetentionMargin - retainSlack),
		Applied: s.saved(),
	})
}

// saved returns, per partition, the position that is on disk.
func (s *Standalone) saved() map[int32]int64 {
	positions := make(map[int32]int64)
	for _, p := range s.projector.Status().Owned {
		positions[p.Partition] = p.Saved
	}
	return positions
}
