package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/seenby/seenby/services/projector"
	"github.com/seenby/seenby/services/standalone"
)

// standaloneCommand runs everything in one process.
type standaloneCommand struct {
	Data        string        `help:"The directory of everything that is kept; made if missing." required:"" type:"path" placeholder:"DIR"`
	Listen      string        `help:"Where to listen." default:"127.0.0.1:8080" placeholder:"HOST:PORT"`
	AllowRemote bool          `help:"Let other machines reach it: --listen may be beyond loopback."`
	Retention   time.Duration `help:"How long after it was sent a message expires. It cannot be changed later." default:"720h"`
	pullFlags   `embed:"" group:"Pulls"`
}

// Help is what kong prints under the command's own help.
func (*standaloneCommand) Help() string {
	return "It is for trying, developing and small tests, never for production: there is one copy, of one log, on one disk."
}

// Run serves until ctx ends.
func (c *standaloneCommand) Run(ctx context.Context, io IO, log logFlags) error {
	p := newProcess("standalone", io, log)
	config := standalone.Config{
		Data: c.Data, Listen: c.Listen, AllowRemote: c.AllowRemote, Retention: c.Retention,
		VisibleTo: projector.VisibleTo(c.VisibleTo), MaxWait: c.MaxWait, PollInterval: c.PollInterval, PollWindow: c.PollWindow, PollSlowest: c.PollSlowest,
		Logger: p.log, Registry: p.metrics, Now: io.Now,
	}
	if err := config.Validate(ctx); err != nil {
		return usage(err)
	}
	s, err := standalone.New(ctx, config)
	if err != nil {
		return err
	}
	if err := c.introduce(io, s.Addr()); err != nil {
		return errors.Join(err, s.Close())
	}
	return s.Run(ctx)
}

// introduce says what this is, and how to begin.
func (c *standaloneCommand) introduce(io IO, address net.Addr) error {
	_, err := fmt.Fprintf(io.Stdout, `seenby standalone: for trying, developing and small tests, never for production.

  address         http://%[1]s
  the demo        http://%[1]s/demo/
  data            %[2]s
  a user's token  seenby token --data %[2]s --subject alice
  the backend's   seenby token --data %[2]s --subject chat --backend

`, address, c.Data)
	return err
}
