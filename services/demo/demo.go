// Package demo is a group chat in which one can watch the proactive pull: a page, and
// the little chat backend behind it, which uses seenby by HTTP as any backend does.
// It hands out tokens of its people to whoever asks, and belongs into standalone only.
package demo

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path"
	"slices"
	"time"

	"github.com/seenby/seenby/services/auth"
	"github.com/seenby/seenby/services/contract"
	"github.com/seenby/seenby/services/pull/js"
	"github.com/seenby/seenby/services/server"
)

// Root is where the page is.
const Root = "/demo/"

// tokenTTL is how long the tokens of the demo's people hold.
const tokenTTL = time.Hour

// Person is one who chats.
type Person struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// people are those whom one can be.
var people = []Person{
	{"demo-ada", "Ada"}, {"demo-ben", "Ben"}, {"demo-chloe", "Chloe"}, {"demo-dan", "Dan"}, {"demo-eve", "Eve"}, {"demo-finn", "Finn"},
}

func isPerson(id string) bool {
	return slices.ContainsFunc(people, func(p Person) bool { return p.ID == id })
}

// Config is what a demo needs. All of it is required.
type Config struct {
	// Keys sign the tokens, File keeps the chat.
	Keys *auth.Keys
	File string
	// AnyHost: pages may be asked for by any name. Else only by one of this machine:
	// a page of elsewhere whose name was made to lead here could get tokens.
	AnyHost bool
	Logger  *slog.Logger
	Now     func() time.Time
}

// Demo is the chat. Its methods may be called concurrently.
type Demo struct {
	config  Config
	room    *room
	backend *backend
}

// New returns a demo with what its file has.
func New(c Config) (*Demo, error) {
	r, err := openRoom(c.File)
	if err != nil {
		return nil, fmt.Errorf("the demo's chat: %w", err)
	}
	return &Demo{config: c, room: r, backend: newBackend(c)}, nil
}

// Run lets the crowd read until ctx ends. Address is where seenby is reached from
// this machine.
func (d *Demo) Run(ctx context.Context, address net.Addr) error {
	return d.backend.run(ctx, address)
}

//go:embed page
var files embed.FS

// policy is the page's: it runs its own scripts, and speaks to its own server.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

var types = map[string]string{
	".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml",
}

// Routes are the page's files, and what the page asks of its chat.
func (d *Demo) Routes() []server.Route {
	routes := []server.Route{
		{Method: http.MethodGet, Path: "/", Access: server.Public, Handler: d.guarded(func(context.Context, *server.Request) (contract.Answer, *contract.Problem) {
			return contract.Answer{Status: http.StatusFound, Header: http.Header{"Location": {Root}}}, nil
		})},
		d.file(Root, "index.html", nil),
		d.file(Root+"seenby.js", "seenby.js", js.Module),
		{Method: http.MethodGet, Path: Root + "token", Access: server.Public, Handler: d.guarded(d.token)},
		{Method: http.MethodGet, Path: Root + "room", Handler: d.guarded(d.get)},
		{Method: http.MethodPost, Path: Root + "messages", MaxBody: 64 << 10, Handler: d.guarded(d.post)},
		{Method: http.MethodPost, Path: Root + "crowd", Handler: d.guarded(d.crowd)},
	}
	for _, name := range []string{"demo.css", "demo.js", "icon.svg"} {
		routes = append(routes, d.file(Root+name, name, nil))
	}
	return routes
}

// file answers with a file of the page.
func (d *Demo) file(at, name string, content []byte) server.Route {
	if content == nil {
		var err error
		if content, err = files.ReadFile("page/" + name); err != nil {
			panic(err) // a mistake in this package
		}
	}
	return server.Route{Method: http.MethodGet, Path: at, Access: server.Public, Handler: d.guarded(
		func(context.Context, *server.Request) (contract.Answer, *contract.Problem) {
			return contract.Answer{Status: http.StatusOK, Body: content, Header: http.Header{
				"Content-Type": {types[path.Ext(name)]}, "Content-Security-Policy": {policy}, "Cache-Control": {"no-cache"},
				"X-Content-Type-Options": {"nosniff"}, "Referrer-Policy": {"no-referrer"}, "Cross-Origin-Opener-Policy": {"same-origin"},
			}}, nil
		})}
}

// guarded refuses names that are not this machine's.
func (d *Demo) guarded(h server.Handler) server.Handler {
	return func(ctx context.Context, r *server.Request) (contract.Answer, *contract.Problem) {
		if !d.config.AnyHost && !local(r.HTTP.Host) {
			return contract.Answer{}, contract.NewProblem(contract.NoSuchRoute, "the demo is there for this machine only, by localhost or its address; --allow-remote lets others use it")
		}
		return h(ctx, r)
	}
}

func local(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip == nil && host == "[::1]" || ip != nil && ip.IsLoopback()
}

// token gives out a token of one of the people.
func (d *Demo) token(_ context.Context, r *server.Request) (contract.Answer, *contract.Problem) {
	query := r.HTTP.URL.Query()
	id := query.Get("person")
	if !isPerson(id) || len(query) != 1 {
		return contract.Answer{}, contract.NewProblem(contract.BadParameter, "person must be one of the demo's people, such as %s", people[0].ID)
	}
	token, err := auth.Mint(d.config.Keys, auth.Grant{Subject: id, IssuedAt: d.config.Now(), TTL: tokenTTL})
	if err != nil {
		return contract.Answer{}, internal(err)
	}
	return answer(http.StatusOK, map[string]string{"token": token})
}

func internal(err error) *contract.Problem {
	return contract.NewProblem(contract.Internal, "").Because(err)
}

var errNotRunning = errors.New("the demo does not run yet, or no longer")
