package proxy_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// nodeScripts are the WebSocket peers in JavaScript, nodeModules where their library is installed.
const (
	nodeScripts = "testdata/ws"
	nodeModules = "../dist/ws"
)

// installOnce installs the library that the scripts need, in the version that their lock file names.
var installOnce = sync.OnceValues(func() (string, error) {
	if err := os.MkdirAll(nodeModules, 0o755); err != nil {
		return "", err
	}
	lock, err := os.Create(filepath.Join(nodeModules, "installing"))
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil { // Another run may be at it.
		return "", err
	}
	fresh := true
	for _, name := range []string{"package.json", "package-lock.json"} {
		want, err := os.ReadFile(filepath.Join(nodeScripts, name))
		if err != nil {
			return "", err
		}
		if have, err := os.ReadFile(filepath.Join(nodeModules, name)); err == nil && bytes.Equal(have, want) {
			continue
		}
		fresh = false
		if err := os.WriteFile(filepath.Join(nodeModules, name), want, 0o644); err != nil {
			return "", err
		}
	}
	if _, err := os.Stat(filepath.Join(nodeModules, "node_modules", "ws")); err == nil && fresh {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = nodeModules
	out, err := cmd.CombinedOutput()
	return string(out), err
})

// nodeCommand is a script of testdata/ws with its arguments.
func nodeCommand(t testing.TB, script string, args ...string) *exec.Cmd {
	t.Helper()
	program := installed(t, "node", "nodejs")
	installed(t, "npm", "npm")
	if out, err := installOnce(); err != nil {
		t.Fatalf("npm ci in %s: %v: the library ws must be installed there\n%s", nodeModules, err, out)
	}
	modules, err := filepath.Abs(filepath.Join(nodeModules, "node_modules"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, append([]string{filepath.Join(nodeScripts, script)}, args...)...)
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = time.Second
	return cmd
}

// runNode runs a script to its end and returns the lines that it printed.
func runNode(t testing.TB, script string, args ...string) []string {
	t.Helper()
	cmd := nodeCommand(t, script, args...)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("node %s %q: %v\n%s", script, args, err, &complaints)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}
