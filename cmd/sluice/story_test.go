package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"sluice/internal/backendtest"
	"sluice/internal/redistest"
)

// TestStory is a platform that has moved to Hipache's successor: accounts live on an old machine,
// where nginx stands in front of the application under unicorn; two of them get a machine of their
// own; backends die, come and go while everybody works; the store beside the edge fails. The parts
// are real ones, and the edge is the built binary with a file of Hipache's.
//
// The steps build on each other. The test runs alone: its bounds on time are part of the story.
func TestStory(t *testing.T) {
	needPrograms(t)
	s := newStory(t)
	for _, step := range []struct {
		name string
		play func(*story)
	}{
		{"accounts are served by the old machine", (*story).pool},
		{"two accounts move to a machine of their own", (*story).move},
		{"the application sends http to https", (*story).redirect},
		{"forwarding headers of strangers are not believed", (*story).forge},
		{"a WebSocket opens", (*story).openSocket},
		{"a machine is lost and comes back", (*story).lose},
		{"a backend joins, another leaves", (*story).change},
		{"the replica is read and the master is marked", (*story).commands},
		{"the replica is lost and comes back", (*story).loseReplica},
		{"the WebSocket has lived through it", (*story).closeSocket},
		{"errors say why", (*story).errors},
		{"the access log is rotated", (*story).rotate},
		{"the metrics tell what happened", (*story).metrics},
		{"the edge drains", (*story).drain},
	} {
		if !t.Run(step.name, func(t *testing.T) {
			s.t, s.edge.t = t, t
			step.play(s)
		}) {
			t.Fatal("the rest of the story has lost its beginning")
		}
	}
}

const (
	storyPool = "frontend:*.app.example"
	// deadTTL is deadBackendTTL of the story, in seconds.
	deadTTL = 2
)

var (
	// storyAccounts stay in the pool.
	storyAccounts = []string{"ada.app.example", "ben.app.example", "cleo.app.example", "dora.app.example"}
	// storyMovers get a machine of their own.
	storyMovers = []string{"big.app.example", "loud.app.example"}
)

// story is the platform.
type story struct {
	t    *testing.T // of the step
	life *testing.T // of the whole story: what is started ends with it

	master, replica *redistest.Server
	announced       <-chan string // messages of the channel dead
	oldMachine      *machine
	newMachine      *machine
	nginx           string // URL

	edge                *process
	httpPort, httpsPort int
	config, logFile     string
	certFile, keyFile   string
	visitor             *visitor
	socket              *websocket.Conn
}

// newStory starts the platform, with every account in the pool of the old machine.
func newStory(t *testing.T) *story {
	s := &story{t: t, life: t, httpPort: freePort(t), httpsPort: freePort(t)}
	s.oldMachine, s.newMachine = newMachine(t, "old"), newMachine(t, "new")
	s.oldMachine.start(t)
	s.newMachine.start(t)

	s.master = redistest.Start(t)
	s.announced = s.master.Subscribe("dead")
	live := backendtest.HTTP(t, backendtest.WebSocketEcho())
	s.push("frontend:live.app.example", "live", live.URL())
	s.oldMachine.awaitAnswer(t)
	s.nginx = startNginx(t, s.oldMachine.url())
	s.push(storyPool, "pool", s.nginx)
	s.replica = redistest.StartReplica(t, s.master)
	s.newMachine.awaitAnswer(t)

	folder := t.TempDir()
	certificate := backendtest.SelfSigned(t, "*.app.example")
	s.certFile = writeFile(t, filepath.Join(folder, "edge.crt"), string(certificate.CertPEM))
	s.keyFile = writeFile(t, filepath.Join(folder, "edge.key"), string(certificate.KeyPEM))
	s.config, s.logFile = filepath.Join(folder, "hipache.json"), filepath.Join(folder, "access.log")
	s.configure("")
	s.visitor = newVisitor(s.httpPort, s.httpsPort, certificate.Roots)
	t.Cleanup(s.visitor.client.CloseIdleConnections)
	s.edge = launchOn(t, s.httpPort, "--config", s.config)
	s.edge.await("ready", func() bool { return s.edge.status(s.edge.admin+"/readyz") == http.StatusOK })
	return s
}

// configure writes the configuration: Hipache's keys, and more of them for the section server.
func (s *story) configure(more string) {
	s.t.Helper()
	writeFile(s.t, s.config, fmt.Sprintf(`{
		"server": {
			"accessLog": %q, "workers": 2, "maxSockets": 100, "tcpTimeout": 30, "retryOnError": 3,
			"deadBackendTTL": %d, "deadBackendOn500": true, "httpKeepAlive": false, "staticDir": null,
			"lruCache": {"size": 1000, "ttl": 60}%s
		},
		"http": {"bind": ["127.0.0.1"], "port": %d},
		"https": {"bind": ["127.0.0.1"], "port": %d, "key": %q, "cert": %q},
		"driver": [%q, %q],
		"user": "root"
	}`, s.logFile, deadTTL, more, s.httpPort, s.httpsPort, s.keyFile, s.certFile, s.replica.URL(), s.master.URL()))
}

// push appends to a list, as deploy tools do.
func (s *story) push(key string, elements ...string) {
	s.t.Helper()
	s.master.Do(append([]string{"RPUSH", key}, elements...)...)
}

// open requests a page of the application, which must answer, and returns what came.
func (s *story) open(host string) visit {
	s.t.Helper()
	v := s.visitor.get("https://" + host + "/")
	if fault := v.fault(); fault != "" {
		s.t.Fatal(fault)
	}
	if v.saw.Host != host {
		s.t.Fatalf("%s: the application saw host %q", host, v.saw.Host)
	}
	return v
}

// within polls until the claim holds, and fails the step if it does not in time.
func (s *story) within(limit time.Duration, what string, claim func() bool) {
	s.t.Helper()
	for begun := time.Now(); !claim(); {
		if time.Since(begun) > limit {
			s.t.Fatalf("%s: not within %v", what, limit)
		}
		time.Sleep(time.Millisecond)
	}
}

// noFaults fails the step for visits that the application did not answer.
func (s *story) noFaults(visits []visit) {
	s.t.Helper()
	for _, v := range visits {
		if fault := v.fault(); fault != "" {
			s.t.Error(fault)
		}
	}
}

func (s *story) pool() {
	for _, host := range slices.Concat(storyAccounts, storyMovers) {
		if v := s.open(host); v.saw.Machine != "old" || !v.byNginx() {
			s.t.Errorf("%s: answered by machine %q, nginx %v; want the old one behind nginx", host, v.saw.Machine, v.byNginx())
		}
	}
}

func (s *story) move() {
	for _, host := range storyMovers {
		begun := time.Now()
		s.push("frontend:"+host, host, s.newMachine.url())
		s.within(time.Second, host+" on the new machine", func() bool { return s.open(host).saw.Machine == "new" })
		s.t.Logf("%s has moved in %v", host, time.Since(begun))
	}
	for _, host := range storyAccounts {
		if v := s.open(host); v.saw.Machine != "old" {
			s.t.Errorf("%s moved as well, to %q", host, v.saw.Machine)
		}
	}
}

func (s *story) redirect() {
	for _, host := range []string{storyAccounts[0], storyMovers[0]} { // with nginx between and without
		v := s.visitor.get("http://" + host + "/account")
		if want := "https://" + host + v.target; v.status != http.StatusMovedPermanently || v.header.Get("Location") != want {
			s.t.Errorf("%s: %d to %q, want 301 to %q", host, v.status, v.header.Get("Location"), want)
		}
		plain := s.visitor.get("http://" + host + "/status").saw
		s.saw(plain, "http", s.httpPort)

		// curl follows the redirect to its end: a wrong header would be a loop.
		saw := s.curl("http://"+host+"/account", host)
		s.saw(saw, "https", s.httpsPort)
	}
}

// saw checks the scheme and the port that the application was told.
func (s *story) saw(got sight, scheme string, port int) {
	s.t.Helper()
	if got.Scheme != scheme || got.Port != port ||
		got.Forwarded["proto"] != scheme || got.Forwarded["port"] != strconv.Itoa(port) || got.Forwarded["for"] == "" {
		s.t.Errorf("the application saw %+v, want scheme %s and port %d everywhere", got, scheme, port)
	}
}

// curl requests a plain URL of the host and follows exactly one redirect.
func (s *story) curl(url, host string) sight {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	url = s.visitor.mark(url)
	out, err := exec.CommandContext(ctx, "curl", "-q", "--silent", "--show-error", "--noproxy", "*",
		"--location", "--max-redirs", "5", "--cacert", s.certFile,
		"--connect-to", fmt.Sprintf("%s:80:127.0.0.1:%d", host, s.httpPort),
		"--connect-to", fmt.Sprintf("%s:443:127.0.0.1:%d", host, s.httpsPort),
		"--write-out", "\n%{http_code} %{num_redirects} %{url_effective}", url).CombinedOutput()
	if err != nil {
		s.t.Fatalf("curl: %v\n%s", err, out)
	}
	body, end, _ := strings.Cut(string(out), "\n")
	if want := "200 1 https" + strings.TrimPrefix(url, "http"); end != want {
		s.t.Errorf("curl ended with %q, want %q", end, want)
	}
	target := url[strings.Index(url, host)+len(host):]
	s.visitor.add(visit{host: host, target: target, status: http.StatusMovedPermanently, bytes: 0})
	s.visitor.add(visit{host: host, target: target, status: http.StatusOK, bytes: len(body)})
	var saw sight
	if err := json.Unmarshal([]byte(body), &saw); err != nil {
		s.t.Fatalf("curl: %v\n%s", err, out)
	}
	return saw
}

func (s *story) forge() {
	host := storyMovers[0]
	forged := func(field, value string) int { return s.visitor.get("http://"+host+"/forged", field, value).status }
	// A neighbour may end TLS for us: what it says is believed.
	if got := forged("X-Forwarded-Proto", "https"); got != http.StatusOK {
		s.t.Errorf("X-Forwarded-Proto of a trusted peer: %d, want 200", got)
	}
	s.configure(`, "trustedProxies": []`)
	s.edge.signal(syscall.SIGHUP)
	s.edge.awaitLog("configuration changed", "server.trustedProxies")
	for field, value := range map[string]string{
		"X-Forwarded-Proto": "https", "X_Forwarded_Proto": "https", "x-forwarded-proto": "https", "X-Forwarded-Ssl": "on",
		"X-Forwarded-Scheme": "https", "X-Forwarded-Protocol": "https", "Forwarded": "proto=https",
	} {
		if got := forged(field, value); got != http.StatusMovedPermanently {
			s.t.Errorf("%s of a stranger: %d, want the redirect", field, got)
		}
	}
	v := s.visitor.get("https://"+host+"/forged", "X-Forwarded-Proto", "http", "X-Forwarded-For", "192.0.2.1", "X-Forwarded-Port", "1")
	if fault := v.fault(); fault != "" {
		s.t.Fatal(fault)
	}
	s.saw(v.saw, "https", s.httpsPort)
	if got := v.saw.Forwarded["for"]; got != "127.0.0.1" {
		s.t.Errorf("the application saw X-Forwarded-For %q, want the peer's address alone", got)
	}
}

func (s *story) openSocket() {
	url := s.visitor.mark("wss://live.app.example/socket")
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: s.visitor.client})
	if err != nil {
		s.t.Fatal(err)
	}
	s.socket = conn
	s.life.Cleanup(func() { _ = conn.CloseNow() }) // the step that closes it may not be reached
	s.visitor.add(visit{
		host: "live.app.example", target: strings.TrimPrefix(url, "wss://live.app.example"),
		status: http.StatusSwitchingProtocols, bytes: -1,
	})
	s.echo("hello")
}

// echo sends a message through the WebSocket and gets it back.
func (s *story) echo(message string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	if err := s.socket.Write(ctx, websocket.MessageText, []byte(message)); err != nil {
		s.t.Fatal(err)
	}
	if _, got, err := s.socket.Read(ctx); err != nil || string(got) != message {
		s.t.Fatalf("the WebSocket answered %q, %v; want %q", got, err, message)
	}
}

func (s *story) closeSocket() {
	s.echo("still here")
	if err := s.socket.Close(websocket.StatusNormalClosure, ""); err != nil {
		s.t.Error(err)
	}
}

// errors asks for what the edge must answer by itself.
func (s *story) errors() {
	s.push("frontend:empty.app.example", "empty")
	s.within(patience, "an account without a backend", func() bool {
		v := s.visitor.get("https://empty.app.example/")
		return v.status == http.StatusBadGateway && v.header.Get("X-Sluice-Error") == "no_backend"
	})
	v := s.visitor.get("http://www.elsewhere.example/")
	if v.status != http.StatusBadRequest || v.header.Get("X-Sluice-Error") != "unknown_host" {
		s.t.Errorf("an unknown host: %d %q, want 400 unknown_host", v.status, v.header.Get("X-Sluice-Error"))
	}
}

func (s *story) drain() {
	host := storyAccounts[1]
	sent := make(chan struct{})
	ctx := httptrace.WithClientTrace(s.t.Context(), &httptrace.ClientTrace{
		WroteRequest: func(httptrace.WroteRequestInfo) { close(sent) },
	})
	slow := make(chan visit, 1)
	go func() { slow <- s.visitor.getTraced(ctx, "https://"+host+"/work?delay=1") }()
	<-sent
	s.edge.signal(syscall.SIGTERM)
	s.edge.await("not ready", func() bool { return s.edge.status(s.edge.admin+"/readyz") == http.StatusServiceUnavailable })
	if fault := (<-slow).fault(); fault != "" {
		s.t.Errorf("under way at the signal: %s", fault)
	}
	s.visitor.client.CloseIdleConnections() // a request may be on its way there, so they would be waited for
	if status := s.edge.exitStatus(); status != exitOK {
		s.t.Errorf("exit status %d, want 0", status)
	}
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.httpPort))
	if !errors.Is(err, syscall.ECONNREFUSED) {
		s.t.Errorf("a connection after the end: %v, %v; want it refused", conn, err)
	}
	s.checkLog(s.logFile+".1", s.logFile)
}
