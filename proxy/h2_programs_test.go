package proxy_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"sluice/internal/backendtest"
)

// run runs a program to its end and returns what it wrote.
func run(t *testing.T, program string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 6*patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// curl and h2load are clients that others wrote.
func TestH2_OtherClients(t *testing.T) {
	t.Parallel()
	curl, h2load := installed(t, "curl", "curl"), installed(t, "h2load", "nghttp2-client")
	b := backendtest.Echo(t, "b")
	early := backendtest.Raw(t, func(c *backendtest.Conn) {
		if _, err := c.ReadHead(); err == nil {
			_, _ = c.WriteString("HTTP/1.1 413 Too Large\r\nContent-Length: 8\r\n\r\ntoo much")
			c.Sleep(time.Second)
		}
	})
	e, cert := newMultiEdge(t, routeList{"a.example": {"a", b.URL()}, "b.example": {"b", early.URL()}})
	roots := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(roots, cert.CertPEM, 0o600); err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(e.addr)
	if err != nil {
		t.Fatal(err)
	}
	upload := filepath.Join(t.TempDir(), "upload")
	if err := os.WriteFile(upload, make([]byte, 3<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	common := []string{
		"-sS", "--http2", "--cacert", roots, "--resolve", "a.example:" + port + ":127.0.0.1", "-w", "\n%{http_version} %{http_code}\n",
	}
	url := "https://a.example:" + port + "/"
	if out := run(t, curl, append(common, url)...); !strings.HasSuffix(out, "\n2 200\n") {
		t.Errorf("curl: %s", out)
	}
	out := run(t, curl, append(common, "-T", upload, "-H", "Expect: 100-continue", url)...)
	if !strings.HasSuffix(out, "\n2 200\n") || !strings.Contains(out, `"body_bytes":3145728`) {
		t.Errorf("curl -T: %s", out)
	}
	// An answer that comes in the midst of an upload reaches a client that does not bear a reset then.
	out = run(t, curl, "-sS", "--http2", "--cacert", roots, "--resolve", "b.example:"+port+":127.0.0.1", "-w", "\n%{http_version} %{http_code}\n",
		"-T", upload, "https://b.example:"+port+"/")
	if out != "too much\n2 413\n" {
		t.Errorf("curl -T to a backend that refuses: %q", out)
	}
	// More streams than the server allows at once, on several connections.
	out = run(t, h2load, "-n", "4000", "-c", "8", "-m", "100", "--connect-to", e.addr, url)
	if !regexp.MustCompile(`4000 succeeded, 0 failed, 0 errored, 0 timeout`).MatchString(out) {
		t.Errorf("h2load: %s", out)
	}
	e.awaitMetric("sluice_streams", 0)
	if n := e.metric(`sluice_http2_floods_total{reason="control_frames"}`) + e.metric(`sluice_http2_floods_total{reason="resets"}`); n != 0 {
		t.Errorf("%v floods where there was none", n)
	}
}
