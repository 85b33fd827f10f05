package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seenby/seenby/services/auth"
	"github.com/seenby/seenby/services/standalone"
)

// TestStandaloneSurvivesKill kills a standalone in the middle of its writes,
// again and again: each read that it acknowledged is in the pull, and so is none
// that was never sent.
func TestStandaloneSurvivesKill(t *testing.T) {
	const (
		kills    = 8
		messages = 5
	)
	dir := t.TempDir()
	binary := filepath.Join(dir, "bin", "seenby")
	build(t, binary)
	data := filepath.Join(dir, "data")

	acked, sent := make(map[string]bool), make(map[string]bool)
	for round := range kills {
		cmd, address := startProcess(t, binary, data)
		awaitReady(t, address)
		c := newClient(t, address, data)
		if round == 0 {
			for m := range messages {
				c.must("PUT", fmt.Sprintf("/v1/messages/m%d", m), "chat", `{"conversation_id":"c","sender_id":"alice","recipient_count":1000000}`)
			}
		}
		killIn(t, cmd, c, round, messages, acked, sent)
	}

	_, address := startProcess(t, binary, data)
	awaitReady(t, address)
	c := newClient(t, address, data)
	found := make(map[string]bool)
	for m := range messages {
		for _, reader := range c.readers(fmt.Sprintf("m%d", m)) {
			key := fmt.Sprintf("m%d %s", m, reader)
			if found[key] || !sent[key] {
				t.Errorf("%s is listed; before: %t, sent: %t", key, found[key], sent[key])
			}
			found[key] = true
		}
	}
	for key := range acked {
		if !found[key] {
			t.Errorf("%s was acknowledged and is lost", key)
		}
	}
	if len(acked) == 0 {
		t.Error("nothing was acknowledged")
	}
	t.Logf("%d sent, %d acknowledged, %d found", len(sent), len(acked), len(found))
}

// killIn sends reads until the process, which it kills after some, is gone.
func killIn(t *testing.T, cmd *exec.Cmd, c *client, round, messages int, acked, sent map[string]bool) {
	t.Helper()
	var mu sync.Mutex
	left := 20 + rand.IntN(60)
	var senders sync.WaitGroup
	for s := range 4 {
		senders.Go(func() {
			for i := 0; ; i++ {
				message, reader := fmt.Sprintf("m%d", i%messages), fmt.Sprintf("r%d-%d-%d", round, s, i)
				mu.Lock()
				sent[message+" "+reader] = true
				mu.Unlock()
				status, _, err := c.do("POST", "/v1/receipts", reader, fmt.Sprintf(`{"receipts":[{"message_id":%q}]}`, message))
				if err != nil {
					return // it is gone
				}
				mu.Lock()
				if status == http.StatusAccepted {
					acked[message+" "+reader] = true
				}
				if left--; left == 0 {
					if err := cmd.Process.Kill(); err != nil {
						t.Error(err)
					}
				}
				mu.Unlock()
			}
		})
	}
	senders.Wait()
	_ = cmd.Wait() // it was killed
}

// client is whoever has the key of a standalone.
type client struct {
	t    *testing.T
	base string
	keys *auth.Keys
	http *http.Client
}

func newClient(t *testing.T, address, data string) *client {
	t.Helper()
	keys, err := auth.OpenKeys(standalone.AuthKey(data))
	if err != nil {
		t.Fatal(err)
	}
	c := &client{t: t, base: "http://" + address, keys: keys, http: &http.Client{Transport: &http.Transport{}}}
	t.Cleanup(c.http.CloseIdleConnections)
	return c
}

// do asks as a user, or as the backend if that is "chat". Any goroutine may.
func (c *client) do(method, path, subject, body string) (status int, text string, err error) {
	grant := auth.Grant{Subject: subject, IssuedAt: time.Now(), TTL: time.Hour}
	if subject == "chat" {
		grant.Scope = auth.ScopeBackend
	}
	token, err := auth.Mint(c.keys, grant)
	if err != nil {
		return 0, "", err
	}
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.base+path, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

func (c *client) must(method, path, subject, body string) string {
	c.t.Helper()
	status, text, err := c.do(method, path, subject, body)
	if err != nil || status/100 != 2 {
		c.t.Fatalf("%s %s: %d %s %v", method, path, status, text, err)
	}
	return text
}

// readers returns those who have read a message.
func (c *client) readers(message string) []string {
	c.t.Helper()
	var all []string
	for cursor := ""; ; {
		var page struct {
			Readers []struct {
				ReaderID string `json:"reader_id"`
			}
			Next *string
		}
		text := c.must("GET", "/v1/messages/"+message+"/receipts?limit=2000"+cursor, "alice", "")
		if err := json.Unmarshal([]byte(text), &page); err != nil {
			c.t.Fatal(err)
		}
		for _, r := range page.Readers {
			all = append(all, r.ReaderID)
		}
		if page.Next == nil {
			return all
		}
		cursor = "&cursor=" + *page.Next
	}
}
