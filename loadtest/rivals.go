package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// runRivals measures every kind of work. Each is printed and published as soon as it is done; one that
// fails, or a rival that does, costs the others nothing but is an error of the whole.
func runRivals(ctx context.Context, s *site, o *options, m machine, out io.Writer) error {
	var samples []sample
	var failed []error
	for _, w := range worksOf(o) {
		start := time.Now()
		t := measureWork(ctx, s, o, w, out)
		failed = append(failed, t.report(out, w)...)
		if ctx.Err() != nil {
			break
		}
		if len(t.samples) == 0 {
			continue
		}
		printWork(out, o, w, t.samples)
		fmt.Fprintf(out, "all this took %v; other programs kept %.2f cores busy\n",
			time.Since(start).Round(time.Second), elsewhere(t.samples))
		failed = append(failed, samplesError(t.samples), publishRivals(o, m, w, t.samples))
		samples = append(samples, t.samples...)
	}
	// What was measured before a failure is kept, too.
	err := saveResults(o, out, results{Machine: m, Options: describe(o), Samples: samples})
	return errors.Join(append(failed, err, ctx.Err())...)
}

// report prints what failed, and returns it with the name of the work.
func (t turns) report(out io.Writer, w work) []error {
	named := make([]error, len(t.failed))
	for i, err := range t.failed {
		named[i] = fmt.Errorf("work %s: %w", w.name, err)
		fmt.Fprintf(out, "\nFAILED: %v\n", named[i])
	}
	return named
}

// publishRivals brings the page, its picture and the file of records that both are made from up to
// the kind of work that was measured; the others stay as they were.
func publishRivals(o *options, m machine, w work, samples []sample) error {
	if o.page == "" {
		return nil
	}
	all, err := loadRecords[records](rivalsFile(o))
	if err != nil {
		return err
	}
	all[w.name] = newRecord(o, m, w, samples)
	return errors.Join(saveRecords(rivalsFile(o), all), saveText(o.picture, all.picture()), all.write(o))
}

// rivalsFile is where the records are kept: beside the page.
func rivalsFile(o *options) string { return filepath.Join(filepath.Dir(o.page), "rivals.json") }

// write writes the page's section.
func (all records) write(o *options) error { return writeSection(o.page, "make loadtest", all.text()) }

func ofWork(samples []sample, work string) []sample {
	return slices.DeleteFunc(slices.Clone(samples), func(one sample) bool { return one.Work != work })
}

// measureWork starts everyone who can do the work and takes samples in turns.
func measureWork(ctx context.Context, s *site, o *options, w work, out io.Writer) turns {
	entries, leftOut := w.entries(o)
	if len(leftOut) > 0 {
		fmt.Fprintf(out, "\n%s: left out %s: they watch no store\n", w.name, strings.Join(leftOut, ", "))
	}
	if len(entries) == 0 {
		return turns{failed: []error{errors.New("nobody can do it")}}
	}
	entrants, missing := startEntrants(ctx, s, o, entries)
	if len(entrants) == 0 {
		return turns{failed: missing}
	}
	defer stopEntrants(entrants)
	t := takeTurns(ctx, s, o, entrants)
	t.failed = append(missing, t.failed...)
	return t
}
