package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// needTools fails a test on a machine that lacks what the load test drives.
func needTools(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := lookTool(name); err != nil {
			t.Fatalf("%v: make test installs it", err)
		}
	}
}

// buildSluice builds the binary from this working tree.
func buildSluice(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "sluice")
	out, err := exec.Command("go", "build", "-o", binary, "sluice/cmd/sluice").CombinedOutput()
	if err != nil {
		t.Fatalf("build sluice: %v\n%s", err, out)
	}
	return binary
}

// runShort runs the program in its short form and returns what it printed and kept.
func runShort(t *testing.T, args ...string) (string, results) {
	t.Helper()
	dir := t.TempDir()
	var out, errOut bytes.Buffer
	args = append([]string{"-short", "-results", dir}, args...)
	if status := run(t.Context(), args, &out, &errOut); status != exitOK {
		t.Fatalf("loadtest %s: status %d\n%s%s", strings.Join(args, " "), status, &out, &errOut)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(files) != 1 {
		t.Fatalf("results: %v, %v; want one file", files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	var r results
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	return out.String(), r
}

func TestShort_RivalsWithoutErrors(t *testing.T) {
	needTools(t, "wrk", "nginx", "redis-server")
	out, r := runShort(t, "-work", "small", "-contestants", "sluice,nginx+log", "-sluice", buildSluice(t))
	if len(r.Samples) != 2 {
		t.Fatalf("%d samples, want 2", len(r.Samples))
	}
	for _, s := range r.Samples {
		if s.CPUMicros <= 0 || s.Rate <= 0 || s.P99Millis <= 0 {
			t.Errorf("sample %+v has figures that are not positive", s)
		}
	}
	for _, want := range []string{"CPU µs/req", "sluice as a multiple", "nginx+log"} {
		if !strings.Contains(out, want) {
			t.Errorf("the output does not contain %q:\n%s", want, out)
		}
	}
}

func TestShort_RouteChangesWithoutErrors(t *testing.T) {
	needTools(t, "wrk", "nginx", "redis-server")
	_, r := runShort(t, "-scenario", "route-changes", "-rate", "50", "-sluice", buildSluice(t))
	if r.Routes == nil || r.Routes.Changes == 0 || r.Routes.Wrk.Requests == 0 {
		t.Errorf("result %+v, want changes and requests", r.Routes)
	}
}

// TestShort_OtherKindsOfWork runs what wrk cannot drive alone, and writes a page of it.
func TestShort_OtherKindsOfWork(t *testing.T) {
	needTools(t, "wrk", "h2load", "nginx", "redis-server")
	page := samplePage(t)
	out, r := runShort(t, "-work", "websocket,churn,idle-tls,h2,handshake,hosts-1m", "-contestants", "sluice,nginx",
		"-page", page, "-sluice", buildSluice(t))
	if !strings.Contains(out, "churn: left out nginx: they watch no store") {
		t.Errorf("the output does not say who was left out:\n%s", out)
	}
	for _, s := range r.Samples {
		if s.CPUMicros <= 0 || s.Rate <= 0 || s.MemoryMiB <= 0 {
			t.Errorf("sample %+v has figures that are not positive", s)
		}
		if s.Work == "churn" && s.Contestant == "sluice" && s.Changes < churnRate/10 {
			t.Errorf("%.0f changes a second, want about %d", s.Changes, churnRate)
		}
		if s.Work == "idle-tls" && (s.Idle == nil || s.Idle.Connections != idleOverTLS/shortIdleShare || s.Idle.BytesEach <= 0) {
			t.Errorf("idle figures %+v of %s", s.Idle, s.Contestant)
		}
	}
	text := readFile(t, page)
	for _, want := range []string{
		"before", "| WebSocket messages echoed (`websocket`) |", "| TLS 1.3 | 200 | sluice |", "change each second",
		"| CPU time per request | sluice |", "full TLS 1.3 handshake", "8 connections × 32 streams", "after",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not contain %q:\n%s", want, text)
		}
	}
	// Another kind of work is added to what is there.
	runShort(t, "-work", "small", "-contestants", "sluice", "-page", page, "-sluice", buildSluice(t))
	text = readFile(t, page)
	for _, want := range []string{"| small GET, keep-alive (`small`) |", "| WebSocket messages echoed (`websocket`) |"} {
		if strings.Count(text, want) != 1 {
			t.Errorf("the page has %q %d times, want once:\n%s", want, strings.Count(text, want), text)
		}
	}
}

// TestShort_OneThatFailsCostsOnlyItself runs beside a program that is no HAProxy, and a kind of work
// whose subject fails: both are told and make the run fail, and the rest is measured and published.
func TestShort_OneThatFailsCostsOnlyItself(t *testing.T) {
	needTools(t, "wrk", "nginx", "redis-server")
	fake, config := t.TempDir(), filepath.Join(t.TempDir(), "config.json")
	err := errors.Join(
		os.WriteFile(filepath.Join(fake, "haproxy"), []byte("#!/bin/sh\necho broken installation >&2\nexit 1\n"), 0o755),
		// Without TLS sluice cannot make a handshake.
		os.WriteFile(config, []byte(`{"https": {"port": 1, "cert": "/nowhere"}}`), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", fake+":"+os.Getenv("PATH"))
	page := samplePage(t)
	var out, errOut bytes.Buffer
	status := run(t.Context(), []string{
		"-short", "-results", t.TempDir(), "-work", "handshake,small", "-contestants", "sluice,nginx,haproxy",
		"-config", config, "-page", page, "-sluice", buildSluice(t),
	}, &out, &errOut)
	if status != exitFailed {
		t.Errorf("status %d, want %d", status, exitFailed)
	}
	for _, want := range []string{"work small: start haproxy: ", "broken installation", "work handshake: start sluice: "} {
		if !strings.Contains(errOut.String(), want) || !strings.Contains(out.String(), want) {
			t.Errorf("the errors or the output do not contain %q:\n%s\n%s", want, &errOut, &out)
		}
	}
	text := readFile(t, page)
	if !strings.Contains(text, "| small | nginx |") || strings.Contains(text, "| small | haproxy |") {
		t.Errorf("the page lacks who was measured, or has who was not:\n%s", text)
	}
}

func TestShort_LatencyWithoutErrors(t *testing.T) {
	needTools(t, "nginx", "redis-server")
	page := samplePage(t)
	_, r := runShort(t, "-scenario", "latency", "-contestants", "sluice", "-page", page, "-sluice", buildSluice(t))
	if r.Latency == nil || len(r.Latency.Samples) != len(loads) {
		t.Fatalf("result %+v, want a sample for each of %d loads", r.Latency, len(loads))
	}
	for _, s := range r.Latency.Samples {
		if s.Rate <= 0 || s.P999Millis < s.P50Millis || s.P50Millis <= 0 {
			t.Errorf("sample %+v makes no sense", s)
		}
	}
	if text := readFile(t, page); strings.Count(text, "| sluice |") != len(loads) {
		t.Errorf("the page lacks rows:\n%s", text)
	}
}

func TestShort_MemoryWithoutErrors(t *testing.T) {
	needTools(t, "nginx", "redis-server")
	page, picture := samplePage(t), filepath.Join(t.TempDir(), "memory.svg")
	_, r := runShort(t, "-scenario", "memory", "-rate", "200", "-page", page, "-picture", picture, "-sluice", buildSluice(t))
	if r.Memory == nil || r.Memory.Changes == 0 || r.Memory.Requests["small"] == 0 {
		t.Fatalf("result %+v, want requests and changes", r.Memory)
	}
	if !strings.Contains(readFile(t, picture), "heap in use") || !strings.Contains(readFile(t, page), "| heap, lowest |") {
		t.Error("page or picture lacks the heap")
	}
}

func TestShort_GrowthWithoutErrors(t *testing.T) {
	needTools(t, "wrk", "nginx", "redis-server")
	page := samplePage(t)
	_, r := runShort(t, "-scenario", "growth", "-series", "backends", "-page", page, "-sluice", buildSluice(t))
	if len(r.Growth["backends"].Points) != 2 {
		t.Fatalf("result %+v, want two points", r.Growth["backends"])
	}
	if text := readFile(t, page); !strings.Contains(text, "| backends of the host |") {
		t.Errorf("the page lacks the table:\n%s", text)
	}
}

// samplePage is a page with a place for every scenario.
func samplePage(t *testing.T) string {
	t.Helper()
	text := "before\n"
	for _, command := range []string{"make loadtest", "make loadtest latency", "make loadtest-memory", "make growth"} {
		text += "<!-- " + command + " -->\nold\n<!-- end of " + command + " -->\n"
	}
	file := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(file, []byte(text+"after\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func readFile(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestPage_IsWrittenFromRecords(t *testing.T) {
	t.Parallel()
	page := samplePage(t)
	o := &options{page: page}
	if err := runPage(t.Context(), nil, o, machine{}, io.Discard); err != nil {
		t.Fatal(err)
	}
	if text := readFile(t, page); strings.Count(text, "old\n") != 4 {
		t.Errorf("without records the page has become\n%s", text)
	}
	err := errors.Join(
		saveRecords(rivalsFile(o), records{"small": {Rows: []row{{Contestant: "sluice", CPUMicros: 12.3}}}}),
		saveRecords(growthFile(o), growthRecords{"body": {Points: []growthPoint{{Value: 128, CPUMicros: 10}, {Value: 1024, CPUMicros: 15}}}}))
	if err != nil {
		t.Fatal(err)
	}
	if err := runPage(t.Context(), nil, o, machine{}, io.Discard); err != nil {
		t.Fatal(err)
	}
	text := readFile(t, page)
	for _, want := range []string{"| small | sluice | 12.3 |", "| 1024 | 15.0 | 1.50 |"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not contain %q:\n%s", want, text)
		}
	}
}

func TestWriteSection_KeepsTheRest(t *testing.T) {
	t.Parallel()
	page := samplePage(t)
	if err := writeSection(page, "make growth", "new\n"); err != nil {
		t.Fatal(err)
	}
	text := readFile(t, page)
	if !strings.Contains(text, "<!-- make growth -->\nnew\n<!-- end of make growth -->\nafter\n") || strings.Count(text, "old\n") != 3 {
		t.Errorf("the page is\n%s", text)
	}
	if err := writeSection(page, "make nothing", ""); err == nil || !strings.Contains(err.Error(), "make nothing") {
		t.Errorf("error %v for a page without the marks", err)
	}
}

func TestJudgeMemory_FailsOnGrowth(t *testing.T) {
	t.Parallel()
	flat, growing := make([]memoryPoint, 100), make([]memoryPoint, 100)
	for i := range flat {
		flat[i] = memoryPoint{RSS: 40 << 20, Heap: 20<<20 + float64(i%7)*(1<<20)}
		growing[i] = memoryPoint{RSS: 40 << 20, Heap: 20<<20 + float64(i)*(1<<18)}
	}
	if err := judgeMemory(&options{}, flat); err != nil {
		t.Errorf("a heap that swings fails: %v", err)
	}
	if err := judgeMemory(&options{}, growing); err == nil || !strings.Contains(err.Error(), "heap (lowest) grew") {
		t.Errorf("error %v for a heap that grows", err)
	}
	if err := judgeMemory(&options{}, flat[:3]); err == nil {
		t.Error("three looks are enough to judge")
	}
}

func TestParsePSS(t *testing.T) {
	t.Parallel()
	kib, err := parsePSS("55d0-7ffc ---p 00000000 00:00 0 [rollup]\nRss:   5000 kB\nPss:   4321 kB\nPss_Dirty: 1 kB\n")
	if err != nil || kib != 4321 {
		t.Errorf("parsePSS = %d, %v; want 4321", kib, err)
	}
	if _, err := parsePSS("Rss: 1 kB\n"); err == nil {
		t.Error("parsePSS accepts a text without the sum")
	}
}

func TestParseFlags_RefusesAndSaysWhy(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"unknown scenario", []string{"-scenario", "x"}, `-scenario "x"`},
		{"unknown work", []string{"-work", "small,x"}, `-work "x": must be one of small, 10k`},
		{"no work", []string{"-work", ","}, "-work: must name at least one"},
		{"unknown contestant", []string{"-contestants", "apache"}, `-contestants "apache"`},
		{"contestant twice", []string{"-contestants", "nginx,nginx"}, "named twice"},
		{"base without binary", []string{"-contestants", "base"}, "-base"},
		{"no rounds", []string{"-rounds", "0"}, "-rounds 0: must be from 1"},
		{"half a second", []string{"-duration", "500ms"}, "whole seconds"},
		{"broken seconds", []string{"-duration", "1500ms"}, "whole seconds"},
		{"too many connections", []string{"-connections", "100000"}, "-connections 100000"},
		{"stray word", []string{"small"}, `unexpected argument "small"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := parseFlags(tt.args, io.Discard)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one that says %q", err, tt.want)
			}
		})
	}
}

func TestParseFlags_DependentDefaults(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		args     []string
		rounds   int
		duration time.Duration
	}{
		{"rivals", nil, 5, 2 * time.Second},
		{"route changes", []string{"-scenario", "route-changes"}, 5, time.Minute},
		{"short", []string{"-short"}, 1, time.Second},
		{"short and given", []string{"-short", "-duration", "1s", "-rounds", "9", "-scenario", "memory"}, 1, time.Second},
	}
	for _, tt := range tests {
		o, err := parseFlags(tt.args, io.Discard)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if o.rounds != tt.rounds || o.duration != tt.duration {
			t.Errorf("%s: %d rounds of %v, want %d of %v", tt.name, o.rounds, o.duration, tt.rounds, tt.duration)
		}
	}
	o, err := parseFlags([]string{"-base", "/old/sluice", "-contestants", "sluice,nginx"}, io.Discard)
	if want := []string{"sluice", "base", "nginx"}; err != nil || !slices.Equal(o.contestants, want) {
		t.Errorf("contestants %v, %v; want %v", o.contestants, err, want)
	}
}

func TestParseGroup_CountsFieldsAfterTheName(t *testing.T) {
	t.Parallel()
	group, err := parseGroup("42 (a) b) (c) S 1 40 40 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 1 0")
	if err != nil || group != 40 {
		t.Errorf("parseGroup = %d, %v; want group 40", group, err)
	}
	if _, err := parseGroup("42 (a) S 1"); err == nil {
		t.Error("parseGroup accepts a short line")
	}
}

// TestProcess_CPUTimeIsThatOfTheWholeGroup lets a child of a shell work for a time that it knows.
func TestProcess_CPUTimeIsThatOfTheWholeGroup(t *testing.T) {
	t.Parallel()
	const script = `i=0; (while :; do i=$((i+1)); done) & exec sleep 600`
	p, err := startProcess("shell", nil, nil, "/bin/sh", "-c", script)
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	deadline := time.Now().Add(20 * time.Second)
	for {
		used, err := p.cpuTime()
		if err != nil {
			t.Fatal(err)
		}
		if used > 50*time.Millisecond {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("a child that does nothing but count has used %v after 20 s", used)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestParseReport(t *testing.T) {
	t.Parallel()
	const errorsPart = `"errors":{"connect":1,"read":2,"write":3,"status":4,"timeout":5}}`
	r, err := parseReport("Running 1s test\nREPORT {\"requests\":10,\"micros\":1000000,\"p50\":3,\"p99\":4,\"max\":5," +
		errorsPart + "\nmore\n")
	want := report{Requests: 10, Micros: 1_000_000, P50: 3, P99: 4, Max: 5, Errors: wrkErrors{1, 2, 3, 4, 5}}
	if err != nil || r != want {
		t.Errorf("parseReport = %+v, %v; want %+v", r, err, want)
	}
	if got := r.Errors.total(); got != 15 {
		t.Errorf("total = %d, want 15", got)
	}
	for _, bad := range []string{"", "REPORT {", `REPORT {"requests":0,"micros":1,` + errorsPart} {
		if _, err := parseReport(bad); err == nil {
			t.Errorf("parseReport(%q) succeeds", bad)
		}
	}
}

func TestRatio_ComparesRoundByRound(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name           string
		subject, rival []float64
		want           string
	}{
		{"three rounds", []float64{2, 9, 4}, []float64{1, 3, 4}, "2.00 (1.00 to 3.00)"},
		{"one round", []float64{3}, []float64{2}, "1.50"},
		{"a rival's zero is left out", []float64{3, 1}, []float64{2, 0}, "1.50"},
		{"nothing to compare with", []float64{1}, []float64{0}, "-"},
	} {
		if got := ratio(tt.subject, tt.rival).String(); got != tt.want {
			t.Errorf("%s: ratio = %s, want %s", tt.name, got, tt.want)
		}
	}
	if got := median([]float64{4, 1, 3, 2}); got != 2.5 {
		t.Errorf("median of four = %v, want 2.5", got)
	}
}

func TestOverlay_ReplacesKeysInsideSections(t *testing.T) {
	t.Parallel()
	config := map[string]any{"server": map[string]any{"accessLog": "a", "debug": false}, "driver": "redis:"}
	overlay(config, map[string]any{
		"server": map[string]any{"debug": true},
		"cache":  map[string]any{"maxHosts": 5.0},
		"driver": "file:routes.json",
	})
	want := map[string]any{
		"server": map[string]any{"accessLog": "a", "debug": true},
		"cache":  map[string]any{"maxHosts": 5.0},
		"driver": "file:routes.json",
	}
	if !reflect.DeepEqual(config, want) {
		t.Errorf("overlay made %v, want %v", config, want)
	}
}

func TestSamplesError_NamesWhoFailed(t *testing.T) {
	t.Parallel()
	good := sample{Work: "small", Contestant: "nginx"}
	bad := sample{Work: "10k", Contestant: "sluice", Round: 1, Report: report{Errors: wrkErrors{Status: 7}}}
	if err := samplesError([]sample{good}); err != nil {
		t.Errorf("error %v for samples without errors", err)
	}
	err := samplesError([]sample{good, bad})
	if err == nil || !strings.Contains(err.Error(), "work 10k, round 2: errors of sluice: 7") {
		t.Errorf("error %v does not name the sample", err)
	}
}

func TestProcess_StopEndsTheWholeGroup(t *testing.T) {
	t.Parallel()
	// A shell that ignores SIGTERM in its child: only the group's end reaches it.
	p, err := startProcess("shell", nil, nil, "/bin/sh", "-c", "(trap '' TERM; exec sleep 600) & echo $!; exec sleep 600")
	if err != nil {
		t.Fatal(err)
	}
	var child string
	err = p.await(t.Context(), 10*time.Second, func() error {
		if child = p.log.String(); child == "" {
			return io.ErrNoProgress
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.cpuTime(); err != nil {
		t.Error(err)
	}
	p.stop()
	deadline := time.Now().Add(10 * time.Second)
	for {
		stat, err := os.ReadFile("/proc/" + child + "/stat")
		if err != nil || bytes.Contains(stat, []byte(") Z ")) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("child %s still runs: %s", child, stat)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestProcess_AwaitTellsLastWords(t *testing.T) {
	t.Parallel()
	p, err := startProcess("shell", nil, nil, "/bin/sh", "-c", "echo no such option >&2; exit 3")
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	err = p.await(t.Context(), 10*time.Second, func() error { return io.ErrNoProgress })
	if err == nil || !strings.Contains(err.Error(), "no such option") {
		t.Errorf("await = %v, want the program's last words", err)
	}
}

func TestRouteStyles_EndWithTheNewList(t *testing.T) {
	t.Parallel()
	before, after := []string{"a", "b"}, []string{"b", "c"}
	for _, style := range routeStyles {
		t.Run(style.name, func(t *testing.T) {
			t.Parallel()
			list := []string{"vhost", "a", "b"}
			if style.name == dedicateStyle {
				list = nil // It never replaces one list by another.
			}
			for _, words := range style.write("key", "vhost", before, after) {
				list = apply(list, words)
			}
			slices.Sort(list[1:])
			if want := []string{"vhost", "b", "c"}; !slices.Equal(list, want) {
				t.Errorf("list is %v, want %v", list, want)
			}
		})
	}
}

// apply does to a list what Redis would do.
func apply(list, words []string) []string {
	switch words[0] {
	case "DEL":
		return nil
	case "RPUSH":
		return append(list, words[2:]...)
	case "LREM":
		if i := slices.Index(list, words[3]); i >= 0 {
			return slices.Delete(list, i, i+1)
		}
	}
	return list
}

func TestMix_ExcusesOnlyWhatItHeldUp(t *testing.T) {
	t.Parallel()
	m := &mix{}
	m.fail(time.Now(), io.ErrUnexpectedEOF)
	if excused, err := m.failures(); excused != 0 || err == nil {
		t.Errorf("%d excused, error %v; want none and an error", excused, err)
	}
	m.excuse(time.Now().Add(-time.Second)) // Known only after the failure.
	if excused, err := m.failures(); excused != 1 || err != nil {
		t.Errorf("%d excused, error %v; want one and no error", excused, err)
	}
	m.failed[0].period = period{time.Now().Add(-time.Minute), time.Now().Add(-50 * time.Second)}
	if _, err := m.failures(); err == nil || !strings.Contains(err.Error(), "1 requests failed") {
		t.Errorf("error %v for what failed long before", err)
	}
}
