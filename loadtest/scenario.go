package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Scenarios that other files name.
const (
	scenarioRivals       = "rivals"
	scenarioRouteChanges = "route-changes"
)

// scenario is one thing that this program does.
type scenario struct {
	name     string
	duration time.Duration // of one measurement, if -duration does not say it
	short    time.Duration // the same in the short form
	rate     int           // what -rate means is the scenario's; 0 = nothing
	run      func(ctx context.Context, s *site, o *options, m machine, out io.Writer) error
}

// scenarios lists them in the order of the help text.
func scenarios() []scenario {
	return []scenario{
		{scenarioRivals, 2 * time.Second, time.Second, 0, runRivals},
		{"latency", 3 * time.Second, time.Second, 0, runLatency},
		{"growth", 2 * time.Second, time.Second, 0, runGrowth},
		{"memory", 30 * time.Minute, 4 * time.Second, 400, runMemory},
		{"profile", 5 * time.Second, time.Second, 0, runProfile},
		{"page", time.Second, time.Second, 0, runPage},
		{scenarioRouteChanges, time.Minute, 2 * time.Second, 100, runRouteChanges},
	}
}

func scenarioNames() []string {
	all := scenarios()
	names := make([]string, 0, len(all))
	for _, one := range all {
		names = append(names, one.name)
	}
	return names
}

func scenarioNamed(name string) (scenario, bool) {
	for _, one := range scenarios() {
		if one.name == name {
			return one, true
		}
	}
	return scenario{}, false
}

// runScenario runs what o asks for and keeps the raw results.
func runScenario(ctx context.Context, o options, out io.Writer) error {
	plan, _ := scenarioNamed(o.scenario)
	present, absent := installed(o.contestants)
	for _, err := range absent {
		fmt.Fprintln(out, err)
	}
	if len(present) == 0 {
		return errors.New("nobody takes part")
	}
	o.contestants = present
	machine := lookMachine(ctx, &o)
	machine.print(out)
	s, err := newSite(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	return plan.run(ctx, s, &o, machine, out)
}
