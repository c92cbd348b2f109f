package main

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// hipacheLine is a line of the access log as tools for Hipache's read it. Browsers speak HTTP/2 over TLS.
var hipacheLine = regexp.MustCompile(`^::ffff:127\.0\.0\.1 - - ` +
	`\[\d{2}/[A-Z][a-z]{2}/\d{4}:\d{2}:\d{2}:\d{2} \+0000\] ` +
	`"GET (?P<target>\S+) HTTP/(?:1\.1|2\.0)" (?P<status>\d{3}) (?P<bytes>\d+) ` +
	`"[^"]*" "(?P<agent>[^"]*)" "(?P<vhost>[^"]*)" (?:0|[1-9]\d*)(?:\.\d{1,3})? (?:0|[1-9]\d*)(?:\.\d{1,3})?$`)

// logLine is what a line says of its request.
type logLine struct {
	target string
	status int
	bytes  int
	agent  string
	vhost  string
}

// readLog parses the files of an access log, the oldest first. A line of another form is an error, as
// is a last line of which only the beginning is written.
func readLog(files ...string) ([]logLine, error) {
	var lines []logLine
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		for text := range strings.Lines(string(content)) {
			text, whole := strings.CutSuffix(text, "\n")
			match := hipacheLine.FindStringSubmatch(text)
			if match == nil || !whole {
				return nil, fmt.Errorf("%s: not a line of Hipache's: %q", file, text)
			}
			group := func(name string) string { return match[hipacheLine.SubexpIndex(name)] }
			line := logLine{target: group("target"), agent: group("agent"), vhost: group("vhost")}
			line.status, _ = strconv.Atoi(group("status")) // the pattern lets digits through only
			line.bytes, _ = strconv.Atoi(group("bytes"))
			lines = append(lines, line)
		}
	}
	return lines, nil
}

// sameLines reports how the log differs from what the clients saw: each request has one line.
func sameLines(lines []logLine, visits []visit) error {
	balance := map[string]int{}
	for _, v := range visits {
		balance[key(v.target, v.status)]++
	}
	for _, l := range lines {
		balance[key(l.target, l.status)]--
	}
	maps.DeleteFunc(balance, func(_ string, n int) bool { return n == 0 })
	for k, n := range balance {
		return fmt.Errorf("%d requests and lines do not match, such as %s: %+d", len(balance), k, n)
	}
	return nil
}

// key tells the visits of a redirect and of its end apart.
func key(target string, status int) string { return fmt.Sprintf("%s with status %d", target, status) }

// rotate moves the log away while everybody works, as logrotate does.
func (s *story) rotate() {
	f := startTraffic(s.t.Context(), s.visitor, storyAccounts)
	s.within(patience, "traffic", func() bool { return f.count() > storyClients })
	old := s.logFile + ".1"
	if err := os.Rename(s.logFile, old); err != nil {
		s.t.Fatal(err)
	}
	s.edge.signal(syscall.SIGUSR1)
	s.edge.awaitLog("access log reopened")
	n := f.count()
	s.within(patience, "traffic after the rotation", func() bool { return f.count() > n+2*storyClients })
	s.noFaults(f.end())
	s.edge.await("a line for each request", func() bool { return s.compareLog(old, s.logFile) == nil })
	for _, file := range []string{old, s.logFile} {
		if lines, err := readLog(file); err != nil || len(lines) < storyClients {
			s.t.Errorf("%s has %d lines, %v; want some from both sides of the rotation", file, len(lines), err)
		}
	}
}

// compareLog reports how the files differ from what clients have seen so far.
func (s *story) compareLog(files ...string) error {
	lines, err := readLog(files...)
	if err != nil {
		return err
	}
	return sameLines(lines, s.visitor.all())
}

// checkLog holds the whole log against what the clients saw: each request has its line, with the size
// of the answer and the identifier of a list that the host had at some time.
func (s *story) checkLog(files ...string) {
	s.t.Helper()
	visits := s.visitor.all()
	lines, err := readLog(files...)
	if err == nil {
		err = sameLines(lines, visits)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	seen := map[string]visit{}
	for _, v := range visits {
		seen[key(v.target, v.status)] = v
	}
	for _, l := range lines {
		v := seen[key(l.target, l.status)]
		if v.bytes >= 0 && v.bytes != l.bytes {
			s.t.Errorf("%s%s: the log says %d bytes, the client got %d", v.host, v.target, l.bytes, v.bytes)
		}
		if want := vhosts(v.host); !slices.Contains(want, l.vhost) {
			s.t.Errorf("%s%s: the log has identifier %q, want one of %q", v.host, v.target, l.vhost, want)
		}
	}
}

// vhosts are the identifiers of the lists that a host has had.
func vhosts(host string) []string {
	own, _, _ := strings.Cut(host, ".")
	switch {
	case slices.Contains(storyAccounts, host):
		return []string{"pool"}
	case slices.Contains(storyMovers, host):
		return []string{"pool", host}
	case own == "www": // unknown
		return []string{"-"}
	default:
		return []string{own, "pool"}
	}
}
