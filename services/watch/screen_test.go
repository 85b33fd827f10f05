package watch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fakeScreen is a terminal that knows the sequences of this package, and no
// others.
type fakeScreen struct {
	mu          sync.Mutex
	width       int
	height      int
	alternate   bool
	hidden      bool
	unwrapped   bool
	rows        []string
	row, column int
	main        strings.Builder
	frames      int
	problems    []string
}

func newFakeScreen(width, height int) *fakeScreen {
	return &fakeScreen{width: width, height: height, rows: make([]string, height)}
}

func (s *fakeScreen) size() (int, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.width, s.height
}

func (s *fakeScreen) resize(width, height int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.width, s.height, s.rows = width, height, make([]string, height)
}

func (s *fakeScreen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rest := string(p)
	for rest != "" {
		n := s.sequence(rest)
		if n == 0 {
			n = s.print(rest)
		}
		rest = rest[n:]
	}
	return len(p), nil
}

// sequence obeys the sequence at the start of p and returns its length.
func (s *fakeScreen) sequence(p string) int {
	for _, known := range []struct {
		text string
		obey func()
	}{
		{"\x1b[?1049h", func() { s.alternate = true }}, {"\x1b[?1049l", func() { s.alternate = false }},
		{"\x1b[?25l", func() { s.hidden = true }}, {"\x1b[?25h", func() { s.hidden = false }},
		{"\x1b[?7l", func() { s.unwrapped = true }}, {"\x1b[?7h", func() { s.unwrapped = false }},
		{"\x1b[H", func() { s.row, s.column = 0, 0; s.frames++ }},
		{"\x1b[K", func() { s.rows[s.row] = string([]rune(s.rows[s.row])[:min(s.column, len([]rune(s.rows[s.row])))]) }},
		{"\x1b[J", func() {
			for i := s.row + 1; i < len(s.rows); i++ {
				s.rows[i] = ""
			}
		}},
		{"\r\n", func() { s.row, s.column = s.row+1, 0 }},
	} {
		if strings.HasPrefix(p, known.text) {
			if s.alternate || known.text != "\r\n" {
				known.obey()
			} else {
				s.main.WriteString("\n")
			}
			return len(known.text)
		}
	}
	return 0
}

// print puts the first character of p on the screen and returns its length.
func (s *fakeScreen) print(p string) int {
	r := []rune(p)[0]
	switch {
	case r < ' ':
		s.problems = append(s.problems, fmt.Sprintf("%q is sent to the terminal", r))
	case !s.alternate:
		s.main.WriteRune(r)
	case s.row >= s.height || s.column >= s.width:
		s.problems = append(s.problems, fmt.Sprintf("%q is written outside, at row %d, column %d", r, s.row, s.column))
	default:
		row := []rune(s.rows[s.row])
		s.rows[s.row] = string(append(row[:s.column:s.column], append([]rune{r}, row[min(s.column+1, len(row)):]...)...))
		s.column++
	}
	return len(string(r))
}

func (s *fakeScreen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	for _, row := range s.rows {
		b.WriteString(strings.TrimRight("|"+row, " ") + "\n")
	}
	return b.String()
}

// session runs Screen in the test's bubble.
type session struct {
	*fakeScreen
	keys *io.PipeWriter
	done chan error
}

func start(ctx context.Context, screen *fakeScreen, answers ...answer) *session {
	keys, press := io.Pipe()
	s := &session{fakeScreen: screen, keys: press, done: make(chan error, 1)}
	go func() {
		s.done <- Screen(ctx, options(screen, answers...), Terminal{Keys: keys, Size: screen.size})
		// What still reads keys ends.
		_ = keys.Close()
	}()
	return s
}

func (s *session) press(t *testing.T, keys string) {
	t.Helper()
	if _, err := io.WriteString(s.keys, keys); err != nil {
		t.Errorf("pressing %q: %v", keys, err)
	}
	synctest.Wait()
}

// end waits for Screen to return, and holds the terminal to have been restored.
func (s *session) end(t *testing.T) error {
	t.Helper()
	err := <-s.done
	_ = s.keys.Close()
	if s.alternate || s.hidden || s.unwrapped {
		t.Errorf("the terminal is not restored: %+v", s.fakeScreen)
	}
	for _, p := range s.problems {
		t.Error(p)
	}
	return err
}

// TestScreen compares what is on the screen at some moments with testdata, which
// SEENBY_TEST_WRITE=1 writes anew.
func TestScreen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var story strings.Builder
		s := start(t.Context(), newFakeScreen(76, 12),
			problem(404, "not_found"),
			set("v1", false, 1, "bob"), unchanged, set("v2", true, 3, "carol", `d\u202ea\u001b[2Jn`), unchanged)
		show := func(what string) {
			synctest.Wait()
			fmt.Fprintf(&story, "%s\n%s\n", what, s)
		}
		show("at once")
		time.Sleep(3 * time.Second)
		show("after 3 s")
		time.Sleep(4 * time.Second)
		show("after 7 s")
		s.resize(40, 8)
		time.Sleep(2 * time.Second)
		show("after 9 s, smaller")
		s.resize(76, 12)
		time.Sleep(20 * time.Second)
		show("after 29 s")
		s.press(t, "\x1b[A")
		show("after a key")
		s.press(t, "q")
		if err := s.end(t); err != nil {
			t.Error(err)
		}
		fmt.Fprintf(&story, "after q, on the screen that was there\n%s", s.main.String())
		golden(t, "story.txt", story.String())
	})
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("SEENBY_TEST_WRITE") != "" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	mustBe(t, path, got, string(want))
}

// TestFrameFits: a frame has never more rows than there are, and always says how
// things stand.
func TestFrameFits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for height := 1; height < 14; height++ {
			s := start(t.Context(), newFakeScreen(30, height), set("v1", false, 4, "bob", "carol", "dan", "eve"), unchanged)
			synctest.Wait()
			if !strings.Contains(s.String(), "read by 4 of 5") {
				t.Errorf("of %d rows none says who has read:\n%s", height, s)
			}
			s.press(t, "q")
			if err := s.end(t); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestScreenEnds(t *testing.T) {
	left := errors.New("terminated")
	for _, c := range []struct {
		name string
		end  func(s *session, cancel context.CancelCauseFunc)
		want error
	}{
		{"q", func(s *session, _ context.CancelCauseFunc) { _, _ = io.WriteString(s.keys, "q") }, nil},
		{"another key and Q", func(s *session, _ context.CancelCauseFunc) { _, _ = io.WriteString(s.keys, "xQ") }, nil},
		{"ctrl-C", func(s *session, _ context.CancelCauseFunc) { _, _ = io.WriteString(s.keys, "\x03") }, nil},
		{"ctrl-D", func(s *session, _ context.CancelCauseFunc) { _, _ = io.WriteString(s.keys, "\x04") }, nil},
		{"no more keys", func(s *session, _ context.CancelCauseFunc) { _ = s.keys.Close() }, nil},
		{"context", func(_ *session, cancel context.CancelCauseFunc) { cancel(left) }, left},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				s := start(ctx, newFakeScreen(60, 10), set("v1", false, 1, "bob"), unchanged)
				synctest.Wait()
				c.end(s, cancel)
				if err := s.end(t); !errors.Is(err, c.want) {
					t.Errorf("ended by %v, want %v", err, c.want)
				}
			})
		})
	}
}

// TestOtherKeysLookAgain: arrows are no letters.
func TestOtherKeysLookAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t.Context(), newFakeScreen(60, 10), set("v1", false, 1, "bob"), unchanged)
		for _, key := range []string{" ", "\r", "\x1b[A", "\x1bOq", "x"} {
			time.Sleep(30 * time.Second)
			synctest.Wait()
			if !strings.Contains(s.String(), "stopped: window over") {
				t.Fatalf("before %q:\n%s", key, s)
			}
			s.press(t, key)
			if !strings.Contains(s.String(), "looking") {
				t.Errorf("after %q:\n%s", key, s)
			}
		}
		s.press(t, "q")
		if err := s.end(t); err != nil {
			t.Error(err)
		}
	})
}

func TestTerminalFails(t *testing.T) {
	gone := errors.New("hung up")
	synctest.Test(t, func(t *testing.T) {
		o := options(failingWriter{gone}, set("v1", false, 1, "bob"))
		if err := Screen(t.Context(), o, Terminal{Keys: strings.NewReader(""), Size: newFakeScreen(1, 1).size}); !errors.Is(err, gone) {
			t.Errorf("ended by %v", err)
		}
		o = options(leavingFails{gone}, set("v1", false, 1, "bob"))
		if err := Screen(t.Context(), o, Terminal{Keys: strings.NewReader("q"), Size: newFakeScreen(40, 10).size}); !errors.Is(err, gone) {
			t.Errorf("ended by %v", err)
		}
	})
}

// TestErasure: an erased sender is no name, and an erased reader is gone from the
// screen.
func TestErasure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t.Context(), newFakeScreen(76, 12), set("v1", false, 2, "bob", "carol"),
			setOf("v2", false, 1, `"state": "active", "sender_id": null`, "carol"), unchanged)
		synctest.Wait()
		if got := s.String(); !strings.Contains(got, "by alice in") || !strings.Contains(got, "  bob\n") {
			t.Errorf("before:\n%s", got)
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if got := s.String(); !strings.Contains(got, "by an erased user in") || strings.Contains(got, "bob") || !strings.Contains(got, "read by 1 of 5") {
			t.Errorf("after:\n%s", got)
		}
		s.press(t, "q")
		if err := s.end(t); err != nil {
			t.Error(err)
		}
	})
}

// leavingFails is a terminal that is lost before it can be restored.
type leavingFails struct{ err error }

func (w leavingFails) Write(p []byte) (int, error) {
	if strings.HasPrefix(string(p), leaveScreen) {
		return 0, w.err
	}
	return len(p), nil
}

// TestShorterFrame: nothing of a longer frame stays on the screen.
func TestShorterFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t.Context(), newFakeScreen(60, 12), set("v1", false, 4, "bob", "carol", "dan", "eve"), set("v2", false, 1, "bob"), unchanged)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if n := strings.Count(s.String(), "pulls"); n != 1 || !strings.Contains(s.String(), "read by 1 of 5") {
			t.Errorf("after the set has become smaller:\n%s", s)
		}
		s.press(t, "q")
		if err := s.end(t); err != nil {
			t.Error(err)
		}
	})
}
