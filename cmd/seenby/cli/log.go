package cli

import (
	"log/slog"
)

// logFlags say what is logged, and how.
type logFlags struct {
	Level  slog.Level `help:"The least that is logged: debug, info, warn or error." default:"info"`
	Format string     `help:"How: text, json, or auto: text on a terminal and json elsewhere." enum:"auto,text,json" default:"auto"`
}

// logger returns the logger of a process. It writes to stderr.
func (f logFlags) logger(io IO) *slog.Logger {
	options := &slog.HandlerOptions{Level: f.Level}
	if f.Format == "text" || f.Format == "auto" && io.ErrTerminal {
		return slog.New(slog.NewTextHandler(io.Stderr, options))
	}
	return slog.New(slog.NewJSONHandler(io.Stderr, options))
}
