package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// usage is how much processor time the whole machine and this program's processes had used at a time.
type usage struct {
	at   time.Time
	busy int64 // clock ticks of all processors, those that the host took away included
	ours int64 // clock ticks of this program and all that it has started
}

// clockTicks are those of /proc in a second, on every Linux that Go runs on.
const clockTicks = 100

// lookAround takes the usage now.
func lookAround() (usage, error) {
	u := usage{at: time.Now()}
	var err error
	if u.busy, err = parseBusy(firstLine("/proc/stat")); err != nil {
		return u, fmt.Errorf("read /proc/stat: %w", err)
	}
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return u, err
	}
	processes := map[int]family{}
	for _, file := range files {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			return u, err
		}
		line, err := os.ReadFile(file)
		if err != nil {
			continue // The process ended since the listing.
		}
		if processes[pid], err = parseFamily(string(line)); err != nil {
			return u, fmt.Errorf("read %s: %w", file, err)
		}
	}
	self := os.Getpid()
	u.ours = processes[self].reaped
	for pid, one := range processes {
		if descends(processes, pid, self) {
			u.ours += one.ticks
		}
	}
	return u, nil
}

// elsewhere is how many processors others kept busy since before.
func (u usage) elsewhere(before usage) float64 {
	others := (u.busy - before.busy) - (u.ours - before.ours)
	return max(float64(others)/clockTicks/u.at.Sub(before.at).Seconds(), 0)
}

// parseBusy sums up what the first line of /proc/stat has of all but idling.
func parseBusy(line string) (int64, error) {
	const idle, iowait, steal = 4, 5, 8
	fields := strings.Fields(line)
	if len(fields) <= steal || fields[0] != "cpu" {
		return 0, fmt.Errorf("the first line is %q", line)
	}
	var busy int64
	for i, field := range fields[:steal+1] {
		if i == 0 || i == idle || i == iowait {
			continue
		}
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		busy += n
	}
	return busy, nil
}

// family is what /proc/<pid>/stat says of a process and its children.
type family struct {
	parent int
	ticks  int64 // user and system time
	reaped int64 // that of children that have ended and were waited for
}

// parseFamily reads a line of /proc/<pid>/stat. The fields are counted from the last parenthesis: the
// program name before it may hold spaces.
func parseFamily(line string) (family, error) {
	const parent, utime, stime, cutime, cstime = 1, 11, 12, 13, 14
	f := strings.Fields(line[strings.LastIndexByte(line, ')')+1:])
	if len(f) <= cstime {
		return family{}, fmt.Errorf("%d fields after the name, want more than %d", len(f), cstime)
	}
	var n [cstime + 1]int64
	for _, i := range []int{parent, utime, stime, cutime, cstime} {
		var err error
		if n[i], err = strconv.ParseInt(f[i], 10, 64); err != nil {
			return family{}, err
		}
	}
	return family{parent: int(n[parent]), ticks: n[utime] + n[stime], reaped: n[cutime] + n[cstime]}, nil
}

// descends reports whether pid is ancestor or one of its descendants.
func descends(processes map[int]family, pid, ancestor int) bool {
	for range len(processes) { // A pid that was used anew while we looked could make a ring.
		if pid == ancestor {
			return true
		}
		one, ok := processes[pid]
		if !ok {
			return false
		}
		pid = one.parent
	}
	return false
}
