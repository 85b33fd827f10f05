package cli

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/seenby/seenby/services/auth"
	"github.com/seenby/seenby/services/openapi"
	"github.com/seenby/seenby/services/query"
	"github.com/seenby/seenby/services/server"
)

// queryCommand runs the process that clients pull from.
type queryCommand struct {
	Listen             string        `help:"Where clients reach it." default:"127.0.0.1:8080" placeholder:"HOST:PORT"`
	Projectors         []string      `help:"The internal addresses of the copy's nodes, in node order." required:"" placeholder:"URL"`
	InternalSecretFile string        `help:"The secret that query and projectors share: base64url, 32 bytes or more; one a line; the first signs, all verify. It is read again when it changes." required:"" type:"path" placeholder:"FILE"`
	InternalCAFile     string        `help:"Certificates (PEM) that sign the projectors', for https addresses; without, the system's." type:"path" placeholder:"FILE" name:"internal-ca-file"`
	OwnerTimeout       time.Duration `help:"How long a projector may take to answer a pull, its wait for a presented position included." default:"5s"`
	StatusEvery        time.Duration `help:"How often each projector is asked for its status." default:"300ms"`
	authFlags          `embed:"" group:"Tokens"`
	userFlags          `embed:"" group:"HTTP"`
	serverFlags        `embed:"" group:"HTTP"`
}

// Run serves until ctx ends.
func (c *queryCommand) Run(ctx context.Context, io IO, log logFlags) error {
	p := newProcess("query", io, log)
	verifier, err := p.verifier(c.authFlags)
	if err != nil {
		return err
	}
	secret, err := p.keys("internal", "--internal-secret-file", c.InternalSecretFile)
	if err != nil {
		return err
	}
	nodes, closeIdle, err := query.HTTPNodes(c.Projectors, query.HTTPConfig{Internal: auth.Internal{Keys: secret, Now: io.Now}, CAFile: c.InternalCAFile})
	if err != nil {
		return usage(err)
	}
	defer closeIdle()
	config := query.Config{
		Copies: []query.Copy{{Nodes: nodes}}, Sealer: secret, OwnerTimeout: c.OwnerTimeout, StatusEvery: c.StatusEvery,
		Logger: p.log, Registerer: p.metrics, Now: io.Now,
	}
	if err := config.Validate(); err != nil {
		return usage(err)
	}
	if err := c.within("--owner-timeout", c.OwnerTimeout); err != nil {
		return err
	}
	service, err := query.New(config)
	if err != nil {
		return err
	}
	http := server.Config{Listen: c.Listen, Routes: slices.Concat(service.Routes(), openapi.Routes()), Authenticate: verifier.Authenticate,
		Ready: func() error { return errors.Join(verifier.Ready(), service.Ready()) }}
	c.serverFlags.into(&http)
	c.userFlags.into(&http)
	return p.serve(ctx, http, service.Run)
}
