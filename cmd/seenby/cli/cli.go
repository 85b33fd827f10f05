// Package cli is seenby's command line: it parses flags and environment, makes
// the services' configurations of them, and runs what was asked for. It decides
// nothing else.
//
// Each file has one subcommand, its flags first; flags that subcommands share are
// in flags.go.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"golang.org/x/term"

	"github.com/seenby/seenby/services/watch"
)

// The exit codes.
const (
	// Done says that the command did what it should.
	Done = 0
	// Failed says that it could not.
	Failed = 1
	// Usage says that it was not asked in the right way: a flag or setting is
	// wrong, and nothing was started.
	Usage = 2
)

// IO is what a command has of the world around it.
type IO struct {
	// Args are the command's, as Run is given them.
	Args           []string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// ErrTerminal says that Stderr is a terminal.
	ErrTerminal bool
	// Screen takes the terminal over that Stdin and Stdout are, until restore; nil
	// if they are none.
	Screen func() (_ watch.Terminal, restore func() error, _ error)
	Now    func() time.Time
}

// Process is the process's own IO.
func Process() IO {
	io := IO{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Now: time.Now,
		ErrTerminal: term.IsTerminal(int(os.Stderr.Fd())),
	}
	if term.IsTerminal(int(os.Stdin.Fd())) && term.IsTerminal(int(os.Stdout.Fd())) {
		io.Screen = rawScreen
	}
	return io
}

// commands is the command line.
type commands struct {
	Version versionFlag `help:"Print the version and exit." env:"-"`
	Log     logFlags    `embed:"" prefix:"log-" group:"Logs"`

	Standalone standaloneCommand `cmd:"" help:"Run all of it in one process, on an embedded broker."`
	Ingest     ingestCommand     `cmd:"" help:"Run the process that takes messages and reads; stateless."`
	Projector  projectorCommand  `cmd:"" help:"Run a node of a copy: apply the log, and keep who has read what."`
	Query      queryCommand      `cmd:"" help:"Run the process that clients pull from; stateless."`
	Rebuild    rebuildCommand    `cmd:"" help:"Make a node's state from the log, offline, and say how far it is."`
	Verify     verifyCommand     `cmd:"" help:"Hold stores, or running copies, to what they must be, and to each other."`
	Topic      topicCommand      `cmd:"" help:"Make or judge the topic."`
	Token      tokenCommand      `cmd:"" help:"Print a bearer token."`
	Watch      watchCommand      `cmd:"" help:"Show who reads a message, in a terminal, as it happens."`
	Inspect    inspectCommand    `cmd:"" help:"Show what a projector holds."`
	Bench      benchCommand      `cmd:"" help:"Measure, on a Kafka that is given."`
}

const description = "Who has read this message?\n\n" +
	"Every flag is also an environment variable, named in brackets behind it; the flag wins. Secrets come from files."

// Run runs the command that args name, until it has ended or ctx has, and returns
// its exit code. It writes errors to stderr.
func Run(ctx context.Context, io IO, args []string) int {
	exited := false
	io.Args = args
	c := new(commands)
	model, err := parser(c, kong.Writers(io.Stdout, io.Stderr), kong.Exit(func(int) { exited = true }))
	if err != nil {
		fmt.Fprintln(io.Stderr, "seenby:", err)
		return Failed
	}
	// After --help and --version, kong goes on with whatever is missing.
	command, err := model.Parse(args)
	switch {
	case exited:
		return Done
	case err != nil:
		err = usage(err)
	default:
		command.BindTo(ctx, (*context.Context)(nil))
		err = command.Run(io, c.Log)
	}
	switch {
	case err == nil:
		return Done
	case errors.As(err, new(usageError)):
		fmt.Fprintf(io.Stderr, "seenby: %v\nRun seenby --help, or seenby COMMAND --help.\n", err)
		return Usage
	}
	fmt.Fprintln(io.Stderr, "seenby:", err)
	return Failed
}

// Model returns the description of the whole command line, for its reference.
func Model() (*kong.Application, error) {
	model, err := parser(new(commands))
	if err != nil {
		return nil, err
	}
	return model.Model, nil
}

func parser(c *commands, options ...kong.Option) (*kong.Kong, error) {
	options = append(options,
		kong.Name("seenby"),
		kong.Description(description),
		kong.DefaultEnvars("SEENBY"),
		kong.WithBeforeApply(flagsWin),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 120, NoExpandSubcommands: true}),
	)
	return kong.New(c, options...)
}

// usageError is a mistake in how the command was called: in a flag, an argument
// or a variable.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// usage returns err as a usage error, or nil.
func usage(err error) error {
	if err == nil {
		return nil
	}
	return usageError{err}
}

// versionFlag prints the version.
type versionFlag bool

// BeforeReset is kong's hook for flags that end the parsing.
func (versionFlag) BeforeReset(app *kong.Kong) error {
	fmt.Fprintln(app.Stdout, version())
	app.Exit(Done)
	return nil
}

// version tells what this binary was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "seenby (unknown build)"
	}
	words := []string{"seenby", info.Main.Version}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			words = append(words, s.Value)
		case s.Key == "vcs.time":
			words = append(words, s.Value)
		case s.Key == "vcs.modified" && s.Value == "true":
			words = append(words, "modified")
		}
	}
	return strings.Join(append(words, info.GoVersion), " ")
}
