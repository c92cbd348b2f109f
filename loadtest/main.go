package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Exit statuses.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// Scenarios.
const (
	scenarioRivals       = "rivals"
	scenarioRouteChanges = "route-changes"
)

// Limits of what the flags accept.
const (
	maxRounds      = 100
	maxDuration    = time.Hour
	maxConnections = 2000
	maxHosts       = 2_000_000
	maxRate        = 10_000
)

// options is what the command line asks for.
type options struct {
	scenario    string
	work        []string
	contestants []string
	styles      []string
	sluice      string
	base        string
	config      string
	results     string
	picture     string
	rounds      int
	duration    time.Duration
	connections int
	hosts       int
	rate        int
	short       bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// run is the whole program; every process that it starts has ended when it returns.
func run(ctx context.Context, args []string, out, errOut io.Writer) int {
	o, err := parseFlags(args, errOut)
	if errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	if err != nil {
		fmt.Fprintln(errOut, "loadtest:", err)
		return exitUsage
	}
	if err := runScenario(ctx, o, out); err != nil {
		fmt.Fprintln(errOut, "loadtest:", err)
		return exitFailed
	}
	return exitOK
}

// parseFlags reads and checks the command line.
func parseFlags(args []string, errOut io.Writer) (options, error) {
	var o options
	var work, contestants, styles string
	f := flag.NewFlagSet("loadtest", flag.ContinueOnError)
	f.SetOutput(errOut)
	f.StringVar(&o.scenario, "scenario", scenarioRivals, "`name`: rivals or route-changes")
	f.StringVar(&work, "work", "small,10k,post", "kinds of work, a `list` of "+strings.Join(workNames(), ", "))
	f.StringVar(&contestants, "contestants", "sluice,nginx,nginx+log,haproxy,haproxy+log",
		"who takes part, a `list` of "+strings.Join(contestantNames(), ", ")+"; ratios are the first one's")
	f.StringVar(&o.sluice, "sluice", "bin/sluice", "`path` of the sluice binary")
	f.StringVar(&o.base, "base", "", "`path` of an older sluice binary, the contestant base")
	f.StringVar(&o.config, "config", "", "`file` whose JSON is laid over sluice's configuration")
	f.StringVar(&o.picture, "picture", "", "SVG `file` for a picture of CPU time per request")
	f.StringVar(&o.results, "results", "loadtest/results", "`directory` for raw results; empty = keep none")
	f.IntVar(&o.rounds, "rounds", 5, "interleaved rounds")
	f.DurationVar(&o.duration, "duration", 0, "of one measurement (default 5s), or of route-changes (default 1m0s)")
	f.IntVar(&o.connections, "connections", 64, "client connections")
	f.IntVar(&o.hosts, "hosts", 100_000, "host names of the work hosts")
	f.StringVar(&styles, "styles", strings.Join(styleNames(), ","), "`list` of ways to change a route")
	f.IntVar(&o.rate, "rate", 100, "route changes per second")
	f.BoolVar(&o.short, "short", false, "only see that everything runs without errors: one round of 2 s")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	o.work, o.contestants, o.styles = splitList(work), splitList(contestants), splitList(styles)
	o.fillDefaults()
	err := o.check()
	return o, err
}

// fillDefaults sets what depends on other flags.
func (o *options) fillDefaults() {
	if o.short {
		o.rounds, o.duration = 1, 2*time.Second
	}
	if o.base != "" && !slices.Contains(o.contestants, "base") {
		o.contestants = slices.Insert(o.contestants, min(1, len(o.contestants)), "base")
	}
	if o.duration != 0 {
		return
	}
	o.duration = 5 * time.Second
	if o.scenario == scenarioRouteChanges {
		o.duration = time.Minute
	}
}

// check reports the first flag that cannot be used.
func (o *options) check() error {
	if o.scenario != scenarioRivals && o.scenario != scenarioRouteChanges {
		return fmt.Errorf("-scenario %q: must be %s or %s", o.scenario, scenarioRivals, scenarioRouteChanges)
	}
	if err := checkNames("-work", o.work, workNames()); err != nil {
		return err
	}
	if err := checkNames("-contestants", o.contestants, contestantNames()); err != nil {
		return err
	}
	if err := checkNames("-styles", o.styles, styleNames()); err != nil {
		return err
	}
	if slices.Contains(o.contestants, "base") && o.base == "" {
		return errors.New("contestant base: name its binary with -base")
	}
	// wrk counts in whole seconds.
	if o.duration < time.Second || o.duration > maxDuration || o.duration%time.Second != 0 {
		return fmt.Errorf("-duration %v: must be whole seconds, from 1s to %v", o.duration, maxDuration)
	}
	for _, n := range []struct {
		flag       string
		value, max int
	}{
		{"-rounds", o.rounds, maxRounds},
		{"-connections", o.connections, maxConnections},
		{"-hosts", o.hosts, maxHosts},
		{"-rate", o.rate, maxRate},
	} {
		if n.value < 1 || n.value > n.max {
			return fmt.Errorf("%s %d: must be from 1 to %d", n.flag, n.value, n.max)
		}
	}
	return nil
}

// checkNames reports a name of a flag's list that is unknown or there twice, or an empty list.
func checkNames(flagName string, names, known []string) error {
	if len(names) == 0 {
		return fmt.Errorf("%s: must name at least one of %s", flagName, strings.Join(known, ", "))
	}
	for i, name := range names {
		if !slices.Contains(known, name) {
			return fmt.Errorf("%s %q: must be one of %s", flagName, name, strings.Join(known, ", "))
		}
		if slices.Contains(names[:i], name) {
			return fmt.Errorf("%s %q: named twice", flagName, name)
		}
	}
	return nil
}

func splitList(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}
