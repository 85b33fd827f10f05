package contract_test

import (
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/seenby/seenby/services/contract"
)

func TestDecodeBatch(t *testing.T) {
	version, position := testVersion.Encode("m1"), testPosition.Encode()
	items := func(n int) string {
		var b []string
		for i := range n {
			b = append(b, fmt.Sprintf(`{"message_id":"m%d"}`, i))
		}
		return `{"messages":[` + strings.Join(b, ",") + `]}`
	}
	list := func(n int, item string) string {
		return "[" + strings.TrimSuffix(strings.Repeat(item+",", n), ",") + "]"
	}
	tests := []struct{ name, body, want string }{
		{"one", `{"messages":[{"message_id":"m1"}]}`, ""},
		{"all of it", `{"messages":[{"since":"` + version + `","message_id":"m1"},{"message_id":"m2"}],"limit":0,"readers":["a","b","a"],"min_position":["` + position + `"]}`, ""},
		{"200 messages", items(200), ""},
		{"no reader", `{"messages":[{"message_id":"m1"}],"readers":[],"min_position":[]}`, ""},
		{"100 readers", `{"messages":[{"message_id":"m1"}],"readers":` + list(100, `"a"`) + `}`, ""},

		{"nothing", `{}`, "invalid_body; messages required"},
		{"no message", `{"messages":[]}`, "invalid_body; messages out_of_range"},
		{"201 messages", items(201), "invalid_body; messages too_many"},
		{"messages that are no list", `{"messages":{}}`, "invalid_body; messages wrong_type"},
		{"an item that is no object", `{"messages":["m1"]}`, "invalid_body; 0.messages wrong_type"},
		{"an item without an ID", `{"messages":[{"message_id":"m1"},{}]}`, "invalid_body; 1.message_id required"},
		{"a bad ID", `{"messages":[{"message_id":".."}]}`, "invalid_body; 0.message_id bad_id"},
		{"twice the same", `{"messages":[{"message_id":"m1"},{"message_id":"m2"},{"message_id":"m1"}]}`, "invalid_body; 2.message_id duplicate"},
		{"an unknown field", `{"messages":[{"message_id":"m1","at":1}]}`, "invalid_body; 0.at unknown_field"},
		{"a version of another message", `{"messages":[{"message_id":"m2","since":"` + version + `"}]}`, "invalid_body; 0.since bad_version"},
		{"a version that is none", `{"messages":[{"message_id":"m1","since":""}]}`, "invalid_body; 0.since bad_version"},
		{"a version that is no text", `{"messages":[{"message_id":"m1","since":null}]}`, "invalid_body; 0.since wrong_type"},
		{"limit too large", `{"messages":[{"message_id":"m1"}],"limit":201}`, "invalid_body; limit out_of_range"},
		{"negative limit", `{"messages":[{"message_id":"m1"}],"limit":-1}`, "invalid_body; limit out_of_range"},
		{"fraction", `{"messages":[{"message_id":"m1"}],"limit":1.5}`, "invalid_body; limit wrong_type"},
		{"101 readers", `{"messages":[{"message_id":"m1"}],"readers":` + list(101, `"a"`) + `}`, "invalid_body; readers too_many"},
		{"a bad reader", `{"messages":[{"message_id":"m1"}],"readers":["a",""]}`, "invalid_body; 1.readers bad_id"},
		{"a reader that is no text", `{"messages":[{"message_id":"m1"}],"readers":[1]}`, "invalid_body; 0.readers wrong_type"},
		{"nine positions", `{"messages":[{"message_id":"m1"}],"min_position":` + list(9, `"`+position+`"`) + `}`, "invalid_body; min_position too_many"},
		{"a position that is none", `{"messages":[{"message_id":"m1"}],"min_position":["x"]}`, "bad_position"},
		{"a position that is no text", `{"messages":[{"message_id":"m1"}],"min_position":[7]}`, "invalid_body; 0.min_position wrong_type"},
		{"positions that are no list", `{"messages":[{"message_id":"m1"}],"min_position":"` + position + `"}`, "invalid_body; min_position wrong_type"},
	}
	for _, k := range strictBodies {
		body := k.body
		if strings.Contains(body, "%s") {
			body = strings.ReplaceAll(body, "%s", `"messages":[{"message_id":"m1"}],`)
		}
		tests = append(tests, struct{ name, body, want string }{"strict/" + k.name, body, k.want})
	}
	for _, k := range tests {
		t.Run(k.name, func(t *testing.T) {
			batch, problem := contract.DecodeBatch([]byte(k.body))
			if got := told(problem); got != k.want {
				t.Fatalf("got %q, want %q", got, k.want)
			}
			if problem != nil {
				return
			}
			again, problem := contract.DecodeBatch(batch.Append(nil))
			if problem != nil || !reflect.DeepEqual(normal(again), normal(batch)) {
				t.Errorf("%+v came back as %+v, %v", batch, again, problem)
			}
		})
	}
	batch, _ := contract.DecodeBatch([]byte(tests[1].body))
	want := &contract.Batch{
		Items: []contract.BatchItem{{MessageID: "m1", Since: testVersion}, {MessageID: "m2"}},
		Named: true, Readers: []string{"a", "b"}, MinPositions: []contract.Position{testPosition},
	}
	if !reflect.DeepEqual(batch, want) {
		t.Errorf("got %+v", batch)
	}
	if batch, _ := contract.DecodeBatch([]byte(tests[0].body)); batch.Limit != contract.DefaultBatchLimit || batch.Named {
		t.Errorf("got %+v", batch)
	}
}

// normal tells no empty list from none.
func normal(b *contract.Batch) contract.Batch {
	n := *b
	if len(n.Readers) == 0 {
		n.Readers = nil
	}
	if len(n.MinPositions) == 0 {
		n.MinPositions = nil
	}
	return n
}

func FuzzDecodeBatch(f *testing.F) {
	f.Add([]byte(`{"messages":[{"message_id":"m1","since":"` + testVersion.Encode("m1") + `"}],"limit":3,"readers":["a"],"min_position":["` + testPosition.Encode() + `"]}`))
	f.Add([]byte(`{"messages":[{"message_id":"\u00e9"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		batch, problem := contract.DecodeBatch(body)
		if problem != nil {
			problem.Answer()
			return
		}
		again, problem := contract.DecodeBatch(batch.Append(nil))
		if problem != nil || !reflect.DeepEqual(normal(again), normal(batch)) {
			t.Errorf("%+v came back as %+v, %v", batch, again, problem)
		}
	})
}

var testUnreadCursor = contract.UnreadCursor{Log: 0xdeadbeef, Lineage: 0x01020304, Next: 300, From: 7, Count: 1000}

func TestParseUnread(t *testing.T) {
	cursor, position := testUnreadCursor.Encode("m1", testSealer), testPosition.Encode()
	for _, k := range []struct{ name, query, want string }{
		{"nothing", "", ""},
		{"limit", "limit=0", ""},
		{"cursor", "cursor=" + cursor, ""},
		{"all of it", "cursor=" + cursor + "&limit=2000&min_position=" + position + "&min_position=" + position, ""},
		{"limit too large", "limit=2001", "bad_parameter"},
		{"limit twice", "limit=1&limit=1", "bad_parameter"},
		{"cursor with limit 0", "limit=0&cursor=" + cursor, "bad_parameter"},
		{"cursor of another message", "cursor=" + testUnreadCursor.Encode("m2", testSealer), "bad_cursor"},
		{"cursor of readers", "cursor=" + testCursor.Encode("m1", testSealer), "bad_cursor"},
		{"nine positions", strings.Repeat("min_position="+position+"&", 9), "bad_parameter"},
		{"bad position", "min_position=x", "bad_position"},
		{"since", "since=" + testVersion.Encode("m1"), "bad_parameter"},
		{"at", "at=2026-11-23T08:00:00Z", "bad_parameter"},
	} {
		t.Run(k.name, func(t *testing.T) {
			_, problem := contract.ParseUnread("m1", k.query, http.Header{}, testSealer)
			if got := told(problem); got != k.want {
				t.Errorf("got %q, want %q", got, k.want)
			}
		})
	}
	if _, problem := contract.ParsePull("m1", "cursor="+cursor, http.Header{}, testSealer); told(problem) != "bad_cursor" {
		t.Errorf("unread's cursor for readers: %v", problem)
	}
	u, problem := contract.ParseUnread("m1", "limit=5&cursor="+cursor, http.Header{"If-None-Match": {`W/"x", "y"`}}, testSealer)
	want := &contract.Unread{MessageID: "m1", Limit: 5, Cursor: &testUnreadCursor, IfNoneMatch: []string{"x", "y"}}
	if problem != nil || !reflect.DeepEqual(u, want) {
		t.Errorf("got %+v, %v", u, problem)
	}
	for i := range cursor {
		bad := []byte(cursor)
		if bad[i] != 'A' {
			bad[i] = 'A'
		} else {
			bad[i] = 'B'
		}
		if _, problem := contract.ParseUnread("m1", "cursor="+string(bad), http.Header{}, testSealer); told(problem) != "bad_cursor" {
			t.Errorf("changed at %d: %v", i, problem)
		}
	}
}

func FuzzParseUnread(f *testing.F) {
	f.Add("limit=5&cursor=" + testUnreadCursor.Encode("m1", testSealer))
	f.Add("min_position=" + testPosition.Encode())
	f.Fuzz(func(t *testing.T, query string) {
		if u, problem := contract.ParseUnread("m1", query, http.Header{}, testSealer); problem == nil && u.Cursor != nil {
			again, problem := contract.ParseUnread("m1", "cursor="+u.Cursor.Encode("m1", testSealer), http.Header{}, testSealer)
			if problem != nil || !reflect.DeepEqual(again.Cursor, u.Cursor) {
				t.Errorf("%+v came back as %+v, %v", u.Cursor, again, problem)
			}
		}
	})
}
