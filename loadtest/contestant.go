package main

import (
	"context"
	"fmt"
	"os"
	"runtime"

	"sluice/internal/redistest"
)

// contestant is one running proxy.
type contestant struct {
	name    string
	url     string // scheme and authority
	logFile string // cut after each measurement; empty = none is written
	proc    *process

	// Only sluice has these.
	redis    *redistest.Server
	adminURL string
	plainURL string // without TLS, whatever the work is
}

// maker starts a contestant for one kind of work, under a name that no other one has at the time. On
// an error nothing is left running.
type maker func(ctx context.Context, s *site, w work, o *options, name string) (*contestant, error)

// makers lists who can take part, in the order of the help text.
var makers = []struct {
	name string
	tool string // program that must be installed; empty = checked by the maker
	make maker
}{
	{"sluice", "", func(ctx context.Context, s *site, w work, o *options, name string) (*contestant, error) {
		return startSluice(ctx, s, w, o, name, o.sluice)
	}},
	{"base", "", func(ctx context.Context, s *site, w work, o *options, name string) (*contestant, error) {
		return startSluice(ctx, s, w, o, name, o.base)
	}},
	{"nginx", "nginx", nginxMaker("")},
	{"nginx+log", "nginx", nginxMaker("combined")},
	{"nginx+buffered-log", "nginx", nginxMaker("combined buffer=64k flush=1s")},
	{"haproxy", "haproxy", haproxyMaker(false)},
	{"haproxy+log", "haproxy", haproxyMaker(true)},
}

func contestantNames() []string {
	names := make([]string, 0, len(makers))
	for _, m := range makers {
		names = append(names, m.name)
	}
	return names
}

// installed returns the wanted contestants whose program is there, and why the others are not.
func installed(wanted []string) (present []string, absent []error) {
	for _, name := range wanted {
		for _, m := range makers {
			if m.name != name {
				continue
			}
			if m.tool != "" {
				if _, err := lookTool(m.tool); err != nil {
					absent = append(absent, fmt.Errorf("leave out %s: %w", name, err))
					continue
				}
			}
			present = append(present, name)
		}
	}
	return present, absent
}

// startContestant starts the one that an entrant's name stands for, ready to serve w.
func startContestant(ctx context.Context, s *site, w work, o *options, name string) (*contestant, error) {
	for _, m := range makers {
		if m.name == base(name) {
			return m.make(ctx, s, w, o, name)
		}
	}
	panic("BUG: no contestant is named " + name)
}

// stop ends the contestant's processes.
func (c *contestant) stop() {
	if c.proc != nil {
		c.proc.stop()
	}
	if c.redis != nil {
		c.redis.Close()
	}
}

// await waits until the contestant answers the work's requests, and stops it if it never does.
// With many names the first and the last of them stand for the rest.
func (c *contestant) await(ctx context.Context, w work) (*contestant, error) {
	err := c.proc.await(ctx, w.readyTimeout(), func() error {
		for _, host := range []string{hostName(0), hostName(w.hosts - 1)} {
			if err := checkAnswer(c.url+w.path, host, w.answer); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

// checkLog fails if a log that should have been written is empty, and cuts it.
func (c *contestant) checkLog() error {
	if c.logFile == "" {
		return nil
	}
	info, err := os.Stat(c.logFile)
	if err != nil {
		return fmt.Errorf("see the log of %s: %w", c.name, err)
	}
	if info.Size() == 0 {
		return fmt.Errorf("see the log of %s: %s is empty after a measurement with its log on", c.name, c.logFile)
	}
	return c.cutLog()
}

// cutLog empties the log: at 60 000 lines a second it would fill the disk. Every contestant opens
// its log for appending, so it goes on at the new end.
func (c *contestant) cutLog() error {
	if c.logFile == "" {
		return nil
	}
	return os.Truncate(c.logFile, 0)
}

// proxyURL is where a proxy on port is asked.
func proxyURL(w work, port int) string {
	if w.encrypted() {
		return fmt.Sprintf("https://127.0.0.1:%d", port)
	}
	return fmt.Sprintf("http://127.0.0.1:%d", port)
}

// proxyWorkers is how many workers or threads a rival gets: one for each core, as sluice does.
func proxyWorkers() int { return runtime.NumCPU() }
