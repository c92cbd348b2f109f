package main

import (
	"os/exec"
	"testing"
	"time"
)

func TestParseBusy(t *testing.T) {
	t.Parallel()
	busy, err := parseBusy("cpu  1 2 4 1000 1000 8 16 32 0 0")
	if err != nil || busy != 1+2+4+8+16+32 {
		t.Errorf("parseBusy = %d, %v; want all but idle and waiting for disks", busy, err)
	}
	for _, bad := range []string{"", "cpu 1 2", "cpu a b c d e f g h"} {
		if _, err := parseBusy(bad); err == nil {
			t.Errorf("parseBusy(%q) succeeds", bad)
		}
	}
}

func TestUsage_ElsewhereIsWhatOthersUse(t *testing.T) {
	t.Parallel()
	now := time.Now()
	before := usage{at: now, busy: 1000, ours: 500}
	after := usage{at: now.Add(2 * time.Second), busy: 1350, ours: 700}
	if got := after.elsewhere(before); got != 0.75 {
		t.Errorf("elsewhere = %v, want 150 ticks in two seconds: 0.75 of a processor", got)
	}
	after.ours = 900 // Ticks are rounded; there is nothing less than nothing.
	if got := after.elsewhere(before); got != 0 {
		t.Errorf("elsewhere = %v, want 0", got)
	}
}

// TestLookAround_CountsGrandchildrenAsOurs lets a child of a child work, then waits for another one that
// has worked and ended.
func TestLookAround_CountsGrandchildrenAsOurs(t *testing.T) {
	t.Parallel()
	before, err := lookAround()
	if err != nil {
		t.Fatal(err)
	}
	const counting = `i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done`
	p, err := startProcess("shell", nil, nil, "/bin/sh", "-c", "("+counting+"; exec sleep 600) & wait")
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	if err := exec.Command("/bin/sh", "-c", counting).Run(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		after, err := lookAround()
		if err != nil {
			t.Fatal(err)
		}
		if used, err := p.cpuTime(); err == nil && used > 50*time.Millisecond && after.ours-before.ours >= 10 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d ticks are ours, want those of both shells", after.ours-before.ours)
		}
	}
}
