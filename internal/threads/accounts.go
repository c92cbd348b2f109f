package threads

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// accounts are the kernel's sums since the machine or the process was started, at a time.
type accounts struct {
	at      time.Time
	used    time.Duration // CPU time of the process
	waiting time.Duration // time that its threads waited for a core
	idle    time.Duration // of all cores
	done    uint64        // requests; no account of the kernel's
}

// since returns what happened between two readings.
func (a accounts) since(before accounts) look {
	cores := func(d time.Duration) float64 { return max(d.Seconds()/a.at.Sub(before.at).Seconds(), 0) }
	return look{
		used: cores(a.used - before.used), waiting: cores(a.waiting - before.waiting), idle: cores(a.idle - before.idle),
		done: float64(a.done-before.done) / a.at.Sub(before.at).Seconds(),
	}
}

// readAccounts reads them all. The waiting of threads takes a file for each of them.
func readAccounts() (a accounts, err error) {
	a.at = time.Now()
	var used unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &used); err != nil {
		return a, fmt.Errorf("read the process's clock: %w", err)
	}
	a.used = time.Duration(used.Nano())
	if a.idle, err = readIdle("/proc/uptime"); err != nil {
		return a, err
	}
	a.waiting, err = readWaiting("/proc/self/task")
	return a, err
}

// readIdle reads the second number of /proc/uptime: seconds, with two decimals, of all cores.
func readIdle(file string) (time.Duration, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	fields := bytes.Fields(text)
	if len(fields) != 2 {
		return 0, fmt.Errorf("%s: got %q, want two numbers", file, text)
	}
	seconds, err := strconv.ParseFloat(string(fields[1]), 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", file, err)
	}
	return time.Duration(seconds * float64(time.Second)), nil
}

// readWaiting sums up the second number of each thread's schedstat: nanoseconds on a run queue.
// A thread that ends takes what it has waited with it; the runtime's threads seldom end.
func readWaiting(folder string) (sum time.Duration, err error) {
	tasks, err := os.ReadDir(folder)
	if err != nil {
		return 0, err
	}
	for _, task := range tasks {
		text, err := os.ReadFile(folder + "/" + task.Name() + "/schedstat")
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // It ended since the listing. Without CONFIG_SCHED_INFO none has an account: then nobody waits.
		}
		if err != nil {
			return 0, err
		}
		fields := bytes.Fields(text)
		if len(fields) < 2 {
			return 0, fmt.Errorf("%s: schedstat is %q, want three numbers", folder, text)
		}
		waited, err := strconv.ParseInt(string(fields[1]), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: schedstat: %w", folder, err)
		}
		sum += time.Duration(waited)
	}
	return sum, nil
}
