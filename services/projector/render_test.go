package projector

import (
	"encoding/json"
	"github.com/seenby/seenby/services/contract"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/seenby/seenby/projections"
)

const t0 = 1_795_420_800_000 // 2026-11-23T08:00:00Z

// message is the message as it is, and its receipts.
func (c *chat) message(id string) (m *projections.Message, receipts []projections.Receipt) {
	c.t.Helper()
	v, err := c.View([]byte(id), true)
	if err != nil || !v.Found {
		c.t.Fatalf("%q: found %v, %v", id, v.Found, err)
	}
	err = v.Message.EachReceipt(0, func(r projections.Receipt) bool {
		receipts = append(receipts, r)
		return true
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return &v.Message, receipts
}

func TestAppendBodyGolden(t *testing.T) {
	c := newChat(t)
	c.now = c.now.Add(time.Minute)
	for _, id := range []string{"m1", "m3"} {
		c.write(sentAt(sentEvent(id, "alice", "bob", "!carol"), t0))
		c.readAt(id, "bob", 4120)
	}
	listed, bobs := c.message("m1")
	c.recall("m3")
	recalled, _ := c.message("m3")
	c.now = time.UnixMilli(5000)
	odd := sentEvent("m\"2\\", "é\u2029", "#9")
	odd.ConversationID = []byte("c\u2028")
	c.write(sentAt(odd, -1))
	c.readAt(string(odd.MessageID), "</r2>", -t0)
	c.readAt(string(odd.MessageID), "r1", 999-t0)
	counted, crowd := c.message(string(odd.MessageID))
	for _, c := range []struct {
		name string
		m    *projections.Message
		page page
		want string
	}{
		{"listed", listed, page{version: "V", readCount: 1, complete: true, delta: true, receipts: bobs, next: "N"},
			`{"message_id":"m1","conversation_id":"c1","sender_id":"alice","sent_at":"2026-11-23T08:00:00.000Z","state":"active","version":"V",` +
				`"read_count":1,"recipient_count":1,"opted_out_count":1,"complete":true,"truncated":false,"delta":true,` +
				`"readers":[{"reader_id":"bob","read_at":"2026-11-23T08:00:04.120Z"}],"next":"N"}`},
		{"recalled", recalled, page{version: "V"},
			`{"message_id":"m3","conversation_id":"c1","sender_id":"alice","sent_at":"2026-11-23T08:00:00.000Z","state":"recalled","version":"V",` +
				`"read_count":0,"recipient_count":1,"opted_out_count":1,"complete":false,"truncated":false,"delta":false,"readers":[],"next":null}`},
		{"count-only, escaped", counted, page{version: "V", readCount: 20_001, truncated: true, receipts: crowd},
			`{"message_id":"m\"2\\","conversation_id":"c\u2028","sender_id":"é\u2029","sent_at":"1969-12-31T23:59:59.999Z","state":"active","version":"V",` +
				`"read_count":20001,"recipient_count":9,"opted_out_count":null,"complete":false,"truncated":true,"delta":false,` +
				`"readers":[{"reader_id":"</r2>","read_at":"1970-01-01T00:00:00.000Z"},{"reader_id":"r1","read_at":"1970-01-01T00:00:00.999Z"}],"next":null}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := string(appendBody(nil, c.m, &c.page)); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestBodySize: a body must not outgrow what was reserved for it, unless it has
// to be escaped.
func TestBodySize(t *testing.T) {
	c := newChat(t)
	e := sentEvent(strings.Repeat("m", 128), strings.Repeat("s", 128), "bob")
	e.ConversationID = []byte(strings.Repeat("c", 128))
	c.write(e)
	c.read(string(e.MessageID), "bob")
	m, receipts := c.message(string(e.MessageID))
	pg := page{version: strings.Repeat("v", 30), next: strings.Repeat("n", 100), readCount: 1 << 30}
	for range 2000 {
		pg.receipts = append(pg.receipts, receipts...)
	}
	size := bodySize(m, &pg)
	if body := appendBody(make([]byte, 0, size), m, &pg); cap(body) != size {
		t.Errorf("a body of %d bytes outgrew %d", len(body), size)
	}
}

func TestAppendString(t *testing.T) {
	for in, want := range map[string]string{
		"":                   `""`,
		"plain":              `"plain"`,
		`"\`:                 `"\"\\"`,
		"a\"b":               `"a\"b"`,
		"\u2028":             `"\u2028"`,
		"x\u2029y":           `"x\u2029y"`,
		"\u2027\u202a\u20a8": "\"\u2027\u202a\u20a8\"",
		"<&>'/":              `"<&>'/"`,
		"\x00\x1f\n":         `"\u0000\u001f\u000a"`,
		"日本\U0001F600":       "\"日本\U0001F600\"",
		"\x7f":               "\"\x7f\"",
	} {
		if got := string(contract.AppendString(nil, in)); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

func FuzzAppendString(f *testing.F) {
	f.Add("a\u2028\"\\\n\xe2\x80")
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) {
			t.Skip("not UTF-8")
		}
		var back string
		quoted := contract.AppendString(nil, s)
		if err := json.Unmarshal(quoted, &back); err != nil || back != s {
			t.Fatalf("%q became %s, read as %q: %v", s, quoted, back, err)
		}
		if strings.ContainsAny(string(quoted), "\u2028\u2029") {
			t.Fatalf("%q became %s", s, quoted)
		}
	})
}

// TestAppendBodyReadsBack holds the renderer to a JSON library on random
// messages.
func TestAppendBodyReadsBack(t *testing.T) {
	type reader struct {
		ReaderID string    `json:"reader_id"`
		ReadAt   time.Time `json:"read_at"`
	}
	type answer struct {
		MessageID      string    `json:"message_id"`
		ConversationID string    `json:"conversation_id"`
		SenderID       *string   `json:"sender_id"`
		SentAt         time.Time `json:"sent_at"`
		State          string    `json:"state"`
		Version        string    `json:"version"`
		ReadCount      int       `json:"read_count"`
		RecipientCount int       `json:"recipient_count"`
		OptedOutCount  *int      `json:"opted_out_count"`
		Complete       bool      `json:"complete"`
		Truncated      bool      `json:"truncated"`
		Delta          bool      `json:"delta"`
		Readers        []reader  `json:"readers"`
		Next           *string   `json:"next"`
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	alphabet := []rune("ab\"\\\u2028é😀 /<")
	id := func() string {
		s := ""
		for range 1 + rnd.IntN(12) {
			s += string(alphabet[rnd.IntN(len(alphabet))])
		}
		return s
	}
	for range 100 {
		c := newChat(t)
		at := rnd.Int64N(4e12)
		c.now = time.UnixMilli(at + rnd.Int64N(testRetention.Milliseconds()))
		e := sentEvent(id(), id(), "#"+strconv.Itoa(rnd.IntN(50)))
		e.ConversationID = []byte(id())
		c.write(sentAt(e, at))
		for range rnd.IntN(20) {
			c.readAt(string(e.MessageID), id(), rnd.Int64N(4e12)-t0)
		}
		m, receipts := c.message(string(e.MessageID))
		pg := page{version: "V", readCount: rnd.IntN(99), complete: rnd.IntN(2) == 0, delta: rnd.IntN(2) == 0, receipts: receipts}
		body := appendBody(nil, m, &pg)
		var got answer
		dec := json.NewDecoder(strings.NewReader(string(body)))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&got); err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		if got.MessageID != string(e.MessageID) || got.ConversationID != string(e.ConversationID) || *got.SenderID != string(e.SenderID) ||
			got.SentAt.UnixMilli() != at || got.State != "active" || got.Version != pg.version || got.ReadCount != pg.readCount ||
			got.RecipientCount != int(e.RecipientCount) || got.OptedOutCount != nil || got.Complete != pg.complete || got.Delta != pg.delta ||
			got.Next != nil || len(got.Readers) != len(receipts) {
			t.Fatalf("%+v became %s", e, body)
		}
		for i, r := range receipts {
			if got.Readers[i].ReaderID != m.Reader(r) || got.Readers[i].ReadAt.UnixMilli() != r.ReadAt {
				t.Fatalf("reader %d: %s", i, body)
			}
		}
	}
}
