package cli

import (
	"context"
	"errors"
	"fmt"
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
	c := auth.VerifierConfig{Issuer: f.Issuer, Audience: f.Audience, Leeway: auth.Leeway, Now: r.io.Now}
	var err error
	if f.AuthKeyFile != "" {
		if c.Keys, err = r.keys("auth", "--auth-key-file", f.AuthKeyFile); err != nil {
			return nil, err
		}
	}
	if c.JWKS, err = r.jwks(f); err != nil {
		return nil, err
	}
	if c.Keys == nil && c.JWKS == nil {
		return nil, usage(errors.New("--auth-key-file, --jwks-file or --jwks-url is required: tokens are always checked"))
	}
	return auth.NewVerifier(c)
}

// jwks opens the key set that the flags name, or returns nil.
func (r *running) jwks(f authFlags) (set *auth.JWKS, err error) {
	switch {
	case f.JWKSFile != "":
		if set, err = auth.OpenJWKSFile(f.JWKSFile); err != nil {
			return nil, usage(fmt.Errorf("--jwks-file: %w", err))
		}
	case f.JWKSURL != "":
		if set, err = auth.OpenJWKS(f.JWKSURL); err != nil {
			return nil, usage(fmt.Errorf("--jwks-url: %w", err))
		}
	default:
		return nil, nil
	}
	if err := set.Register(r.metrics); err != nil {
		return nil, err
	}
	r.actors = append(r.actors, func(ctx context.Context) error {
		set.Run(ctx, r.log)
		return nil
	})
	return set, nil
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
