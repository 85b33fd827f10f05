package projector

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"github.com/go-json-experiment/json"

	"github.com/seenby/seenby/services/auth"
	"github.com/seenby/seenby/services/contract"
	"github.com/seenby/seenby/services/projector/protocol"
	"github.com/seenby/seenby/services/server"
)

// Routes are the internal port's. The server has no Authenticate for them: its
// callers are processes, which sign their requests, and must be told of more than
// that they are unknown.
func (s *Service) Routes() []server.Route {
	return []server.Route{
		{Method: http.MethodGet, Path: protocol.ReceiptsRoute, Access: server.Public, Handler: s.authenticated(s.serveReceipts)},
		{Method: http.MethodGet, Path: protocol.StatusPath, Access: server.Public, Handler: s.authenticated(s.serveStatus)},
		{Method: http.MethodGet, Path: protocol.UndecodablePath, Access: server.Public, Handler: s.authenticated(s.serveUndecodable)},
	}
}

// sender is who sent an internal request, and on whose behalf.
type sender struct {
	peer   auth.Peer
	caller contract.Caller
}

type internalHandler func(context.Context, sender, *server.Request) (contract.Answer, *contract.Problem)

// authenticated passes on what is signed by the internal secret, by a process of
// this protocol.
func (s *Service) authenticated(next internalHandler) server.Handler {
	return func(ctx context.Context, r *server.Request) (contract.Answer, *contract.Problem) {
		peer, caller, err := s.internal.Verify(r.HTTP)
		switch {
		case errors.Is(err, auth.ErrPeer):
			return refusedPeer(err), nil
		case err != nil:
			return contract.Answer{}, contract.NewProblem(contract.InvalidToken, "%v", err)
		}
		return next(ctx, sender{peer, caller}, r)
	}
}

// refusedPeer is the answer to a process that asks the wrong node, or takes it
// for another: 421, which clients never see.
func refusedPeer(err error) contract.Answer {
	const code = "wrong_peer"
	body, marshalErr := json.Marshal(struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Code   string `json:"code"`
		Detail string `json:"detail"`
	}{"urn:seenby:problem:" + code, "Not the projector that was asked for", http.StatusMisdirectedRequest, code, err.Error()})
	if marshalErr != nil {
		// Only an error text that is not UTF-8 could do this.
		body = []byte(`{"status":421,"code":"wrong_peer"}`)
	}
	return contract.Answer{Status: http.StatusMisdirectedRequest, Header: http.Header{"Content-Type": {"application/problem+json"}}, Body: body}
}

func (s *Service) serveReceipts(ctx context.Context, from sender, r *server.Request) (contract.Answer, *contract.Problem) {
	if n := s.node.Load(); n != nil {
		if err := n.peer().Check(from.peer); err != nil {
			return refusedPeer(err), nil
		}
	}
	id, problem := r.PathID("message_id")
	if problem != nil {
		return marked(problem.Answer()), nil
	}
	pull, problem := contract.ParsePull(id, r.HTTP.URL.RawQuery, r.HTTP.Header, s.config.Secret)
	if problem != nil {
		return marked(problem.Answer()), nil
	}
	answer, problem := s.pull(ctx, pull, from.caller)
	switch {
	case problem == nil:
		return marked(answer), nil
	case errors.Is(problem.Cause, errNotOwner):
		return refusedPeer(problem.Cause), nil
	}
	return marked(problem.Answer()), nil
}

// marked marks an answer as one for the client.
func marked(a contract.Answer) contract.Answer {
	a.Header[protocol.AnswerHeader] = []string{"1"}
	return a
}

// peer is what a process that asks for pulls has to agree on.
func (n *node) peer() auth.Peer {
	return auth.Peer{
		Protocol: auth.Protocol, Topic: n.config.Connection.Topic, TopicID: n.lineage.TopicID,
		Generation: n.lineage.Generation, Partitions: n.lineage.Partitions, Nodes: n.config.Nodes,
	}
}

// serveStatus asks for no agreement: it is by the status that a peer learns what
// to agree on, or what differs.
func (s *Service) serveStatus(context.Context, sender, *server.Request) (contract.Answer, *contract.Problem) {
	return markedJSON(s.Status())
}

func (s *Service) serveUndecodable(_ context.Context, _ sender, r *server.Request) (contract.Answer, *contract.Problem) {
	partition, err := strconv.ParseInt(r.HTTP.URL.Query().Get("partition"), 10, 32)
	if err != nil || partition < 0 {
		return contract.Answer{}, contract.NewProblem(contract.BadParameter, "partition must be a number")
	}
	kept, err := s.Undecodable(int32(partition))
	if err != nil {
		return contract.Answer{}, contract.NewProblem(contract.OwnerUnavailable, "%v", err)
	}
	return markedJSON(kept)
}

func markedJSON(v any) (contract.Answer, *contract.Problem) {
	// A null key is told from an empty one.
	body, err := json.Marshal(v, json.FormatNilSliceAsNull(true))
	if err != nil {
		return contract.Answer{}, contract.NewProblem(contract.Internal, "").Because(err)
	}
	return marked(contract.Answer{Status: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: body}), nil
}
