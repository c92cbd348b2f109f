package redistest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Both ends of the link to a server that runs apart.
const (
	nearAddress, farAddress = "10.231.0.1", "10.231.0.2"
	linkNetwork             = "10.231.0.0/30"
	nearMAC, farMAC         = "02:00:00:00:02:01", "02:00:00:00:02:02"
	farLink                 = "far"
)

// namespaceVariable names the test that a process runs which was started to have a network of its
// own.
const namespaceVariable = "REDISTEST_NAMESPACE"

// InNamespace lets a test break networks without touching the machine's: it runs the test again in a
// process with a network of its own and reports the outcome. It returns true in that process; in the
// first one it returns false when all is over, and nothing is left to do. The program ip must be
// there, and the right to make namespaces: that of root, or of everybody where the kernel allows it.
// Without them it fails the test and says what to do.
func InNamespace(t *testing.T) bool {
	t.Helper()
	if os.Getenv(namespaceVariable) == t.Name() {
		if err := ip("link", "set", "lo", "up"); err != nil {
			t.Fatalf("redistest: %v", err)
		}
		return true
	}
	if _, err := ipProgram(); err != nil {
		t.Fatalf("redistest: %v", err)
	}
	pattern := "^" + strings.ReplaceAll(regexp.QuoteMeta(t.Name()), "/", "$/^") + "$"
	cmd := exec.CommandContext(t.Context(), os.Args[0],
		"-test.run", pattern, "-test.v", "-test.count=1", "-test.timeout=3m")
	cmd.Env = append(os.Environ(), namespaceVariable+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	// The death signal is that of this thread's end.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	out, err := cmd.CombinedOutput()
	switch {
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EINVAL),
		errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EUSERS):
		t.Fatalf("redistest: make a network namespace: %v: run the tests as root, in a container with CAP_SYS_ADMIN and "+
			"CAP_NET_ADMIN, or allow user namespaces (sysctl user.max_user_namespaces)", err)
	case err != nil:
		t.Errorf("redistest: in a namespace of its own: %v\n%s", err, out)
	default:
		t.Logf("in a namespace of its own:\n%s", out)
	}
	return false
}

// StartApart is Start for a server in a network namespace of its own, at the far end of a link that
// can be broken. It works in a test that InNamespace runs. Do goes by the unix socket, past the link.
func StartApart(t testing.TB, args ...string) *Server {
	t.Helper()
	s, err := launch(func(s *Server) error {
		s.args, s.password, s.apart = args, option(args, "--requirepass"), true
		return nil
	})
	if err != nil {
		t.Fatalf("redistest: %v", err)
	}
	s.t = t
	t.Cleanup(s.Close)
	return s
}

// Unplug breaks the link as a pulled cable does: nothing arrives on either side, and nobody is told.
func (s *Server) Unplug() { s.far("ip", "link", "set", farLink, "down") }

// Plug undoes Unplug.
func (s *Server) Plug() {
	s.far("ip", "link", "set", farLink, "up")
}

// LoseRoute takes away the server's way back: it hears everything, and no answer leaves it.
func (s *Server) LoseRoute() { s.far("ip", "route", "del", linkNetwork) }

// RegainRoute undoes LoseRoute.
func (s *Server) RegainRoute() { s.far("ip", "route", "add", linkNetwork, "dev", farLink) }

// far runs a program on the server's side.
func (s *Server) far(args ...string) {
	s.helper()
	s.mu.Lock()
	p := s.proc
	s.mu.Unlock()
	if p == nil {
		s.fatalf("%v: the server is down", args)
		return
	}
	if err := inNetworkOf(p.pid(), args...); err != nil {
		s.fatalf("%v", err)
	}
}

// link connects the server's namespace to this one. The neighbours are told to each other: as behind
// a router, nobody has to find out anew who has an address. It returns when the server's own can be
// reached.
func link(pid int, address string) error {
	// Of a former life of the server; the kernel removes it, but takes its time.
	_ = ip("link", "del", "near")
	const far = farLink
	for _, step := range []func() error{
		func() error {
			return ip("link", "add", "near", "address", nearMAC, "type", "veth",
				"peer", "name", far, "address", farMAC, "netns", strconv.Itoa(pid))
		},
		func() error { return ip("addr", "add", nearAddress+"/30", "dev", "near") },
		func() error { return ip("link", "set", "near", "up") },
		func() error { return inNetworkOf(pid, "ip", "addr", "add", farAddress+"/30", "dev", far) },
		func() error { return inNetworkOf(pid, "ip", "link", "set", far, "up") },
		func() error {
			return ip("neigh", "replace", farAddress, "lladdr", farMAC, "dev", "near", "nud", "permanent")
		},
		func() error {
			return inNetworkOf(pid, "ip", "neigh", "replace", nearAddress, "lladdr", nearMAC, "dev", far, "nud", "permanent")
		},
	} {
		if err := step(); err != nil {
			return err
		}
	}
	// The kernel lets packets through a moment after it said that the link is up.
	return poll(func() error {
		conn, err := net.DialTimeout("tcp", address, 50*time.Millisecond)
		if err == nil {
			_ = conn.Close()
		}
		return err
	})
}

func ipProgram() (string, error) {
	for _, name := range []string{"ip", "/sbin/ip", "/usr/sbin/ip"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("the program ip is not in PATH: apt-get install iproute2")
}

// ip runs that program in this network.
func ip(args ...string) error {
	path, err := ipProgram()
	if err != nil {
		return err
	}
	return output(exec.Command(path, args...))
}

// inNetworkOf runs a program in the network of a process.
func inNetworkOf(pid int, args ...string) error {
	path, err := ipProgram()
	if err != nil {
		return err
	}
	if args[0] == "ip" {
		args = append([]string{path}, args[1:]...)
	}
	return output(exec.Command("nsenter", append([]string{"-t", strconv.Itoa(pid), "-n"}, args...)...))
}

func output(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
