package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sluice/internal/backendtest"
	"sluice/internal/certtest"
	"sluice/internal/redistest"
)

// edgeWithTLS is a running sluice with a certificate of its own and one https listener.
type edgeWithTLS struct {
	*process
	ca      *certtest.Authority
	own     certtest.Pair // for default.example
	address string
}

// launchTLS starts one with further flags.
func launchTLS(t *testing.T, args ...string) *edgeWithTLS {
	t.Helper()
	ca := certtest.New(t)
	e := &edgeWithTLS{ca: ca, own: ca.Issue(t, "default.example"), address: "127.0.0.1:" + port(t)}
	folder := t.TempDir()
	cert := writeFile(t, filepath.Join(folder, "cert.pem"), e.own.Certificate)
	key := writeFile(t, filepath.Join(folder, "key.pem"), e.own.Key)
	e.process = launch(t, append([]string{
		"--server-access-log=none", "--https-bind=" + e.address, "--https-cert=" + cert, "--https-key=" + key,
	}, args...)...)
	return e
}

// serial returns the serial number of the certificate that a client gets who asks for name.
func (e *edgeWithTLS) serial(name string) string {
	conn, err := tls.Dial("tcp", e.address, &tls.Config{ServerName: name, InsecureSkipVerify: true}) //nolint:gosec // the certificate is looked at
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

func (e *edgeWithTLS) awaitSerial(name, want string) time.Duration {
	e.t.Helper()
	begin := time.Now()
	e.await("the certificate of "+name, func() bool { return e.serial(name) == want })
	return time.Since(begin)
}

// The commands are those of docs/tls.md.
func TestProcess_CertificatesFromRedis(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	backend := backendtest.Echo(t, "echo")
	s.Do("RPUSH", "frontend:www.example.com", "www", backend.URL())
	e := launchTLS(t, "--driver="+s.URL())
	if got := e.serial("www.example.com"); got != e.own.Serial {
		t.Errorf("without a certificate in the store: got %s, want the file's", got)
	}
	hset := func(name string, p certtest.Pair) {
		folder := t.TempDir()
		cert := writeFile(t, filepath.Join(folder, "fullchain.pem"), p.Certificate)
		key := writeFile(t, filepath.Join(folder, "privkey.pem"), p.Key)
		script := fmt.Sprintf(`redis-cli -p %d -x HSET 'tls:%s' certificate "$(cat %s)" key < %s`, s.Port, name, cert, key)
		if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v %s", script, err, out)
		}
	}
	first, second, wild := e.ca.Issue(t, "www.example.com"), e.ca.Issue(t, "www.example.com"), e.ca.Issue(t, "*.example.com")
	hset("www.example.com", first)
	e.awaitSerial("www.example.com", first.Serial)
	hset("*.example.com", wild)
	e.awaitSerial("other.example.com", wild.Serial)
	hset("www.example.com", second)
	t.Logf("renewed for new handshakes %v after redis-cli returned", e.awaitSerial("WWW.Example.com", second.Serial))
	if got := e.serial(""); got != e.own.Serial {
		t.Errorf("without a server name: got %s, want the file's", got)
	}

	pool := writeFile(t, filepath.Join(t.TempDir(), "ca.pem"), e.ca.PEM())
	_, port, _ := strings.Cut(e.address, ":")
	out, err := exec.Command("curl", "-sS", "--max-time", "10", "--cacert", pool,
		"--resolve", "www.example.com:"+port+":127.0.0.1", "https://www.example.com:"+port+"/").CombinedOutput()
	if err != nil {
		t.Errorf("curl: %v: %s", err, out)
	}

	s.Kill()
	e.awaitLog("store unavailable")
	if got := e.serial("www.example.com"); got != second.Serial {
		t.Errorf("while the store is away: got %s, want the known one", got)
	}
	if text := e.log.String(); strings.Contains(text, strings.Split(second.Key, "\n")[1]) {
		t.Error("the log holds a private key")
	}
}

func TestProcess_CertificatesFromAFolder(t *testing.T) {
	t.Parallel()
	folder, ca := t.TempDir(), certtest.New(t)
	put := func(name string, p certtest.Pair) {
		writeFile(t, filepath.Join(folder, name+".key"), p.Key)
		writeFile(t, filepath.Join(folder, name+".crt"), p.Certificate)
	}
	first, second := ca.Issue(t, "www.example.com"), ca.Issue(t, "www.example.com")
	put("www.example.com", first)
	e := launchTLS(t, routesFile(t, map[string]string{"www.example.com": "http://127.0.0.1:9"}), "--tls-directory="+folder)
	e.awaitSerial("www.example.com", first.Serial)
	put("www.example.com", second)
	e.awaitSerial("www.example.com", second.Serial)
	if got := e.serial("other.example.com"); got != e.own.Serial {
		t.Errorf("another name: got %s, want the file's", got)
	}
}

func TestProcess_HandshakesPerSecond(t *testing.T) {
	t.Parallel()
	e := launchTLS(t, routesFile(t, map[string]string{"www.example.com": "http://127.0.0.1:9"}), "--tls-max-handshakes-per-second=5")
	served, refused := 0, 0
	for range 40 {
		if e.serial("default.example") == e.own.Serial {
			served++
		} else {
			refused++
		}
	}
	if served == 0 || refused == 0 {
		t.Errorf("%d served and %d refused", served, refused)
	}
	if counted, _ := e.metric(`sluice_limited_total{limit="max_handshakes_per_second"}`); counted != float64(refused) {
		t.Errorf("the metrics count %v refused, want %d", counted, refused)
	}
}

// sslscan knows what is weak today.
func TestProcess_SSLScanFindsNoWeakness(t *testing.T) {
	t.Parallel()
	if out, err := exec.Command("sh", "../../internal/testdeps/install.sh", "sslscan").CombinedOutput(); err != nil {
		t.Fatalf("no sslscan: %v: %s", err, out)
	}
	for preset, versions := range map[string]map[string]bool{
		"intermediate": {"SSLv2": false, "SSLv3": false, "TLSv1.0": false, "TLSv1.1": false, "TLSv1.2": true, "TLSv1.3": true},
		"modern":       {"SSLv2": false, "SSLv3": false, "TLSv1.0": false, "TLSv1.1": false, "TLSv1.2": false, "TLSv1.3": true},
	} {
		t.Run(preset, func(t *testing.T) {
			t.Parallel()
			e := launchTLS(t, routesFile(t, map[string]string{"default.example": "http://127.0.0.1:9"}), "--tls-preset="+preset)
			out, err := exec.Command("sslscan", "--no-colour", "--sni-name=default.example", e.address).CombinedOutput()
			if err != nil {
				t.Fatalf("sslscan: %v: %s", err, out)
			}
			text := string(out)
			for version, want := range versions {
				if !strings.Contains(text, fmt.Sprintf("%-9s %s", version, map[bool]string{true: "enabled", false: "disabled"}[want])) {
					t.Errorf("%s: want enabled %v", version, want)
				}
			}
			for _, weak := range []string{"CBC", "RC4", "3DES", "_SHA\n", "TLS Compression enabled", "vulnerable to heartbleed", "AES128-SHA ", "AES256-SHA "} {
				if strings.Contains(strings.ReplaceAll(text, "not vulnerable to heartbleed", ""), weak) {
					t.Errorf("sslscan tells of %q", weak)
				}
			}
			if t.Failed() {
				t.Log(text)
			}
		})
	}
}

// A client with two certificates from the store on one address: it may use a connection for the names of the
// certificate that it was shown, and is sent away with any other.
func TestProcess_HTTP2AndCertificatesFromRedis(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	backend := backendtest.Echo(t, "echo")
	s.Do("RPUSH", "frontend:*", "any", backend.URL())
	e := launchTLS(t, "--driver="+s.URL())
	wild := e.ca.Issue(t, "*.example.com")
	s.Do("HSET", "tls:*.example.com", "certificate", wild.Certificate, "key", wild.Key)
	e.awaitSerial("a.example.com", wild.Serial)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(e.ca.PEM()))
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		ForceAttemptHTTP2: true,
		TLSClientConfig:   &tls.Config{RootCAs: roots, ServerName: "a.example.com"},
	}}
	for host, want := range map[string]int{"a.example.com": 200, "b.example.com": 200, "default.example": 421} {
		q, err := http.NewRequest(http.MethodGet, "https://"+e.address+"/", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		q.Host = host
		resp, err := client.Do(q)
		if err != nil {
			t.Fatalf("%s: %v", host, err)
		}
		_ = resp.Body.Close()
		if resp.ProtoMajor != 2 || resp.StatusCode != want {
			t.Errorf("%s: %s %d, want HTTP/2.0 %d", host, resp.Proto, resp.StatusCode, want)
		}
	}
	off := launchTLS(t, "--driver="+s.URL(), "--https-http-2=false")
	conn, err := tls.Dial("tcp", off.address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}}) //nolint:gosec // only the protocol matters
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := conn.ConnectionState().NegotiatedProtocol; got != "http/1.1" {
		t.Errorf("with https.http2 false: negotiated %q", got)
	}
}

// A hundred thousand certificates in the store cost a start nothing, and the first handshake for each
// name little; the figures are printed. Without CERTIFICATES (make certificates) it is a tenth of them.
func TestProcess_HundredThousandCertificates(t *testing.T) {
	t.Parallel()
	stored, used := 10_000, 1_000
	if text := os.Getenv("CERTIFICATES"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1000 {
			t.Fatalf("CERTIFICATES is %q: write a number from 1000", text)
		}
		stored, used = n, n/5
	}
	ca := certtest.New(t)
	wild := ca.Issue(t, "*.bulk.example")
	s, empty := redistest.Start(t), redistest.Start(t)
	s.Load(func(yield func(args ...string)) {
		for i := range stored {
			yield("HSET", fmt.Sprintf("tls:h%d.bulk.example", i), "certificate", wild.Certificate+ca.PEM(), "key", wild.Key)
		}
	})
	if _, err := buildOnce(); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	launchTLS(t, "--driver="+empty.URL())
	without := time.Since(begin)
	begin = time.Now()
	e := launchTLS(t, "--driver="+s.URL())
	with := time.Since(begin)
	first := time.Now()
	if got := e.serial(fmt.Sprintf("h%d.bulk.example", stored-1)); got != wild.Serial {
		t.Fatalf("the first handshake after the start: got %s, want %s", got, wild.Serial)
	}
	firstTook := time.Since(first)
	before := residentBytes(t, e.process)
	took := make([]time.Duration, used)
	for i := range took {
		begin := time.Now()
		if got := e.serial(fmt.Sprintf("h%d.bulk.example", i)); got != wild.Serial {
			t.Fatalf("h%d: got %s, want %s", i, got, wild.Serial)
		}
		took[i] = time.Since(begin)
	}
	slices.Sort(took)
	grown := max(residentBytes(t, e.process)-before, 0)
	t.Logf("start %v, without certificates %v; first handshake after the start %v; of cold names p50 %v, p99 %v, worst %v; "+
		"resident %d MiB before, %d bytes more per certificate used", with, without, firstTook, took[used/2], took[used*99/100], took[used-1],
		before>>20, grown/int64(used))
	if median := took[used/2]; median > 50*time.Millisecond { // under 10 ms on an idle machine
		t.Errorf("a cold name's first handshake takes %v", median)
	}
	if perName := grown / int64(used); perName > 64<<10 {
		t.Errorf("a certificate takes %d bytes", perName)
	}
}

// residentBytes returns how much memory a process holds.
func residentBytes(t *testing.T, p *process) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
		t.Fatal(err)
	}
	return resident * int64(os.Getpagesize())
}
