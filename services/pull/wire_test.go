package pull

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

const wholePage = `{"message_id": "m1", "conversation_id": "c1", "sender_id": null, "sent_at": "2026-11-23T08:00:00.000Z", "state": "active",
	"version": "v_-1", "read_count": 3, "recipient_count": 5, "opted_out_count": null, "complete": false, "truncated": true,
	"delta": false, "readers": [{"reader_id": "bob", "read_at": "2026-11-23T08:00:04.120Z", "later": 1}], "next": null, "later": {}}`

func TestDecodePage(t *testing.T) {
	p, err := decodePage([]byte(wholePage))
	if err != nil {
		t.Fatal(err)
	}
	var s set
	s.apply(p.wireMessage, p.Readers)
	v := s.view("m1")
	want := time.Date(2026, 11, 23, 8, 0, 4, 120e6, time.UTC)
	if v.Version != "v_-1" || v.SenderID != "" || v.OptedOutCount != nil || !v.Truncated || len(v.Readers) != 1 || !v.Readers[0].ReadAt.Equal(want) {
		t.Errorf("the view is %+v", v)
	}
	for _, bad := range []string{
		``, `null`, `[]`, `{`, `{"message_id": 1}`, `{"message_id": "m1"}`,
		`{"message_id": "m1", "version": "a b"}`, `{"message_id": "m1", "version": "v\r\nX: y"}`, `{"message_id": "m1", "version": "é"}`,
		`{"message_id": "m1", "version": "v", "next": ""}`, `{"message_id": "m1", "version": "v", "next": "c&d"}`,
		`{"message_id": "m1", "version": "v", "read_count": -1}`, `{"message_id": "m1", "version": "v", "readers": [{}]}`,
		`{"message_id": "m1", "version": "v", "readers": [{"reader_id": null, "read_at": "2026-11-23T08:00:04.120Z"}]}`,
		`{"message_id": "m1", "version": "v", "readers": [{"read_at": "yesterday"}]}`,
	} {
		if p, err := decodePage([]byte(bad)); err == nil {
			t.Errorf("%s is %+v", bad, p)
		}
	}
}

func FuzzDecodePage(f *testing.F) {
	f.Add([]byte(wholePage))
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := decodePage(body)
		if err == nil && !opaque(p.Version) {
			t.Errorf("%s is %+v", body, p)
		}
	})
}

// TestBatchAnswer: each message that was asked for is answered once, and no other.
func TestBatchAnswer(t *testing.T) {
	items := []item{{"m1", "v1"}, {"m2", ""}}
	const m1 = `{"message_id": "m1", "version": "v2", "delta": true, "readers": [{"reader_id": "bob", "read_at": "2026-11-23T08:00:04.120Z"}], "next": "c"}`
	const m2 = `{"message_id": "m2", "version": "v9"}`
	take := func(body string) (*batchAnswer, error) {
		b := &batchAnswer{}
		return b, b.take(&response{body: []byte(body)}, items, 10)
	}
	b, err := take(`{"messages": [` + m2 + `,` + m1 + `], "poll": {"interval_ms": 3000, "window_ms": 1e99, "stop": true}, "later": 1}`)
	if err != nil || b.answers[0].message.Version != "v2" || b.answers[0].next != "c" || b.answers[1].message.Version != "v9" || b.poll != (poll{interval: 3 * time.Second}) {
		t.Errorf("%+v, %v", b, err)
	}
	b, err = take(`{"unchanged": ["m1"], "failed": [{"message_id": "m2", "code": "not_found"}]}`)
	if err != nil || !b.answers[0].unchanged || b.answers[1].verdict != absent {
		t.Errorf("%+v, %v", b, err)
	}
	b, err = take(`{"failed": [{"message_id": "m1", "code": "made_up"}, {"message_id": "m2", "code": "internal"}]}`)
	if err != nil || b.answers[0].verdict != failed || b.answers[1].verdict != failed {
		t.Errorf("%+v, %v", b, err)
	}
	for name, bad := range map[string]string{
		"no JSON":                         `<html>`,
		"nothing":                         `{}`,
		"one is missing":                  `{"unchanged": ["m1"]}`,
		"one is there twice":              `{"unchanged": ["m1", "m1"], "messages": [` + m2 + `]}`,
		"in two lists":                    `{"unchanged": ["m1"], "messages": [` + m1 + `,` + m2 + `]}`,
		"a stranger":                      `{"unchanged": ["m1", "m3"], "messages": [` + m2 + `]}`,
		"a stranger fails":                `{"unchanged": ["m1"], "failed": [{"message_id": "m3", "code": "internal"}]}`,
		"unchanged since nothing":         `{"unchanged": ["m1", "m2"]}`,
		"a difference to nothing":         `{"unchanged": ["m1"], "messages": [{"message_id": "m2", "version": "v9", "delta": true}]}`,
		"no version":                      `{"unchanged": ["m1"], "messages": [{"message_id": "m2"}]}`,
		"more readers than asked for":     `{"unchanged": ["m1"], "messages": [{"message_id": "m2", "version": "v9", "readers": [` + strings.TrimSuffix(strings.Repeat(`{"reader_id": "x", "read_at": "2026-11-23T08:00:04.120Z"},`, 11), ",") + `]}]}`,
		"a message that is not an object": `{"unchanged": ["m1"], "messages": [7]}`,
	} {
		if b, err := take(bad); err == nil {
			t.Errorf("%s: %+v", name, b)
		}
	}
}

func FuzzBatchAnswer(f *testing.F) {
	f.Add([]byte(`{"messages": [` + wholePage + `], "unchanged": ["m2"], "failed": [{"message_id": "m3", "code": "not_found"}], "poll": {"interval_ms": 2000}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		b := &batchAnswer{}
		if err := b.take(&response{body: body}, []item{{"m1", ""}, {"m2", "v"}, {"m3", ""}}, 200); err != nil {
			return
		}
		for i, a := range b.answers {
			if a == nil {
				t.Errorf("%s says nothing of item %d", body, i)
			}
		}
		if b.poll.interval < 0 || b.poll.window < 0 {
			t.Errorf("%s asks for %+v", body, b.poll)
		}
	})
}

func TestErrorText(t *testing.T) {
	for _, c := range []struct {
		status     int
		body, want string
	}{
		{404, `{"code": "not_found", "title": "No such message", "detail": "it may come"}`, "404 not_found: it may come"},
		{404, `{"code": "not_found", "title": "No such message"}`, "404 not_found: No such message"},
		{502, `<html>`, "502 Bad Gateway"},
		{599, ``, "599"},
		{400, `{"code": 7}`, "400 Bad Request"},
	} {
		if got := decodeError(c.status, []byte(c.body)).Error(); got != c.want {
			t.Errorf("%d %s is %q, want %q", c.status, c.body, got, c.want)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	const date = "Mon, 23 Nov 2026 08:00:00 GMT"
	for _, c := range []struct {
		value, date string
		want        time.Duration
		ok          bool
	}{
		{"3", "", 3 * time.Second, true},
		{" 0 ", "", 0, true},
		{"99999999999999999999", "", maxPoll, true},
		{"999999", "", maxPoll, true},
		{"Mon, 23 Nov 2026 08:01:00 GMT", date, time.Minute, true},
		{"Mon, 23 Nov 2026 07:00:00 GMT", date, 0, true},
		{"Mon, 23 Nov 2026 08:01:00 GMT", "", 0, false},
		{"", "", 0, false}, {"-1", "", 0, false}, {"1.5", "", 0, false}, {"soon", date, 0, false},
	} {
		h := http.Header{}
		if c.value != "" {
			h.Set("Retry-After", c.value)
		}
		if c.date != "" {
			h.Set("Date", c.date)
		}
		if got, ok := retryAfter(h); got != c.want || ok != c.ok {
			t.Errorf("%q at %q is %s, %t; want %s, %t", c.value, c.date, got, ok, c.want, c.ok)
		}
	}
}

// TestMessageURL: an ID is one segment of the path, and is decoded once.
func TestMessageURL(t *testing.T) {
	for _, c := range []struct{ base, id, want string }{
		{"https://h", "m1", "https://h/v1/messages/m1/receipts"},
		{"https://h/", "m1", "https://h/v1/messages/m1/receipts"},
		{"http://h:8080/a/b/", "m1", "http://h:8080/a/b/v1/messages/m1/receipts"},
		{"https://h/a%2Fb", "m1", "https://h/a%2Fb/v1/messages/m1/receipts"},
		{"https://h", "a/b", "https://h/v1/messages/a%2Fb/receipts"},
		{"https://h", "a%2Fb", "https://h/v1/messages/a%252Fb/receipts"},
		{"https://h", "a?b#c", "https://h/v1/messages/a%3Fb%23c/receipts"},
		{"https://h", "a b+c", "https://h/v1/messages/a%20b+c/receipts"},
		{"https://h", "../x", "https://h/v1/messages/..%2Fx/receipts"},
		{"https://h", "é;:@&=$,", "https://h/v1/messages/%C3%A9%3B:@&=$%2C/receipts"},
	} {
		base, err := parseBase(c.base)
		if err != nil {
			t.Fatal(err)
		}
		u := messageURL(base, c.id)
		if u.String() != c.want {
			t.Errorf("%q at %s is %s, want %s", c.id, c.base, u, c.want)
		}
		if parsed, err := url.Parse(u.String()); err != nil || parsed.Path != base.Path+"/v1/messages/"+c.id+"/receipts" {
			t.Errorf("%s is read as %q", u, parsed.Path)
		}
	}
}

func TestPassed(t *testing.T) {
	for _, c := range []struct{ monotonic, wall, want time.Duration }{
		{time.Second, time.Second, time.Second},
		{time.Second, time.Hour, time.Hour},    // asleep
		{time.Second, -time.Hour, time.Second}, // set back
		{-time.Second, -time.Hour, 0},          // never back
		{2 * time.Second, time.Second, 2 * time.Second},
	} {
		if got := passed(c.monotonic, c.wall); got != c.want {
			t.Errorf("%s and %s are %s, want %s", c.monotonic, c.wall, got, c.want)
		}
	}
}
