package server

import (
	"errors"
	"log/slog"
	"net/http"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// errDraining is why a process that shuts down is not ready.
var errDraining = errors.New("shutting down")

type healthRoute struct {
	path    string
	handler echo.HandlerFunc
}

// health are the routes that every process has, for those who run it: nobody is
// authenticated, nothing is counted or limited.
func (s *Server) health() []healthRoute {
	metrics := promhttp.HandlerFor(s.config.Registry, promhttp.HandlerOpts{ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelError)})
	return []healthRoute{
		{"/livez", func(c echo.Context) error { return tell(c, http.StatusOK, "alive") }},
		{"/readyz", s.readyz},
		{"/metrics", echo.WrapHandler(metrics)},
	}
}

// readyz says "ready", or why not.
func (s *Server) readyz(c echo.Context) error {
	err := s.config.Ready()
	if s.draining.Load() {
		err = errDraining
	}
	if err != nil {
		c.Response().Header().Set("Retry-After", "1")
		return tell(c, http.StatusServiceUnavailable, "not ready: "+err.Error())
	}
	return tell(c, http.StatusOK, "ready")
}

func tell(c echo.Context, status int, text string) error {
	h := c.Response().Header()
	h["Cache-Control"], h["X-Content-Type-Options"] = headerNoStore, headerNoSniff
	return c.String(status, text+"\n")
}
