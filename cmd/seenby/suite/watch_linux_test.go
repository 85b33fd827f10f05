package suite

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal is a pseudo-terminal: what is written to it are key presses, and what
// it has shown is kept.
type terminal struct {
	keyboard, tty *os.File

	mu    sync.Mutex
	shown strings.Builder
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
		t.Skipf("requires pty: open /dev/ptmx: %v; mount devpts", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}); err != nil {
		t.Fatal(err)
	}
	term := &terminal{keyboard: master, tty: tty}
	var reading sync.WaitGroup
	reading.Go(func() {
		b := make([]byte, 4096)
		for {
			n, err := master.Read(b)
			term.mu.Lock()
			term.shown.Write(b[:n])
			term.mu.Unlock()
			if err != nil {
				return
			}
		}
	})
	t.Cleanup(func() {
		_ = tty.Close() // The last one: reading ends.
		reading.Wait()
		_ = master.Close()
	})
	return term
}

func (term *terminal) text() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.shown.String()
}

func (term *terminal) press(t *testing.T, keys string) {
	t.Helper()
	if _, err := term.keyboard.WriteString(keys); err != nil {
		t.Fatal(err)
	}
}

// TestWatchScreen has seenby watch draw on a terminal, look again at the press of
// a key, and leave the terminal as it was.
func TestWatchScreen(t *testing.T) {
	t.Parallel()
	term := newTerminal(t)
	s, position := looked(t)
	before, err := unix.IoctlGetTermios(int(term.tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(seenby(t), s.watch("m1", position)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = term.tty, term.tty, term.tty
	cmd.Env = environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // It has ended, unless the test failed.
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("the terminal showed %q", term.text())
		}
	})
	shows := func(text string) {
		t.Helper()
		await(t, func() (bool, string) {
			return strings.Contains(term.text(), text), "the terminal does not show " + text
		})
	}
	shows("read by 1 of 3")
	s.send(readMessages("carol", "m1"))
	s.send(readMessages("dave", "m1"))
	shows("read by 3 of 3")
	shows("stopped")
	drawn := len(term.text())
	term.press(t, " ")
	await(t, func() (bool, string) { return len(term.text()) > drawn, "nothing happens at the press of a key" })
	term.press(t, "q")
	if err := cmd.Wait(); err != nil {
		t.Errorf("after q: %v", err)
	}
	after, err := unix.IoctlGetTermios(int(term.tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(before, after) {
		t.Errorf("the terminal was %+v, and is left %+v", before, after)
	}
}
