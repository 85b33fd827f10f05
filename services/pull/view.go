package pull

import (
	"slices"
	"time"
)

// State is what became of a message.
type State string

// The states of a message. A server may add others.
const (
	Active   State = "active"
	Recalled State = "recalled"
)

// Ended says why a message's last look ended.
type Ended string

// The reasons for which a look ends.
const (
	// NotEnded: a look is running, or there has not been one.
	NotEnded Ended = ""
	// Left: the message is no longer being read.
	Left Ended = "left"
	// WindowOver: the look has had its time. Coming back and Refresh begin
	// another.
	WindowOver Ended = "window over"
	// Stopped: the server says that there will be no change. The view's Complete
	// and State say why.
	Stopped Ended = "stopped"
	// Failed: an error that lasts; see [View.Err].
	Failed Ended = "failed"
	// Closed: the Watcher was closed.
	Closed Ended = "closed"
)

// Reader is one receipt: who has read, and when.
type Reader struct {
	ReaderID string    `json:"reader_id"`
	ReadAt   time.Time `json:"read_at"`
}

// View is what is known of a message, and of the look at it, at one moment.
// Readers and OptedOutCount are shared with other views: they must not be changed,
// and never change.
type View struct {
	MessageID string

	// Version is the server's version of what follows; empty until an answer has
	// come.
	Version        string
	ConversationID string
	// SenderID is empty if the sender was erased.
	SenderID  string
	SentAt    time.Time
	State     State
	ReadCount int
	// RecipientCount is how many should read the message.
	RecipientCount int
	// OptedOutCount is how many recipients give no receipts, or nil if the server
	// does not know.
	OptedOutCount *int
	// Complete: all have read. Truncated: Readers ends before ReadCount.
	Complete, Truncated bool
	// Readers are in the order in which their receipts came.
	Readers []Reader
	// Lag is how long the answering server had not known that it had applied
	// every event, when it last answered.
	Lag time.Duration

	// Looking is true while a look is running, Ended why the last one is not.
	Looking bool
	Ended   Ended
	// Err is what went wrong with the last pull of this look, or nil. While
	// Looking, it may pass; after Failed, it is what the look ended with. Answers
	// of the server are an [*Error].
	Err error

	// Pulls counts the pulls that this message was part of so far, Unchanged those
	// that found it unchanged, and Bytes what the answers' bodies had for it,
	// uncompressed.
	Pulls, Unchanged, Bytes int64
}

// Totals are what a Watcher's pulls have cost: requests, those for further pages and
// those that failed included, and the bytes of the answers' bodies, uncompressed.
type Totals struct {
	Requests, Bytes int64
}

// set is the reader set of a message, as a view shows it.
type set struct {
	message wireMessage
	readers []Reader
	known   map[string]struct{}
}

// apply takes a complete answer: added readers if it is a delta, else all.
// Readers that are there already are passed over: a set has each of them once.
func (s *set) apply(m wireMessage, readers []Reader) {
	if !m.Delta || s.known == nil {
		// Views share the old slice and may still be read.
		s.readers = nil
		s.known = make(map[string]struct{}, len(readers))
	}
	s.message = m
	for _, r := range readers {
		if _, found := s.known[r.ReaderID]; !found {
			s.known[r.ReaderID] = struct{}{}
			s.readers = append(s.readers, r)
		}
	}
}

func (s *set) view(id string) View {
	m := &s.message
	v := View{
		MessageID: id, Version: m.Version, ConversationID: m.ConversationID, SentAt: m.SentAt, State: m.State,
		ReadCount: m.ReadCount, RecipientCount: m.RecipientCount, OptedOutCount: m.OptedOutCount,
		Complete: m.Complete, Truncated: m.Truncated,
		// Clipped, so that whoever appends to it gets a copy.
		Readers: slices.Clip(s.readers),
	}
	if m.SenderID != nil {
		v.SenderID = *m.SenderID
	}
	return v
}
