package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sluice/internal/redistest"
)

// stopTimeout is how long a process may take to end after SIGTERM before it is killed.
const stopTimeout = 10 * time.Second

// process is one program that runs beside this one, with the children that it starts.
type process struct {
	name string
	cmd  *exec.Cmd
	log  *redistest.Tail
	done chan struct{} // closed when the process has been waited for
}

// startProcess starts argv in a process group of its own, with env, in the form KEY=value, over this
// program's environment. Its standard output goes to stdout if that is not nil, else into the tail
// that error messages show.
//
// The process gets SIGTERM if this program dies. The kernel ties that to the thread that forked,
// hence the goroutine that holds its thread for as long as the process lives.
func startProcess(name string, env []string, stdout *os.File, argv ...string) (*process, error) {
	p := &process{name: name, cmd: exec.Command(argv[0], argv[1:]...), log: &redistest.Tail{}, done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if stdout != nil {
		p.cmd.Stdout = stdout
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	// A grandchild that keeps the pipe open must not keep Wait from returning.
	p.cmd.WaitDelay = time.Second
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // How it ended is told by its last words.
		}
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

// stop ends the process, and whatever is left of its group after that.
func (p *process) stop() {
	pid := p.cmd.Process.Pid
	if !p.ended() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // It may have ended just now.
		select {
		case <-p.done:
		case <-time.After(stopTimeout):
		}
	}
	_ = syscall.Kill(-pid, syscall.SIGKILL) // The group is usually gone by now.
	<-p.done
}

// ended reports whether the process has exited.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// await polls ready until it succeeds, the process ends, or the time is up.
func (p *process) await(ctx context.Context, limit time.Duration, ready func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := ready()
		if err == nil {
			return nil
		}
		if p.ended() {
			return fmt.Errorf("start %s: it ended: %s", p.name, p.log)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("wait for %s: %w: %s", p.name, err, p.log)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// cpuTime is the user and system time that the process group has used so far, by the clock that the
// kernel keeps for each process: /proc/<pid>/stat has the same in hundredths of a second, which are
// too coarse for a measurement of one second. Processes that have left the group are not counted;
// no contestant replaces its workers while it runs.
func (p *process) cpuTime() (time.Duration, error) {
	var total time.Duration
	err := p.members(func(dir string) error {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			return err
		}
		var used unix.Timespec
		if err := unix.ClockGettime(processClock(pid), &used); err != nil {
			return fmt.Errorf("read its clock: %w", err)
		}
		total += time.Duration(used.Nano())
		return nil
	})
	return total, err
}

// processClock names the CPU clock of another process, as clock_getcpuclockid(3) does.
func processClock(pid int) int32 {
	const scheduled = 2 // CPUCLOCK_SCHED: user and system time, in nanoseconds
	return int32(^pid<<3 | scheduled)
}

// memory is what the process group has in memory, in bytes: pages that several of its processes
// share count once (PSS).
func (p *process) memory() (int64, error) {
	var total int64
	err := p.members(func(dir string) error {
		text, err := os.ReadFile(filepath.Join(dir, "smaps_rollup"))
		if err != nil {
			return err
		}
		kib, err := parsePSS(string(text))
		total += kib << 10
		return err
	})
	return total, err
}

// members calls f with the directory in /proc of each process of the group.
func (p *process) members(f func(dir string) error) error {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return err
	}
	found := false
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err != nil {
			continue // The process ended since the listing.
		}
		group, err := parseGroup(string(line))
		if err == nil && group == p.cmd.Process.Pid {
			found = true
			err = f(filepath.Dir(file))
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", file, err)
		}
	}
	if !found {
		return fmt.Errorf("look at %s: it has ended: %s", p.name, p.log)
	}
	return nil
}

// parsePSS takes the sum from /proc/<pid>/smaps_rollup, in KiB.
func parsePSS(text string) (int64, error) {
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "Pss:" {
			return strconv.ParseInt(f[1], 10, 64)
		}
	}
	return 0, errors.New("no line begins with Pss")
}

// parseGroup takes the process group from a line of /proc/<pid>/stat. The fields are counted from the
// last parenthesis: the program name before it may hold spaces.
func parseGroup(line string) (int, error) {
	const groupField = 2
	f := strings.Fields(line[strings.LastIndexByte(line, ')')+1:])
	if len(f) <= groupField {
		return 0, fmt.Errorf("%d fields after the name, want more than %d", len(f), groupField)
	}
	return strconv.Atoi(f[groupField])
}
