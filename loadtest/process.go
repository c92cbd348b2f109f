package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// stopTimeout is how long a process may take to end after SIGTERM before it is killed.
const stopTimeout = 10 * time.Second

// process is one program that runs beside this one, with the children that it starts.
type process struct {
	name string
	cmd  *exec.Cmd
	log  *tail
	done chan struct{} // closed when the process has been waited for
}

// startProcess starts argv in a process group of its own. Its standard output goes to stdout if
// that is not nil, else into the tail that lastWords shows.
//
// The process gets SIGTERM if this program dies. The kernel ties that to the thread that forked,
// hence the goroutine that holds its thread for as long as the process lives.
func startProcess(name string, stdout *os.File, argv ...string) (*process, error) {
	p := &process{name: name, cmd: exec.Command(argv[0], argv[1:]...), log: &tail{}, done: make(chan struct{})}
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

// userHZ is the unit of times in /proc: 100 a second on every Linux that Go runs on.
const userHZ = 100

// cpuTime is the user and system time that the process group has used so far. Processes that
// have left the group's list are not counted; no contestant replaces its workers while it runs.
func (p *process) cpuTime() (time.Duration, error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	var ticks int64
	found := false
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err != nil {
			continue // The process ended since the listing.
		}
		group, used, err := parseStat(string(line))
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", file, err)
		}
		if group == p.cmd.Process.Pid {
			ticks += used
			found = true
		}
	}
	if !found {
		return 0, fmt.Errorf("read cpu time: %s has ended: %s", p.name, p.log)
	}
	return time.Duration(ticks) * (time.Second / userHZ), nil
}

// parseStat takes the process group and utime+stime from a line of /proc/<pid>/stat. The fields
// are counted from the last parenthesis: the program name before it may hold spaces.
func parseStat(line string) (group int, ticks int64, err error) {
	const groupField, utimeField, stimeField = 2, 11, 12
	f := strings.Fields(line[strings.LastIndexByte(line, ')')+1:])
	if len(f) <= stimeField {
		return 0, 0, fmt.Errorf("%d fields after the name, want more than %d", len(f), stimeField)
	}
	if group, err = strconv.Atoi(f[groupField]); err != nil {
		return 0, 0, err
	}
	utime, err := strconv.ParseInt(f[utimeField], 10, 64)
	if err != nil {
		return 0, 0, err
	}
	stime, err := strconv.ParseInt(f[stimeField], 10, 64)
	return group, utime + stime, err
}

// tailBytes is how much of what a process wrote is kept for error messages.
const tailBytes = 2000

// tail keeps the last bytes written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

// Write implements io.Writer; it never fails.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - tailBytes; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

// String is what was written last, on one line.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(strings.Fields(string(t.buf)), " ")
}
