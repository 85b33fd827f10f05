package cli

import (
	"context"
	"errors"
	"slices"

	"github.com/seenby/seenby/services/ingest"
	"github.com/seenby/seenby/services/openapi"
	"github.com/seenby/seenby/services/server"
)

// ingestCommand runs the process that takes messages and reads.
type ingestCommand struct {
	Listen      string `help:"Where backends and clients reach it." default:"127.0.0.1:8080" placeholder:"HOST:PORT"`
	agreedFlags `embed:""`
	kafkaFlags  `embed:"" group:"Kafka"`
	authFlags   `embed:"" group:"Tokens"`
	userFlags   `embed:"" group:"HTTP"`
	serverFlags `embed:"" group:"HTTP"`
}

// Run serves until ctx ends.
func (c *ingestCommand) Run(ctx context.Context, io IO, log logFlags) error {
	p := newProcess("ingest", io, log)
	connection, err := c.connection()
	if err != nil {
		return err
	}
	verifier, err := p.verifier(c.authFlags)
	if err != nil {
		return err
	}
	config := ingest.Config{
		Connection: connection, Generation: c.Generation, Retention: c.Retention,
		Logger: p.log, Registerer: p.metrics, Now: io.Now,
	}
	if err := config.Validate(); err != nil {
		return usage(err)
	}
	service, err := ingest.New(config)
	if err != nil {
		return err
	}
	http := server.Config{Listen: c.Listen, Routes: slices.Concat(service.Routes(), openapi.Routes()), Authenticate: verifier.Authenticate,
		Ready: func() error { return errors.Join(verifier.Ready(), service.Ready()) }}
	c.serverFlags.into(&http)
	c.userFlags.into(&http)
	return p.serve(ctx, http, service.Run)
}
