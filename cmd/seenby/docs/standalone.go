package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seenby/seenby/services/projector"
	"github.com/seenby/seenby/services/standalone"
)

// withStandalone makes a standalone, since that has all parts, and shows it to f.
// It never runs.
func withStandalone(registry *prometheus.Registry, f func(*standalone.Standalone) error) (err error) {
	dir, err := os.MkdirTemp("", "seenby-docs-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s, err := standalone.New(context.Background(), standalone.Config{
		Data: dir, Listen: "127.0.0.1:0", Retention: projector.DefaultRetention, VisibleTo: projector.Sender,
		MaxWait: projector.DefaultMaxWait, PollInterval: projector.DefaultPollInterval, PollWindow: projector.DefaultPollWindow, PollSlowest: projector.DefaultPollSlowest,
		Logger: slog.New(slog.DiscardHandler), Registry: registry, Now: time.Now,
	})
	if err != nil {
		return err
	}
	return errors.Join(f(s), s.Close())
}
