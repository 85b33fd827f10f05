package events

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// wire builds bytes field by field.
type wire []byte

func (w wire) varint(n protowire.Number, v uint64) wire {
	return protowire.AppendVarint(protowire.AppendTag(w, n, protowire.VarintType), v)
}

func (w wire) bytes(n protowire.Number, b []byte) wire {
	return protowire.AppendBytes(protowire.AppendTag(w, n, protowire.BytesType), b)
}

func (w wire) string(n protowire.Number, s string) wire { return w.bytes(n, []byte(s)) }

func (w wire) fixed(n protowire.Number) wire {
	w = protowire.AppendFixed32(protowire.AppendTag(w, n, protowire.Fixed32Type), 1)
	return protowire.AppendFixed64(protowire.AppendTag(w, n, protowire.Fixed64Type), 1)
}

func (w wire) group(n protowire.Number, body wire) wire {
	w = append(protowire.AppendTag(w, n, protowire.StartGroupType), body...)
	return protowire.AppendTag(w, n, protowire.EndGroupType)
}

// event wraps a body.
func (w wire) event(k Kind) wire { return wire(nil).bytes(protowire.Number(k), w) }

var (
	readBody = wire(nil).string(1, "r")
	sentBody = wire(nil).string(1, "c").string(2, "s")
)

func format(e Event) string {
	switch e := e.(type) {
	case *MessageSent:
		return fmt.Sprintf("sent %q in %q by %q at %d to %q less %q, count %v %d", e.MessageID, e.ConversationID, e.SenderID, e.SentAt, e.Recipients, e.OptedOut, e.CountOnly, e.RecipientCount)
	case *MessageRead:
		return fmt.Sprintf("read %q by %q at %d", e.MessageID, e.ReaderID, e.ReadAt)
	case *MessageRecalled:
		return fmt.Sprintf("recalled %q", e.MessageID)
	case *UserErased:
		return fmt.Sprintf("erased %q", e.UserID)
	}
	return fmt.Sprintf("%T", e)
}

func TestDecode(t *testing.T) {
	const unclaimed = "9223372036854775807"
	for name, test := range map[string]struct {
		key   string
		value []byte
		want  string // an event as format has it, or what the error contains
		is    error
	}{
		"a receipt":                    {"m", readBody.event(KindMessageRead), `read "m" by "r" at ` + unclaimed, nil},
		"a receipt of a time":          {"m", readBody.varint(2, 7).event(KindMessageRead), `read "m" by "r" at 7`, nil},
		"a receipt of a time before":   {"m", readBody.varint(2, math.MaxUint64).event(KindMessageRead), `read "m" by "r" at -1`, nil},
		"the last of repeated fields":  {"m", readBody.varint(2, 7).string(1, "r2").varint(2, 8).event(KindMessageRead), `read "m" by "r2" at 8`, nil},
		"a message":                    {"m", sentBody.event(KindMessageSent), `sent "m" in "c" by "s" at ` + unclaimed + ` to [] less [], count false 0`, nil},
		"a message in another order":   {"m", wire(nil).string(4, "b").string(5, "a").string(4, "a").varint(3, 5).string(2, "s").string(1, "c").event(KindMessageSent), `sent "m" in "c" by "s" at 5 to ["b" "a"] less ["a"], count false 0`, nil},
		"a message with a count":       {"m", sentBody.varint(6, 3).event(KindMessageSent), `sent "m" in "c" by "s" at ` + unclaimed + ` to [] less [], count true 3`, nil},
		"a message with a count of 0":  {"m", sentBody.varint(6, 0).event(KindMessageSent), `sent "m" in "c" by "s" at ` + unclaimed + ` to [] less [], count true 0`, nil},
		"a recall":                     {"m", wire(nil).event(KindMessageRecalled), `recalled "m"`, nil},
		"an erasure":                   {"", wire(nil).string(1, "u").event(KindUserErased), `erased "u"`, nil},
		"unknown fields":               {"m", append(wire(nil).fixed(900).varint(1, 1), readBody.fixed(77).string(9, "?").group(8, wire(nil).varint(1, 1)).varint(100, 5).event(KindMessageRead)...), `read "m" by "r" at ` + unclaimed, nil},
		"unknown fields around":        {"m", append(readBody.event(KindMessageRead), wire(nil).string(2000, "x").string(1000, "y")...), `read "m" by "r" at ` + unclaimed, nil},
		"unknown fields of a recall":   {"m", wire(nil).string(1, "x").event(KindMessageRecalled), `recalled "m"`, nil},
		"unknown fields of an erasure": {"", wire(nil).varint(2, 1).string(1, "u").event(KindUserErased), `erased "u"`, nil},

		"an empty value":              {"m", nil, "no kind of event", ErrNotEvent},
		"hi":                          {"m", []byte("hi"), "value", ErrNotEvent},
		"JSON":                        {"m", []byte(`{"reader_id": "r"}`), "value", ErrNotEvent},
		"a text of high bytes":        {"m", []byte("こんにちは"), "value", ErrNotEvent},
		"no kind":                     {"m", wire(nil).string(1000, "").string(2000, ""), "no kind of event", ErrNotEvent},
		"two kinds":                   {"m", append(readBody.event(KindMessageRead), wire(nil).event(KindMessageRecalled)...), "more than one kind", ErrNotEvent},
		"a kind twice":                {"m", append(readBody.event(KindMessageRead), readBody.event(KindMessageRead)...), "more than one kind", ErrNotEvent},
		"a known and an unknown kind": {"m", append(readBody.event(KindMessageRead), wire(nil).event(1500)...), "more than one kind", ErrNotEvent},
		"a kind as a number":          {"m", wire(nil).varint(1002, 1), "not a message", ErrNotEvent},
		"an unknown kind as a number": {"m", wire(nil).varint(1500, 1), "not a message", ErrNotEvent},
		"a kind as a group":           {"m", wire(nil).group(1002, readBody), "not a message", ErrNotEvent},
		"cut off":                     {"m", readBody.event(KindMessageRead)[:4], "value", ErrNotEvent},
		"a body cut off":              {"m", readBody[:2].event(KindMessageRead), "EOF", ErrNotEvent},
		"a group that does not end":   {"m", protowire.AppendTag(nil, 5, protowire.StartGroupType), "value", ErrNotEvent},
		"a group that ends only":      {"m", append(readBody.event(KindMessageRead), protowire.AppendTag(nil, 5, protowire.EndGroupType)...), "value", ErrNotEvent},
		"field 0":                     {"m", append(readBody.event(KindMessageRead), 0, 0), "value", ErrNotEvent},
		"field 2^29":                  {"m", append(readBody.event(KindMessageRead), 0x80, 0x80, 0x80, 0x80, 0x10, 0), "field number", ErrNotEvent},
		"wire type 7":                 {"m", append(readBody.event(KindMessageRead), 0x0f), "value", ErrNotEvent},
		"over 2 MiB":                  {"m", append(readBody.event(KindMessageRead), wire(nil).bytes(2000, make([]byte, MaxEventSize))...), "at most 2097152", ErrNotEvent},

		"no reader":               {"m", wire(nil).event(KindMessageRead), "reader_id", ErrNotEvent},
		"a reader as a number":    {"m", wire(nil).varint(1, 1).event(KindMessageRead), "wrong wire type", ErrNotEvent},
		"a time as bytes":         {"m", readBody.string(2, "7").event(KindMessageRead), "wrong wire type", ErrNotEvent},
		"a bad reader":            {"m", wire(nil).string(1, "\xff").event(KindMessageRead), "reader_id", ErrNotEvent},
		"no conversation":         {"m", wire(nil).string(2, "s").event(KindMessageSent), "conversation_id", ErrNotEvent},
		"no sender":               {"m", wire(nil).string(1, "c").event(KindMessageSent), "sender_id", ErrNotEvent},
		"a conversation number":   {"m", sentBody.varint(1, 1).event(KindMessageSent), "wrong wire type", ErrNotEvent},
		"a sender number":         {"m", sentBody.varint(2, 1).event(KindMessageSent), "wrong wire type", ErrNotEvent},
		"sent at bytes":           {"m", sentBody.string(3, "7").event(KindMessageSent), "wrong wire type", ErrNotEvent},
		"a recipient number":      {"m", sentBody.varint(4, 1).event(KindMessageSent), "wrong wire type", ErrNotEvent},
		"an opted-out number":     {"m", sentBody.varint(5, 1).event(KindMessageSent), "wrong wire type", ErrNotEvent},
		"a count as bytes":        {"m", sentBody.string(6, "1").event(KindMessageSent), "wrong wire type", ErrNotEvent},
		"a count over 32 bits":    {"m", sentBody.varint(6, 1<<32+1).event(KindMessageSent), "over 32 bits", ErrNotEvent},
		"a count over 31 bits":    {"m", sentBody.varint(6, 1<<31).event(KindMessageSent), "recipient_count", ErrNotEvent},
		"a count and recipients":  {"m", sentBody.string(4, "a").varint(6, 1).event(KindMessageSent), "recipient_count", ErrNotEvent},
		"a count and opted out":   {"m", sentBody.string(5, "a").varint(6, 1).event(KindMessageSent), "recipient_count", ErrNotEvent},
		"an empty recipient":      {"m", sentBody.string(4, "").event(KindMessageSent), "recipients[0]", ErrNotEvent},
		"nobody erased":           {"", wire(nil).event(KindUserErased), "user_id", ErrNotEvent},
		"an erased number":        {"", wire(nil).varint(1, 1).event(KindUserErased), "wrong wire type", ErrNotEvent},
		"a recall, body cut off":  {"m", readBody[:2].event(KindMessageRecalled), "EOF", ErrNotEvent},
		"a receipt without a key": {"", readBody.event(KindMessageRead), "key", ErrNotEvent},
		"a receipt of a bad key":  {"..", readBody.event(KindMessageRead), "key", ErrNotEvent},
		"a recall of a long key":  {strings.Repeat("m", 129), wire(nil).event(KindMessageRecalled), "key", ErrNotEvent},
		"an erasure with a key":   {"m", wire(nil).string(1, "u").event(KindUserErased), "key: UserErased has none", ErrNotEvent},

		"an unknown kind":                   {"m", wire(nil).event(1005), "number 1005", ErrUnknownKind},
		"the last unknown kind":             {"m", sentBody.event(1999), "number 1999", ErrUnknownKind},
		"an unknown kind without a key":     {"", wire(nil).event(1005), "number 1005", ErrUnknownKind},
		"an unknown kind with a bad key":    {"\xff", wire(nil).event(1005), "number 1005", ErrUnknownKind},
		"an unknown kind of a cut-off body": {"m", readBody[:2].event(1005), "EOF", ErrNotEvent},
		"an unknown kind beside fields":     {"m", append(wire(nil).varint(1, 1), wire(nil).event(1005)...), "number 1005", ErrUnknownKind},
	} {
		t.Run(name, func(t *testing.T) {
			var d Decoder
			e, err := d.Decode([]byte(test.key), test.value)
			if test.is == nil {
				if err != nil || format(e) != test.want {
					t.Fatalf("got %s, %v, not %s", format(e), err, test.want)
				}
				return
			}
			other := ErrUnknownKind
			if errors.Is(test.is, ErrUnknownKind) {
				other = ErrNotEvent
			}
			if e != nil || !errors.Is(err, test.is) || errors.Is(err, other) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, %v, not %q", e, err, test.want)
			}
		})
	}
}

// A roster over the limit is no event, wherever it comes from.
func TestDecodeRosterTooLarge(t *testing.T) {
	body := sentBody
	for _, id := range people(MaxRecipients + 1) {
		body = body.bytes(4, id)
	}
	var d Decoder
	if _, err := d.Decode([]byte("m"), body.event(KindMessageSent)); !errors.Is(err, ErrNotEvent) || !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}
	body = body[:0].string(1, "c").string(2, "p0")
	for _, id := range people(MaxRecipients + 1) {
		body = body.bytes(4, id)
	}
	if _, err := d.Decode([]byte("m"), body.event(KindMessageSent)); err != nil {
		t.Errorf("with the sender among them: %v", err)
	}
}

// Nothing of an event is left in the decoder for the next one.
func TestDecoderIsClean(t *testing.T) {
	var d Decoder
	all := []struct {
		key   string
		value []byte
	}{
		{"m", sentBody.varint(3, 1).string(4, "a").string(4, "b").string(5, "a").event(KindMessageSent)},
		{"m", sentBody.event(KindMessageSent)},
		{"m", sentBody.varint(6, 9).event(KindMessageSent)},
		{"m", sentBody.string(4, "a").varint(6, 9).event(KindMessageSent)}, // fails
		{"m", readBody.varint(2, 7).event(KindMessageRead)},
		{"m", readBody.event(KindMessageRead)},
		{"m", wire(nil).event(KindMessageRead)}, // fails
		{"n", wire(nil).event(KindMessageRecalled)},
		{"", wire(nil).string(1, "u").event(KindUserErased)},
		{"", wire(nil).event(KindUserErased)}, // fails
	}
	for i := range all {
		for j := range all {
			var fresh Decoder
			want, wantErr := fresh.Decode([]byte(all[j].key), all[j].value)
			_, _ = d.Decode([]byte(all[i].key), all[i].value)
			got, err := d.Decode([]byte(all[j].key), all[j].value)
			if format(got) != format(want) || fmt.Sprint(err) != fmt.Sprint(wantErr) {
				t.Errorf("%d after %d: %s %v, not %s %v", j, i, format(got), err, format(want), wantErr)
			}
		}
	}
}

func TestDecodeAllocatesNothing(t *testing.T) {
	var d Decoder
	key := []byte("0123456789abcdef")
	for name, value := range map[string][]byte{
		"a receipt": wire(nil).string(1, "reader-1").varint(2, 1790000000000).event(KindMessageRead),
		"a recall":  wire(nil).event(KindMessageRecalled),
		"a message": sentBody.string(4, "a").string(4, "b").string(5, "a").event(KindMessageSent), // after the first
	} {
		if n := testing.AllocsPerRun(100, func() {
			if _, err := d.Decode(key, value); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func TestKinds(t *testing.T) {
	for _, e := range []Event{&MessageSent{}, &MessageRead{}, &MessageRecalled{}, &UserErased{}} {
		if k := e.Kind(); k < FirstKind || k > LastKind {
			t.Errorf("%T has the number %d", e, k)
		}
	}
	if (&UserErased{UserID: []byte("u")}).Key() != nil {
		t.Error("UserErased has a key")
	}
	// No text passes for an Event: the first byte of each kind begins a
	// character that the second does not continue.
	for k := FirstKind; k <= LastKind; k++ {
		if b := wire(nil).event(k); utf8.Valid(b[:2]) {
			t.Errorf("the first bytes of kind %d are text: %x", k, b[:2])
		}
	}
}
