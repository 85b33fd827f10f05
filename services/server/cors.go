package server

import (
	"net/http"
	"net/url"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
)

// What pages of other origins may send and see, as the contract says. There are no
// cookies, so that any page that has a token may use it.
var (
	corsMethods = []string{http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete}
	corsHeaders = []string{"Authorization", "Content-Type", "If-None-Match"}
	corsExposed = []string{"ETag", "Seenby-Position", "Seenby-Lag-Ms", "Seenby-Poll", "Retry-After", "WWW-Authenticate"}
)

// corsMaxAge is for how many seconds a browser remembers a preflight: what Chromium
// does at most.
const corsMaxAge = 7200

// allowOrigins has Echo answer preflights, before anybody is authenticated or counted,
// and let pages of the configured origins see answers, errors too. Requests that
// come from no page do not pass through it.
func (s *Server) allowOrigins() {
	if len(s.config.Origins) == 0 {
		return
	}
	s.echo.Use(middleware.CORSWithConfig(middleware.CORSConfig{
		Skipper:      func(c echo.Context) bool { return len(c.Request().Header["Origin"]) == 0 },
		AllowOrigins: s.config.Origins, AllowMethods: corsMethods, AllowHeaders: corsHeaders, ExposeHeaders: corsExposed,
		MaxAge: corsMaxAge,
	}))
}

// isOrigin says whether s is as a browser's Origin header is.
func isOrigin(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && s == u.Scheme+"://"+u.Host
}
