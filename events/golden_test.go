package events

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// golden are the events whose bytes are in testdata/golden. The bytes are in
// logs that this build has to read: they never change, and neither does what
// they mean. A new kind of event, or field, gets new files.
var golden = map[string]Event{
	"message_sent":              &MessageSent{MessageID: []byte("m1"), ConversationID: []byte("c1"), SenderID: []byte("alice"), SentAt: 1790000000000, Recipients: ids("bob", "carol", "dave"), OptedOut: ids("dave")},
	"message_sent_without_time": &MessageSent{MessageID: []byte("m1"), ConversationID: []byte("c1"), SenderID: []byte("alice"), SentAt: Unclaimed, Recipients: ids("bob")},
	"message_sent_count_only":   &MessageSent{MessageID: []byte("m1"), ConversationID: []byte("c1"), SenderID: []byte("alice"), SentAt: 1790000000000, CountOnly: true, RecipientCount: 25000},
	"message_sent_count_of_0":   &MessageSent{MessageID: []byte("m1"), ConversationID: []byte("c1"), SenderID: []byte("alice"), SentAt: Unclaimed, CountOnly: true},
	"message_read":              &MessageRead{MessageID: []byte("m1"), ReaderID: []byte("bob"), ReadAt: 1790000000000},
	"message_read_without_time": &MessageRead{MessageID: []byte("m1"), ReaderID: []byte("bob"), ReadAt: Unclaimed},
	"message_read_before_1970":  &MessageRead{MessageID: []byte("m1"), ReaderID: []byte("bob"), ReadAt: -1},
	"message_recalled":          &MessageRecalled{MessageID: []byte("m1")},
	"user_erased":               &UserErased{UserID: []byte("bob")},
}

func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/golden/*.hex")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(golden) {
		t.Errorf("%d files for %d events", len(files), len(golden))
	}
	for name, event := range golden {
		t.Run(name, func(t *testing.T) {
			want := readHex(t, filepath.Join("testdata", "golden", name+".hex"))
			got, err := AppendEncode(nil, event)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("encoded as\n%x, not\n%x", got, want)
			}
			var d Decoder
			decoded, err := d.Decode(event.Key(), want)
			if err != nil {
				t.Fatal(err)
			}
			if format(decoded) != format(event) {
				t.Errorf("decoded as %s, not %s", format(decoded), format(event))
			}
		})
	}
}

// readHex reads bytes in hex, with comments after #.
func readHex(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var digits strings.Builder
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		digits.WriteString(strings.Join(strings.Fields(line), ""))
	}
	b, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return b
}
