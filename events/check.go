package events

import (
	"errors"
	"fmt"
)

var (
	// ErrTooLarge is wrapped by what [AppendEncode] returns for an event over
	// [MaxEventSize], and by [Check] for a roster over [MaxRecipients].
	ErrTooLarge = errors.New("too large for one event")
	// errConflict is for a MessageSent that both lists and counts.
	errConflict = errors.New("recipient_count excludes recipients and opted_out")
)

// Check returns an error that names the first bad field of e, or nil. Decode
// applies the same rules, so what Check refuses would be skipped by every
// projector.
func Check(e Event) error {
	if _, erased := e.(*UserErased); !erased {
		if err := CheckID(e.Key()); err != nil {
			return fmt.Errorf("message_id: %w", err)
		}
	}
	return checkBody(e)
}

// checkBody checks everything but the key.
func checkBody(e Event) error {
	switch e := e.(type) {
	case *MessageSent:
		return e.check()
	case *MessageRead:
		if err := CheckID(e.ReaderID); err != nil {
			return fmt.Errorf("reader_id: %w", err)
		}
	case *UserErased:
		if err := CheckID(e.UserID); err != nil {
			return fmt.Errorf("user_id: %w", err)
		}
	}
	return nil
}

func (e *MessageSent) check() error {
	if err := CheckID(e.ConversationID); err != nil {
		return fmt.Errorf("conversation_id: %w", err)
	}
	if err := CheckID(e.SenderID); err != nil {
		return fmt.Errorf("sender_id: %w", err)
	}
	if e.CountOnly && len(e.Recipients)+len(e.OptedOut) > 0 {
		return fmt.Errorf("recipient_count: %w", errConflict)
	}
	if e.RecipientCount > MaxRecipientCount {
		return fmt.Errorf("recipient_count: at most %d, not %d", MaxRecipientCount, e.RecipientCount)
	}
	for i, id := range e.Recipients {
		if err := CheckID(id); err != nil {
			return fmt.Errorf("recipients[%d]: %w", i, err)
		}
	}
	for i, id := range e.OptedOut {
		if err := CheckID(id); err != nil {
			return fmt.Errorf("opted_out[%d]: %w", i, err)
		}
	}
	if len(e.Recipients) > MaxRecipients {
		if n := e.distinctRecipients(); n > MaxRecipients {
			return fmt.Errorf("recipients: %w: %d people, at most %d; give recipient_count instead", ErrTooLarge, n, MaxRecipients)
		}
	}
	return nil
}

func (e *MessageSent) distinctRecipients() int {
	seen := make(map[string]struct{}, len(e.Recipients))
	for _, id := range e.Recipients {
		seen[string(id)] = struct{}{}
	}
	delete(seen, string(e.SenderID))
	return len(seen)
}
