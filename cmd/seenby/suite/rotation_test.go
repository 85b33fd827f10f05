package suite

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
)

// TestKeyRotation replaces the tokens' key, and then the internal secret, under
// running processes: the new one is added, put first, and the old one removed.
// Nobody who has a good token is ever refused.
func TestKeyRotation(t *testing.T) {
	t.Parallel()
	s := newSystem(t, theKafka(t), 1).small()
	position := s.send(putMessage("m1", "alice", "bob"))
	s.awaitRead(t, "alice", "m1", position)
	older, newer := s.client, newClient(t, bytes.Repeat([]byte{1}, 32))
	newer.query, newer.ingest = older.query, older.ingest

	oldLine, newLine := keyLine(t, s.authFile), base64.RawURLEncoding.EncodeToString(newer.key)
	rewrite(t, s.authFile, oldLine, newLine)
	awaitStatus(t, s, newer, http.StatusOK)
	s.expect(mustAsk(t, s, pullMessage("alice", "m1", nil)), http.StatusOK, "")
	rewrite(t, s.authFile, newLine)
	awaitStatus(t, s, older, http.StatusUnauthorized)
	s.client = newer
	s.expect(mustAsk(t, s, pullMessage("alice", "m1", nil)), http.StatusOK, "")

	// Query signs what it asks of the projector by the first secret. Between two
	// steps both have to know both, which the metric of each tells.
	oldLine, newLine = keyLine(t, s.secretFile), base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{2}, 32))
	for _, lines := range [][]string{{oldLine, newLine}, {newLine, oldLine}, {newLine}} {
		rewrite(t, s.secretFile, lines...)
		for _, p := range []*process{s.projectors[0], s.query} {
			await(t, func() (bool, string) {
				return int(p.metric(t, "seenby_keys", `file="internal"`)) == len(lines), p.name + " does not take the secrets over"
			})
		}
		s.expect(mustAsk(t, s, pullMessage("alice", "m1", nil)), http.StatusOK, "")
	}

	// What cannot be used leaves the keys in force, and shows.
	rewrite(t, s.authFile, "not a key")
	await(t, func() (bool, string) {
		return s.query.metric(t, "seenby_keys_reload_failed", `file="auth"`) == 1, "a bad key file does not show"
	})
	s.expect(mustAsk(t, s, pullMessage("alice", "m1", nil)), http.StatusOK, "")
}

func keyLine(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func rewrite(t *testing.T, file string, lines ...string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// awaitStatus waits until tokens of a client are answered so by both ports.
func awaitStatus(t *testing.T, s *system, c *client, status int) {
	t.Helper()
	s.awaitAnswer(func() (answer, error) {
		return c.ask(t.Context(), c.query, pullMessage("alice", "m1", url.Values{}))
	}, status, map[int]string{http.StatusUnauthorized: "invalid_token"}[status])
	await(t, func() (bool, string) {
		a, err := c.ask(t.Context(), c.ingest[0], readMessages("bob", "m1"))
		return err == nil && (a.status == http.StatusUnauthorized) == (status == http.StatusUnauthorized), "ingest does not take the keys over"
	})
}
