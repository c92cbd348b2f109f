package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sluice/internal/logtest"
	"sluice/internal/redistest"
)

// timeout bounds every wait of these tests.
const timeout = 30 * time.Second

// TestRun_ServesRoutesAndLeavesNothing is what make run does, with the real binary on free ports.
func TestRun_ServesRoutesAndLeavesNothing(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "sluice")
	if out, err := exec.Command("go", "build", "-o", binary, "sluice/cmd/sluice").CombinedOutput(); err != nil {
		t.Fatalf("build sluice: %v\n%s", err, out)
	}
	redis := redistest.Start(t)
	for _, tt := range []struct {
		name string
		args []string
	}{
		{"file", nil},
		{"redis", []string{"--redis", redis.URL() + "/2#sample:"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ports := freePorts(t, 4)
			file := writeRoutes(t, ports[1:])
			config := filepath.Join(t.TempDir(), "sluice.json")
			write(t, config, `{"server": {"accessLog": "stdout"}, "admin": {"port": 0}}`)
			args := append([]string{
				"--sluice", binary, "--config", config, "--routes", file, "--port", strconv.Itoa(ports[0]),
			}, tt.args...)
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			out := &logtest.Buffer{}
			ended := make(chan error, 1)
			go func() { ended <- run(ctx, args, out) }()
			awaitGuide(t, out, ended)

			front := "127.0.0.1:" + strconv.Itoa(ports[0])
			if got := get(t, front, "big.app.example"); !strings.Contains(got, "This is backend 3") {
				t.Errorf("big.app.example answers %q, want backend 3", got)
			}
			if got := get(t, front, "x.app.example"); !strings.Contains(got, "Host: x.app.example") {
				t.Errorf("x.app.example answers %q, want its own host in it", got)
			}
			// A browser would keep such a connection, too.
			idle, err := net.DialTimeout("tcp4", front, timeout)
			if err != nil {
				t.Fatal(err)
			}
			defer idle.Close()
			fmt.Fprint(idle, "GET / HTTP/1.1\r\nHost: big.app.example\r\n\r\n")
			if _, err := idle.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("run ended with %v", err)
			}
			if c, err := net.DialTimeout("tcp4", front, timeout); err == nil {
				c.Close()
				t.Errorf("%s still listens", front)
			}
		})
	}
	if info := redis.Text("INFO", "keyspace"); strings.Contains(info, "db") {
		t.Errorf("keys are left in Redis: %q", info)
	}
}

func TestSeed_TouchesNoKeyOfOthers(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	redis.Do("RPUSH", "frontend:b.example", "mine", "http://127.0.0.1:1")
	sample := routes{
		"frontend:a.example": {"a", "http://127.0.0.1:2"},
		"frontend:b.example": {"b", "http://127.0.0.1:3"},
	}
	_, err := seed(t.Context(), redis.URL(), sample)
	if err == nil || !strings.Contains(err.Error(), "frontend:b.example") {
		t.Errorf("error %v, want one that names the key", err)
	}
	if keys := redis.Strings("KEYS", "*"); !slices.Equal(keys, []string{"frontend:b.example"}) {
		t.Errorf("keys %q, want only the one of before", keys)
	}
	want := []string{"mine", "http://127.0.0.1:1"}
	if got := redis.Strings("LRANGE", "frontend:b.example", "0", "-1"); !slices.Equal(got, want) {
		t.Errorf("list %q, want %q", got, want)
	}
}

func TestSeed_HidesPassword(t *testing.T) {
	t.Parallel()
	_, err := seed(t.Context(), "redis://:secret@127.0.0.1:bad", routes{})
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("error %v, want one without the password", err)
	}
}

func TestReadRoutes(t *testing.T) {
	t.Parallel()
	if r, err := readRoutes("../routes.json"); err != nil || len(r) == 0 {
		t.Errorf("the sample file: %d routes, %v", len(r), err)
	}
	for name, content := range map[string]string{
		"not JSON":    `{`,
		"other key":   `{"dead:x": ["a", "http://127.0.0.1:1"]}`,
		"no backends": `{"frontend:x": ["a"]}`,
	} {
		file := filepath.Join(t.TempDir(), "routes.json")
		write(t, file, content)
		if _, err := readRoutes(file); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: error %v, want one that names the file", name, err)
		}
	}
	if _, err := (routes{"frontend:x": {"a", "http://10.0.0.1:80"}}).addresses(); err == nil {
		t.Error("a backend that is not on loopback was accepted")
	}
}

// awaitGuide returns when everything is said to run.
func awaitGuide(t *testing.T, out *logtest.Buffer, ended <-chan error) {
	t.Helper()
	for deadline := time.Now().Add(timeout); !strings.Contains(out.String(), "Ctrl-C"); {
		select {
		case err := <-ended:
			t.Fatalf("run ended early: %v\n%s", err, out)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("no guide was printed: %q", out)
		}
	}
}

func get(t *testing.T, front, host string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+front+"/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = host
	client := &http.Client{Timeout: timeout, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// freePorts are n ports that were free a moment ago, in ascending order: backends are numbered by it.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	ports := make([]int, n)
	for i := range ports {
		ln, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		ports[i] = ln.Addr().(*net.TCPAddr).Port
	}
	slices.Sort(ports)
	return ports
}

func writeRoutes(t *testing.T, ports []int) string {
	t.Helper()
	url := func(i int) string { return "http://127.0.0.1:" + strconv.Itoa(ports[i]) }
	content, err := json.Marshal(routes{
		"frontend:*.app.example":   {"pool", url(0), url(1)},
		"frontend:big.app.example": {"big", url(2)},
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "routes.json")
	write(t, file, string(content))
	return file
}

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
