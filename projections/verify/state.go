package verify

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/seenby/seenby/projections"
)

// State is all that is kept of one message, for whoever looks at it.
type State struct {
	ID             string `json:"id"`
	ConversationID string `json:"conversation_id"`
	// SentAt is in Unix milliseconds.
	SentAt int64 `json:"sent_at"`
	// Sent and Changed are the offsets + 1 of the MessageSent and of the last event
	// that changed the message itself; Version counts erasures too, and TakenAway is
	// the version of the last event that took something away, or 0.
	Sent      int64 `json:"sent"`
	Changed   int64 `json:"changed"`
	Version   int64 `json:"version"`
	TakenAway int64 `json:"taken_away"`
	Recalled  bool  `json:"recalled"`
	CountOnly bool  `json:"count_only"`
	// Sender is null if they were erased.
	Sender *string `json:"sender_id"`
	// The counts are those of a pull; Listed are the receipts with a name.
	ReadCount      int  `json:"read_count"`
	RecipientCount int  `json:"recipient_count"`
	OptedOutCount  int  `json:"opted_out_count"`
	Truncated      bool `json:"truncated"`
	// Roster is null in a count-only message.
	Roster *RosterState `json:"roster"`
	// Given is the number of recipients that a count-only message was sent with, and
	// Taken how many readers were erased.
	Given    uint32         `json:"given,omitempty"`
	Taken    uint32         `json:"taken,omitempty"`
	Receipts []ReceiptState `json:"receipts"`
	// ReceiptsTotal is how many there are, of which Receipts may be the first.
	ReceiptsTotal int `json:"receipts_total"`
	// Chunks are the sealed chunks of receipts, those in memory; Open is the one that
	// grows.
	Chunks       []ChunkState `json:"chunks"`
	ChunksOnDisk int          `json:"chunks_on_disk"`
	Open         ChunkState   `json:"open_chunk"`
	// Digest is that of the message's parts.
	Digest string `json:"digest"`
}

// RosterState is who takes part.
type RosterState struct {
	// Ref and Hash are in hexadecimal.
	Ref  string `json:"ref"`
	Hash string `json:"hash"`
	// Recipients and OptedOut are without the sender, and without those who are gone.
	Recipients []string    `json:"recipients"`
	OptedOut   []string    `json:"opted_out"`
	Gone       []GoneState `json:"gone"`
}

// GoneState is somebody who was erased: by their number, and the erasure's offset.
type GoneState struct {
	Number uint32 `json:"number"`
	Offset int64  `json:"offset"`
}

// ReceiptState is one receipt. Reader is empty if they are not listed, or gone;
// Hash stands for them in a count-only message.
type ReceiptState struct {
	Reader string `json:"reader_id,omitempty"`
	Hash   string `json:"reader_hash,omitempty"`
	Person uint32 `json:"number"`
	ReadAt int64  `json:"read_at"`
	Offset int64  `json:"offset"`
	Gone   bool   `json:"gone,omitempty"`
}

// ChunkState is some receipts that lie together.
type ChunkState struct {
	Receipts int `json:"receipts"`
	Bytes    int `json:"bytes"`
}

// MaxReceipts is how many receipts a State has at most.
const MaxReceipts = 50_000

// StateOf describes a settled message, whose receipts are whole.
func StateOf(m *projections.Message) (State, error) {
	s := State{
		ID: m.ID, ConversationID: m.ConversationID, SentAt: m.SentAt, Sent: m.Sent, Changed: m.Changed, Version: m.Version(),
		TakenAway: m.TakenAway(), Recalled: m.Recalled, CountOnly: m.CountOnly(), ReadCount: m.ReadCount(),
		RecipientCount: m.RecipientCount(), OptedOutCount: m.OptedOutCount(), Truncated: m.Truncated(), ReceiptsTotal: m.Receipts.Len(),
		Digest: m.Digest().String(),
	}
	if sender, known := m.SenderID(); known {
		s.Sender = &sender
	}
	if m.Crowd != nil {
		s.Given, s.Taken = m.Crowd.Given, m.Crowd.TakenCount
	} else {
		s.Roster = rosterState(m)
	}
	r := &m.Receipts
	s.ChunksOnDisk = r.Dropped()
	for i := r.Dropped(); i < r.Sealed(); i++ {
		c := r.Chunk(i)
		s.Chunks = append(s.Chunks, ChunkState{c.Len, len(c.Bytes)})
	}
	s.Open = ChunkState{r.Open().Len, len(r.Open().Bytes)}
	err := m.EachReceipt(0, func(at projections.Receipt) bool {
		one := ReceiptState{ReadAt: at.ReadAt, Offset: at.Offset, Person: at.Person}
		counts, listed := m.Shown(at)
		one.Gone = !counts
		if listed {
			one.Reader = m.Reader(at)
		} else if hash, known := at.ReaderHash(); counts && known {
			one.Hash = hex.EncodeToString(hash[:])
		}
		s.Receipts = append(s.Receipts, one)
		return len(s.Receipts) < MaxReceipts
	})
	return s, err
}

func rosterState(m *projections.Message) *RosterState {
	names := m.Roster.Names
	hash := names.Hash()
	s := &RosterState{Ref: fmt.Sprintf("%016x", uint64(m.Roster.Ref)), Hash: hex.EncodeToString(hash[:]), Recipients: []string{}, OptedOut: []string{}, Gone: []GoneState{}}
	gone := make(map[uint32]bool)
	if g := m.Roster.Gone(); g != nil {
		for _, p := range g.People {
			gone[p.Number] = true
			s.Gone = append(s.Gone, GoneState{p.Number, p.Next - 1})
		}
	}
	for i := range uint32(names.Len()) {
		switch {
		case gone[i], i == m.Sender:
		case names.OptedOut(i):
			s.OptedOut = append(s.OptedOut, names.Name(i))
		default:
			s.Recipients = append(s.Recipients, names.Name(i))
		}
	}
	return s
}

// Diff says in what two states of a message differ, a line each; not by where and
// how they lie.
func Diff(a, b State) (all []string) {
	add := func(what string, x, y any) {
		if x != y {
			all = append(all, fmt.Sprintf("%s: %v, and %v", what, x, y))
		}
	}
	add("conversation", a.ConversationID, b.ConversationID)
	add("sent_at", a.SentAt, b.SentAt)
	add("sent by offset", a.Sent-1, b.Sent-1)
	add("sender", sender(a), sender(b))
	add("version", a.Version, b.Version)
	add("taken away at", a.TakenAway, b.TakenAway)
	add("recalled", a.Recalled, b.Recalled)
	add("count-only", a.CountOnly, b.CountOnly)
	add("read_count", a.ReadCount, b.ReadCount)
	add("recipient_count", a.RecipientCount, b.RecipientCount)
	add("opted_out_count", a.OptedOutCount, b.OptedOutCount)
	add("number given", a.Given, b.Given)
	if a.Roster != nil && b.Roster != nil {
		add("roster", a.Roster.Hash, b.Roster.Hash)
		all = append(all, only("recipients", a.Roster.Recipients, b.Roster.Recipients)...)
		all = append(all, only("opted out", a.Roster.OptedOut, b.Roster.OptedOut)...)
		add("erased", fmt.Sprint(a.Roster.Gone), fmt.Sprint(b.Roster.Gone))
	}
	all = append(all, only("receipts", receiptNames(a), receiptNames(b))...)
	if len(all) == 0 && a.Digest != b.Digest {
		add("digest", a.Digest, b.Digest)
	}
	return all
}

func sender(s State) string {
	if s.Sender == nil {
		return "nobody"
	}
	return fmt.Sprintf("%q", *s.Sender)
}

func receiptNames(s State) (names []string) {
	for _, r := range s.Receipts {
		who := "somebody"
		switch {
		case r.Reader != "":
			who = fmt.Sprintf("%q", r.Reader)
		case r.Hash != "":
			who = r.Hash
		case !s.CountOnly:
			who = fmt.Sprintf("number %d", r.Person)
		}
		names = append(names, fmt.Sprintf("%s at %d by offset %d", who, r.ReadAt, r.Offset))
	}
	return names
}

// few is how many of what only one side has are named.
const few = 5

// only says what only one of two lists has.
func only(what string, a, b []string) (all []string) {
	for _, side := range []struct {
		name        string
		these, less []string
	}{{"first", a, b}, {"second", b, a}} {
		less := make(map[string]bool, len(side.less))
		for _, one := range side.less {
			less[one] = true
		}
		left := slices.DeleteFunc(slices.Clone(side.these), func(one string) bool { return less[one] })
		if len(left) == 0 {
			continue
		}
		text := strings.Join(left[:min(few, len(left))], ", ")
		if len(left) > few {
			text += fmt.Sprintf(", and %d more", len(left)-few)
		}
		all = append(all, fmt.Sprintf("%s only in the %s: %s", what, side.name, text))
	}
	return all
}
