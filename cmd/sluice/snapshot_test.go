package main

import (
	"crypto/tls"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sluice/internal/backendtest"
	"sluice/internal/redistest"
)

// An edge that starts while Redis is away serves https, redirects and sends HSTS by its snapshot, and
// follows Redis again when that is back.
func TestProcess_StartsFromTheSnapshotWithoutRedis(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	backend := backendtest.Echo(t, "echo")
	s.Do("RPUSH", "frontend:www.example.com", "www", backend.URL())
	s.Do("HSET", "route:www.example.com", "redirectHttps", "true", "hsts", "31536000")
	snapshot := filepath.Join(t.TempDir(), "snapshot")
	args := []string{"--driver=" + s.URL(), "--cache-snapshot=" + snapshot, "--cache-snapshot-keys"}
	first := launchTLS(t, args...)
	old, renewed := first.ca.Issue(t, "www.example.com"), first.ca.Issue(t, "www.example.com")
	s.Do("HSET", "tls:www.example.com", "certificate", old.Certificate, "key", old.Key)
	first.awaitSerial("www.example.com", old.Serial)
	wantPolicy := func(e *edgeWithTLS) {
		t.Helper()
		client := &http.Client{
			Timeout:       patience,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport:     &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: "www.example.com"}}, //nolint:gosec // the policy is looked at
		}
		for url, want := range map[string]int{e.base: http.StatusPermanentRedirect, "https://" + e.address: http.StatusOK} {
			q, err := http.NewRequest(http.MethodGet, url, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			q.Host = "www.example.com"
			resp, err := client.Do(q)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			hsts := resp.Header.Get("Strict-Transport-Security")
			if resp.StatusCode != want || (want == http.StatusOK) != (hsts == "max-age=31536000") {
				t.Errorf("%s: got %d with HSTS %q, want %d", url, resp.StatusCode, hsts, want)
			}
		}
	}
	wantPolicy(first)
	first.signal(syscall.SIGTERM)
	<-first.exited
	if info, err := os.Stat(snapshot); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the snapshot: %v, %v", info, err)
	}

	s.Kill()
	second := launchTLS(t, args...)
	if got := second.serial("www.example.com"); got != old.Serial {
		t.Errorf("without Redis: got the certificate %s, want that of the snapshot", got)
	}
	wantPolicy(second)
	if text := second.log.String(); !strings.Contains(text, "snapshot loaded") || !strings.Contains(text, "certificates=1") {
		t.Errorf("the log does not tell of the snapshot:\n%s", text)
	}
	s.Restart()
	s.Do("RPUSH", "frontend:www.example.com", "www", backend.URL())
	s.Do("HSET", "tls:www.example.com", "certificate", renewed.Certificate, "key", renewed.Key)
	t.Logf("the renewed certificate counts %v after it was written", second.awaitSerial("www.example.com", renewed.Serial))

	s.Kill()
	if err := os.Chmod(snapshot, 0o644); err != nil {
		t.Fatal(err)
	}
	third := launchTLS(t, args...)
	if got := third.serial("www.example.com"); got != third.own.Serial {
		t.Errorf("with a snapshot that others can read: got the certificate %s, want the file's", got)
	}
	third.awaitLog("chmod 600")
}
