package main

import (
	"encoding/json"
	"strings"
	"testing"

	"sluice/internal/redistest"
)

func TestRun_DryConnect(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--requirepass", "hush")
	s.Do("RPUSH", "frontend:a.example", "a", "http://10.0.0.1", "ftp://me:pw@10.0.0.2")
	s.Do("RPUSH", "frontend:WWW.example.com", "w", "10.0.0.1")
	s.Do("SET", "frontend:string.example", "no list")
	status, stdout, stderr := runArgs(t, "--dry", "--connect", "--user=root", "--server-access-log=none", "--driver="+s.URL())
	if status != exitOK || stderr != "" {
		t.Fatalf("status %d, errors %q", status, stderr)
	}
	for _, want := range []string{
		"server.retryOnError", "store " + s.Addr() + ": redis 7.", "master, reads and writes, tier bcast, round trip ",
		"frontends sampled: 3, entries that cannot be used: 3", `"frontend:a.example", element "ftp://***@10.0.0.2": `,
		`unusable: "frontend:WWW.example.com": requests look for www.example.com`, `unusable: "frontend:string.example": key is of the wrong type`,
	} {
		if !strings.Contains(stdout, want) {
			t.Errorf("output lacks %q:\n%s", want, stdout)
		}
	}
	if strings.Contains(stdout, "hush") {
		t.Errorf("the output shows the password:\n%s", stdout)
	}
}

func TestRun_DryConnectAsJSON(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Do("RPUSH", "frontend:a.example", "a", "http://10.0.0.1")
	status, stdout, stderr := runArgs(t, "--dry=json", "--connect", "--user=root", "--server-access-log=none", "--driver="+s.URL())
	var found struct {
		Configuration map[string]any
		Store         struct {
			Servers  []struct{ Tier, Role string }
			Unusable []any
			Sampled  int `json:"frontendsSampled"`
		}
	}
	if err := json.Unmarshal([]byte(stdout), &found); err != nil || status != exitOK {
		t.Fatalf("status %d, errors %q, %v", status, stderr, err)
	}
	if f := found.Store; len(f.Servers) != 1 || f.Servers[0].Tier != "bcast" || f.Servers[0].Role != "master" || f.Sampled != 1 ||
		f.Unusable == nil || found.Configuration["driver"] == nil {
		t.Errorf("got %s", stdout)
	}
}

func TestRun_DryConnectFails(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--requirepass", "hush")
	wrong := strings.Replace(s.URL(), "hush", "hash", 1)
	down := redistest.Start(t)
	down.Kill()
	for driver, want := range map[string]string{
		wrong:      "WRONGPASS",
		down.URL(): "connection refused",
		"redis+sentinel://" + down.Addr() + "/main":    "connection refused",
		"redis+cluster://" + down.Addr():               "connection refused",
		"redis+cluster://:hush@" + s.Addr():            "cluster support disabled",
		"rediss://" + down.Addr() + "?ca=/nowhere.pem": "/nowhere.pem",
	} {
		status, _, stderr := runArgs(t, "--dry", "--connect", "--user=root", "--server-access-log=none", "--driver="+driver)
		if status != exitFailed || !strings.Contains(stderr, want) || strings.Contains(stderr, "hash") {
			t.Errorf("%s: status %d, output %q, want one with %q", driver, status, stderr, want)
		}
	}
}

func TestRun_ConnectNeedsDry(t *testing.T) {
	t.Parallel()
	if status, _, stderr := runArgs(t, "--connect"); status != exitUsage || !strings.Contains(stderr, "--dry") {
		t.Errorf("status %d, output %q", status, stderr)
	}
}
