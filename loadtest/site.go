package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
	"time"
)

// readyTimeout bounds the time from a program's start to its first answer, readyPerHost what each name
// that it routes may add to that.
const (
	readyTimeout = 30 * time.Second
	readyPerHost = 60 * time.Microsecond
)

// site is what all contestants share: a directory, a certificate, and one nginx worker that
// answers on two ports as two backends.
type site struct {
	dir       string
	backends  [2]int // ports
	certFile  string // PEM certificate
	keyFile   string // PEM key
	pemFile   string // both, as HAProxy wants them
	nginx     *process
	crowd     *process     // many backends, for the scenario growth
	echoes    *http.Server // WebSocket backend
	echoPort  int
	crowdPort int
	frame     []byte // a client's WebSocket message
}

// newSite prepares the directory and starts the backend.
func newSite(ctx context.Context) (*site, error) {
	dir, err := os.MkdirTemp("", "sluice-loadtest-")
	if err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	s := &site{dir: dir}
	if err := s.prepare(); err != nil {
		s.close()
		return nil, err
	}
	if err := errors.Join(s.startEcho(), s.startBackends(ctx)); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// close stops the backend and removes the directory.
func (s *site) close() {
	for _, p := range []*process{s.nginx, s.crowd} {
		if p != nil {
			p.stop()
		}
	}
	if s.echoes != nil {
		_ = s.echoes.Close() // Its clients are gone, or have lost it with this program.
	}
	_ = os.RemoveAll(s.dir) // A temporary directory; the system cleans up what is left.
}

// prepare writes the files that answers are made of, and the certificate.
func (s *site) prepare() error {
	if err := os.Mkdir(s.path("www"), 0o755); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	files := map[string]int{"10k": tenKBytes, "1m": oneMBytes, "10m": tenMBytes}
	for _, size := range bodySizes {
		files[fmt.Sprintf("b%d", size)] = size
	}
	for name, size := range files {
		if err := os.WriteFile(s.path("www", name), bytes.Repeat([]byte("x"), size), 0o644); err != nil {
			return fmt.Errorf("write answer: %w", err)
		}
	}
	for i := range s.backends {
		port, err := freePort()
		if err != nil {
			return err
		}
		s.backends[i] = port
	}
	return s.writeCertificate()
}

// path is a path in the site's directory.
func (s *site) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

// fileOf is the path of a file that belongs to one entrant.
func (s *site) fileOf(name, extension string) string { return s.path(fileName(name) + extension) }

// fileName makes a name that may stand in any configuration unquoted.
func fileName(name string) string { return strings.ReplaceAll(name, " ", "-") }

// backendTemplate makes the one-worker nginx behind every contestant. /who tells the port: it
// shows where a request went.
var backendTemplate = template.Must(template.New("backend").Parse(nginxHead + `
http {
  access_log off;
  sendfile on;
  tcp_nopush on;
  open_file_cache max=16;
  keepalive_requests 1000000000;
  keepalive_timeout 300s;
  default_type text/plain;
  server {
{{- range .Backends}}
    listen {{.}} backlog=4096;
{{- end}}
    root {{.Dir}}/www;
    location = /small { return 200 "{{.Small}}"; }
    location = /who { return 200 "$server_port"; }
  }
}
`))

// nginxHead begins every nginx configuration here.
const nginxHead = `{{if .Root}}user root;
{{end}}worker_processes {{.Workers}};
daemon off;
pid {{.Dir}}/{{.Name}}.pid;
error_log {{.Dir}}/{{.Name}}-error.log warn;
events { worker_connections 16384; }
`

// startBackends starts the nginx behind the contestants.
func (s *site) startBackends(ctx context.Context) error {
	addresses := make([]string, 0, len(s.backends))
	for _, port := range s.backends {
		addresses = append(addresses, fmt.Sprintf("127.0.0.1:%d", port))
	}
	var err error
	if s.nginx, err = s.startBackend("backend", addresses); err != nil {
		return err
	}
	return s.nginx.await(ctx, readyTimeout, func() error {
		return checkAnswer("http://"+addresses[0]+"/small", hostName(0), smallBytes)
	})
}

// startBackend starts one nginx worker that answers on all addresses.
func (s *site) startBackend(name string, addresses []string) (*process, error) {
	config := s.path(name + ".conf")
	err := writeTemplate(config, backendTemplate, map[string]any{
		"Root": os.Geteuid() == 0, "Workers": 1, "Dir": s.dir, "Name": name,
		"Backends": addresses, "Small": string(bytes.Repeat([]byte("x"), smallBytes)),
	})
	if err != nil {
		return nil, err
	}
	return startNginx(s, name, config)
}

// startNginx starts an nginx with the given configuration. -e keeps it away from the system's log.
func startNginx(s *site, name, config string) (*process, error) {
	path, err := lookTool("nginx")
	if err != nil {
		return nil, err
	}
	return startProcess(name, nil, nil, path, "-c", config, "-e", s.path(name+"-error.log"), "-p", s.dir)
}

// lookTool finds a program that comes from the system's packages, also where PATH lacks sbin.
func lookTool(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	if path, sbinErr := exec.LookPath("/usr/sbin/" + name); sbinErr == nil {
		return path, nil
	}
	return "", fmt.Errorf("find %s: install it (apt-get install %s): %w", name, name, err)
}

// writeTemplate writes what t makes of data.
func writeTemplate(path string, t *template.Template, data any) error {
	var b bytes.Buffer
	if err := t.Execute(&b, data); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}

// freePort finds a port that nothing listens on at the moment.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(port)
}
