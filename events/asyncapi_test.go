package events

import (
	"encoding/json"
	"regexp"
	"testing"
)

// TestAsyncAPI: the description has each event that the format has, and no other, and
// its references lead somewhere.
func TestAsyncAPI(t *testing.T) {
	var d struct {
		AsyncAPI string
		Channels struct {
			Events struct {
				Messages map[string]struct {
					Payload struct{ Schema string }
				}
			}
		}
		Operations map[string]struct {
			Messages []map[string]string
		}
	}
	if err := json.Unmarshal(AsyncAPI(), &d); err != nil {
		t.Fatal(err)
	}
	kinds := regexp.MustCompile(`(?m)^    (\w+) \w+ = 1\d\d\d;`).FindAllStringSubmatch(Proto(), -1)
	messages := d.Channels.Events.Messages
	if len(kinds) != 4 || len(messages) != len(kinds) || d.AsyncAPI != "3.0.0" {
		t.Errorf("%d events, of which %d are described", len(kinds), len(messages))
	}
	for _, kind := range kinds {
		if messages[kind[1]].Payload.Schema != Proto() {
			t.Errorf("%s is not described", kind[1])
		}
	}
	for name, operation := range d.Operations {
		for _, m := range operation.Messages {
			const prefix = "#/channels/events/messages/"
			if ref := m["$ref"]; len(ref) <= len(prefix) || messages[ref[len(prefix):]].Payload.Schema == "" {
				t.Errorf("%s leads to %q", name, ref)
			}
		}
		if len(operation.Messages) != len(kinds) {
			t.Errorf("%s has %d messages", name, len(operation.Messages))
		}
	}
}
