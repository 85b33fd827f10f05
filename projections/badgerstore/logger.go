package badgerstore

import (
	"fmt"
	"log/slog"
	"strings"
)

// badgerLogger is what Badger logs to. What it calls info is of use to its own
// developers.
type badgerLogger struct {
	logger *slog.Logger
}

func (l badgerLogger) Errorf(format string, args ...any)   { l.log(l.logger.Error, format, args) }
func (l badgerLogger) Warningf(format string, args ...any) { l.log(l.logger.Warn, format, args) }
func (l badgerLogger) Infof(format string, args ...any)    { l.log(l.logger.Debug, format, args) }
func (l badgerLogger) Debugf(string, ...any)               {}

func (badgerLogger) log(to func(string, ...any), format string, args []any) {
	to("badger: " + strings.TrimSpace(fmt.Sprintf(format, args...)))
}
