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

// Limits of what the flags accept.
const (
	maxRounds      = 100
	maxDuration    = time.Hour
	maxConnections = 2000
	maxRate        = 1_000_000
)

// options is what the command line asks for.
type options struct {
	scenario    string
	work        []string
	contestants []string
	styles      []string
	series      []string
	sluice      string
	base        string
	config      string
	results     string
	picture     string
	page        string
	profile     string
	rounds      int
	duration    time.Duration
	connections int
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
	var work, contestants, styles, series string
	f := flag.NewFlagSet("loadtest", flag.ContinueOnError)
	f.SetOutput(errOut)
	f.StringVar(&o.scenario, "scenario", scenarioRivals, "`name` of what to do: "+strings.Join(scenarioNames(), ", "))
	f.StringVar(&work, "work", strings.Join(workNames(), ","), "kinds of work, a `list`")
	f.StringVar(&contestants, "contestants", "sluice,nginx,nginx+log,haproxy+log",
		"who takes part, a `list` of "+strings.Join(contestantNames(), ", ")+"; ratios are the first one's")
	f.StringVar(&o.sluice, "sluice", "bin/sluice", "`path` of the sluice binary")
	f.StringVar(&o.base, "base", "", "`path` of an older sluice binary, the contestant base")
	f.StringVar(&o.config, "config", "", "`file` whose JSON is laid over sluice's configuration")
	f.StringVar(&o.picture, "picture", "", "SVG `file` for the scenario's picture")
	f.StringVar(&o.page, "page", "", "Markdown `file` whose section of this scenario is written anew")
	f.StringVar(&o.profile, "profile", "", "`file` for the CPU profile of the scenario profile")
	f.StringVar(&o.results, "results", "loadtest/results", "`directory` for raw results; empty = keep none")
	f.IntVar(&o.rounds, "rounds", 5, "interleaved rounds")
	f.DurationVar(&o.duration, "duration", 0, "of one measurement; 0 = the scenario's own")
	f.IntVar(&o.connections, "connections", 64, "client connections")
	f.StringVar(&styles, "styles", strings.Join(styleNames(), ","), "`list` of ways to change a route")
	f.StringVar(&series, "series", strings.Join(seriesNames(), ","), "`list` of what grows in the scenario growth")
	f.IntVar(&o.rate, "rate", 0, "route changes or requests per second, as the scenario has it; 0 = its own")
	f.BoolVar(&o.short, "short", false, "only see that everything runs without errors: one short round")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	o.work, o.contestants = splitList(work), splitList(contestants)
	o.styles, o.series = splitList(styles), splitList(series)
	o.fillDefaults()
	err := o.check()
	return o, err
}

// fillDefaults sets what depends on other flags.
func (o *options) fillDefaults() {
	plan, _ := scenarioNamed(o.scenario) // check reports one that does not exist.
	if o.duration == 0 {
		o.duration = plan.duration
	}
	if o.short {
		o.rounds, o.duration = 1, min(o.duration, plan.short)
	}
	if o.rate == 0 {
		o.rate = max(plan.rate, 1)
	}
	if o.base != "" && !slices.Contains(o.contestants, "base") {
		o.contestants = slices.Insert(o.contestants, min(1, len(o.contestants)), "base")
	}
}

// check reports the first flag that cannot be used.
func (o *options) check() error {
	if _, ok := scenarioNamed(o.scenario); !ok {
		return fmt.Errorf("-scenario %q: must be one of %s", o.scenario, strings.Join(scenarioNames(), ", "))
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
	if err := checkNames("-series", o.series, seriesNames()); err != nil {
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
