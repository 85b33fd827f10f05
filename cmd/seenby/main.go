// Command seenby answers who has read a message. Each of its processes is a
// subcommand; see seenby --help.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/seenby/seenby/cmd/seenby/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal is the operating system's again: it kills.
	context.AfterFunc(ctx, stop)
	os.Exit(cli.Run(ctx, cli.Process(), os.Args[1:]))
}
