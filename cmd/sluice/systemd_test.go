package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/internal/backendtest"
)

// activate gives a command that starts the binary as systemd does: with sockets from descriptor 3
// on, and the variables of sd_listen_fds(3).
func activate(t *testing.T, binary string, sockets []any, args ...string) *exec.Cmd {
	t.Helper()
	// The shell knows the pid that the binary will have.
	ctx, cancel := context.WithTimeout(context.Background(), 4*patience)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", `LISTEN_PID=$$ exec "$0" "$@"`, binary}, args...)...)
	cmd.Env = append(os.Environ(), fmt.Sprintf("LISTEN_FDS=%d", len(sockets)))
	for _, s := range sockets {
		file, err := s.(interface{ File() (*os.File, error) }).File()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = file.Close() })
		cmd.ExtraFiles = append(cmd.ExtraFiles, file)
	}
	return cmd
}

func listenAny(t *testing.T) (net.Listener, int) {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln, ln.Addr().(*net.TCPAddr).Port
}

func TestSystemd_PassesSockets(t *testing.T) {
	t.Parallel()
	backend := backendtest.HTTP(t, backendtest.Text(http.StatusOK, "hello"))
	public, port := listenAny(t)
	operators, adminPort := listenAny(t)
	binary := filepath.Join(openFolder(t), "sluice")
	installBinary(t, binary)
	cmd := activate(t, binary, []any{public, operators}, "--user=root", "--server-access-log=none",
		fmt.Sprintf("--http-port=%d", port), fmt.Sprintf("--admin-port=%d", adminPort),
		routesFile(t, map[string]string{"www.example.com": backend.URL()}))
	states := notifications(t, cmd)
	d := deploy(t, cmd, binary, port, adminPort)
	d.awaitLog("socket taken from systemd", public.Addr().String())
	d.awaitLog("socket taken from systemd", operators.Addr().String())
	awaitState(t, states, fmt.Sprintf("READY=1\nMAINPID=%d", d.pid))
	d.serves()

	old := d.handOver()
	awaitState(t, states, fmt.Sprintf("READY=1\nMAINPID=%d", d.pid))
	if status := d.exitStatusOf(old); status != exitOK {
		t.Errorf("exit status %d, want 0", status)
	}
	d.serves()
}

// notifications makes the socket that NOTIFY_SOCKET names and gives what arrives there.
func notifications(t *testing.T, cmd *exec.Cmd) <-chan string {
	t.Helper()
	address := &net.UnixAddr{Name: filepath.Join(openFolder(t), "notify"), Net: "unixgram"}
	conn, err := net.ListenUnixgram("unixgram", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+address.Name)
	states := make(chan string, 10)
	go func() {
		for buffer := make([]byte, 1024); ; {
			n, err := conn.Read(buffer)
			if err != nil {
				return
			}
			states <- string(buffer[:n])
		}
	}()
	return states
}

// awaitState wants the next notification. A process that leaves the service to another one must
// not say that the service stops.
func awaitState(t *testing.T, states <-chan string, want string) {
	t.Helper()
	select {
	case got := <-states:
		if got != want {
			t.Errorf("notification %q; want %q", got, want)
		}
	case <-time.After(patience):
		t.Errorf("no notification; want %q", want)
	}
}

func TestSystemd_SocketThatNobodyServes(t *testing.T) {
	t.Parallel()
	stray, _ := listenAny(t)
	binary, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	cmd := activate(t, binary, []any{stray}, "--user=root", "--server-access-log=none", "--admin-port=0",
		"--http-port="+port(t), routesFile(t, nil))
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "systemd passed a socket for "+stray.Addr().String()) {
		t.Errorf("%v, output %q", err, out)
	}
}
