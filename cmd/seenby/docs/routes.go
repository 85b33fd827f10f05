package main

import (
	"bytes"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seenby/seenby/services/server"
	"github.com/seenby/seenby/services/standalone"
)

// routesPage lists the routes of the HTTP contract.
func routesPage() ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("# Routes\n\n")
	b.WriteString("Made by `make docs` of the table that the processes serve; not edited by hand.\n\n")
	b.WriteString("| method | path | who | largest body |\n| --- | --- | --- | --- |\n")
	err := withStandalone(prometheus.NewRegistry(), func(s *standalone.Standalone) error {
		for _, r := range s.Routes() {
			fmt.Fprintf(&b, "| %s | `%s` | %s | %s |\n", r.Method, r.Path, who(r.Access), largest(r.MaxBody))
		}
		return nil
	})
	b.WriteString("\nEvery process also has, without authentication: `/livez` (200 while it runs), `/readyz` (200, or 503 with the reason) and\n" +
		"`/metrics`.\n")
	return b.Bytes(), err
}

func who(a server.Access) string {
	switch a {
	case server.AnyCaller:
		return "whoever has a token"
	case server.BackendOnly:
		return "the chat backend"
	case server.Public:
		return "everybody"
	}
	return "?"
}

func largest(bytes int64) string {
	if bytes == 0 {
		return "none"
	}
	return fmt.Sprintf("%d KiB", bytes>>10)
}
