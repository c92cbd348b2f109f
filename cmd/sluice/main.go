package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"sluice/cache"
	"sluice/internal/config"
	"sluice/internal/privilege"
)

// Exit statuses.
const (
	exitOK     = 0
	exitFailed = 1 // a mistake in the configuration, or something that can't be opened
	exitUsage  = 2 // a wrong command line
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// run is the program: it returns the exit status. The end of ctx is a request to drain, as
// SIGTERM is.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags, err := config.ParseFlags(args)
	switch {
	case err != nil:
		return usageError(stderr, err)
	case flags.Help:
		return exitStatus(stderr, config.WriteHelp(stdout))
	case flags.Version:
		_, err = fmt.Fprintln(stdout, "sluice", programVersion())
		return exitStatus(stderr, err)
	}
	opts := loadOptions(flags)
	if flags.Dry != "" {
		return dryRun(ctx, opts, flags, stdout, stderr)
	}
	return serve(ctx, opts, stderr)
}

func loadOptions(flags config.Flags) config.LoadOptions {
	return config.LoadOptions{
		File:        flags.File,
		Environ:     os.Environ(),
		Flags:       flags.Values,
		Root:        privilege.IsRoot(),
		CheckDriver: cache.ValidateDriver,
	}
}

// serve runs the edge until it is told to stop.
func serve(ctx context.Context, opts config.LoadOptions, stderr io.Writer) int {
	cfg, warnings, err := config.Load(opts)
	if err != nil {
		printWarnings(stderr, warnings)
		return configError(stderr, err)
	}
	logger := newLogger(cfg, stderr)
	slog.SetDefault(logger.Logger) // libraries that use package log write through it as well
	for _, w := range warnings {
		logger.Warn("configuration: " + string(w))
	}
	signals, stop := catchSignals()
	defer stop()
	e := newEdge(cfg, opts, logger)
	if err := e.start(); err != nil {
		logger.Error("sluice does not start", "error", err)
		e.abandon()
		return exitFailed
	}
	return e.run(ctx, signals)
}

func usageError(stderr io.Writer, err error) int {
	_, _ = fmt.Fprintln(stderr, "sluice:", err)
	return exitUsage
}

// configError prints every mistake on a line of its own.
func configError(stderr io.Writer, err error) int {
	var mistakes config.Mistakes
	if !errors.As(err, &mistakes) {
		_, _ = fmt.Fprintln(stderr, "sluice:", err)
		return exitFailed
	}
	for _, m := range mistakes {
		_, _ = fmt.Fprintln(stderr, m.Error())
	}
	_, _ = fmt.Fprintf(stderr, "sluice: %d %s in the configuration\n", len(mistakes), plural(len(mistakes), "mistake"))
	return exitFailed
}

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

func printWarnings(stderr io.Writer, warnings []config.Warning) {
	for _, w := range warnings {
		_, _ = fmt.Fprintln(stderr, "warning:", w)
	}
}

// exitStatus reports an error of writing, which ends a command like --help.
func exitStatus(stderr io.Writer, err error) int {
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "sluice:", err)
		return exitFailed
	}
	return exitOK
}
