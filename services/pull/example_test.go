package pull_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/seenby/seenby/services/pull"
)

// A message comes into view; the answer says that all have read it, which ends
// the look.
func Example() {
	changed := make(chan string, 1)
	watcher, err := pull.New(pull.Config{
		BaseURL: "https://receipts.example.com",
		// A session would fetch another token where one was refused.
		Token:     func(_ context.Context, _ string) (string, error) { return "alice's token", nil },
		Transport: inMemory{},
		// Only note that there is something to paint: painting is somebody else's.
		OnChange: func(messageID string) {
			select {
			case changed <- messageID:
			default:
			}
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer watcher.Close()

	// The position is what the chat backend got when it put the message.
	watcher.Look(pull.Message{ID: "m1", Positions: []string{"AjE2"}})
	for view := watcher.View("m1"); view.Looking; view = watcher.View("m1") {
		<-changed
	}

	view := watcher.View("m1")
	fmt.Printf("read by %d of %d, %s\n", view.ReadCount, view.RecipientCount, view.Ended)
	for _, reader := range view.Readers {
		fmt.Println(reader.ReadAt.Format("15:04:05"), reader.ReaderID)
	}
	// Output:
	// read by 2 of 2, stopped
	// 08:00:04 bob
	// 08:00:09 carol
}

// inMemory is a server of one answer.
type inMemory struct{}

func (inMemory) RoundTrip(r *http.Request) (*http.Response, error) {
	const body = `{"messages": [{"message_id": "m1", "conversation_id": "c1", "sender_id": "alice", "sent_at": "2026-11-23T08:00:00.000Z",
		"state": "active", "version": "AQ", "read_count": 2, "recipient_count": 2, "opted_out_count": 0,
		"complete": true, "truncated": false, "delta": false, "readers": [
			{"reader_id": "bob", "read_at": "2026-11-23T08:00:04.120Z"},
			{"reader_id": "carol", "read_at": "2026-11-23T08:00:09.500Z"}
		], "next": null}], "unchanged": [], "failed": [], "poll": {"interval_ms": 2000, "window_ms": 20000, "stop": true}}`
	return &http.Response{
		StatusCode: http.StatusOK, Request: r, Body: io.NopCloser(strings.NewReader(body)),
		Header: http.Header{"Content-Type": {"application/json"}},
	}, nil
}
