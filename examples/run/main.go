// Command run shows sluice at work on one machine: it starts a sample backend on every address that
// a file of routes names, starts the sluice binary in front of them, prints commands to try, and
// stops everything on Ctrl-C. With --redis the routes are put into Redis for as long as it runs. It
// listens on loopback only and uses nothing of sluice but its binary.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/spf13/pflag"
)

// options is the command line.
type options struct {
	binary string
	config string
	routes string
	redis  string // driver URL; "" keeps the routes in the file
	port   uint16
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil && !errors.Is(err, pflag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "run:", err)
		os.Exit(1)
	}
}

// run shows sluice until ctx ends or sluice does. What it started has ended when it returns, and
// what it wrote into Redis is gone.
func run(ctx context.Context, args []string, out io.Writer) (err error) {
	o, err := parse(args)
	if err != nil {
		return err
	}
	routes, err := readRoutes(o.routes)
	if err != nil {
		return err
	}
	backends, err := startBackends(routes)
	if err != nil {
		return err
	}
	defer backends.close()
	driver := "file:" + o.routes
	if o.redis != "" {
		driver = o.redis
		var written *seeded
		if written, err = seed(ctx, o.redis, routes); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, written.remove()) }()
	}
	edge, err := startEdge(o, driver)
	if err != nil {
		return err
	}
	return show(ctx, out, edge, func() { printGuide(out, o, backends) })
}

// show waits until the edge is ready, says so through announce, and stops it when ctx ends.
func show(ctx context.Context, out io.Writer, e *edge, announce func()) error {
	if err := e.awaitReady(ctx); err != nil && ctx.Err() == nil {
		return errors.Join(err, e.stop())
	}
	if ctx.Err() == nil {
		announce()
	}
	select {
	case <-ctx.Done():
		fmt.Fprintln(out, "\nstopping")
		return e.stop()
	case <-e.done:
		return fmt.Errorf("run sluice: it ended by itself: %w", e.err)
	}
}

func parse(args []string) (options, error) {
	var o options
	set := pflag.NewFlagSet("run", pflag.ContinueOnError)
	set.StringVar(&o.binary, "sluice", "bin/sluice", "the program, as make build leaves it")
	set.StringVar(&o.config, "config", "examples/sluice.json", "its configuration file")
	set.StringVar(&o.routes, "routes", "examples/routes.json", "file of routes")
	set.StringVar(&o.redis, "redis", "", "keep the routes in this Redis: redis://[:password@]host:port[/db][#prefix]")
	set.Uint16Var(&o.port, "port", 8080, "port of 127.0.0.1 that sluice listens on")
	if err := set.Parse(args); err != nil {
		return o, err
	}
	if set.NArg() > 0 {
		return o, fmt.Errorf("read arguments: %q is not a flag", set.Arg(0))
	}
	if _, err := os.Stat(o.binary); err != nil {
		return o, fmt.Errorf("find sluice: build it with make build, or name it with --sluice: %w", err)
	}
	// The address of a file of routes does not depend on the folder that sluice starts in.
	absolute, err := filepath.Abs(o.routes)
	o.routes = absolute
	return o, err
}

// front is the address that sluice listens on.
func (o options) front() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(int(o.port)))
}

// printGuide says what runs and what to try.
func printGuide(out io.Writer, o options, backends *backends) {
	url := "http://" + o.front() + "/"
	change := "edit " + o.routes
	if o.redis != "" {
		change = "in that Redis: RPUSH 'frontend:*.app.example' http://127.0.0.1:8093"
	}
	fmt.Fprintf(out, `
sluice listens on %[1]s, in front of %[2]s.
Try, in another terminal:

  curl -H 'Host: www.example.com' %[1]s           one backend
  curl -H 'Host: ada.app.example' %[1]s           the pool *.app.example: either of two backends
  curl -H 'Host: big.app.example' %[1]s           an account with a machine of its own
  curl -i -H 'X-Debug: 1' -H 'Host: ada.app.example' %[1]s    who answered, and how fast
  curl -i -H 'Host: nowhere.example' %[1]s        no route: 400, X-Sluice-Error says why
  curl -N -H 'Host: big.app.example' %[1]sevents  server-sent events, as they happen
  curl http://127.0.0.1:8079/metrics              figures

Change the routes while it runs: %[3]s
Ctrl-C stops everything. The access log follows.

`, url, backends, change)
}
