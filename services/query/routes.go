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
	return s.Receipts(ctx, &Ask{
		Pull: pull, Caller: r.Caller, RawQuery: r.HTTP.URL.RawQuery, IfNoneMatch: r.HTTP.Header["If-None-Match"],
	})
}
