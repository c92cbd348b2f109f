package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// echoSpan is how soon after the first signal to stop another one is taken for the same: timeout(1)
// and some supervisors signal a process and then its group, which nobody means as "at once".
const echoSpan = 250 * time.Millisecond

// catchSignals starts to deliver the signals that mean something to the program. It is called
// before anything is opened, so that an early SIGHUP does not kill the process.
func catchSignals() (signals chan os.Signal, stop func()) {
	signals = make(chan os.Signal, 4) // a few beyond the one being handled; more of the same add nothing
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2)
	return signals, func() { signal.Stop(signals) }
}

// run handles signals until the program ends, and returns the exit status.
func (e *edge) run(ctx context.Context, signals <-chan os.Signal) int {
	for {
		select {
		case <-ctx.Done():
			return e.drain(signals)
		case err := <-e.failed:
			e.log.Error("sluice stops", "error", err)
			e.abandon()
			return exitFailed
		case err := <-e.handover.done:
			if e.handedOver(err) {
				return e.retire(signals)
			}
		case s := <-signals:
			switch s {
			case syscall.SIGHUP:
				e.reload()
			case syscall.SIGUSR1:
				e.reopen()
			case syscall.SIGUSR2:
				e.handOver()
			default:
				return e.drain(signals)
			}
		}
	}
}

// handOver starts a new process that is to take this one's place. This one goes on serving, and
// handling signals, until it knows the outcome.
func (e *edge) handOver() {
	err := e.noteQUIC()
	if err == nil {
		err = e.handover.begin(e.routes.Ready())
	}
	if err != nil {
		e.log.Error("not handed over", "error", err)
	}
}

// handedOver tells whether the new process serves now.
func (e *edge) handedOver(err error) bool {
	e.handover.done = nil
	if err != nil {
		e.log.Error("not handed over, this process goes on serving", "error", err)
		e.steerQUIC(false) // The new one may have had them for a moment.
		return false
	}
	return true
}

// reopen opens the access log again, after it was moved away.
func (e *edge) reopen() {
	if err := e.access.Reopen(); err != nil {
		e.log.Error("access log not reopened, lines go where they went", "error", err)
		return
	}
	e.log.Info("access log reopened", "path", e.current.Server.AccessLog)
}

// drain finishes what is under way and ends the program. First it only says that it is going, so
// that load balancers look elsewhere; then it stops accepting. A second signal ends it at once.
func (e *edge) drain(signals <-chan os.Signal) int {
	e.told = time.Now()
	if e.handover.stop() {
		e.log.Warn("told to stop when the new process had taken over: that one goes on")
		return e.retire(signals)
	}
	notifyStopping(e.log.Logger)
	cfg := e.current.Server
	e.log.Info("draining", "delay", cfg.DrainDelay.String(), "timeout", cfg.DrainTimeout.String())
	e.draining.Store(true)
	e.proxy.BeginDrain()

	delay := time.NewTimer(cfg.DrainDelay)
	defer delay.Stop()
	if !e.waitWhileDraining(signals, delay.C) {
		return e.stopAtOnce()
	}
	return e.finish(signals)
}

// retire ends the program after a new process has taken over its sockets. Nothing tells load
// balancers to look elsewhere: the addresses are served as before.
func (e *edge) retire(signals <-chan os.Signal) int {
	e.log.Info("handed over, draining", "timeout", e.current.Server.DrainTimeout.String())
	if e.admin != nil {
		e.admin.Retire()
	}
	e.leaveQUIC()
	return e.finish(signals)
}

// finish stops accepting, waits for what is under way and closes everything.
func (e *edge) finish(signals <-chan os.Signal) int {
	timeout, finished := e.current.Server.DrainTimeout, make(chan time.Time, 1)
	go func() {
		e.shutDownProxy(timeout)
		finished <- time.Now()
	}()
	if !e.waitWhileDraining(signals, finished) {
		return e.stopAtOnce()
	}
	e.close()
	e.serving.Wait()
	e.log.Info("sluice stopped")
	return exitOK
}

// waitWhileDraining waits for the event; false means that a second signal came first. A listener
// that fails now changes nothing.
func (e *edge) waitWhileDraining(signals <-chan os.Signal, event <-chan time.Time) bool {
	for {
		select {
		case <-event:
			return true
		case s := <-signals:
			switch s {
			case syscall.SIGHUP:
				e.log.Warn("not reloaded: sluice is draining")
			case syscall.SIGUSR1:
				e.reopen()
			case syscall.SIGUSR2:
				e.log.Warn("not handed over: sluice is draining")
			default:
				if e.toldTwice() {
					return false
				}
			}
		}
	}
}

// toldTwice judges a signal to stop that comes while draining.
func (e *edge) toldTwice() bool {
	if e.told.IsZero() {
		// Whoever stops the service means the new process.
		e.told = time.Now()
		e.log.Info("draining already, after a handover; a second signal stops at once")
		return false
	}
	return time.Since(e.told) >= echoSpan
}

func (e *edge) shutDownProxy(timeout time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := e.proxy.Shutdown(ctx); err != nil {
		e.log.Warn("drain timeout reached, the rest was cut", "timeout", timeout.String(), "error", err)
	}
}

// stopAtOnce leaves connections to the kernel but keeps the lines of the access log.
func (e *edge) stopAtOnce() int {
	e.log.Warn("second signal: stopping at once")
	if err := e.access.Close(); err != nil {
		e.log.Warn("access log not complete", "error", err)
	}
	return exitFailed
}
