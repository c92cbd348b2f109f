package threads

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// More programs compute than there are cores, this one among them, so it has to wait.
func TestAccounts_ACrowdedMachine(t *testing.T) {
	const others = `i=0; while [ $i -lt 100000000 ]; do i=$((i+1)); done` // ended below, long before
	for range runtime.NumCPU() {
		cmd := exec.Command("sh", "-c", others) //nolint:gosec // fixed text
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // killed
		})
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		before, err := readAccounts()
		if err != nil {
			t.Fatal(err)
		}
		compute(lookEvery)
		now, err := readAccounts()
		if err != nil {
			t.Fatal(err)
		}
		l := now.since(before)
		if l.used > 0.1 && l.waiting > 0.1 && l.idle < freeCore {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("got %+v, want some CPU time, some waiting, and no idle core", l)
		}
	}
}

// compute keeps as many threads busy as there are cores.
func compute(d time.Duration) {
	var all sync.WaitGroup
	end := time.Now().Add(d)
	for range runtime.NumCPU() {
		all.Go(func() {
			for time.Now().Before(end) {
			}
		})
	}
	all.Wait()
}

func TestAccounts_SomethingElseInTheFiles(t *testing.T) {
	t.Parallel()
	write := func(path, text string) string {
		path = filepath.Join(t.TempDir(), path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // a test's folder
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, text := range []string{"", "12.5", "12.5 many\n", "1 2 3"} {
		if idle, err := readIdle(write("uptime", text)); err == nil || !strings.Contains(err.Error(), "uptime") {
			t.Errorf("uptime %q: got %v, error %v; want an error that names the file", text, idle, err)
		}
	}
	if idle, err := readIdle(write("uptime", "375.70 471.25\n")); err != nil || idle != 471250*time.Millisecond {
		t.Errorf("got %v, error %v; want 471.25 s", idle, err)
	}
	folderOf := func(file string) string { return filepath.Dir(filepath.Dir(file)) }
	if waited, err := readWaiting(folderOf(write("17/schedstat", "1 2500 3\n"))); err != nil || waited != 2500 {
		t.Errorf("got %v, error %v; want 2500 ns", waited, err)
	}
	if waited, err := readWaiting(folderOf(write("17/status", ""))); err != nil || waited != 0 {
		t.Errorf("a kernel without the account: got %v, error %v; want nothing", waited, err)
	}
	if waited, err := readWaiting(folderOf(write("17/schedstat", "1\n"))); err == nil {
		t.Errorf("got %v, want an error", waited)
	}
}
