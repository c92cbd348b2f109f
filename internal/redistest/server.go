package redistest

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// portAttempts bounds how often a port that another process took first is replaced.
const portAttempts = 10

// Server is one redis-server process. Its methods may be called from several goroutines, except
// that those which fail the test (all but Try) belong to the test's own goroutine.
type Server struct {
	// Port is the TCP port on 127.0.0.1; it stays the same over Restart.
	Port int
	// TLSPort is a second port, for TLS, of a server that was started with "--tls-cert-file"; 0
	// without.
	TLSPort int

	t        testing.TB // nil for a server of Launch
	dir      string
	args     []string
	password string
	sentinel string // configuration file of a Sentinel; empty for a server
	apart    bool   // in a network namespace of its own

	mu     sync.Mutex
	proc   *process // nil while the server is down
	client *Client  // the connection of Do, dialled when first used
}

// Start runs a redis-server with args added to its command line ("--maxmemory", "1mb") until the
// test ends. It fails the test, with the server's own words, if the server does not answer.
// With "--requirepass" the password is used by Do and stands in URL.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	s, err := Launch(args...)
	if err != nil {
		t.Fatalf("redistest: %v", err)
	}
	s.t = t
	t.Cleanup(s.Close)
	return s
}

// StartReplica runs a replica of master and returns once its link is up and the first
// synchronisation is over.
func StartReplica(t testing.TB, master *Server, args ...string) *Server {
	t.Helper()
	all := []string{"--replicaof", "127.0.0.1 " + strconv.Itoa(master.linkPort())}
	if master.password != "" {
		all = append(all, "--masterauth", master.password)
	}
	s := Start(t, append(all, args...)...)
	if err := poll(func() error {
		info, err := s.Try("INFO", "replication")
		if err != nil {
			return err
		}
		if !strings.Contains(fmt.Sprint(info), "master_link_status:up") {
			return errors.New("link to the master is not up")
		}
		return nil
	}); err != nil {
		t.Fatalf("redistest: start replica of port %d: %v", master.Port, err)
	}
	return s
}

// Launch is Start for a program that is no test. The caller ends the server with Close; methods
// that would fail a test panic instead.
func Launch(args ...string) (*Server, error) {
	return launch(func(s *Server) error {
		s.args, s.password = args, option(args, "--requirepass")
		return nil
	})
}

// launch runs a server in a directory of its own, as prepare sets it up there.
func launch(prepare func(s *Server) error) (*Server, error) {
	dir, err := os.MkdirTemp("", "redistest")
	if err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	s := &Server{dir: dir}
	if err := prepare(s); err != nil {
		_ = os.RemoveAll(dir) // The error that matters is the one before.
		return nil, err
	}
	for range portAttempts {
		if err = s.choosePorts(); err != nil {
			break
		}
		if err = s.start(); err == nil {
			return s, nil
		}
		if !portRefused(err) {
			break
		}
	}
	_ = os.RemoveAll(dir) // The error that matters is the one of the start.
	return nil, err
}

func (s *Server) choosePorts() (err error) {
	if s.Port, err = freePort(); err == nil && option(s.args, "--tls-cert-file") != "" {
		s.TLSPort, err = freePort()
	}
	return err
}

// Addr is the server's "host:port".
func (s *Server) Addr() string {
	host := "127.0.0.1"
	if s.apart {
		host = farAddress
	}
	return net.JoinHostPort(host, strconv.Itoa(s.Port))
}

// SecureAddr is Addr for TLS.
func (s *Server) SecureAddr() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.TLSPort))
}

// Socket is the path of the server's unix socket.
func (s *Server) Socket() string { return filepath.Join(s.dir, "redis.sock") }

// URL is the server's address in the form of a driver URL, password included.
func (s *Server) URL() string {
	if s.password != "" {
		return "redis://:" + s.password + "@" + s.Addr()
	}
	return "redis://" + s.Addr()
}

// Kill ends the server at once (SIGKILL), as a crash would, and returns when it is gone. Killing a
// server that is down does nothing.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kill()
}

// Restart kills the server if it runs and starts it again on the same port with the same
// arguments. Without persistence it comes back empty.
func (s *Server) Restart() {
	s.helper()
	s.Kill()
	// The port is free to others meanwhile; if one took it, wait until it is given back.
	if err := poll(s.start); err != nil {
		s.fatalf("restart: %v", err)
	}
}

// Stop freezes the server (SIGSTOP) and returns when it stands still: its connections stay open
// and nothing answers on them. Continue undoes it.
func (s *Server) Stop() {
	s.helper()
	s.signal(syscall.SIGSTOP)
	if err := poll(func() error {
		state, err := s.state()
		if err == nil && state != 'T' {
			err = fmt.Errorf("process state is %c", state)
		}
		return err
	}); err != nil {
		s.fatalf("stop: %v", err)
	}
}

// Continue lets a stopped server go on.
func (s *Server) Continue() {
	s.helper()
	s.signal(syscall.SIGCONT)
}

// Close ends the server and removes its directory. Start has arranged for it already.
func (s *Server) Close() {
	s.Kill()
	if err := os.RemoveAll(s.dir); err != nil && s.t != nil {
		s.t.Errorf("redistest: remove directory: %v", err)
	}
}

func (s *Server) kill() {
	if s.client != nil {
		_ = s.client.Close() // The peer is about to die; nothing is lost.
		s.client = nil
	}
	if s.proc != nil {
		s.proc.kill()
		s.proc = nil
	}
}

// start runs the process and waits for its first answer.
func (s *Server) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := startProcess(s.commandLine(), s.apart)
	if err != nil {
		return err
	}
	s.proc = p
	err = s.awaitReady(p)
	if err == nil && s.apart {
		err = link(p.pid(), s.Addr())
	}
	if err != nil {
		s.kill()
		return fmt.Errorf("start redis-server on port %d: %w", s.Port, err)
	}
	return nil
}

// commandLine is what redis-server is started with.
func (s *Server) commandLine() []string {
	own := []string{
		"--port", strconv.Itoa(s.Port), "--bind", "127.0.0.1", "--dir", s.dir, "--daemonize", "no",
	}
	if s.apart {
		own = append(own, "--bind", "0.0.0.0", "--protected-mode", "no")
	}
	if s.TLSPort != 0 {
		own = append(own, "--tls-port", strconv.Itoa(s.TLSPort))
	}
	if s.sentinel != "" {
		own = append(own, s.args...)
		return append(append([]string{s.sentinel}, own...), "--sentinel")
	}
	own = append(own,
		"--unixsocket", s.Socket(), "--save", "", "--appendonly", "no",
		// A replica synchronises at once instead of waiting for others to join.
		"--repl-diskless-sync-delay", "0")
	return append(own, s.args...)
}

// portRefused tells whether another port may help: this one was taken meanwhile, or it leaves no
// room for the cluster port, which lies 10000 above.
func portRefused(err error) bool {
	text := strings.ToLower(err.Error())
	return strings.Contains(text, "already in use") || strings.Contains(text, "too high")
}

// awaitReady returns when this very process answers; a stranger on the same port does not count.
func (s *Server) awaitReady(p *process) error {
	return poll(func() error {
		select {
		case <-p.done:
			return fatalError{fmt.Errorf("exited: %s", p.lastWords())}
		default:
		}
		c, err := s.dial()
		if err != nil {
			return err
		}
		info, err := c.Do("INFO", "server")
		if err == nil && !strings.Contains(fmt.Sprint(info), fmt.Sprintf("process_id:%d\r\n", p.pid())) {
			err = fatalError{errors.New("address already in use by another server")}
		}
		if err != nil {
			_ = c.Close() // The error of INFO says more.
			return err
		}
		s.client = c
		return nil
	})
}

func (s *Server) connect() (*Client, error) {
	if s.apart {
		return Dial("unix", s.Socket())
	}
	return Dial("tcp", s.Addr())
}

func (s *Server) dial() (*Client, error) {
	c, err := s.connect()
	if err != nil || s.password == "" {
		return c, err
	}
	if _, err := c.Do("AUTH", s.password); err != nil {
		_ = c.Close() // The refusal says more.
		return nil, err
	}
	return c, nil
}

func (s *Server) signal(sig syscall.Signal) {
	s.mu.Lock()
	p := s.proc
	s.mu.Unlock()
	if p == nil {
		s.fatalf("send %v: the server is down", sig)
		return
	}
	if err := p.cmd.Process.Signal(sig); err != nil {
		s.fatalf("send %v: %v", sig, err)
	}
}

// state is the process state letter of proc(5), the first field after the parenthesised name.
func (s *Server) state() (byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return 0, fatalError{errors.New("the server is down")}
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.proc.pid()))
	if err != nil {
		return 0, err
	}
	i := bytes.LastIndex(stat, []byte(") "))
	if i < 0 || i+2 >= len(stat) {
		return 0, fmt.Errorf("unexpected process state %q", stat)
	}
	return stat[i+2], nil
}

// silent tells whether the server would answer late or never.
func (s *Server) silent() bool {
	state, err := s.state()
	return err != nil || state == 'T'
}

func (s *Server) helper() {
	if s.t != nil {
		s.t.Helper()
	}
}

func (s *Server) fatalf(format string, args ...any) {
	if s.t == nil {
		panic("redistest: " + fmt.Sprintf(format, args...))
	}
	s.t.Helper()
	s.t.Fatalf("redistest: "+format, args...)
}

// linkPort is where other servers reach this one.
func (s *Server) linkPort() int {
	if option(s.args, "--tls-replication") == "yes" || option(s.args, "--tls-cluster") == "yes" {
		return s.TLSPort
	}
	return s.Port
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// option is the value that follows name in args, the last one if it is repeated.
func option(args []string, name string) (value string) {
	for i := 0; i+1 < len(args); i++ {
		if args[i] == name {
			value = args[i+1]
		}
	}
	return value
}
