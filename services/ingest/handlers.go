package ingest

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/services/contract"
	"github.com/seenby/seenby/services/server"
)

func (s *Service) putMessage(ctx context.Context, r *server.Request) (contract.Answer, *contract.Problem) {
	id, malformed := onlyID(r, "message_id")
	e, problem := contract.DecodePut(id, r.Body)
	// A 413 comes before a 400, here and below.
	if malformed != nil && (problem == nil || problem.Code != contract.RosterTooLarge) {
		problem = malformed
	}
	if problem != nil {
		return contract.Answer{}, problem
	}
	message, problem := entry(e)
	if problem != nil {
		return contract.Answer{}, problem
	}
	if problem := s.checkSentAt(e.SentAt); problem != nil {
		return contract.Answer{}, problem
	}
	position, problem := s.append(ctx, events.KindMessageSent, message)
	if problem != nil {
		return contract.Answer{}, problem
	}
	return accepted(appendPosition(nil, position)), nil
}

// checkSentAt holds a message's claimed time to the clock. Without a claim, the
// message is sent when its record is written, by the broker's clock.
func (s *Service) checkSentAt(ms int64) *contract.Problem {
	if ms == events.Unclaimed {
		return nil
	}
	bad := func(detail string, args ...any) *contract.Problem {
		p := contract.NewProblem(contract.InvalidBody, detail, args...)
		p.Errors = []contract.FieldError{{Field: "sent_at", Code: contract.BadTime, Detail: p.Detail}}
		return p
	}
	now := s.config.Now()
	switch sent := time.UnixMilli(ms); {
	case sent.After(now.Add(MaxAhead)):
		return bad("sent_at is more than %v ahead of the server's clock", MaxAhead)
	case sent.Before(now.Add(-s.config.Retention)):
		return bad("sent_at is longer ago than messages are kept, which is %v", s.config.Retention)
	}
	return nil
}

func (s *Service) deleteMessage(ctx context.Context, r *server.Request) (contract.Answer, *contract.Problem) {
	id, problem := onlyID(r, "message_id")
	if problem != nil {
		return contract.Answer{}, problem
	}
	recall, problem := entry(&events.MessageRecalled{MessageID: []byte(id)})
	if problem != nil {
		return contract.Answer{}, problem
	}
	position, problem := s.append(ctx, events.KindMessageRecalled, recall)
	if problem != nil {
		return contract.Answer{}, problem
	}
	return accepted(appendPosition(nil, position)), nil
}

// deleteUser tells every partition to forget a person, as any may hold messages
// that they take part in. After a failure some have been told and some not; the
// same request tells all of them again, which is one more fact where it is known.
func (s *Service) deleteUser(ctx context.Context, r *server.Request) (contract.Answer, *contract.Problem) {
	id, problem := onlyID(r, "user_id")
	if problem != nil {
		return contract.Answer{}, problem
	}
	erasure, problem := entry(&events.UserErased{UserID: []byte(id)})
	if problem != nil {
		return contract.Answer{}, problem
	}
	l, problem := s.reached()
	if problem != nil {
		return contract.Answer{}, problem
	}
	position, problem := s.append(ctx, events.KindUserErased, l.everywhere(erasure)...)
	if problem != nil {
		return contract.Answer{}, problem
	}
	return accepted(appendPosition(nil, position)), nil
}

func (s *Service) postReceipts(ctx context.Context, r *server.Request) (contract.Answer, *contract.Problem) {
	if problem := contract.NoParameters(r.HTTP.URL.RawQuery); problem != nil {
		return contract.Answer{}, problem
	}
	reads, problem := contract.DecodeReceipts(r.Caller, r.Body)
	if problem != nil {
		return contract.Answer{}, problem
	}
	entries, problem := receipts(reads)
	if problem != nil {
		return contract.Answer{}, problem
	}
	position, problem := s.append(ctx, events.KindMessageRead, entries...)
	if problem != nil {
		return contract.Answer{}, problem
	}
	b := strconv.AppendInt([]byte(`"accepted":`), int64(len(reads)), 10)
	return accepted(appendPosition(append(b, ','), position)), nil
}

// onlyID is the ID of a route that takes nothing else in its URL.
func onlyID(r *server.Request, name string) (string, *contract.Problem) {
	if problem := contract.NoParameters(r.HTTP.URL.RawQuery); problem != nil {
		return "", problem
	}
	return r.PathID(name)
}

// appendPosition appends the member of that name. A position needs no escapes.
func appendPosition(b []byte, p contract.Position) []byte {
	b = append(b, `"position":"`...)
	b = append(b, p.Encode()...)
	return append(b, '"')
}

// accepted is a 202 of an object with these members.
func accepted(members []byte) contract.Answer {
	b := append(append([]byte{'{'}, members...), '}')
	return contract.Answer{Status: http.StatusAccepted, Header: http.Header{"Content-Type": {"application/json"}}, Body: b}
}
