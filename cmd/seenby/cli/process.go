package cli

import (
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/seenby/seenby/services/auth"
	"github.com/seenby/seenby/services/process"
	"github.com/seenby/seenby/services/server"
)

// running is what all processes are made of, beside what they do.
type running struct {
	name    string
	io      IO
	log     *slog.Logger
	metrics *prometheus.Registry
	// actors are what runs behind the server.
	actors []process.Actor
}

func newProcess(name string, io IO, log logFlags) *running {
	r := &running{name: name, io: io, log: log.logger(io), metrics: prometheus.NewRegistry()}
	r.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// keys reads the file of keys that a flag names, and keeps them up to date while
// the process runs.
func (r *running) keys(label, flag, file string) (*auth.Keys, error) {
	keys, err := openKeys(flag, file)
	if err != nil {
		return nil, err
	}
	if err := keys.Register(r.metrics, label); err != nil {
		return nil, err
	}
	r.actors = append(r.actors, func(ctx context.Context) error {
		keys.Run(ctx, r.log)
		return nil
	})
	return keys, nil
}

// verifier returns the verifier that the flags say.
func (r *running) verifier(f authFlags) (*auth.Verifier, error) {
	keys, err := r.keys("auth", "--auth-key-file", f.AuthKeyFile)
	if err != nil {
		return nil, err
	}
	return auth.NewVerifier(auth.VerifierConfig{Keys: keys, Issuer: f.Issuer, Audience: f.Audience, Leeway: auth.Leeway, Now: r.io.Now})
}

// serve runs the process until ctx ends.
func (r *running) serve(ctx context.Context, config server.Config, behind ...process.Actor) error {
	config.Service, config.Logger, config.Registry = r.name, r.log, r.metrics
	if err := config.Validate(); err != nil {
		return usage(err)
	}
	s, err := server.New(config)
	if err != nil {
		return err
	}
	r.log.Info("starting", "service", r.name, "version", version())
	return process.Run(ctx, s.Run, append(r.actors, behind...)...)
}
