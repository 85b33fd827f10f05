package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/services/pull"
	"github.com/seenby/seenby/services/watch"
)

// watchCommand is the proactive pull in a terminal.
type watchCommand struct {
	MessageID     string        `arg:"" help:"The message to look at."`
	URL           string        `help:"Where query is." default:"http://127.0.0.1:8080" name:"url"`
	Position      []string      `help:"What a write returned: the first pull sees that write." placeholder:"POSITION"`
	Timeout       time.Duration `help:"How long a pull may take." default:"10s"`
	identityFlags `embed:""`
}

// Help is what kong prints under the command's own help.
func (*watchCommand) Help() string {
	return "It pulls as a sender's client does: every 2 s for 20 s, as the server says, and stops when nothing will change. " +
		"On a terminal a key press looks again, and q ends it; elsewhere it writes a line for each change and ends with the look."
}

// Run looks at the message.
func (c *watchCommand) Run(ctx context.Context, io IO) error {
	if err := events.CheckID(c.MessageID); err != nil {
		return usage(err)
	}
	if c.Timeout <= 0 {
		return usage(fmt.Errorf("--timeout must be more than 0, not %v", c.Timeout))
	}
	token, err := c.source(io.Now)
	if err != nil {
		return err
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, IdleConnTimeout: time.Minute}
	defer transport.CloseIdleConnections()
	options := watch.Options{
		Pull:      pull.Config{BaseURL: c.URL, Token: token, Transport: transport, Timeout: c.Timeout},
		MessageID: c.MessageID, Positions: c.Position, Out: io.Stdout,
	}
	err = look(ctx, io, options)
	switch {
	case errors.Is(err, pull.ErrConfig):
		return usage(fmt.Errorf("--url: %w", err))
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return errors.New("interrupted")
	}
	return err
}

// look shows the look on the screen, if there is one.
func look(ctx context.Context, io IO, options watch.Options) error {
	if io.Screen == nil {
		return watch.Lines(ctx, options)
	}
	terminal, restore, err := io.Screen()
	if err != nil {
		return err
	}
	options.Location = time.Local
	return errors.Join(watch.Screen(ctx, options, terminal), restore())
}
