package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/seenby/seenby/services/contract"
)

// handle makes an Echo handler of a route.
func (s *Server) handle(r *Route) echo.HandlerFunc {
	pattern := echoPattern(r.Path)
	measured := s.metrics.route(r.Method, r.Path)
	return func(c echo.Context) error {
		if !fits(pattern, c.Request().URL.RawPath) {
			s.refuse(c, s.metrics.unmatched(r.Method), noSuchRoute())
			linger(c)
			return nil
		}
		started := time.Now()
		measured.inFlight.Inc()
		s.inFlight.Add(1)
		answer, problem := s.answer(r, c)
		if problem != nil {
			s.refuse(c, measured, problem)
		} else {
			s.finish(c, measured, answer)
		}
		measured.seconds.Observe(time.Since(started).Seconds())
		s.inFlight.Add(-1)
		measured.inFlight.Dec()
		if problem != nil {
			linger(c)
		}
		return nil
	}
}

// answer holds a request to the contract's order of errors, from the 401 to the
// 413, and leaves the rest of them to the handler.
func (s *Server) answer(r *Route, c echo.Context) (answer contract.Answer, problem *contract.Problem) {
	defer func() {
		if v := recover(); v != nil {
			problem = contract.NewProblem(contract.Internal, "").Because(fmt.Errorf("panic: %v\n%s", v, debug.Stack()))
		}
	}()
	// The request and its context are one allocation.
	x := struct {
		Request
		deadline
	}{Request: Request{HTTP: c.Request(), names: c.ParamNames(), values: c.ParamValues(), users: s.users}}
	if s.inFlight.Load() > int64(s.config.MaxInFlight) {
		return answer, contract.NewProblem(contract.Overloaded, "too many requests are in flight").After(time.Second)
	}
	if r.Access != Public {
		if problem = s.admit(r, &x.Request); problem != nil {
			return answer, problem
		}
	}
	if r.MaxBody > 0 {
		if x.Body, problem = readBody(c.Response().Writer, x.HTTP, r.MaxBody); problem != nil {
			return answer, problem
		}
	}
	x.deadline.parent, x.deadline.at = x.HTTP.Context(), time.Now().Add(s.config.RequestTimeout)
	defer x.deadline.release()
	answer, problem = r.Handler(&x.deadline, &x.Request)
	if problem != nil && problem.Code == contract.Internal && errors.Is(problem.Cause, context.DeadlineExceeded) {
		problem = contract.NewProblem(contract.Timeout, "the request took longer than %v", s.config.RequestTimeout).Because(problem.Cause)
	}
	return answer, problem
}

// admit is who asks (401), how often (429), and whether they may (403).
func (s *Server) admit(r *Route, req *Request) (problem *contract.Problem) {
	if req.Caller, problem = s.config.Authenticate(req.HTTP); problem != nil {
		return problem
	}
	if !req.Caller.Backend {
		if wait := s.users.take(req.Caller.Subject, time.Now()); wait > 0 {
			return contract.NewProblem(contract.RateLimited, "at most %v requests a second", s.config.UserRate).After(wait)
		}
		if r.Access == BackendOnly {
			return contract.NewProblem(contract.BackendOnly, "the token's scope must have %q", "backend")
		}
	}
	return nil
}

// refuse answers with a problem, and logs it where somebody has to know.
func (s *Server) refuse(c echo.Context, m *routeMetrics, p *contract.Problem) {
	m.problem(p.Code)
	switch {
	case p.Code == contract.Internal:
		s.log.Error("request failed", "route", c.Path(), "method", c.Request().Method, "err", p)
	case p.Code.Status() >= 500 && p.Cause != nil:
		// Kafka out of reach fails every request; a few lines a second say it.
		s.warnings.Do(func() {
			s.log.Warn("request refused", "route", c.Path(), "method", c.Request().Method, "err", p)
		})
	}
	s.finish(c, m, p.Answer())
}

// What every answer gets. The slices are shared and never written to.
var (
	headerNoStore = []string{"no-store"}
	headerVary    = []string{"Origin, Accept-Encoding"}
	headerNoSniff = []string{"nosniff"}
	headerClose   = []string{"close"}
	headerGzip    = []string{"gzip"}
)

// finish writes the answer.
func (s *Server) finish(c echo.Context, m *routeMetrics, a contract.Answer) {
	w := c.Response()
	h := w.Header()
	h["Cache-Control"], h["Vary"], h["X-Content-Type-Options"] = headerNoStore, headerVary, headerNoSniff
	for name, values := range a.Header {
		h[name] = values
	}
	body := a.Body
	if len(body) >= minCompressed && acceptsGzip(c.Request().Header["Accept-Encoding"]) {
		packed := compress(body)
		defer packed.release()
		body = packed.Bytes()
		h["Content-Encoding"] = headerGzip
	}
	if len(body) > 0 {
		h["Content-Length"] = []string{strconv.Itoa(len(body))}
	}
	if s.draining.Load() {
		h["Connection"] = headerClose
	}
	if a.Status >= http.StatusBadRequest {
		answerFirst(c)
	}
	m.answered(a.Status)
	w.WriteHeader(a.Status)
	if len(body) > 0 {
		// A client that is gone is no error of ours, and there is nobody to tell.
		_, _ = w.Write(body)
	}
	if s.log.Enabled(c.Request().Context(), slog.LevelDebug) {
		s.log.Debug("request", "method", c.Request().Method, "path", c.Request().URL.RawPath, "status", a.Status, "bytes", len(body))
	}
}
