package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// What the HTTP/2 work sends side by side.
const (
	h2Connections = 8
	h2Streams     = 32
)

// runH2load sends small GETs over HTTP/2 for the given time, from one thread. Latencies come from the
// log of requests, since h2load itself tells none of their percentiles.
func runH2load(ctx context.Context, e entrant, duration time.Duration) (report, error) {
	where, err := url.Parse(e.url)
	if err != nil {
		return report{}, err
	}
	dir, err := os.MkdirTemp("", "loadtest-h2load-")
	if err != nil {
		return report{}, fmt.Errorf("run h2load: %w", err)
	}
	defer os.RemoveAll(dir)
	logFile := dir + "/requests"
	limited, cancel := context.WithTimeout(ctx, duration+answerTimeout+30*time.Second)
	defer cancel()
	var out, errOut bytes.Buffer
	cmd := exec.CommandContext(limited, "h2load", "--threads=1", fmt.Sprintf("--clients=%d", h2Connections),
		fmt.Sprintf("--max-concurrent-streams=%d", h2Streams), "--duration="+wrkTime(duration),
		"--groups=X25519", "--log-file="+logFile, "--connect-to="+where.Host,
		"https://"+hostName(0)+":"+where.Port()+e.work.path)
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err = cmd.Run()
	if ctx.Err() != nil {
		return report{}, ctx.Err()
	}
	if err != nil {
		return report{}, fmt.Errorf("run h2load: %s: %w", strings.TrimSpace(errOut.String()), err)
	}
	r, err := parseH2load(out.String(), e.work.answer, duration)
	if err != nil {
		return report{}, fmt.Errorf("read h2load's figures: %w", err)
	}
	err = readH2Log(logFile, &r)
	return r, err
}

// What h2load says of a run that has to be true of one that counts.
var (
	h2Protocol = regexp.MustCompile(`(?m)^Application protocol: h2$`)
	h2TLS      = regexp.MustCompile(`(?m)^TLS Protocol: TLSv1\.3$`)
	h2Requests = regexp.MustCompile(`(?m)^requests: .* (\d+) done, (\d+) succeeded, ` +
		`(\d+) failed, (\d+) errored, (\d+) timeout`)
	h2Data = regexp.MustCompile(`(?m)^traffic: .*\((\d+)\) data$`)
)

// parseH2load takes the counts from what h2load printed.
func parseH2load(out string, answer int, duration time.Duration) (report, error) {
	if !h2Protocol.MatchString(out) || !h2TLS.MatchString(out) {
		return report{}, fmt.Errorf("want HTTP/2 over TLS 1.3 in %q", out)
	}
	counts, data := h2Requests.FindStringSubmatch(out), h2Data.FindStringSubmatch(out)
	if counts == nil || data == nil {
		return report{}, fmt.Errorf("no counts in %q", out)
	}
	var n [5]int64 // They are digits: none of them fails to be a number.
	for i := range n {
		n[i], _ = strconv.ParseInt(counts[i+1], 10, 64)
	}
	received, _ := strconv.ParseInt(data[1], 10, 64)
	r := report{Requests: n[0], Micros: duration.Microseconds()}
	r.Errors.Status = n[2]
	r.Errors.Read = n[3]
	r.Errors.Timeout = n[4]
	if r.Requests == 0 {
		return report{}, fmt.Errorf("no request was answered (errors: %v)", r.Errors)
	}
	// Answers that were under way at the end may have come in part.
	least := n[1] * int64(answer)
	if most := least + int64(h2Connections*h2Streams*answer); received < least || received > most {
		return report{}, fmt.Errorf("%d answers had %d bytes, want %d each", n[1], received, answer)
	}
	return r, nil
}

// readH2Log takes the latencies from h2load's log: a line for each request, with the time when it began,
// its status and its microseconds.
func readH2Log(file string, r *report) error {
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("read h2load's log: %w", err)
	}
	defer f.Close()
	histogram := newHistogram()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Split(lines.Text(), "\t")
		if len(fields) < 3 {
			return fmt.Errorf("read h2load's log: a line is %q", lines.Text())
		}
		micros, err := strconv.ParseInt(fields[2], 10, 64)
		if err != nil {
			return fmt.Errorf("read h2load's log: %w", err)
		}
		count(histogram, time.Duration(micros)*time.Microsecond)
	}
	if histogram.TotalCount() == 0 {
		return errors.Join(lines.Err(), errors.New("read h2load's log: it is empty"))
	}
	of := reportOf(histogram, time.Duration(r.Micros)*time.Microsecond)
	r.P50, r.P99, r.P999, r.Max = of.P50, of.P99, of.P999, of.Max
	return lines.Err()
}
