package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"time"
)

// profiled are the kinds of work that the profile is merged from, each for the same time; small ones
// are in it twice because they are most of what an edge does.
var profiled = []string{"small", "small", "10k", "post", "tls", "close", "churn"}

// runProfile records CPU profiles of the running binary under each kind of work and merges them into
// o.profile, in the form that go build -pgo reads.
func runProfile(ctx context.Context, s *site, o *options, _ machine, out io.Writer) error {
	if o.profile == "" {
		return errors.New("-profile: must name the file to write")
	}
	var files []string
	for i, name := range profiled {
		file := s.path(fmt.Sprintf("profile%d", i))
		if err := profileWork(ctx, s, o, workNamed(name), file); err != nil {
			return fmt.Errorf("profile %s: %w", name, err)
		}
		files = append(files, file)
	}
	if err := mergeProfiles(ctx, o.profile, files); err != nil {
		return err
	}
	info, err := os.Stat(o.profile)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "wrote %s, %d KiB, from %d times %v\n", o.profile, info.Size()>>10, len(profiled), o.duration)
	return nil
}

// profileWork records one profile.
func profileWork(ctx context.Context, s *site, o *options, w work, file string) error {
	c, err := startSluice(ctx, s, w, o, "sluice", o.sluice)
	if err != nil {
		return err
	}
	defer c.stop()
	e := entrant{c, w}
	if err := e.warmUp(ctx, s, o); err != nil {
		return err
	}
	recorded := make(chan error, 1)
	go func() { recorded <- recordProfile(ctx, c.adminURL, o.duration, file) }()
	longer := *o
	longer.duration += time.Second
	one, err := e.measure(ctx, s, &longer, 0)
	return errors.Join(err, <-recorded, samplesError([]sample{one}))
}

// recordProfile saves what /debug/pprof/profile says of the given time.
func recordProfile(ctx context.Context, adminURL string, d time.Duration, file string) error {
	ctx, cancel := context.WithTimeout(ctx, d+answerTimeout)
	defer cancel()
	url := fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", adminURL, int(d.Seconds()))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("record profile: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("record profile: %s answers %s", url, resp.Status)
	}
	to, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("record profile: %w", err)
	}
	_, err = io.Copy(to, resp.Body)
	return errors.Join(err, to.Close())
}

// mergeProfiles makes one of many with the tool that comes with Go.
func mergeProfiles(ctx context.Context, to string, files []string) error {
	args := append([]string{"tool", "pprof", "-proto", "-output", to}, files...)
	if text, err := exec.CommandContext(ctx, "go", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("merge profiles: %s: %w", text, err)
	}
	return nil
}
