package main

import (
	"io"
	"log/slog"

	"sluice/internal/config"
)

// leveledLogger is the operational log with the level that a reload can change.
type leveledLogger struct {
	*slog.Logger
	level *slog.LevelVar
}

// newLogger makes the operational log. It is JSON where the access log is, since then something
// that reads JSON collects both.
func newLogger(cfg *config.Config, w io.Writer) leveledLogger {
	l := leveledLogger{level: new(slog.LevelVar)}
	l.setDebug(cfg.Server.Debug)
	options := &slog.HandlerOptions{Level: l.level}
	if cfg.Server.AccessLogFormat == "json" {
		l.Logger = slog.New(slog.NewJSONHandler(w, options))
	} else {
		l.Logger = slog.New(slog.NewTextHandler(w, options))
	}
	return l
}

func (l leveledLogger) setDebug(debug bool) {
	l.level.Set(slog.LevelInfo)
	if debug {
		l.level.Set(slog.LevelDebug)
	}
}
