//go:build unix

package cli

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"

	"github.com/seenby/seenby/services/watch"
)

// The size of a terminal that does not tell its own.
const (
	usualWidth  = 80
	usualHeight = 24
)

// rawScreen takes the process's terminal over: keys come at once, and are not
// shown.
func rawScreen() (watch.Terminal, func() error, error) {
	keyboard, screen := int(os.Stdin.Fd()), int(os.Stdout.Fd())
	before, err := term.MakeRaw(keyboard)
	if err != nil {
		return watch.Terminal{}, nil, fmt.Errorf("set up the terminal: %w", err)
	}
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	restore := func() error {
		signal.Stop(resized)
		return term.Restore(keyboard, before)
	}
	size := func() (width, height int) {
		width, height, err := term.GetSize(screen)
		if err != nil || width <= 0 || height <= 0 {
			return usualWidth, usualHeight
		}
		return width, height
	}
	return watch.Terminal{Keys: os.Stdin, Size: size, Resized: resized}, restore, nil
}
