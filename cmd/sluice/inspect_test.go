package main

import (
	"encoding/json"
	"strings"
	"testing"

	"sluice/internal/certtest"
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
		"frontends sampled: 3, certificates: 0, policies: 0, entries that cannot be used: 3", `"frontend:a.example", element "ftp://***@10.0.0.2": `,
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

// Certificates and policies of the store: names, validity, what is wrong and what to do about it, and
// never a key.
func TestRun_DryConnectShowsCertificatesAndPolicies(t *testing.T) {
	t.Parallel()
	s, ca := redistest.Start(t), certtest.New(t)
	good, other, wild := ca.Issue(t, "a.example"), ca.Issue(t, "b.example"), ca.Issue(t, "*.pool.example")
	expired := ca.IssueWith(t, certtest.Expired, "old.example")
	s.Do("HSET", "tls:a.example", "certificate", good.Certificate, "key", good.Key)
	s.Do("HSET", "tls:*.pool.example", "certificate", wild.Certificate, "key", wild.Key, "comment", "x")
	s.Do("HSET", "tls:b.example", "certificate", other.Certificate, "key", good.Key)
	s.Do("HSET", "tls:c.example", "certificate", good.Certificate, "key", good.Key)
	s.Do("HSET", "tls:d.example", "certificate", good.Key, "key", good.Key)
	s.Do("HSET", "tls:E.example", "certificate", good.Certificate)
	s.Do("HSET", "tls:old.example", "certificate", expired.Certificate, "key", expired.Key)
	s.Do("SET", "tls:string.example", good.Key)
	s.Do("HSET", "tls:*.pool.example", good.Key, "a key in the place of a field")
	s.Do("HSET", "route:a.example", "redirectHttps", "true", "hsts", "31536000")
	s.Do("HSET", "route:b.example", "redirecthttps", "true", "hsts", "soon", "canonicalHost", "www.b.example")
	status, stdout, stderr := runArgs(t, "--dry", "--connect", "--user=root", "--server-access-log=none", "--driver="+s.URL())
	if status != exitOK || stderr != "" {
		t.Fatalf("status %d, errors %q", status, stderr)
	}
	for _, want := range []string{
		"certificates: 7, policies: 2, entries that cannot be used: 11",
		`certificate "tls:a.example": ["a.example"], valid from 20`, `certificate "tls:*.pool.example": ["*.pool.example"], valid`,
		`by "CN=sluice test authority"`,
		`"tls:*.pool.example": the field "comment" is unknown and ignored; the fields are certificate and key`,
		"bytes of text in the place of a name is unknown",
		`"tls:b.example": certificate and key do not belong together; store both fields with one HSET`,
		`"tls:c.example": the certificate does not hold the name c.example, but a.example; store it under`,
		`"tls:d.example": read certificate: no PEM block CERTIFICATE in it`,
		`"tls:E.example": handshakes look for e.example`, `"tls:E.example": read key: no PEM block with a private key`,
		`"tls:old.example": the certificate is not valid now: it expired at`,
		`"tls:string.example": key is of the wrong type; it must be a hash`,
		`policy "route:a.example": hsts "31536000" redirectHttps "true"`, `policy "route:b.example": canonicalHost "www.b.example"`,
		`"route:b.example": the field "redirecthttps" is unknown and ignored; the fields are redirectHttps, `,
		`"route:b.example": hsts is ignored: write off, or seconds`,
	} {
		if !strings.Contains(stdout, want) {
			t.Errorf("output lacks %q", want)
		}
	}
	for _, p := range []certtest.Pair{good, other, wild, expired} {
		for _, line := range strings.Split(strings.TrimSpace(p.Key), "\n") {
			if strings.Contains(stdout, line) {
				t.Errorf("the output holds a line of a key: %q", line)
			}
		}
	}
	if t.Failed() {
		t.Log(stdout)
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
