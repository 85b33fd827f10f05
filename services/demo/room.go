package demo

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/seenby/seenby/services/contract"
	"github.com/seenby/seenby/services/server"
)

const (
	// maxMessages is how many messages the chat keeps: the newest.
	maxMessages = 200
	// maxText is a message's length, in characters.
	maxText = 2000
	// roomWait is how long one who asks for what is new waits for it.
	roomWait = 3 * time.Second
)

// Message is one message of the chat.
type Message struct {
	// Sequence counts from 1.
	Sequence       int       `json:"sequence"`
	MessageID      string    `json:"message_id"`
	ConversationID string    `json:"conversation_id"`
	SenderID       string    `json:"sender_id"`
	Text           string    `json:"text"`
	SentAt         time.Time `json:"sent_at"`
	// Position is that of the message's PUT, for its sender's pulls.
	Position string `json:"position"`
}

// room is what was said.
type room struct {
	file string

	mu       sync.Mutex
	messages []Message
	last     int
	// news is closed when there is another message.
	news chan struct{}
}

func openRoom(file string) (*room, error) {
	r := &room{file: file, news: make(chan struct{})}
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &r.messages); err != nil {
		return nil, fmt.Errorf("%s: %w; remove it to begin anew", file, err)
	}
	if n := len(r.messages); n > 0 {
		r.last = r.messages[n-1].Sequence
	}
	return r, nil
}

// add adds a message and keeps it on disk.
func (r *room) add(m Message) (Message, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last++
	m.Sequence = r.last
	r.messages = append(r.messages, m)
	r.messages = r.messages[max(0, len(r.messages)-maxMessages):]
	close(r.news)
	r.news = make(chan struct{})
	b, err := json.Marshal(r.messages)
	if err != nil {
		return m, err
	}
	next := filepath.Join(filepath.Dir(r.file), filepath.Base(r.file)+".new")
	if err := os.WriteFile(next, b, 0o600); err != nil {
		return m, err
	}
	return m, os.Rename(next, r.file)
}

// after returns the messages after a sequence number, and what is closed when there
// are more.
func (r *room) after(sequence int) ([]Message, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	found := []Message{}
	for _, m := range r.messages {
		if m.Sequence > sequence {
			found = append(found, m)
		}
	}
	return found, r.news
}

// get answers with what is new after a sequence number, and waits for it a while.
func (d *Demo) get(ctx context.Context, r *server.Request) (contract.Answer, *contract.Problem) {
	after, err := strconv.Atoi(r.HTTP.URL.Query().Get("after"))
	if err != nil || !isPerson(r.Caller.Subject) {
		return contract.Answer{}, contract.NewProblem(contract.BadParameter, "after must be a sequence number, and the token one of the demo's people's")
	}
	messages, news := d.room.after(after)
	if len(messages) == 0 && after > 0 {
		timer := time.NewTimer(roomWait)
		defer timer.Stop()
		select {
		case <-news:
			messages, _ = d.room.after(after)
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	return answer(http.StatusOK, map[string]any{"people": people, "messages": messages})
}

// post sends a message to everybody.
func (d *Demo) post(ctx context.Context, r *server.Request) (contract.Answer, *contract.Problem) {
	var body struct{ Text string }
	err := json.Unmarshal(r.Body, &body)
	text := strings.TrimSpace(body.Text)
	if err != nil || text == "" || utf8.RuneCountInString(text) > maxText || !isPerson(r.Caller.Subject) {
		return contract.Answer{}, contract.NewProblem(contract.InvalidBody, "text must be 1-%d characters, and the token one of the demo's people's", maxText)
	}
	return d.send(ctx, r.Caller.Subject, "demo-team", text, nil)
}

// crowd sends a message to a group of 2,000, who begin to read it.
func (d *Demo) crowd(ctx context.Context, r *server.Request) (contract.Answer, *contract.Problem) {
	if !isPerson(r.Caller.Subject) {
		return contract.Answer{}, contract.NewProblem(contract.BadParameter, "the token must be one of the demo's people's")
	}
	if !d.backend.crowdMayBegin() {
		return contract.Answer{}, contract.NewProblem(contract.RateLimited, "the group is still reading its last messages").After(5 * time.Second)
	}
	return d.send(ctx, r.Caller.Subject, "demo-everybody", fmt.Sprintf("Hello, all %d of you!", crowdSize), crowdMembers())
}

// send tells seenby of a message, and then the chat, as a chat backend does.
func (d *Demo) send(ctx context.Context, sender, conversation, text string, crowd []string) (contract.Answer, *contract.Problem) {
	m := Message{MessageID: "demo-" + rand.Text(), ConversationID: conversation, SenderID: sender, Text: text, SentAt: d.config.Now().UTC().Truncate(time.Millisecond)}
	recipients := crowd
	for _, p := range people {
		if p.ID != sender {
			recipients = append(recipients, p.ID)
		}
	}
	var err error
	if m.Position, err = d.backend.put(ctx, m, recipients); err != nil {
		return contract.Answer{}, internal(err)
	}
	m, err = d.room.add(m)
	if err != nil {
		return contract.Answer{}, internal(err)
	}
	if crowd != nil {
		d.backend.read(m.MessageID, crowd)
	}
	return answer(http.StatusCreated, m)
}

func answer(status int, body any) (contract.Answer, *contract.Problem) {
	b, err := json.Marshal(body)
	if err != nil {
		return contract.Answer{}, internal(err)
	}
	return contract.Answer{Status: status, Body: b, Header: http.Header{"Content-Type": {"application/json"}, "Cache-Control": {"no-store"}}}, nil
}
