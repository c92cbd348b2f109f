package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// machine says what the figures were taken on. No figure is comparable with one of another
// machine, or of the same one on a busier day; ratios of one run are.
type machine struct {
	Time     time.Time         `json:"time"`
	CPU      string            `json:"cpu"`
	Cores    int               `json:"cores"`
	Kernel   string            `json:"kernel"`
	Load     string            `json:"load_average"`
	Versions map[string]string `json:"versions"`
}

// versionCommands asks each program who it is; the answer's first line counts.
var versionCommands = [][]string{
	{"nginx", "-v"},
	{"haproxy", "-v"},
	{"wrk", "-v"},
	{"redis-server", "--version"},
}

// lookMachine collects the facts; what cannot be found out is left empty.
func lookMachine(ctx context.Context, o *options) machine {
	m := machine{
		Time:     time.Now().UTC().Truncate(time.Second),
		CPU:      cpuModel(),
		Cores:    runtime.NumCPU(),
		Kernel:   firstLine("/proc/sys/kernel/osrelease"),
		Load:     firstLine("/proc/loadavg"),
		Versions: map[string]string{"go": runtime.Version()},
	}
	for _, argv := range versionCommands {
		if path, err := lookTool(argv[0]); err == nil {
			m.Versions[argv[0]] = version(ctx, path, argv[1])
		}
	}
	for name, binary := range map[string]string{"sluice": o.sluice, "base": o.base} {
		if binary != "" {
			m.Versions[name] = version(ctx, binary, "--version")
		}
	}
	return m
}

// version runs a program for its version; empty if it does not tell.
func version(ctx context.Context, path, arg string) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	// wrk prints its version and fails; nginx prints it as an error.
	out, _ := exec.CommandContext(ctx, path, arg).CombinedOutput()
	line, _, _ := bytes.Cut(bytes.TrimSpace(out), []byte("\n"))
	return string(line)
}

func cpuModel() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	_, model, _ := strings.Cut(string(info), "model name")
	model, _, _ = strings.Cut(model, "\n")
	return strings.TrimLeft(model, "\t :")
}

func firstLine(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}

func (m machine) print(out io.Writer) {
	fmt.Fprintf(out, "%s, %d cores, Linux %s, load average %s, %s\n",
		m.CPU, m.Cores, m.Kernel, m.Load, m.Time.Format(time.RFC3339))
	for _, name := range []string{"sluice", "base", "nginx", "haproxy", "wrk", "redis-server", "go"} {
		if v := m.Versions[name]; v != "" {
			fmt.Fprintf(out, "  %s: %s\n", name, v)
		}
	}
}

// brief is the machine in one line.
func (m machine) brief() string {
	return fmt.Sprintf("%d cores, %s, Linux %s, %s, %s", m.Cores, m.CPU, m.Kernel, m.Versions["go"],
		m.Time.Format("2 January 2006"))
}

// programs are the versions of those that take part.
func (m machine) programs() []string {
	var list []string
	for _, name := range []string{"nginx", "haproxy", "redis-server"} {
		if found := versionNumber.FindString(m.Versions[name]); found != "" {
			list = append(list, name+" "+found)
		}
	}
	return list
}

// versionNumber finds the number in what a program says of itself.
var versionNumber = regexp.MustCompile(`[0-9]+\.[0-9]+\.[0-9]+`)
