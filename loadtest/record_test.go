package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// rounds makes samples of one contestant, a round for each CPU time.
func rounds(contestant string, cpu ...float64) []sample {
	list := make([]sample, len(cpu))
	for i, micros := range cpu {
		list[i] = sample{
			Work: "hosts", Contestant: contestant, Round: i, CPUMicros: micros, Rate: 1000, P99Millis: 1,
		}
	}
	return list
}

func TestRecord_ComparesManyHostsWithOne(t *testing.T) {
	t.Parallel()
	var samples []sample
	for _, list := range [][]sample{
		rounds("sluice", 11, 24, 13),
		rounds("sluice"+oneHost, 10, 20, 10),
		rounds("nginx+log", 12, 12, 12),
	} {
		samples = append(samples, list...)
	}
	w := workNamed("hosts")
	r := newRecord(&options{connections: 64}, machine{}, w, samples)
	subject, _ := r.of("sluice")
	if subject.OneHost == nil || subject.OneHost.CPURatio != 1.2 || subject.OneHost.CPURange != (span{1.1, 1.3}) {
		t.Errorf("sluice beside itself with one host: %+v, want 1.2 from 1.1 to 1.3", subject.OneHost)
	}
	if rival, _ := r.of("nginx+log"); rival.OneHost != nil {
		t.Errorf("nginx took no part with one host and has %+v", rival.OneHost)
	}
	text := records{w.name: r}.text()
	want := "| small GET, 100 000 hosts | 1.20 (1.10 to 1.30) | – | – |"
	if !strings.Contains(text, want) {
		t.Errorf("the page does not contain %q:\n%s", want, text)
	}
	if strings.Contains(records{w.name: r}.picture(), "with one host") {
		t.Error("the picture shows the contestants with one host as rivals")
	}
}

func TestTargets_NameWorksAndContestantsThatExist(t *testing.T) {
	t.Parallel()
	for _, tt := range targets {
		workNamed(tt.work) // It panics if there is none.
		if checkNames("rival", []string{tt.rival}, contestantNames()) != nil {
			t.Errorf("a target of %s compares with %q", tt.work, tt.rival)
		}
	}
}

func TestTargets_AreJudgedAsPrinted(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		target target
		value  float64
		want   bool
	}{
		{cpuTarget("small", "nginx+log", 1), 1.004, true},
		{cpuTarget("small", "nginx+log", 1), 1.006, false},
		{rateTarget("small", "nginx+log", 0.95), 0.946, true},
		{rateTarget("small", "nginx+log", 0.95), 0.944, false},
	} {
		if got := tt.target.reached(tt.value); got != tt.want {
			t.Errorf("%s of %v, bound %v: reached %v", tt.target.what, tt.value, tt.target.bound, got)
		}
	}
}

func TestTargets_TableTellsWhichAreReached(t *testing.T) {
	t.Parallel()
	all := records{"small": {Rows: []row{
		{Contestant: "sluice"},
		{Contestant: "nginx+log", CPURatio: 1.09, CPURange: span{1, 1.2}, RateRatio: 1.01, RateRange: span{0.9, 1.1}},
	}}}
	text := all.text()
	for _, want := range []string{
		"1 of 2 are reached",
		"| small GET, keep-alive | CPU time × nginx+log ≤ 1.00 | 1.09 (1.00 to 1.20) | **no** |",
		"| small GET, keep-alive | requests/s × nginx+log ≥ 1.00 | 1.01 (0.90 to 1.10) | yes |",
		"| CPU time × nginx+log | `small` 1.09 |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not contain %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "| requests/s × nginx+log | `small`") {
		t.Errorf("more requests than a rival are told as a loss:\n%s", text)
	}
}

func TestParseH2load(t *testing.T) {
	t.Parallel()
	const head = "Application protocol: %s\nTLS Protocol: TLSv1.3\n"
	const counts = "requests: 1256 total, 1256 started, 1000 done, 998 succeeded, 1 failed, 1 errored, 0 timeout\n" +
		"traffic: 153.32KB (157000) total, 8.82KB (9030) headers (space savings 95.32%%), %s (%d) data\n"
	r, err := parseH2load(fmt.Sprintf(head+counts, "h2", "124.75KB", 998*smallBytes), smallBytes, time.Second)
	if err != nil || r.Requests != 1000 || r.Errors.Status != 1 || r.Errors.Read != 1 || r.Micros != 1_000_000 {
		t.Errorf("parseH2load = %+v, %v", r, err)
	}
	for name, bad := range map[string]string{
		"HTTP/1.1":      fmt.Sprintf(head+counts, "http/1.1", "124.75KB", 998*smallBytes),
		"short answers": fmt.Sprintf(head+counts, "h2", "1KB", 998),
		"no counts":     fmt.Sprintf(head, "h2"),
	} {
		if _, err := parseH2load(bad, smallBytes, time.Second); err == nil {
			t.Errorf("parseH2load accepts %s", name)
		}
	}
}
