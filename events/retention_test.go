package events

import (
	"fmt"
	"runtime"
	"testing"
	"weak"
)

// TestDecoderForgets: of the records that it decoded, a Decoder keeps no more than
// the last in memory, and of its own no more than a roster without repeats takes.
func TestDecoderForgets(t *testing.T) {
	var d Decoder
	decode := func(w wire, k Kind, key string) weak.Pointer[byte] {
		value := w.event(k)
		if _, err := d.Decode([]byte(key), value); err != nil {
			t.Fatal(err)
		}
		return weak.Make(&value[0])
	}
	group := func(n int) wire {
		w := sentBody[:len(sentBody):len(sentBody)]
		for i := range n {
			w = w.string(4, fmt.Sprint("reader-", i)).string(5, fmt.Sprint("reader-", i))
		}
		return w
	}
	old := map[string]weak.Pointer[byte]{
		"a large group": decode(group(100), KindMessageSent, "m"),
		"a small group": decode(group(2), KindMessageSent, "m"),
		"an erasure":    decode(wire(nil).string(1, "u"), KindUserErased, ""),
		"a receipt":     decode(readBody, KindMessageRead, "m"),
	}
	decode(wire(nil), KindMessageRecalled, "m")
	runtime.GC()
	for name, p := range old {
		if p.Value() != nil {
			t.Errorf("%s is still in memory", name)
		}
	}

	repeated := sentBody[:len(sentBody):len(sentBody)]
	for range 3 * MaxRecipients {
		repeated = repeated.string(4, "r").string(5, "r")
	}
	decode(repeated, KindMessageSent, "m")
	decode(readBody, KindMessageRead, "m")
	if n := cap(d.sent.Recipients) + cap(d.sent.OptedOut); n > 4*MaxRecipients {
		t.Errorf("it keeps room for %d people", n)
	}
	runtime.KeepAlive(&d)
}
