package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

const (
	// readyTimeout bounds the time that sluice may take to listen.
	readyTimeout = 10 * time.Second
	// drainTimeout is how long sluice may finish what is under way. A browser keeps its connections
	// open much longer than anyone waits for a sample to stop.
	drainTimeout = time.Second
	// stopTimeout is how long it may take to end.
	stopTimeout = 5 * time.Second
)

// edge is the running sluice.
type edge struct {
	front string
	cmd   *exec.Cmd
	done  chan struct{} // closed when it has ended
	err   error         // how; valid once done is closed
}

// startEdge starts the binary. It gets a process group of its own, so that Ctrl-C reaches it once
// and through this program only.
func startEdge(o options, driver string) (*edge, error) {
	args := []string{
		"--config", o.config, "--driver", driver,
		"--http-bind", "127.0.0.1", "--http-port", strconv.Itoa(int(o.port)),
		"--server-drain-timeout", drainTimeout.String(),
	}
	if os.Geteuid() == 0 {
		// sluice asks for a user to drop to; a sample run has none.
		args = append(args, "--user", "root")
	}
	e := &edge{front: o.front(), cmd: exec.Command(o.binary, args...), done: make(chan struct{})}
	e.cmd.Stdout, e.cmd.Stderr = os.Stdout, os.Stderr
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	started := make(chan error, 1)
	go func() {
		// The kernel ties the death signal to this thread.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := e.cmd.Start()
		started <- err
		if err == nil {
			e.err = e.cmd.Wait()
		}
		close(e.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start sluice: %w", err)
	}
	return e, nil
}

// awaitReady returns when sluice answers its ping.
func (e *edge) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		if e.ping(ctx) == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for sluice on %s: %w", e.front, ctx.Err())
		case <-e.done:
			return fmt.Errorf("start sluice on %s: it ended: %w", e.front, e.err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (e *edge) ping(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+e.front+"/", http.NoBody)
	if err != nil {
		return err
	}
	request.Host = "__ping__"
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		err = fmt.Errorf("ping: status %d", response.StatusCode)
	}
	return errors.Join(err, response.Body.Close())
}

// stop lets sluice finish, and kills it if it takes too long.
func (e *edge) stop() error {
	_ = e.cmd.Process.Signal(syscall.SIGTERM) // It fails if the process has ended.
	select {
	case <-e.done:
		return e.err
	case <-time.After(stopTimeout):
	}
	_ = e.cmd.Process.Kill() // It fails if the process has ended.
	<-e.done
	return fmt.Errorf("stop sluice: still busy after %v, killed", stopTimeout)
}
