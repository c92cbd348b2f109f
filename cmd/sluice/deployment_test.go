package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/internal/logtest"
)

// deployment is a sluice whose binary is replaced while it serves. Its log is that of all its
// processes.
type deployment struct {
	*process
	binary string // the path that it was started by
	pid    int    // of the process that serves now
}

// newDeployment starts a copy of the binary that anybody may execute.
func newDeployment(t *testing.T, args ...string) *deployment {
	t.Helper()
	port := freePort(t)
	return newDeploymentOn(t, port, append([]string{fmt.Sprintf("--http-port=%d", port), "--user=root"}, args...)...)
}

func newDeploymentOn(t *testing.T, port int, args ...string) *deployment {
	t.Helper()
	binary, adminPort := filepath.Join(openFolder(t), "sluice"), freePort(t)
	installBinary(t, binary)
	return deploy(t, exec.Command(binary, append(args, fmt.Sprintf("--admin-port=%d", adminPort))...), binary, port, adminPort)
}

// deploy starts a command that runs the binary at a path.
func deploy(t *testing.T, cmd *exec.Cmd, binary string, port, adminPort int) *deployment {
	t.Helper()
	// Processes whose parent has ended become children of this one, which learns their status.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	// A pipe of our own: the end of one process is known while the next one still holds it.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	log, copied := new(logtest.Buffer), make(chan struct{})
	go func() {
		_, _ = io.Copy(log, r) // ends with the last process
		_ = r.Close()
		close(copied)
	}()
	d := &deployment{binary: binary, process: &process{t: t}}
	cmd.Stderr = w
	t.Cleanup(func() { // the launcher has ended the first process by then
		_ = w.Close()
		d.endAll(copied)
	})
	d.process = launchCommand(t, cmd, log, port, adminPort)
	_ = w.Close()
	d.pid = cmd.Process.Pid
	return d
}

// openFolder makes a folder that every user may look into.
func openFolder(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "sluice-deploy-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	if err := os.Chmod(folder, 0o755); err != nil { //nolint:gosec // another user runs the binary in it
		t.Fatal(err)
	}
	return folder
}

// installBinary puts a new copy of the binary at a path, as an operator replaces one that runs.
func installBinary(t *testing.T, path string) {
	t.Helper()
	built, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(built)
	if err != nil {
		t.Fatal(err)
	}
	// A process that another test starts meanwhile would inherit the open file: Linux executes none
	// that somebody may still write to (ETXTBSY).
	syscall.ForkLock.RLock()
	err = os.WriteFile(path+".new", content, 0o755) //nolint:gosec // it is a program
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// kill sends a signal to a process of the deployment.
func (d *deployment) kill(pid int, s syscall.Signal) {
	d.t.Helper()
	if err := syscall.Kill(pid, s); err != nil {
		d.t.Fatalf("signal %v to pid %d: %v", s, pid, err)
	}
}

// handOver makes the serving process hand over, and returns its pid when the new one serves.
func (d *deployment) handOver() (oldPID int) {
	d.t.Helper()
	oldPID = d.pid
	d.kill(oldPID, syscall.SIGUSR2)
	d.pid = d.awaitPID("taken over", oldPID)
	return oldPID
}

// awaitPID waits for a line of a process that an old one has started, and gives its pid.
func (d *deployment) awaitPID(message string, oldPID int) int {
	d.t.Helper()
	pattern := regexp.MustCompile(fmt.Sprintf(`msg="%s" pid=(\d+) old_pid=%d\n`, message, oldPID))
	var found []string
	d.await(fmt.Sprintf("%q after pid %d", message, oldPID), func() bool {
		found = pattern.FindStringSubmatch(d.log.String())
		return found != nil
	})
	pid, err := strconv.Atoi(found[1])
	if err != nil {
		d.t.Fatal(err)
	}
	return pid
}

// exitStatusOf waits for the end of any process of the deployment.
func (d *deployment) exitStatusOf(pid int) int {
	d.t.Helper()
	if pid == d.cmd.Process.Pid {
		return d.exitStatus()
	}
	var status syscall.WaitStatus
	d.await(fmt.Sprintf("end of pid %d", pid), func() bool { return reaped(pid, &status) })
	return status.ExitStatus()
}

// reaped collects a process that has ended. It is ours only once its parent has ended too.
func reaped(pid int, status *syscall.WaitStatus) bool {
	got, err := syscall.Wait4(pid, status, syscall.WNOHANG, nil)
	return err == nil && got == pid
}

// endAll ends the processes that are left, until none holds the log any more.
func (d *deployment) endAll(closed <-chan struct{}) {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		for _, pid := range d.running() {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may just have ended
			reaped(pid, nil)
		}
		select {
		case <-closed:
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
	d.t.Errorf("processes of %s do not end", d.binary)
}

// running lists the processes that run the deployment's binary, whose path nobody else has.
func (d *deployment) running() (pids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline") // the pattern is sound
	for _, file := range files {
		commandLine, err := os.ReadFile(file)
		if err != nil || !strings.HasPrefix(string(commandLine), d.binary+"\x00") {
			continue // it has ended, or is somebody else's
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
