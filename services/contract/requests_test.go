package contract_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/services/contract"
)

// told is a problem as a table writes it: its code, and for each bad field
// "index.field code", without the index outside lists.
func told(p *contract.Problem) string {
	if p == nil {
		return ""
	}
	words := []string{string(p.Code)}
	for _, e := range p.Errors {
		field := e.Field
		if e.Index != nil {
			field = fmt.Sprintf("%d.%s", *e.Index, e.Field)
		}
		words = append(words, field+" "+string(e.Code))
	}
	return strings.Join(words, "; ")
}

// strictBodies are what any body has to be, whatever the route. %s stands for
// the members that make the body a good one, with a comma after them.
var strictBodies = []struct{ name, body, want string }{
	{"empty", ``, "bad_json"},
	{"white space", "  \n", "bad_json"},
	{"null", `null`, "bad_json"},
	{"list", `[]`, "bad_json"},
	{"text", `"a"`, "bad_json"},
	{"number", `1`, "bad_json"},
	{"cut off", `{"a": 1`, "bad_json"},
	{"cut off in a text", `{"a": "`, "bad_json"},
	{"a second object", `{%s"x":1}{}`, "bad_json"},
	{"a comma after it", `{%s"x":1},`, "bad_json"},
	{"garbage after it", `{%s"x":1}x`, "bad_json"},
	{"NUL after it", "{%s\"x\":1}\x00", "bad_json"},
	{"white space around", "\t{%s\"x\":1}\r\n ", "invalid_body; x unknown_field"},
	{"byte order mark", "\ufeff{%s\"x\":1}", "bad_json"},
	{"comment", `{%s"x":1/**/}`, "bad_json"},
	{"trailing comma", `{%s"x":1,}`, "bad_json"},
	{"single quotes", `{%s'x':1}`, "bad_json"},
	{"name that is no text", `{%s1:1}`, "bad_json"},
	{"NaN", `{%s"x":NaN}`, "bad_json"},
	{"leading zero", `{%s"x":01}`, "bad_json"},
	{"control character in a text", "{%s\"x\":\"\n\"}", "bad_json"},
	{"invalid UTF-8 in a value", "{%s\"x\":\"\xff\"}", "bad_json"},
	{"invalid UTF-8 in a name", "{%s\"\xff\":1}", "bad_json"},
	{"overlong UTF-8", "{%s\"x\":\"\xc0\xaf\"}", "bad_json"},
	{"surrogate in UTF-8", "{%s\"x\":\"\xed\xa0\x80\"}", "bad_json"},
	{"high surrogate alone", `{%s"x":"\ud800"}`, "bad_json"},
	{"low surrogate alone", `{%s"x":"\udc00"}`, "bad_json"},
	{"surrogates the wrong way round", `{%s"x":"\udc00\ud800"}`, "bad_json"},
	{"high surrogate and a letter", `{%s"x":"\ud800a"}`, "bad_json"},
	{"surrogate in a name", `{%s"\ud800":1}`, "bad_json"},
	{"pair of surrogates", `{%s"x":"\ud83d\ude00"}`, "invalid_body; x unknown_field"},
	{"duplicate name", `{%s"x":1,"x":1}`, "bad_json"},
	{"duplicate name, escaped", `{%s"x":1,"\u0078":1}`, "bad_json"},
	{"duplicate name inside", `{%s"x":{"y":1,"y":1}}`, "bad_json"},
	{"depth 16", `{%s"x":` + nested(15) + `}`, "invalid_body; x unknown_field"},
	{"depth 17", `{%s"x":` + nested(16) + `}`, "bad_json"},
	{"depth 17 of objects", `{%s"x":` + strings.Repeat(`{"x":`, 16) + `1` + strings.Repeat(`}`, 16) + `}`, "bad_json"},
	{"depth 100,000", `{%s"x":` + nested(100_000) + `}`, "bad_json"},
	{"two unknown names", `{%s"x":1,"y":2}`, "invalid_body; x unknown_field; y unknown_field"},
	{"a long unknown name", `{%s"` + strings.Repeat("é", 100) + `":1}`, "invalid_body; " + strings.Repeat("é", 32) + "… unknown_field"},
}

func nested(depth int) string { return strings.Repeat("[", depth) + strings.Repeat("]", depth) }

func TestStrictBodies(t *testing.T) {
	kinds := map[string]struct {
		good   string
		decode func(body string) *contract.Problem
	}{
		"put": {`"conversation_id":"c","sender_id":"s","recipient_count":1,`, func(body string) *contract.Problem {
			_, problem := contract.DecodePut("m", []byte(body))
			return problem
		}},
		"receipts": {`"receipts":[{"message_id":"m"}],`, func(body string) *contract.Problem {
			_, problem := contract.DecodeReceipts(contract.Caller{Subject: "bob"}, []byte(body))
			return problem
		}},
	}
	for kind, k := range kinds {
		if problem := k.decode("{" + strings.TrimSuffix(k.good, ",") + "}"); problem != nil {
			t.Fatalf("%s: the good body: %v", kind, problem)
		}
		for _, test := range strictBodies {
			t.Run(kind+"/"+test.name, func(t *testing.T) {
				problem := k.decode(strings.Replace(test.body, "%s", k.good, 1))
				if got := told(problem); got != test.want {
					t.Errorf("got %q, want %q: %v", got, test.want, problem)
				}
				for _, e := range problem.Errors {
					if len(e.Field) > 100 || len(e.Detail) > 1000 {
						t.Errorf("a name comes back at length: %d and %d bytes", len(e.Field), len(e.Detail))
					}
				}
			})
		}
	}
}

func TestDecodePut(t *testing.T) {
	const ids = `"conversation_id":"c","sender_id":"s"`
	tests := []struct{ name, body, want string }{
		{"recipients", `{` + ids + `,"recipients":["a","b"]}`, ""},
		{"no recipients at all", `{` + ids + `,"recipients":[]}`, ""},
		{"count", `{` + ids + `,"recipient_count":3}`, ""},
		{"count of zero", `{` + ids + `,"recipient_count":0}`, ""},
		{"count 3.0", `{` + ids + `,"recipient_count":3.0}`, ""},
		{"count 3e0", `{` + ids + `,"recipient_count":3e0}`, ""},
		{"count 30e-1", `{` + ids + `,"recipient_count":30e-1}`, ""},
		{"largest count", `{` + ids + `,"recipient_count":2147483647}`, ""},
		{"count with nobody opted out", `{` + ids + `,"recipient_count":3,"opted_out":[]}`, ""},
		{"opted out who is no recipient", `{` + ids + `,"recipients":["a"],"opted_out":["x","x"]}`, ""},
		{"escapes in an ID", `{` + ids + `,"recipients":["\u0061\ud83d\ude00"]}`, ""},

		{"nothing", `{}`, "invalid_body; conversation_id required; sender_id required; recipients required"},
		{"no conversation", `{"sender_id":"s","recipients":[]}`, "invalid_body; conversation_id required"},
		{"no sender", `{"conversation_id":"c","recipients":[]}`, "invalid_body; sender_id required"},
		{"neither recipients nor count", `{` + ids + `}`, "invalid_body; recipients required"},
		{"both recipients and count", `{` + ids + `,"recipients":[],"recipient_count":1}`, "invalid_body; recipient_count conflicting"},
		{"count and opted out", `{` + ids + `,"recipient_count":1,"opted_out":["a"]}`, "invalid_body; opted_out conflicting"},
		{"null conversation", `{"conversation_id":null,"sender_id":"s","recipients":[]}`, "invalid_body; conversation_id wrong_type"},
		{"null recipients", `{` + ids + `,"recipients":null}`, "invalid_body; recipients wrong_type"},
		{"null count", `{` + ids + `,"recipient_count":null}`, "invalid_body; recipient_count wrong_type"},
		{"null sent_at", `{` + ids + `,"recipients":[],"sent_at":null}`, "invalid_body; sent_at wrong_type"},
		{"sent_at in milliseconds", `{` + ids + `,"recipients":[],"sent_at":1700000000000}`, "invalid_body; sent_at wrong_type"},
		{"sent_at that is no time", `{` + ids + `,"recipients":[],"sent_at":"yesterday"}`, "invalid_body; sent_at bad_time"},
		{"sent_at without an offset", `{` + ids + `,"recipients":[],"sent_at":"2026-11-23T08:00:00"}`, "invalid_body; sent_at bad_time"},
		{"recipients that are no list", `{` + ids + `,"recipients":"a"}`, "invalid_body; recipients wrong_type"},
		{"recipients that are an object", `{` + ids + `,"recipients":{"a":[1]}}`, "invalid_body; recipients wrong_type"},
		{"recipients that are no texts", `{` + ids + `,"recipients":["a",1,null,["b"]]}`,
			"invalid_body; 1.recipients wrong_type; 2.recipients wrong_type; 3.recipients wrong_type"},
		{"bad recipients", `{` + ids + `,"recipients":["","a","..","\u0007"]}`,
			"invalid_body; 0.recipients bad_id; 2.recipients bad_id; 3.recipients bad_id"},
		{"bad opted out", `{` + ids + `,"recipients":[],"opted_out":["."]}`, "invalid_body; 0.opted_out bad_id"},
		{"bad IDs", `{"conversation_id":"","sender_id":"` + strings.Repeat("s", 129) + `","recipients":[]}`, "invalid_body; conversation_id bad_id; sender_id bad_id"},
		{"count of one half", `{` + ids + `,"recipient_count":0.5}`, "invalid_body; recipient_count wrong_type"},
		{"count in a text", `{` + ids + `,"recipient_count":"3"}`, "invalid_body; recipient_count wrong_type"},
		{"negative count", `{` + ids + `,"recipient_count":-1}`, "invalid_body; recipient_count out_of_range"},
		{"count too large", `{` + ids + `,"recipient_count":2147483648}`, "invalid_body; recipient_count out_of_range"},
		{"count beyond floats", `{` + ids + `,"recipient_count":1e400}`, "invalid_body; recipient_count out_of_range"},
		{"name in another case", `{"Conversation_id":"c","sender_id":"s","recipients":[]}`, "invalid_body; Conversation_id unknown_field; conversation_id required"},
		{"the message ID in the body", `{` + ids + `,"recipients":[],"message_id":"m"}`, "invalid_body; message_id unknown_field"},
		{"10,000 people", `{` + ids + `,"recipients":` + people(10_000) + `}`, ""},
		{"10,001 people", `{` + ids + `,"recipients":` + people(10_001) + `}`, "roster_too_large"},
		{"10,001 people and a mistake", `{"x":1,` + ids + `,"recipients":` + people(10_001) + `}`, "roster_too_large"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			e, problem := contract.DecodePut("m", []byte(test.body))
			if got := told(problem); got != test.want {
				t.Fatalf("got %q, want %q: %v", got, test.want, problem)
			}
			if problem == nil {
				if err := events.Check(e); err != nil {
					t.Errorf("what was decoded is no event: %v", err)
				}
			}
		})
	}
}

func people(n int) string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf(`"p%d"`, i)
	}
	return "[" + strings.Join(names, ",") + "]"
}

func TestDecodePutEvent(t *testing.T) {
	e, problem := contract.DecodePut("m/1", []byte(`{"conversation_id":"c","sender_id":"s","sent_at":"2026-11-23T09:00:00.5+01:00",
		"recipients":["b","s","a","b"],"opted_out":["a","a","x"]}`))
	if problem != nil {
		t.Fatal(problem)
	}
	if string(e.MessageID) != "m/1" || string(e.ConversationID) != "c" || string(e.SenderID) != "s" || e.CountOnly || e.SentAt != 1795420800500 {
		t.Errorf("got %+v", e)
	}
	if got := fmt.Sprintf("%s %s", e.Recipients, e.OptedOut); got != "[b a] [a x]" {
		t.Errorf("people: %s", got)
	}
	// The sender may be named after the recipients.
	e, problem = contract.DecodePut("m", []byte(`{"recipients":["b","s"],"sender_id":"s","conversation_id":"c"}`))
	if problem != nil || len(e.Recipients) != 1 || e.SentAt != events.Unclaimed {
		t.Errorf("got %+v, %v", e, problem)
	}
	e, problem = contract.DecodePut("m", []byte(`{"recipient_count":7,"sender_id":"s","conversation_id":"c"}`))
	if problem != nil || !e.CountOnly || e.RecipientCount != 7 {
		t.Errorf("got %+v, %v", e, problem)
	}
}

func TestDecodeReceipts(t *testing.T) {
	user, backend := contract.Caller{Subject: "bob"}, contract.Caller{Subject: "chat", Backend: true}
	tests := []struct {
		name   string
		caller contract.Caller
		body   string
		want   string
	}{
		{"one", user, `{"receipts":[{"message_id":"m"}]}`, ""},
		{"in one's own name", user, `{"receipts":[{"message_id":"m","reader_id":"bob"}]}`, ""},
		{"by the backend", backend, `{"receipts":[{"message_id":"m","reader_id":"amy"}]}`, ""},
		{"the same twice", user, `{"receipts":[{"message_id":"m"},{"message_id":"m"}]}`, ""},
		{"read long ago", user, `{"receipts":[{"message_id":"m","read_at":"0000-01-01T00:00:00Z"}]}`, ""},
		{"read in the future", user, `{"receipts":[{"message_id":"m","read_at":"9999-12-31T23:59:59Z"}]}`, ""},
		{"500", user, receipts(500), ""},

		{"none", user, `{"receipts":[]}`, "invalid_body; receipts out_of_range"},
		{"no list", user, `{}`, "invalid_body; receipts required"},
		{"null", user, `{"receipts":null}`, "invalid_body; receipts wrong_type"},
		{"an object", user, `{"receipts":{"message_id":"m"}}`, "invalid_body; receipts wrong_type"},
		{"501", user, receipts(501), "invalid_body; receipts too_many"},
		{"501 of another", user, strings.ReplaceAll(receipts(501), `"}`, `","reader_id":"amy"}`), "invalid_body; receipts too_many"},
		{"no message", user, `{"receipts":[{}]}`, "invalid_body; 0.message_id required"},
		{"items that are no objects", user, `{"receipts":[{"message_id":"m"},"m",null,[{}]]}`,
			"invalid_body; 1.receipts wrong_type; 2.receipts wrong_type; 3.receipts wrong_type"},
		{"bad message", user, `{"receipts":[{"message_id":"m"},{"message_id":""}]}`, "invalid_body; 1.message_id bad_id"},
		{"bad reader", backend, `{"receipts":[{"message_id":"m","reader_id":".."}]}`, "invalid_body; 0.reader_id bad_id"},
		{"bad time", user, `{"receipts":[{"message_id":"m","read_at":"now"}]}`, "invalid_body; 0.read_at bad_time"},
		{"null time", user, `{"receipts":[{"message_id":"m","read_at":null}]}`, "invalid_body; 0.read_at wrong_type"},
		{"unknown field", user, `{"receipts":[{"message_id":"m","seen":true}]}`, "invalid_body; 0.seen unknown_field"},
		{"another's", user, `{"receipts":[{"message_id":"m","reader_id":"amy"}]}`, "foreign_reader"},
		{"another's among one's own", user, `{"receipts":[{"message_id":"m"},{"message_id":"m","reader_id":"amy"}]}`, "foreign_reader"},
		{"another's and a mistake", user, `{"receipts":[{"message_id":"m","reader_id":"amy"},{}]}`, "invalid_body; 1.message_id required"},
		{"a backend that names nobody", backend, `{"receipts":[{"message_id":"m"}]}`, "invalid_body; 0.reader_id reader_required"},
		{"a backend's own subject is no default", backend, `{"receipts":[{"message_id":"m","reader_id":"amy"},{"message_id":"m"}]}`,
			"invalid_body; 1.reader_id reader_required"},
		{"two mistakes of an item, not three", user, `{"receipts":[{"a":1,"b":1,"c":1},{"message_id":1}]}`,
			"invalid_body; 0.a unknown_field; 0.b unknown_field; 1.message_id wrong_type"},
		{"duplicate name in an item", user, `{"receipts":[{"message_id":"m","message_id":"m"}]}`, "bad_json"},
		{"name in another case", user, `{"receipts":[{"message_id":"m","Read_At":"2026-11-23T08:00:00Z"}]}`, "invalid_body; 0.Read_At unknown_field"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			reads, problem := contract.DecodeReceipts(test.caller, []byte(test.body))
			if got := told(problem); got != test.want {
				t.Fatalf("got %q, want %q: %v", got, test.want, problem)
			}
			for _, read := range reads {
				if err := events.Check(&read); err != nil {
					t.Errorf("what was decoded is no event: %v", err)
				}
			}
		})
	}
}

func receipts(n int) string {
	items := make([]string, n)
	for i := range items {
		items[i] = fmt.Sprintf(`{"message_id":"m%d"}`, i)
	}
	return `{"receipts":[` + strings.Join(items, ",") + `]}`
}

// Each bad item is named, however many there are.
func TestEachBadItemIsNamed(t *testing.T) {
	body := `{"receipts":[` + strings.TrimSuffix(strings.Repeat(`{"x":1,"y":1,"z":1},`, contract.MaxReceipts), ",") + `]}`
	_, problem := contract.DecodeReceipts(contract.Caller{Subject: "bob"}, []byte(body))
	var named []int
	for _, e := range problem.Errors {
		named = append(named, *e.Index)
	}
	named = slices.Compact(named)
	if len(named) != contract.MaxReceipts {
		t.Errorf("%d items are named, want %d", len(named), contract.MaxReceipts)
	}
}

func TestDecodeReceiptsEvents(t *testing.T) {
	reads, problem := contract.DecodeReceipts(contract.Caller{Subject: "bob"},
		[]byte(`{"receipts":[{"message_id":"m1","read_at":"1969-12-31T23:59:59.9999Z"},{"reader_id":"bob","message_id":"m2"}]}`))
	if problem != nil {
		t.Fatal(problem)
	}
	if string(reads[0].MessageID) != "m1" || string(reads[0].ReaderID) != "bob" || reads[0].ReadAt != -1 {
		t.Errorf("got %+v", reads[0])
	}
	if string(reads[1].MessageID) != "m2" || string(reads[1].ReaderID) != "bob" || reads[1].ReadAt != events.Unclaimed {
		t.Errorf("got %+v", reads[1])
	}
}

func FuzzDecodePut(f *testing.F) {
	for _, test := range strictBodies {
		f.Add([]byte(strings.Replace(test.body, "%s", `"sender_id":"s",`, 1)))
	}
	f.Add([]byte(`{"conversation_id":"c","sender_id":"s","sent_at":"2026-11-23T08:00:00Z","recipients":["a"],"opted_out":["a"]}`))
	f.Add([]byte(`{"conversation_id":"c","sender_id":"s","recipient_count":3e0}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		e, problem := contract.DecodePut("m", body)
		if (e == nil) != (problem != nil) {
			t.Fatalf("%+v and %v", e, problem)
		}
		if problem != nil {
			checkProblem(t, problem)
		} else if err := events.Check(e); err != nil {
			t.Fatalf("%q was taken for an event that is none: %v", body, err)
		}
	})
}

func FuzzDecodeReceipts(f *testing.F) {
	for _, test := range strictBodies {
		f.Add([]byte(strings.Replace(test.body, "%s", `"receipts":[{"message_id":"m"}],`, 1)))
	}
	f.Add([]byte(`{"receipts":[{"message_id":"m","read_at":"2026-11-23T08:00:00Z","reader_id":"bob"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		reads, problem := contract.DecodeReceipts(contract.Caller{Subject: "bob"}, body)
		if (len(reads) == 0) != (problem != nil) {
			t.Fatalf("%+v and %v", reads, problem)
		}
		if problem != nil {
			checkProblem(t, problem)
		}
		for _, read := range reads {
			if err := events.Check(&read); err != nil || string(read.ReaderID) != "bob" {
				t.Fatalf("%q was taken for %+v: %v", body, read, err)
			}
		}
	})
}
