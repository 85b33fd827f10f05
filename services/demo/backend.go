package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/seenby/seenby/services/auth"
)

const (
	// crowdSize is how many people the large group has, the sender included.
	crowdSize = 2000
	// crowdMean is how long its members take to read, on average, and crowdMost how
	// long the slowest do. That is faster than life, so that one can watch it.
	crowdMean, crowdMost = 9 * time.Second, 40 * time.Second
	// crowdReads is the share of them who read at all.
	crowdReads = 0.95
	// crowdEvery is how often those who have read are reported.
	crowdEvery = 250 * time.Millisecond
	// maxCrowds is how many messages the group reads at a time.
	maxCrowds = 3
	// hostileMember is one whose ID would be more than text, if it was let.
	hostileMember = `<img src=x onerror=alert(1)>`
	// maxReceipts is how many receipts a request may have.
	maxReceipts = 500
)

// crowdMembers are those of the large group who are nobody in particular.
func crowdMembers() []string {
	members := make([]string, crowdSize-len(people))
	for i := range members {
		members[i] = fmt.Sprintf("member-%04d", i+1)
	}
	// Pages have to show whatever IDs there are.
	members[0] = hostileMember
	return members
}

// backend is the chat's backend, as far as seenby knows it.
type backend struct {
	config Config
	client *http.Client

	mu sync.Mutex
	// ctx is that of run, and nil while it does not run.
	ctx    context.Context
	base   string
	crowds int
	wait   sync.WaitGroup
}

func newBackend(c Config) *backend {
	return &backend{config: c, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 2}, Timeout: 5 * time.Second}}
}

func (b *backend) run(ctx context.Context, address net.Addr) error {
	_, port, err := net.SplitHostPort(address.String())
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.ctx, b.base = ctx, "http://"+net.JoinHostPort(hostOf(address), port)
	b.mu.Unlock()
	<-ctx.Done()
	b.mu.Lock()
	b.ctx = nil
	b.mu.Unlock()
	b.wait.Wait()
	b.client.CloseIdleConnections()
	return nil
}

// hostOf is where a listener is reached from this machine.
func hostOf(address net.Addr) string {
	if tcp, ok := address.(*net.TCPAddr); ok && !tcp.IP.IsUnspecified() {
		return tcp.IP.String()
	}
	return "localhost"
}

// put tells seenby of a message. It returns its position.
func (b *backend) put(ctx context.Context, m Message, recipients []string) (position string, err error) {
	var accepted struct{ Position string }
	err = b.call(ctx, http.MethodPut, "/v1/messages/"+url.PathEscape(m.MessageID), map[string]any{
		"conversation_id": m.ConversationID, "sender_id": m.SenderID, "sent_at": m.SentAt, "recipients": recipients,
	}, &accepted)
	return accepted.Position, err
}

type receipt struct {
	MessageID string    `json:"message_id"`
	ReaderID  string    `json:"reader_id"`
	ReadAt    time.Time `json:"read_at"`
}

func (b *backend) crowdMayBegin() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.crowds < maxCrowds
}

// read lets a crowd read a message, each in their own time.
func (b *backend) read(messageID string, crowd []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ctx == nil {
		return
	}
	b.crowds++
	ctx := b.ctx
	b.wait.Go(func() {
		if err := b.readAll(ctx, messageID, crowd); err != nil && ctx.Err() == nil {
			b.config.Logger.Warn("the demo's crowd stopped reading", "message_id", messageID, "err", err)
		}
		b.mu.Lock()
		b.crowds--
		b.mu.Unlock()
	})
}

func (b *backend) readAll(ctx context.Context, messageID string, crowd []string) error {
	delays := make(map[string]time.Duration, len(crowd))
	for _, id := range crowd {
		if rand.Float64() < crowdReads {
			delays[id] = min(time.Duration(rand.ExpFloat64()*float64(crowdMean)), crowdMost)
		}
	}
	begun := time.Now()
	tick := time.NewTicker(crowdEvery)
	defer tick.Stop()
	for len(delays) > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		var receipts []receipt
		passed, now := time.Since(begun), b.config.Now()
		for id, delay := range delays {
			if delay <= passed && len(receipts) < maxReceipts {
				receipts = append(receipts, receipt{messageID, id, now.Add(delay - passed)})
				delete(delays, id)
			}
		}
		if len(receipts) == 0 {
			continue
		}
		if err := b.call(ctx, http.MethodPost, "/v1/receipts", map[string]any{"receipts": receipts}, nil); err != nil {
			return err
		}
	}
	return nil
}

// call makes a request as the chat backend.
func (b *backend) call(ctx context.Context, method, path string, body, into any) error {
	b.mu.Lock()
	base, running := b.base, b.ctx != nil
	b.mu.Unlock()
	if !running {
		return errNotRunning
	}
	token, err := auth.Mint(b.config.Keys, auth.Grant{Subject: "demo", Scope: auth.ScopeBackend, IssuedAt: b.config.Now(), TTL: time.Minute})
	if err != nil {
		return err
	}
	encoded, err := json.Marshal(body)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, method, base+path, bytes.NewReader(encoded))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+token)
	answer, err := b.client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }() // all that is needed of it is read
	said, err := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusAccepted {
		return fmt.Errorf("%s %s: %s: %s", method, path, answer.Status, said)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(said, into)
}
