package events

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func ids(s ...string) [][]byte {
	var b [][]byte
	for _, id := range s {
		b = append(b, []byte(id))
	}
	return b
}

// people are n distinct IDs.
func people(n int) [][]byte {
	b := make([][]byte, n)
	for i := range b {
		b[i] = fmt.Appendf(nil, "p%d", i)
	}
	return b
}

func sent(change func(*MessageSent)) *MessageSent {
	e := &MessageSent{MessageID: []byte("m"), ConversationID: []byte("c"), SenderID: []byte("s"), SentAt: 1, Recipients: ids("a", "b")}
	change(e)
	return e
}

func TestCheck(t *testing.T) {
	for name, test := range map[string]struct {
		event Event
		want  string // in the error; none if it is empty
		is    error
	}{
		"a listed message":         {sent(func(*MessageSent) {}), "", nil},
		"nobody to read it":        {sent(func(e *MessageSent) { e.Recipients = nil }), "", nil},
		"a count":                  {sent(func(e *MessageSent) { e.Recipients, e.CountOnly, e.RecipientCount = nil, true, 5 }), "", nil},
		"a count of 0":             {sent(func(e *MessageSent) { e.Recipients, e.CountOnly = nil, true }), "", nil},
		"the largest count":        {sent(func(e *MessageSent) { e.Recipients, e.CountOnly, e.RecipientCount = nil, true, MaxRecipientCount }), "", nil},
		"repeats and the sender":   {sent(func(e *MessageSent) { e.Recipients = ids("a", "s", "a") }), "", nil},
		"a stranger who opted out": {sent(func(e *MessageSent) { e.OptedOut = ids("x") }), "", nil},
		"the largest roster":       {sent(func(e *MessageSent) { e.Recipients = people(MaxRecipients) }), "", nil},
		"the largest, and more": {sent(func(e *MessageSent) {
			e.Recipients = append(people(MaxRecipients), append(ids("s", "p0"), people(9)...)...)
		}), "", nil},
		"any time": {sent(func(e *MessageSent) { e.SentAt = -1 << 63 }), "", nil},

		"no message ID":       {sent(func(e *MessageSent) { e.MessageID = nil }), "message_id: ", ErrBadID},
		"no conversation":     {sent(func(e *MessageSent) { e.ConversationID = nil }), "conversation_id: ", ErrBadID},
		"no sender":           {sent(func(e *MessageSent) { e.SenderID = nil }), "sender_id: ", ErrBadID},
		"a bad recipient":     {sent(func(e *MessageSent) { e.Recipients = ids("a", "\n") }), "recipients[1]: ", ErrBadID},
		"a bad one opted out": {sent(func(e *MessageSent) { e.OptedOut = ids("..") }), "opted_out[0]: ", ErrBadID},
		"a list and a count":  {sent(func(e *MessageSent) { e.CountOnly = true }), "recipient_count: ", errConflict},
		"opted out and a count": {sent(func(e *MessageSent) { e.Recipients, e.OptedOut, e.CountOnly = nil, ids("a"), true }),
			"recipient_count: ", errConflict},
		"too large a count": {sent(func(e *MessageSent) { e.Recipients, e.CountOnly, e.RecipientCount = nil, true, MaxRecipientCount+1 }),
			"recipient_count: at most 2147483647", nil},
		"too large a roster": {sent(func(e *MessageSent) { e.Recipients = people(MaxRecipients + 1) }), "recipients: too large", ErrTooLarge},

		"a receipt":        {&MessageRead{MessageID: []byte("m"), ReaderID: []byte("r")}, "", nil},
		"without a reader": {&MessageRead{MessageID: []byte("m")}, "reader_id: ", ErrBadID},
		"of no message":    {&MessageRead{ReaderID: []byte("r")}, "message_id: ", ErrBadID},
		"a recall":         {&MessageRecalled{MessageID: []byte("m")}, "", nil},
		"a recall of none": {&MessageRecalled{}, "message_id: ", ErrBadID},
		"an erasure":       {&UserErased{UserID: []byte("u")}, "", nil},
		"erasing nobody":   {&UserErased{}, "user_id: ", ErrBadID},
	} {
		t.Run(name, func(t *testing.T) {
			err := Check(test.event)
			if (err == nil) != (test.want == "") || err != nil && !strings.HasPrefix(err.Error(), test.want) || test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("want %q, got %v", test.want, err)
			}
			b, encodeErr := AppendEncode([]byte("before"), test.event)
			switch {
			case (encodeErr == nil) != (err == nil):
				t.Errorf("AppendEncode says %v", encodeErr)
			case err != nil && string(b) != "before":
				t.Errorf("AppendEncode failed, but returned %q", b)
			case err == nil && !strings.HasPrefix(string(b), "before"):
				t.Errorf("AppendEncode does not append: %q", b)
			}
		})
	}
}

// A roster of the longest IDs still has to fit; where one does not, it is
// refused, and the limit itself is not.
func TestEventSize(t *testing.T) {
	long := func(n int) *MessageSent {
		return sent(func(e *MessageSent) {
			e.Recipients = nil
			for i := range n {
				e.Recipients = append(e.Recipients, fmt.Appendf(nil, "%0128d", i))
			}
			e.OptedOut = e.Recipients
		})
	}
	if _, err := AppendEncode(nil, long(7500)); err != nil {
		t.Errorf("2 * 7500 IDs of 128 bytes: %v", err)
	}
	b, err := AppendEncode([]byte("before"), long(9000))
	if !errors.Is(err, ErrTooLarge) || string(b) != "before" {
		t.Errorf("2 * 9000 IDs of 128 bytes: %v", err)
	}
	// One byte after the other up to the limit.
	e := long(8001)
	for e.OptedOut = e.OptedOut[:8000]; ; e.SenderID = append(e.SenderID, 's') {
		b, err := AppendEncode(nil, e)
		if err != nil {
			t.Fatalf("after %d bytes of a sender: %v", len(e.SenderID), err)
		}
		if len(b) == MaxEventSize {
			break
		}
		if len(b) < MaxEventSize-MaxIDLen {
			e.OptedOut = append(e.OptedOut, []byte(strings.Repeat("o", MaxIDLen)))
			e.SenderID = e.SenderID[:0]
		}
	}
	b, err = AppendEncode(nil, e)
	if err != nil || len(b) != MaxEventSize {
		t.Fatalf("%d bytes: %v", len(b), err)
	}
	var d Decoder
	if _, err := d.Decode(e.MessageID, b); err != nil {
		t.Errorf("the largest event: %v", err)
	}
	e.SenderID = append(e.SenderID, 's')
	if b, err = AppendEncode(nil, e); !errors.Is(err, ErrTooLarge) {
		t.Errorf("one byte more: %d, %v", len(b), err)
	}
}
