package topic

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

const (
	lookEvery   = time.Second
	lookTimeout = 3 * time.Second
)

// Ready returns nil, or why entries cannot be appended just now: Kafka is out
// of reach, or ([ErrTopicChanged]) the topic is another one. It is what the
// last look found, at most some seconds old, and costs nothing.
func (a *Appender) Ready() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.refusal != nil {
		return a.refusal
	}
	return a.unready
}

// refused returns nil, or what the topic has become.
func (a *Appender) refused() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.refusal
}

// refuse has everything refused from now on. The first reason stays.
func (a *Appender) refuse(why error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.refusal == nil {
		a.refusal = why
		a.logger.Error("nothing more is appended", slog.Any("error", why))
	}
	return a.refusal
}

// watch looks until ctx ends or the topic has changed.
func (a *Appender) watch(ctx context.Context) {
	for pause(ctx, lookEvery) {
		err := a.look(ctx)
		if ctx.Err() != nil || errors.Is(err, ErrTopicChanged) {
			return
		}
		a.mu.Lock()
		before := a.unready
		a.unready = err
		a.mu.Unlock()
		switch {
		case err != nil && before == nil:
			a.logger.Warn("cannot append just now", slog.Any("error", err))
		case err == nil && before != nil:
			a.logger.Info("can append again")
		}
	}
}

// look asks whether the topic is still the one that it was.
func (a *Appender) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	l, err := describe(ctx, a.client, a.topic)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	is, was := l.identity(), a.identity
	switch {
	case is.ID != was.ID:
		return a.refuse(fmt.Errorf("topic %q: %w: its ID was %x and is %x: restart with a higher --generation, and build new copies", a.topic, ErrTopicChanged, was.ID, is.ID))
	case is.Partitions > was.Partitions:
		return a.refuse(fmt.Errorf("topic %q: %w: it had %d partitions and has %d, so that keys belong elsewhere: restart with a higher --generation, and build new copies",
			a.topic, ErrTopicChanged, was.Partitions, is.Partitions))
	}
	return nil
}
