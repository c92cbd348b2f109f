package certs

import (
	"crypto/tls"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// names turns ids into OpenSSL's names, sorted.
func names(ids []uint16) string {
	var list []string
	for _, s := range suites() {
		if slices.Contains(ids, s.id) {
			list = append(list, s.openSSL)
		}
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

func TestParseCiphers(t *testing.T) {
	t.Parallel()
	const gcm = "ECDHE-ECDSA-AES128-GCM-SHA256 ECDHE-ECDSA-AES256-GCM-SHA384 " +
		"ECDHE-RSA-AES128-GCM-SHA256 ECDHE-RSA-AES256-GCM-SHA384"
	tests := []struct{ name, ciphers, want, warning string }{
		{"empty chooses none", "", "", ""},
		{"names", "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-CHACHA20-POLY1305", "ECDHE-RSA-AES128-GCM-SHA256 ECDHE-RSA-CHACHA20-POLY1305", ""},
		{"Go's names, commas, doubles", "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, ECDHE-RSA-AES128-SHA", "ECDHE-RSA-AES128-SHA", ""},
		{"TLS 1.3 names have no effect", "TLS_AES_128_GCM_SHA256:ECDHE-RSA-AES128-SHA", "ECDHE-RSA-AES128-SHA", ""},
		{"what Go lacks", "ECDHE-RSA-AES128-SHA:DHE-RSA-AES128-GCM-SHA256:TLS_FOO", "ECDHE-RSA-AES128-SHA", "ciphers=DHE-RSA-AES128-GCM-SHA256:TLS_FOO"},
		{"classes in common", "EECDH+AESGCM:EDH+AESGCM", gcm, "ciphers=EDH+AESGCM"},
		{"taken away", "ECDHE+AES:!SHA:!aNULL:!MD5:!RC4:@STRENGTH:+AES256", gcm, ""},
		{"taken away and brought back", "AESGCM:-AES256:ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-GCM-SHA256 ECDHE-RSA-AES128-GCM-SHA256 ECDHE-RSA-AES256-GCM-SHA384", ""},
		{"banned for good", "!ECDSA:AESGCM", "ECDHE-RSA-AES128-GCM-SHA256 ECDHE-RSA-AES256-GCM-SHA384", ""},
		{"weak by name", "AES128-SHA:ECDHE-RSA-AES128-SHA", "AES128-SHA ECDHE-RSA-AES128-SHA", "are weak"},
		{"weak by name, banned by class", "RC4-SHA:ECDHE-RSA-AES128-SHA:!RC4", "ECDHE-RSA-AES128-SHA", ""},
		{"nothing left", "RC4:!aNULL", "", "default set is served"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			log, logged := capture()
			if got := names(parseCiphers(Options{Ciphers: tt.ciphers, Log: log})); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if text := logged(); (text == "") != (tt.warning == "") || !strings.Contains(text, tt.warning) {
				t.Errorf("logged %q; want %q", text, tt.warning)
			}
		})
	}
}

// TestSuites_HaveTheNamesOfOpenSSL asks openssl for its name of each of Go's suites.
func TestSuites_HaveTheNamesOfOpenSSL(t *testing.T) {
	t.Parallel()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Fatalf("no openssl: %v; apt-get install openssl", err)
	}
	out, err := exec.Command(openssl, "ciphers", "-stdname", "ALL:@SECLEVEL=0").Output()
	if err != nil {
		t.Fatal(err)
	}
	known := 0
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line) // IANA name, dash, OpenSSL's name, ...
		for _, s := range suites() {
			if s.name != fields[0] && s.name+"_SHA256" != fields[0] {
				continue
			}
			known++
			if s.openSSL != fields[2] {
				t.Errorf("%s: got %s; want %s", s.name, s.openSSL, fields[2])
			}
		}
	}
	if known < 10 {
		t.Errorf("openssl names only %d of Go's suites:\n%s", known, out)
	}
}

func TestSecureProtocol(t *testing.T) {
	t.Parallel()
	tests := []struct {
		method  string
		lo, hi  uint16
		warning string
	}{
		{"", tls.VersionTLS12, tls.VersionTLS13, ""},
		{"TLS_method", tls.VersionTLS12, tls.VersionTLS13, ""},
		{"SSLv23_server_method", tls.VersionTLS12, tls.VersionTLS13, ""},
		{"TLSv1_2_method", tls.VersionTLS12, tls.VersionTLS12, ""},
		{"SSLv3_method", tls.VersionTLS12, tls.VersionTLS13, "not safe any more"},
		{"TLSv1_server_method", tls.VersionTLS12, tls.VersionTLS13, "not safe any more"},
	}
	for _, tt := range tests {
		t.Run("method="+tt.method, func(t *testing.T) {
			t.Parallel()
			log, logged := capture()
			s, err := parseSettings(Options{SecureProtocol: tt.method, Log: log})
			if err != nil || s.minVersion != tt.lo || s.maxVersion != tt.hi {
				t.Errorf("got %x to %x, %v; want %x to %x", s.minVersion, s.maxVersion, err, tt.lo, tt.hi)
			}
			if text := logged(); (text == "") != (tt.warning == "") || !strings.Contains(text, tt.warning) {
				t.Errorf("logged %q; want %q", text, tt.warning)
			}
		})
	}
}

func TestTLSConfig_LimitsVersionAndCiphers(t *testing.T) {
	t.Parallel()
	leaf := issue(t, "www.example.com", nil, nil)
	log, logged := capture()
	b := load(t, Options{
		Cert: write(t, "cert.pem", certBlock(leaf)), Key: write(t, "key.pem", keyBlock(t, leaf.key)),
		SecureProtocol: "TLSv1_2_method", Ciphers: "ECDHE-ECDSA-AES256-SHA", HonorCipherOrder: true, Log: log,
	})
	state, err := shake(t, b.TLSConfig(), trusting(leaf, "www.example.com"))
	if err != nil || state.Version != tls.VersionTLS12 || state.CipherSuite != tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA {
		t.Errorf("got version %x, suite %s, %v", state.Version, tls.CipherSuiteName(state.CipherSuite), err)
	}
	if text := logged(); !strings.Contains(text, "honorCipherOrder") {
		t.Errorf("logged %q; want a line about honorCipherOrder", text)
	}
}
