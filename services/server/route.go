package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/seenby/seenby/services/contract"
)

// Access says who may use a route.
type Access int

const (
	// AnyCaller is whoever is authenticated. It is the zero Access.
	AnyCaller Access = iota
	// BackendOnly is the chat backend alone.
	BackendOnly
	// Public is everybody; nobody is authenticated.
	Public
)

// Route is one method of one path.
type Route struct {
	Method string
	// Path is as the contract writes it: /v1/messages/{message_id}/receipts.
	Path   string
	Access Access
	// MaxBody is the largest body in bytes. A route that takes none has 0, and
	// whatever body comes is not read.
	MaxBody int64
	Handler Handler
}

// Handler answers a request that passed all checks before the 400s. Ctx ends
// with the request, or with RequestTimeout; a handler that gives up because of
// that returns a problem, whose Cause is the context's error. A problem may
// come with anything, which is then not used. Handlers are called concurrently.
type Handler func(ctx context.Context, r *Request) (contract.Answer, *contract.Problem)

// Request is what a handler gets. It is valid until the handler returns.
type Request struct {
	// HTTP has the headers and the query string. Its body is read already.
	HTTP *http.Request
	// Caller is who asks; the zero Caller on a public route.
	Caller contract.Caller
	Body   []byte

	names, values []string
	users         *userLimits
}

// Charge counts a request that is as much work as several: so many more of the
// caller's are used up. It is answered all the same, and those that follow wait.
func (r *Request) Charge(more int) {
	if !r.Caller.Backend && more > 0 {
		r.users.charge(r.Caller.Subject, more, time.Now())
	}
}

// PathID returns the ID that stands in the path for {name}, decoded once.
func (r *Request) PathID(name string) (string, *contract.Problem) {
	i := slices.Index(r.names, name)
	if i < 0 {
		return "", contract.NewProblem(contract.Internal, "").Because(fmt.Errorf("the route has no {%s}", name))
	}
	return contract.PathID(r.values[i])
}

// path is one path of the table with its methods.
type path struct {
	// pattern is the path as Echo writes it, with :name for {name}.
	pattern string
	methods []string
}

// route registers the table and the health routes. Echo finds the path; what
// the path allows and which checks come first is decided here, for all routes
// alike.
func (s *Server) route(routes []Route) error {
	s.paths = make(map[string]*path)
	for _, r := range routes {
		if err := s.add(r.Method, r.Path, s.handle(&r)); err != nil {
			return err
		}
	}
	for _, h := range s.health() {
		// Load balancers like to ask with HEAD.
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			if err := s.add(method, h.path, h.handler); err != nil {
				return err
			}
		}
	}
	for pattern, p := range s.paths {
		slices.Sort(p.methods)
		// Echo would answer OPTIONS by itself.
		if !slices.Contains(p.methods, http.MethodOptions) {
			s.echo.OPTIONS(pattern, func(echo.Context) error { return echo.ErrMethodNotAllowed })
		}
	}
	return nil
}

func (s *Server) add(method, template string, h echo.HandlerFunc) error {
	pattern := echoPattern(template)
	p := s.paths[pattern]
	if p == nil {
		p = &path{pattern: pattern}
		s.paths[pattern] = p
	}
	if slices.Contains(p.methods, method) {
		return fmt.Errorf("server: two routes for %s %s", method, template)
	}
	p.methods = append(p.methods, method)
	s.echo.Add(method, pattern, h)
	return nil
}

func echoPattern(template string) string {
	return strings.NewReplacer("{", ":", "}", "").Replace(template)
}

// fits says whether an escaped path has the pattern's segments, of which none
// that stands for a name is empty. Echo is laxer: it takes empty ones, and lets
// the last one run over slashes.
func fits(pattern, escaped string) bool {
	for {
		want, restOfPattern, more := strings.Cut(pattern, "/")
		got, rest, moreGot := strings.Cut(escaped, "/")
		if strings.HasPrefix(want, ":") && got == "" || more != moreGot {
			return false
		}
		if !more {
			return true
		}
		pattern, escaped = restOfPattern, rest
	}
}

// serveHTTP has Echo match the path as it was sent, so that %2F in an ID is
// data. Left alone, Echo sees the decoded path whenever its encoding was the
// usual one, and IDs would be decoded twice. A RawPath that is there is what was
// sent; EscapedPath would decode its %2F if anything else in it, such as a letter
// beyond ASCII, is usually escaped and was not.
func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.RawPath == "" {
		r.URL.RawPath = r.URL.EscapedPath()
	}
	s.echo.ServeHTTP(w, r)
}

// unrouted answers what Echo found no handler for, and whatever a handler
// outside the table returned as an error.
func (s *Server) unrouted(err error, c echo.Context) {
	if c.Response().Committed {
		return
	}
	defer linger(c)
	m := s.metrics.unmatched(c.Request().Method)
	var status *echo.HTTPError
	if !errors.As(err, &status) || status.Code != http.StatusNotFound && status.Code != http.StatusMethodNotAllowed {
		s.refuse(c, m, contract.NewProblem(contract.Internal, "").Because(err))
		return
	}
	p := s.paths[c.Path()]
	if status.Code == http.StatusNotFound || p == nil || !fits(p.pattern, c.Request().URL.RawPath) {
		s.refuse(c, m, noSuchRoute())
		return
	}
	allowed := strings.Join(p.methods, ", ")
	answer := contract.NewProblem(contract.MethodNotAllowed, "this route has %s only", allowed).Answer()
	answer.Header.Set("Allow", allowed)
	m.problem(contract.MethodNotAllowed)
	s.finish(c, m, answer)
}

func noSuchRoute() *contract.Problem {
	return contract.NewProblem(contract.NoSuchRoute, "there is no such route")
}
