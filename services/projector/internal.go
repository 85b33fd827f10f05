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
		{Method: http.MethodGet, Path: protocol.UnreadRoute, Access: server.Public, Handler: s.authenticated(s.serveUnread)},
		{Method: http.MethodPost, Path: protocol.BatchPath, Access: server.Public, MaxBody: contract.MaxBody, Handler: s.authenticated(s.serveBatch)},
		{Method: http.MethodGet, Path: protocol.StatusPath, Access: server.Public, Handler: s.authenticated(s.serveStatus)},
		{Method: http.MethodGet, Path: protocol.UndecodablePath, Access: server.Public, Handler: s.authenticated(s.serveUndecodable)},
		{Method: http.MethodGet, Path: protocol.DigestsPath, Access: server.Public, Handler: s.authenticated(s.ofPartition(s.digests))},
		{Method: http.MethodGet, Path: protocol.MessageDigestsPath, Access: server.Public, Handler: s.authenticated(s.ofPartition(s.messageDigests))},
		{Method: http.MethodGet, Path: protocol.CheckPath, Access: server.Public, Handler: s.authenticated(s.ofPartition(s.checkOf))},
		{Method: http.MethodPost, Path: protocol.CheckPath, Access: server.Public, Handler: s.authenticated(s.ofPartition(s.beginCheck))},
		{Method: http.MethodGet, Path: protocol.MessagePath, Access: server.Public, Handler: s.authenticated(s.serveMessage)},
		{Method: http.MethodGet, Path: protocol.PartitionPath, Access: server.Public, Handler: s.authenticated(s.ofPartition(s.partition))},
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
		peer, caller, err := s.internal.Verify(r.HTTP, r.Body)
		switch {
		case errors.Is(err, auth.ErrPeer):
			return contract.Answer{}, wrongPeer(err)
		case err != nil:
			return contract.Answer{}, contract.NewProblem(contract.BadSignature, "%v", err)
		}
		return next(ctx, sender{peer, caller}, r)
	}
}

// wrongPeer refuses a process that asks the wrong node, or takes it for another.
func wrongPeer(err error) *contract.Problem {
	return contract.NewProblem(contract.WrongPeer, "%v", err)
}

func (s *Service) serveReceipts(ctx context.Context, from sender, r *server.Request) (contract.Answer, *contract.Problem) {
	return s.passed(from, func() (contract.Answer, *contract.Problem) {
		id, problem := r.PathID("message_id")
		if problem != nil {
			return contract.Answer{}, problem
		}
		pull, problem := contract.ParsePull(id, r.HTTP.URL.RawQuery, r.HTTP.Header, s.config.Secret)
		if problem != nil {
			return contract.Answer{}, problem
		}
		return s.Receipts(ctx, pull, from.caller)
	})
}

func (s *Service) serveUnread(ctx context.Context, from sender, r *server.Request) (contract.Answer, *contract.Problem) {
	return s.passed(from, func() (contract.Answer, *contract.Problem) {
		id, problem := r.PathID("message_id")
		if problem != nil {
			return contract.Answer{}, problem
		}
		u, problem := contract.ParseUnread(id, r.HTTP.URL.RawQuery, r.HTTP.Header, s.config.Secret)
		if problem != nil {
			return contract.Answer{}, problem
		}
		return s.Unread(ctx, u, from.caller)
	})
}

func (s *Service) serveBatch(ctx context.Context, from sender, r *server.Request) (contract.Answer, *contract.Problem) {
	return s.passed(from, func() (contract.Answer, *contract.Problem) {
		readers, err := strconv.Atoi(r.HTTP.URL.Query().Get(protocol.ReadersParameter))
		if err != nil || readers < 0 {
			return contract.Answer{}, contract.NewProblem(contract.BadParameter, "%s must be a number", protocol.ReadersParameter)
		}
		asked, problem := contract.DecodeBatch(r.Body)
		if problem != nil {
			return contract.Answer{}, problem
		}
		answer, problem := s.Batch(ctx, asked, readers, from.caller)
		if problem != nil {
			return contract.Answer{}, problem
		}
		return contract.Answer{Status: http.StatusOK, Header: http.Header{"Content-Type": {"application/octet-stream"}}, Body: answer.Append(nil)}, nil
	})
}

// passed marks what a handler answers as meant for the client, unless the peer is
// not one that this node may answer.
func (s *Service) passed(from sender, answer func() (contract.Answer, *contract.Problem)) (contract.Answer, *contract.Problem) {
	if n := s.node.Load(); n != nil {
		if err := n.peer().Check(from.peer); err != nil {
			return contract.Answer{}, wrongPeer(err)
		}
	}
	a, problem := answer()
	switch {
	case problem == nil:
		return marked(a), nil
	case errors.Is(problem.Cause, errNotOwner):
		return contract.Answer{}, wrongPeer(problem.Cause)
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
