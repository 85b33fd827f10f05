package query

import (
	"context"
	"net/http"

	"github.com/seenby/seenby/services/contract"
	"github.com/seenby/seenby/services/server"
)

// Routes are the contract's that query serves.
func (s *Service) Routes() []server.Route {
	return []server.Route{
		{Method: http.MethodGet, Path: "/v1/messages/{message_id}/receipts", Access: server.AnyCaller, Handler: s.serveReceipts},
		{Method: http.MethodGet, Path: "/v1/messages/{message_id}/unread", Access: server.AnyCaller, Handler: s.serveUnread},
		{Method: http.MethodPost, Path: "/v1/pulls", Access: server.AnyCaller, MaxBody: contract.MaxBody, Handler: s.serveBatch},
	}
}

// serveReceipts refuses what is malformed before it asks anybody, so that a bad
// request is told so whatever state the owner is in.
func (s *Service) serveReceipts(ctx context.Context, r *server.Request) (contract.Answer, *contract.Problem) {
	id, problem := r.PathID("message_id")
	if problem != nil {
		return contract.Answer{}, problem
	}
	pull, problem := contract.ParsePull(id, r.HTTP.URL.RawQuery, r.HTTP.Header, s.config.Sealer)
	if problem != nil {
		return contract.Answer{}, problem
	}
	return s.Pull(ctx, &Ask{
		Receipts: pull, Caller: r.Caller, RawQuery: r.HTTP.URL.RawQuery, IfNoneMatch: r.HTTP.Header["If-None-Match"],
	})
}

func (s *Service) serveUnread(ctx context.Context, r *server.Request) (contract.Answer, *contract.Problem) {
	id, problem := r.PathID("message_id")
	if problem != nil {
		return contract.Answer{}, problem
	}
	unread, problem := contract.ParseUnread(id, r.HTTP.URL.RawQuery, r.HTTP.Header, s.config.Sealer)
	if problem != nil {
		return contract.Answer{}, problem
	}
	return s.Pull(ctx, &Ask{
		Unread: unread, Caller: r.Caller, RawQuery: r.HTTP.URL.RawQuery, IfNoneMatch: r.HTTP.Header["If-None-Match"],
	})
}

// messagesPerCharge is how many messages of a batch cost as much as a request.
const messagesPerCharge = 20

func (s *Service) serveBatch(ctx context.Context, r *server.Request) (contract.Answer, *contract.Problem) {
	if problem := contract.NoParameters(r.HTTP.URL.RawQuery); problem != nil {
		return contract.Answer{}, problem
	}
	batch, problem := contract.DecodeBatch(r.Body)
	if problem != nil {
		return contract.Answer{}, problem
	}
	r.Charge(len(batch.Items) / messagesPerCharge)
	return s.Batch(ctx, batch, r.Caller)
}
