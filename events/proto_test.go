package events

import (
	"bytes"
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// schema compiles events.proto.
var schema = sync.OnceValues(func() (protoreflect.MessageDescriptor, error) {
	compiler := protocompile.Compiler{Resolver: &protocompile.SourceResolver{}}
	files, err := compiler.Compile(context.Background(), "events.proto")
	if err != nil {
		return nil, err
	}
	return files[0].Messages().ByName("Event"), nil
})

func eventDescriptor(t testing.TB) protoreflect.MessageDescriptor {
	t.Helper()
	d, err := schema()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// toProto is an event as protobuf's reflection has it.
func toProto(t testing.TB, e Event) *dynamicpb.Message {
	t.Helper()
	m := dynamicpb.NewMessage(eventDescriptor(t))
	kind := m.Descriptor().Fields().ByNumber(protoreflect.FieldNumber(e.Kind()))
	body := m.Mutable(kind).Message()
	fields := body.Descriptor().Fields()
	set := func(name string, v any) {
		body.Set(fields.ByName(protoreflect.Name(name)), protoreflect.ValueOf(v))
	}
	list := func(name string, ids [][]byte) {
		l := body.Mutable(fields.ByName(protoreflect.Name(name))).List()
		for _, id := range ids {
			l.Append(protoreflect.ValueOf(string(id)))
		}
	}
	switch e := e.(type) {
	case *MessageSent:
		set("conversation_id", string(e.ConversationID))
		set("sender_id", string(e.SenderID))
		if e.SentAt != Unclaimed {
			set("sent_at", e.SentAt)
		}
		list("recipients", e.Recipients)
		list("opted_out", e.OptedOut)
		if e.CountOnly {
			set("recipient_count", e.RecipientCount)
		}
	case *MessageRead:
		set("reader_id", string(e.ReaderID))
		if e.ReadAt != Unclaimed {
			set("read_at", e.ReadAt)
		}
	case *UserErased:
		set("user_id", string(e.UserID))
	}
	return m
}

// fromProto is the event that protobuf's reflection finds in m.
func fromProto(t testing.TB, m *dynamicpb.Message, key []byte) Event {
	t.Helper()
	kind := m.WhichOneof(m.Descriptor().Oneofs().ByName("kind"))
	if kind == nil {
		return nil
	}
	body := m.Get(kind).Message()
	fields := body.Descriptor().Fields()
	id := func(name string) []byte {
		return []byte(body.Get(fields.ByName(protoreflect.Name(name))).String())
	}
	list := func(name string) (ids [][]byte) {
		l := body.Get(fields.ByName(protoreflect.Name(name))).List()
		for i := range l.Len() {
			ids = append(ids, []byte(l.Get(i).String()))
		}
		return ids
	}
	when := func(name string) int64 {
		f := fields.ByName(protoreflect.Name(name))
		if !body.Has(f) {
			return Unclaimed
		}
		return body.Get(f).Int()
	}
	switch kind.Name() {
	case "message_sent":
		count := fields.ByName("recipient_count")
		return &MessageSent{
			MessageID: key, ConversationID: id("conversation_id"), SenderID: id("sender_id"), SentAt: when("sent_at"), Recipients: list("recipients"),
			OptedOut: list("opted_out"), CountOnly: body.Has(count), RecipientCount: uint32(body.Get(count).Uint()),
		}
	case "message_read":
		return &MessageRead{MessageID: key, ReaderID: id("reader_id"), ReadAt: when("read_at")}
	case "message_recalled":
		return &MessageRecalled{MessageID: key}
	case "user_erased":
		return &UserErased{UserID: id("user_id")}
	}
	t.Fatalf("events.proto has a kind %s that the test does not know", kind.Name())
	return nil
}

// The numbers of the code are those of events.proto.
func TestProtoKinds(t *testing.T) {
	fields := eventDescriptor(t).Oneofs().ByName("kind").Fields()
	if n := eventDescriptor(t).Fields().Len(); n != fields.Len() {
		t.Errorf("Event has %d fields, of which %d are kinds", n, fields.Len())
	}
	for name, kind := range map[protoreflect.Name]Kind{
		"message_sent": KindMessageSent, "message_read": KindMessageRead, "message_recalled": KindMessageRecalled, "user_erased": KindUserErased,
	} {
		if f := fields.ByName(name); f == nil || Kind(f.Number()) != kind {
			t.Errorf("%s is not number %d", name, kind)
		}
	}
	if fields.Len() != 4 {
		t.Errorf("events.proto has %d kinds", fields.Len())
	}
}

// generate makes up an event that is valid.
func generate(r *rand.Rand) Event {
	id := func() []byte {
		alphabet := []string{"a", "Z", "0", "/", " ", "é", "日", "👩", "\u200d"}
		var b strings.Builder
		for n := r.IntN(40); b.Len() <= n; {
			b.WriteString(alphabet[r.IntN(len(alphabet))])
		}
		return []byte(b.String())
	}
	list := func() (ids [][]byte) {
		for range r.IntN(5) {
			ids = append(ids, id())
		}
		return ids
	}
	times := []int64{Unclaimed, 0, 1, -1, math.MinInt64, math.MaxInt64 - 1, 1790000000000, r.Int64()}
	when := func() int64 { return times[r.IntN(len(times))] }
	switch r.IntN(5) {
	case 0:
		return &MessageSent{MessageID: id(), ConversationID: id(), SenderID: id(), SentAt: when(), Recipients: list(), OptedOut: list()}
	case 1:
		return &MessageSent{MessageID: id(), ConversationID: id(), SenderID: id(), SentAt: when(), CountOnly: true, RecipientCount: []uint32{0, 1, 300, MaxRecipientCount}[r.IntN(4)]}
	case 2:
		return &MessageRead{MessageID: id(), ReaderID: id(), ReadAt: when()}
	case 3:
		return &MessageRecalled{MessageID: id()}
	default:
		return &UserErased{UserID: id()}
	}
}

// What we encode is, byte for byte, what protobuf encodes, and each reads the
// other's.
func TestEncodeIsProtobuf(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		e := generate(r)
		ours, err := AppendEncode(nil, e)
		if err != nil {
			t.Fatalf("%s: %v", format(e), err)
		}
		theirs, err := proto.MarshalOptions{Deterministic: true}.Marshal(toProto(t, e))
		if err != nil {
			t.Fatalf("%s: %v", format(e), err)
		}
		if !bytes.Equal(ours, theirs) {
			t.Fatalf("%s:\nours   %x\ntheirs %x", format(e), ours, theirs)
		}
		m := dynamicpb.NewMessage(eventDescriptor(t))
		if err := proto.Unmarshal(ours, m); err != nil {
			t.Fatalf("%s: %v", format(e), err)
		}
		if got := fromProto(t, m, e.Key()); format(got) != format(e) {
			t.Fatalf("protobuf reads %s, not %s", format(got), format(e))
		}
		var d Decoder
		got, err := d.Decode(e.Key(), theirs)
		if err != nil || format(got) != format(e) {
			t.Fatalf("we read %s, %v, not %s", format(got), err, format(e))
		}
	}
}

// agree holds one decoding to protobuf's: what we read, protobuf reads as the
// same; what it cannot read, is no Event; and what it reads as a valid event,
// and is not ambiguous, we read too.
func agree(t *testing.T, key, value []byte) {
	t.Helper()
	var d Decoder
	e, err := d.Decode(key, value)
	if (e == nil) == (err == nil) || err != nil && errors.Is(err, ErrNotEvent) == errors.Is(err, ErrUnknownKind) {
		t.Fatalf("%x: decoded as %v, %v", value, e, err)
	}
	m := dynamicpb.NewMessage(eventDescriptor(t))
	if protoErr := proto.Unmarshal(value, m); protoErr != nil {
		if !errors.Is(err, ErrNotEvent) {
			t.Fatalf("%x: protobuf says %v, we say %v, %v", value, protoErr, e, err)
		}
		return
	}
	theirs := fromProto(t, m, key)
	if err == nil {
		if theirs == nil || format(theirs) != format(e) {
			t.Fatalf("%x: we read %s, protobuf %v", value, format(e), theirs)
		}
		return
	}
	if theirs == nil || ambiguous(t, value) || len(value) > MaxEventSize || Check(theirs) != nil {
		return
	}
	if _, erased := theirs.(*UserErased); erased && len(key) != 0 {
		return
	}
	t.Fatalf("%x: protobuf reads %s, we say %v", value, format(theirs), err)
}

// ambiguous says that protobuf passes over something that we refuse: a second
// kind, a field of the wrong wire type, a count that it would cut off.
func ambiguous(t *testing.T, value []byte) bool {
	t.Helper()
	kinds, bad := 0, false
	_ = eachField(value, func(f field) error {
		if f.number < protowire.Number(FirstKind) || f.number > protowire.Number(LastKind) {
			return nil
		}
		kinds++
		kind := eventDescriptor(t).Fields().ByNumber(f.number)
		if kind == nil || f.wire != protowire.BytesType {
			bad = true
			return nil
		}
		return eachField(f.bytes, func(f field) error {
			known := kind.Message().Fields().ByNumber(f.number)
			switch {
			case known == nil:
			case known.Kind() == protoreflect.StringKind:
				bad = bad || f.wire != protowire.BytesType
			default:
				bad = bad || f.wire != protowire.VarintType || known.Kind() == protoreflect.Uint32Kind && f.varint > math.MaxUint32
			}
			return nil
		})
	})
	return bad || kinds != 1
}

// Whatever the bytes, nothing panics, protobuf agrees, and what decodes is
// encoded to something that decodes to the same.
func FuzzDecode(f *testing.F) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 30 {
		e := generate(r)
		b, err := AppendEncode(nil, e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(e.Key(), b)
	}
	f.Add([]byte("m"), []byte("hi"))
	f.Add([]byte("m"), []byte(wire(nil).event(1005)))
	f.Add([]byte("m"), []byte(sentBody.varint(6, 1<<33).event(KindMessageSent)))
	f.Add([]byte("m"), []byte(append(readBody.event(KindMessageRead), wire(nil).fixed(9).group(8, wire(nil).varint(1, 1))...)))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		agree(t, key, value)
		var d, d2 Decoder
		e, err := d.Decode(key, value)
		if err != nil {
			return
		}
		if err := Check(e); err != nil {
			t.Fatalf("%s was decoded, but %v", format(e), err)
		}
		b, err := AppendEncode(nil, e)
		if err != nil {
			t.Fatalf("%s: %v", format(e), err)
		}
		again, err := d2.Decode(e.Key(), b)
		if err != nil || format(again) != format(e) {
			t.Fatalf("%s was decoded, and then %s, %v", format(e), format(again), err)
		}
	})
}
