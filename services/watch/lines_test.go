package watch

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seenby/seenby/services/pull"
)

func TestLines(t *testing.T) {
	recalled := setOf("v3", false, 0, `"state": "recalled", "complete": false`)
	for _, c := range []struct {
		name    string
		answers []answer
		want    string
		fails   string
	}{
		{"complete", []answer{set("v1", false, 0), set("v2", true, 2, "bob", "carol"), unchanged, setOf("v3", true, 5, `"state": "active", "complete": true`, "dan", "eve", "fay")}, `
read by 0 of 5
read by 1 of 5: 2026-11-23T08:00:00.120Z bob
read by 2 of 5: 2026-11-23T08:00:01.120Z carol
read by 3 of 5: 2026-11-23T08:00:02.120Z dan
read by 4 of 5: 2026-11-23T08:00:03.120Z eve
read by 5 of 5: 2026-11-23T08:00:04.120Z fay
stopped: complete
`, ""},
		{"window over", []answer{set("v1", false, 1, "bob"), unchanged}, `
read by 1 of 5: 2026-11-23T08:00:00.120Z bob
stopped: window over
`, ""},
		{"recalled", []answer{set("v1", false, 1, "bob"), recalled}, `
read by 1 of 5: 2026-11-23T08:00:00.120Z bob
recalled
stopped: recalled
`, ""},
		{"erased", []answer{set("v1", false, 2, "bob", "carol"), set("v2", false, 1, "carol"), set("v3", true, 2, "dan")}, `
read by 1 of 5: 2026-11-23T08:00:00.120Z bob
read by 2 of 5: 2026-11-23T08:00:01.120Z carol
read by 1 of 5
read by 2 of 5: 2026-11-23T08:00:01.120Z dan
stopped: window over
`, ""},
		{"erased, and back", []answer{set("v1", false, 2, "bob", "carol"), set("v2", false, 1, "carol"), set("v3", true, 2, "bob")}, `
read by 1 of 5: 2026-11-23T08:00:00.120Z bob
read by 2 of 5: 2026-11-23T08:00:01.120Z carol
read by 1 of 5
read by 2 of 5: 2026-11-23T08:00:01.120Z bob
stopped: window over
`, ""},
		{"truncated", []answer{setOf("v1", false, 4, `"state": "active", "truncated": true`, "bob", "carol"), setOf("v2", true, 5, `"state": "active", "truncated": true`), unchanged}, `
read by 1 of 5: 2026-11-23T08:00:02.120Z bob
read by 2 of 5: 2026-11-23T08:00:03.120Z carol
read by 4 of 5
read by 5 of 5
stopped: window over
`, ""},
		{"an error that passes", []answer{problem(500, "internal"), set("v1", false, 1, "bob"), unchanged}, `
no answer, trying again: pull of message "m1": 500 internal: as\u{1b}[2Jscripted
read by 1 of 5: 2026-11-23T08:00:00.120Z bob
stopped: window over
`, ""},
		{"an error that lasts", []answer{set("v1", false, 1, "bob"), problem(400, "bad_version")}, `
read by 1 of 5: 2026-11-23T08:00:00.120Z bob
stopped: pull of message "m1": 400 bad_version: as\u{1b}[2Jscripted
`, "bad_version"},
		{"no network", []answer{{network: true}}, `
no answer, trying again: pull of message "m1": Post "https://receipts.example/v1/pulls": connection \u{1b}[31mrefused
stopped: window over; pull of message "m1": Post "https://receipts.example/v1/pulls": connection \u{1b}[31mrefused
`, "refused"},
		{"not found", []answer{problem(404, "not_found")}, `
no answer, trying again: not found: there is no such message, or it is not yours to see
stopped: window over; not found: there is no such message, or it is not yours to see
`, "not_found"},
		{"hostile names", []answer{set("v1", false, 4, `a\u202eb`, `\u001b[2Jc`, `d\\\\u{1b}`, `e\u2028f`)}, `
read by 1 of 5: 2026-11-23T08:00:00.120Z a\u{202e}b
read by 2 of 5: 2026-11-23T08:00:01.120Z \u{1b}[2Jc
read by 3 of 5: 2026-11-23T08:00:02.120Z d\\\\u{1b}
read by 4 of 5: 2026-11-23T08:00:03.120Z e\u{2028}f
stopped: window over
`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out strings.Builder
				err := Lines(t.Context(), options(&out, c.answers...))
				mustBe(t, "lines", "\n"+out.String(), c.want)
				if (err != nil) != (c.fails != "") || err != nil && !strings.Contains(err.Error(), c.fails) {
					t.Errorf("the error is %v, want %q", err, c.fails)
				}
				if err != nil && strings.Contains(err.Error(), "\x1b") {
					t.Errorf("the error %q moves more on a terminal than text", err)
				}
			})
		})
	}
}

func TestLinesEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		var out strings.Builder
		if err := Lines(ctx, options(&out, set("v1", false, 1, "bob"), unchanged)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("ended by %v", err)
		}
		full := errors.New("disk full")
		if err := Lines(t.Context(), options(failingWriter{full}, set("v1", false, 1, "bob"))); !errors.Is(err, full) {
			t.Errorf("a writer that fails makes %v", err)
		}
	})
	o := options(nil)
	o.Pull.BaseURL = "nowhere"
	if err := Lines(t.Context(), o); !errors.Is(err, pull.ErrConfig) {
		t.Errorf("a wrong configuration makes %v", err)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }
