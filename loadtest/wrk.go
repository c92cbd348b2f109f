package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// answerTimeout is when wrk counts an answer as missing.
const answerTimeout = 5 * time.Second

// reportScript makes wrk print its figures as one line of JSON after a marker.
const reportScript = `
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    'REPORT {"requests":%d,"micros":%d,"p50":%d,"p99":%d,"p999":%d,"max":%d,' ..
    '"errors":{"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    latency:percentile(99.9), latency.max,
    e.connect, e.read, e.write, e.status, e.timeout))
end
`

// report is what wrk, or a generator of our own, says about one run. Latencies are in microseconds.
type report struct {
	Requests   int64     `json:"requests"`
	Unanswered int64     `json:"unanswered,omitempty"` // of these; their latency counts until the end
	Micros     int64     `json:"micros"`
	P50        int64     `json:"p50"`
	P99        int64     `json:"p99"`
	P999       int64     `json:"p999"`
	Max        int64     `json:"max"`
	Errors     wrkErrors `json:"errors"`
}

// wrkErrors counts what went wrong: socket errors by the call that met them, statuses of 400 and
// more, and answers that took longer than answerTimeout.
type wrkErrors struct {
	Connect int64 `json:"connect"`
	Read    int64 `json:"read"`
	Write   int64 `json:"write"`
	Status  int64 `json:"status"`
	Timeout int64 `json:"timeout"`
}

func (e wrkErrors) total() int64 {
	return e.Connect + e.Read + e.Write + e.Status + e.Timeout
}

func (e wrkErrors) String() string {
	if e.total() == 0 {
		return "0"
	}
	return fmt.Sprintf("%d (connect %d, read %d, write %d, status %d, timeout %d)",
		e.total(), e.Connect, e.Read, e.Write, e.Status, e.Timeout)
}

// runWrk sends requests to url for the given time over one thread, with the Lua program script.
func runWrk(ctx context.Context, url, script string, connections int, duration time.Duration) (report, error) {
	file, err := writeScript(script)
	if err != nil {
		return report{}, err
	}
	defer os.Remove(file)
	limited, cancel := context.WithTimeout(ctx, duration+answerTimeout+30*time.Second)
	defer cancel()
	var out, errOut bytes.Buffer
	cmd := exec.CommandContext(limited, "wrk", "--threads", "1", "--connections", strconv.Itoa(connections),
		"--duration", wrkTime(duration), "--timeout", wrkTime(answerTimeout),
		"--script", file, url)
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err = cmd.Run()
	if ctx.Err() != nil {
		return report{}, ctx.Err()
	}
	if err != nil {
		return report{}, fmt.Errorf("run wrk: %s: %w", strings.TrimSpace(errOut.String()), err)
	}
	return parseReport(out.String())
}

// writeScript puts a Lua program where wrk can read it.
func writeScript(script string) (string, error) {
	f, err := os.CreateTemp("", "loadtest-*.lua")
	if err != nil {
		return "", fmt.Errorf("write wrk script: %w", err)
	}
	_, err = f.WriteString(script)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return "", fmt.Errorf("write wrk script: %w", err)
	}
	return f.Name(), nil
}

// parseReport finds the line that reportScript wrote.
func parseReport(out string) (report, error) {
	_, line, found := strings.Cut(out, "REPORT ")
	if !found {
		return report{}, fmt.Errorf("read wrk's figures: no report in %q", out)
	}
	line, _, _ = strings.Cut(line, "\n")
	var r report
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		return report{}, fmt.Errorf("read wrk's figures: %w", err)
	}
	if r.Requests == 0 || r.Micros == 0 {
		return report{}, fmt.Errorf("read wrk's figures: no request was answered (errors: %v)", r.Errors)
	}
	return r, nil
}

// wrkTime writes whole seconds as wrk reads them.
func wrkTime(d time.Duration) string {
	return strconv.Itoa(int(d.Seconds())) + "s"
}
