package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/internal/logtest"
)

// storyFolder holds the application of the story and the configuration of what runs it.
const storyFolder = "testdata/story"

// storyPrograms are what the story runs beside sluice, with their Debian packages.
var storyPrograms = []struct{ program, pkg string }{
	{"redis-server", "redis-server"}, {"nginx", "nginx"}, {"unicorn", "unicorn"}, {"ruby", "ruby"}, {"curl", "curl"},
}

// findProgram returns the path of a program; servers lie outside the PATH of ordinary users.
func findProgram(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	return exec.LookPath(filepath.Join("/usr/sbin", name))
}

// needPrograms fails the test with the packages to install if one is missing.
func needPrograms(t *testing.T) {
	t.Helper()
	var missing []string
	for _, p := range storyPrograms {
		if _, err := findProgram(p.program); err != nil {
			missing = append(missing, p.pkg)
		}
	}
	if exec.Command("ruby", "-e", `require "rack"; require "rack/ssl"`).Run() != nil {
		missing = append(missing, "ruby-rack", "ruby-rack-ssl")
	}
	if len(missing) > 0 {
		t.Fatalf("the story needs programs that are not here: apt-get install %s", strings.Join(missing, " "))
	}
}

// program is a running server, which may have made processes of its own.
type program struct {
	pid    int
	log    *logtest.Buffer
	exited chan struct{}
}

// startProgram runs a program in a process group of its own until the test ends. The kernel ties
// the death signal to the thread that forked, hence the goroutine that holds its thread.
func startProgram(t *testing.T, env []string, name string, args ...string) *program {
	t.Helper()
	path, err := findProgram(name)
	if err != nil {
		t.Fatal(err)
	}
	p := &program{log: new(logtest.Buffer), exited: make(chan struct{})}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = p.log, p.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // it was killed, or its log tells
		}
		close(p.exited)
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	p.pid = cmd.Process.Pid
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s said:\n%s", name, p.log)
		}
	})
	return p
}

// kill ends the program and its children at once, as the loss of their machine would.
func (p *program) kill() {
	select {
	case <-p.exited: // the group is gone, its number may be another's
	default:
		_ = syscall.Kill(-p.pid, syscall.SIGKILL) // it fails if the group has just ended
		<-p.exited
	}
}

// awaitAnswer waits until the program itself answers for the URL.
func (p *program) awaitAnswer(t *testing.T, url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(request)
		if err == nil {
			_ = response.Body.Close() // only the status counts
			if response.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-p.exited:
			t.Fatalf("%s: the server ended: %s", url, p.log)
		case <-ctx.Done():
			t.Fatalf("%s: no good answer within %v: %v; %s", url, patience, err, p.log)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// machine is a host with the application under unicorn.
type machine struct {
	name string
	port int
	run  *program
}

func newMachine(t *testing.T, name string) *machine {
	t.Helper()
	return &machine{name: name, port: freePort(t)}
}

// start runs unicorn on the machine's port and returns while it loads the application.
func (m *machine) start(t *testing.T) {
	t.Helper()
	m.run = startProgram(t, []string{"MACHINE=" + m.name}, "unicorn",
		"--config-file", filepath.Join(storyFolder, "unicorn.rb"), "--env", "production",
		"--listen", fmt.Sprintf("127.0.0.1:%d", m.port), filepath.Join(storyFolder, "config.ru"))
}

func (m *machine) awaitAnswer(t *testing.T) {
	t.Helper()
	m.run.awaitAnswer(t, m.url()+"/status")
}

// url is the machine as an element of a frontend.
func (m *machine) url() string { return fmt.Sprintf("http://127.0.0.1:%d", m.port) }

// startNginx puts nginx in front of the application and returns its URL.
func startNginx(t *testing.T, application string) string {
	t.Helper()
	template, err := os.ReadFile(filepath.Join(storyFolder, "nginx.conf"))
	if err != nil {
		t.Fatal(err)
	}
	listen := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	folder := t.TempDir()
	file := filepath.Join(folder, "nginx.conf")
	writeFile(t, file, strings.NewReplacer("@listen@", listen, "@application@", application).Replace(string(template)))
	p := startProgram(t, nil, "nginx", "-p", folder, "-c", file, "-e", "stderr")
	p.awaitAnswer(t, "http://"+listen+"/status")
	return "http://" + listen
}
