package suite

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// maxListed is how many readers of a message without a list of recipients are
// listed, as the contract has it.
const maxListed = 20_000

// attempts say when something was sent, and when it was acknowledged. It may be
// sent often; it took effect at one of the attempts.
type attempts struct {
	first, acked time.Time
}

// ledger is what the clients of one workload have sent so far. Its methods may
// be called concurrently.
type ledger struct {
	mu sync.Mutex
	w  *workload
}

// sending notes that a request is about to be sent for the first time.
func (l *ledger) sending(o *op, now time.Time) {
	l.each(o, func(a *attempts) {
		if a.first.IsZero() {
			a.first = now
		}
	})
}

// acknowledged notes that a request was accepted.
func (l *ledger) acknowledged(o *op, now time.Time) {
	l.each(o, func(a *attempts) {
		if a.acked.IsZero() {
			a.acked = now
		}
	})
}

func (l *ledger) each(o *op, f func(*attempts)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if o.put != nil {
		f(&o.put.put)
	}
	for _, r := range o.reads {
		f(&r.attempts)
	}
}

// known is what was acknowledged by a time: what pulls from then on must show.
type known struct {
	put     bool
	readers []string
}

// knownAt returns what of m was acknowledged at a time or before.
func (l *ledger) knownAt(m *message, at time.Time) known {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := known{put: m.put.ackedBy(at)}
	for _, r := range m.reads {
		if r.counts && r.ackedBy(at) {
			k.readers = append(k.readers, r.reader)
		}
	}
	return k
}

func (a *attempts) ackedBy(at time.Time) bool { return !a.acked.IsZero() && !a.acked.After(at) }

// plausible returns an error unless a whole pull, at any time, says nothing that
// was not sent: each reader once, each one who counts, at the right time, and in
// an order that the log can have.
func (l *ledger) plausible(m *message, p *pull) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := m.header(p); err != nil {
		return err
	}
	if len(p.Readers) != p.ReadCount && !p.Truncated {
		return fmt.Errorf("%d readers, read_count %d", len(p.Readers), p.ReadCount)
	}
	seen := make(map[string]bool, len(p.Readers))
	// What was acknowledged before something else was first sent is before it in
	// the log; going backwards, nobody may have been acknowledged before the
	// earlier one was sent.
	earliestAck := time.Time{}
	for _, e := range slices.Backward(p.Readers) {
		r := m.reads[e.Reader]
		switch {
		case r == nil || !r.counts:
			return fmt.Errorf("reader %q does not count", e.Reader)
		case r.first.IsZero():
			return fmt.Errorf("reader %q has not read yet", e.Reader)
		case seen[e.Reader]:
			return fmt.Errorf("reader %q is there twice", e.Reader)
		case !earliestAck.IsZero() && earliestAck.Before(r.first):
			return fmt.Errorf("reader %q comes before one who had read before", e.Reader)
		}
		seen[e.Reader] = true
		if !r.acked.IsZero() && (earliestAck.IsZero() || r.acked.Before(earliestAck)) {
			earliestAck = r.acked
		}
		if err := r.check(e.ReadAt); err != nil {
			return err
		}
	}
	return nil
}

// check says whether read_at is what it must be.
func (r *read) check(readAt string) error {
	if r.exact != "" {
		if readAt != r.exact {
			return fmt.Errorf("reader %q: read_at %s, must be %s", r.reader, readAt, r.exact)
		}
		return nil
	}
	at, err := time.Parse(clockForm, readAt)
	if err != nil {
		return fmt.Errorf("reader %q: %w", r.reader, err)
	}
	// The record that counts was appended no later than the one that was first
	// acknowledged.
	if at.Before(r.first.Truncate(time.Millisecond)) || !r.acked.IsZero() && at.After(r.acked) {
		return fmt.Errorf("reader %q: read_at %s, must be from %v to %v", r.reader, readAt, r.first, r.acked)
	}
	return nil
}

// header checks what a pull says beside its readers.
func (m *message) header(p *pull) error {
	recipients, optedOut := len(m.recipients)-len(m.optedOut), len(m.optedOut)
	if m.count != nil {
		recipients = *m.count
	}
	switch {
	case p.Conversation != m.conversation:
		return fmt.Errorf("conversation_id %q, must be %q", p.Conversation, m.conversation)
	case p.Sender == nil || *p.Sender != m.sender:
		return fmt.Errorf("sender_id must be %q", m.sender)
	case p.SentAt != m.sentAt.Format(clockForm):
		return fmt.Errorf("sent_at %s, must be %s", p.SentAt, m.sentAt.Format(clockForm))
	case p.RecipientCount != recipients:
		return fmt.Errorf("recipient_count %d, must be %d", p.RecipientCount, recipients)
	case m.count != nil && p.OptedOutCount != nil:
		return fmt.Errorf("opted_out_count %d, must be null", *p.OptedOutCount)
	case m.count == nil && (p.OptedOutCount == nil || *p.OptedOutCount != optedOut):
		return fmt.Errorf("opted_out_count must be %d", optedOut)
	case p.State == "recalled" && !m.recall:
		return fmt.Errorf("recalled, and nobody did it")
	case p.State == "recalled" && (p.ReadCount != 0 || p.Complete || len(p.Readers) > 0):
		return fmt.Errorf("recalled, and read by %d", p.ReadCount)
	case p.State == "active" && p.Complete != (p.ReadCount >= p.RecipientCount):
		return fmt.Errorf("complete is %v with %d of %d", p.Complete, p.ReadCount, p.RecipientCount)
	case p.Truncated != (p.ReadCount > maxListed):
		return fmt.Errorf("truncated is %v with %d", p.Truncated, p.ReadCount)
	}
	return nil
}

// missing returns those of a set of readers that a whole pull lacks.
func missing(p *pull, readers []string) (out []string) {
	there := make(map[string]bool, len(p.Readers))
	for _, e := range p.Readers {
		there[e.Reader] = true
	}
	for _, r := range readers {
		if !there[r] {
			out = append(out, r)
		}
	}
	return out
}

// final returns an error unless a whole pull shows exactly what was sent, once
// everything was.
func (l *ledger) final(m *message, p *pull) error {
	if err := l.plausible(m, p); err != nil {
		return err
	}
	if m.recall {
		if p.State != "recalled" {
			return fmt.Errorf("state %s, must be recalled", p.State)
		}
		return nil
	}
	all := l.knownAt(m, time.Now()).readers
	if p.ReadCount != len(all) {
		return fmt.Errorf("read_count %d, must be %d; missing: %.10q", p.ReadCount, len(all), missing(p, all))
	}
	if want := min(len(all), maxListed); len(p.Readers) != want {
		return fmt.Errorf("%d readers, must be %d", len(p.Readers), want)
	}
	return nil
}
