package server_test

import (
	"errors"
	"log/slog"
	"math"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seenby/seenby/services/server"
)

func newRegistry() *prometheus.Registry { return prometheus.NewRegistry() }

func TestConfig(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*server.Config)
		want   error
	}{
		"good":                      {func(*server.Config) {}, nil},
		"any host":                  {func(c *server.Config) { c.Listen = ":8080" }, nil},
		"public routes alone":       {func(c *server.Config) { c.Authenticate, c.Routes = nil, table[4:] }, nil},
		"a long request":            {func(c *server.Config) { c.RequestTimeout = time.Hour }, nil},
		"no address":                {func(c *server.Config) { c.Listen = "" }, server.ErrListen},
		"a port alone":              {func(c *server.Config) { c.Listen = "8080" }, server.ErrListen},
		"a port by name":            {func(c *server.Config) { c.Listen = "127.0.0.1:http" }, nil},
		"a port that is none":       {func(c *server.Config) { c.Listen = "127.0.0.1:65536" }, server.ErrListen},
		"a certificate alone":       {func(c *server.Config) { c.CertFile = "x" }, server.ErrTLSPair},
		"a key alone":               {func(c *server.Config) { c.KeyFile = "x" }, server.ErrTLSPair},
		"negative time-out":         {func(c *server.Config) { c.IdleTimeout = -1 }, server.ErrTimeout},
		"negative delay":            {func(c *server.Config) { c.DrainDelay = -1 }, server.ErrTimeout},
		"answers that are cut off":  {func(c *server.Config) { c.WriteTimeout, c.RequestTimeout = time.Second, time.Second }, server.ErrWriteTimeout},
		"negative rate":             {func(c *server.Config) { c.UserRate = -1 }, server.ErrRate},
		"rate that is no number":    {func(c *server.Config) { c.UserRate = math.NaN() }, server.ErrRate},
		"rate without end":          {func(c *server.Config) { c.UserRate = math.Inf(1) }, server.ErrRate},
		"rate beyond arithmetic":    {func(c *server.Config) { c.UserRate = 1e300 }, server.ErrRate},
		"negative burst":            {func(c *server.Config) { c.UserBurst = -1 }, server.ErrRate},
		"negative limit":            {func(c *server.Config) { c.MaxInFlight = -1 }, server.ErrLimits},
		"negative limit of headers": {func(c *server.Config) { c.MaxHeaderBytes = -1 }, server.ErrLimits},
		"no logger":                 {func(c *server.Config) { c.Logger = nil }, server.ErrIncomplete},
		"no registry":               {func(c *server.Config) { c.Registry = nil }, server.ErrIncomplete},
		"no readiness":              {func(c *server.Config) { c.Ready = nil }, server.ErrIncomplete},
		"nobody to authenticate":    {func(c *server.Config) { c.Authenticate = nil }, server.ErrIncomplete},
	} {
		c := server.Config{Listen: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler), Registry: newRegistry(), Routes: table,
			Authenticate: authenticate, Ready: func() error { return nil }}
		test.change(&c)
		if err := c.Validate(); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
		if test.want != nil {
			if _, err := server.New(c); !errors.Is(err, test.want) {
				t.Errorf("%s: New got %v, want %v", name, err, test.want)
			}
		}
	}
}

func TestTwoRoutesOfOneName(t *testing.T) {
	c := server.Config{Listen: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler), Registry: newRegistry(),
		Routes: append(table[:1:1], table[0]), Authenticate: authenticate, Ready: func() error { return nil }}
	if _, err := server.New(c); err == nil {
		t.Error("the second of two routes is lost")
	}
}
