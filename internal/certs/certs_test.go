package certs

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/internal/logtest"
)

// capture is a logger and what it wrote.
func capture() (*slog.Logger, func() string) {
	log := new(logtest.Buffer)
	return log.Logger(), log.String
}

// shake makes one TLS connection to a server with the given configuration.
func shake(t *testing.T, server, client *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = io.Copy(io.Discard, tls.Server(conn, server))
	}()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", ln.Addr().String(), client)
	if err != nil {
		_ = ln.Close()
		<-done
		return tls.ConnectionState{}, err
	}
	state := conn.ConnectionState()
	_ = conn.Close()
	<-done
	return state, nil
}

// trusting is a client that verifies against one root.
func trusting(root *authority, name string) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(root.cert)
	return &tls.Config{RootCAs: pool, ServerName: name, MinVersion: tls.VersionTLS12}
}

func load(t *testing.T, o Options) *Bundle {
	t.Helper()
	b, err := Load(o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTLSConfig_ServesTheChainOverTLS13(t *testing.T) {
	t.Parallel()
	root := issue(t, "root", nil, nil)
	middle := issue(t, "middle", root, nil)
	leaf := issue(t, "www.example.com", middle, nil)
	b := load(t, Options{
		Cert: write(t, "cert.pem", certBlock(leaf), certBlock(middle)),
		Key:  write(t, "key.pem", keyBlock(t, leaf.key)),
	})
	client := trusting(root, "www.example.com")
	client.NextProtos = []string{"h2", "http/1.1"}
	state, err := shake(t, b.TLSConfig(), client)
	if err != nil {
		t.Fatal(err)
	}
	if state.Version != tls.VersionTLS13 || state.NegotiatedProtocol != "http/1.1" {
		t.Errorf("got version %x, protocol %q; want TLS 1.3 and http/1.1", state.Version, state.NegotiatedProtocol)
	}
	client = trusting(root, "www.example.com")
	client.MinVersion, client.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if _, err = shake(t, b.TLSConfig(), client); err == nil {
		t.Error("TLS 1.1 was accepted")
	}
}

func TestExtend_CompletesTheChainFromCA(t *testing.T) {
	t.Parallel()
	root := issue(t, "root", nil, nil)
	outer := issue(t, "outer", root, nil)
	inner := issue(t, "inner", outer, nil)
	leaf := issue(t, "www.example.com", inner, nil)
	stranger := issue(t, "stranger", nil, nil)
	// Another authority of the same name must not be taken for the one that signed.
	double := issue(t, "inner", outer, nil)
	log, logged := capture()
	b := load(t, Options{
		Cert: write(t, "cert.pem", certBlock(leaf)),
		Key:  write(t, "key.pem", keyBlock(t, leaf.key)),
		CA: []string{
			write(t, "outer.pem", certBlock(root), certBlock(stranger), certBlock(outer), certBlock(leaf)),
			write(t, "inner.pem", certBlock(double), certBlock(inner)),
		},
		Log: log,
	})
	state, err := shake(t, b.TLSConfig(), trusting(root, "www.example.com"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range state.PeerCertificates {
		names = append(names, c.Subject.CommonName)
	}
	if got, want := strings.Join(names, " "), "www.example.com inner outer"; got != want {
		t.Errorf("sent %q; want %q", got, want)
	}
	text := logged()
	if strings.Count(text, "does not continue the chain") != 2 || !strings.Contains(text, "CN=stranger") ||
		!strings.Contains(text, "CN=inner") {
		t.Errorf("want a warning about the stranger and the double, got:\n%s", text)
	}
}

func TestLoad_ReadsKeysOfOpenSSL(t *testing.T) {
	t.Parallel()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Fatalf("no openssl: %v; apt-get install openssl", err)
	}
	dir := t.TempDir()
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(openssl, args...).CombinedOutput(); err != nil {
			t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	file := func(name string) string { return filepath.Join(dir, name) }
	run("genrsa", "-traditional", "-out", file("rsa"), "2048")
	run("ecparam", "-name", "prime256v1", "-genkey", "-out", file("ec")) // parameters come first in the file
	run("genpkey", "-algorithm", "ed25519", "-out", file("ed25519"))
	for _, key := range []string{"rsa", "ec", "ed25519"} {
		run("req", "-x509", "-new", "-key", file(key), "-subj", "/CN=www.example.com", "-out", file(key+".cert"))
	}
	tests := []struct{ name, cert, make string }{
		{"rsa", "rsa", ""},
		{"ec", "ec", ""},
		{"ed25519", "ed25519", ""},
		{"rsa-aes128", "rsa", "rsa -traditional -aes128"},
		{"rsa-des3", "rsa", "rsa -traditional -des3"},
		{"ec-aes256", "ec", "ec -aes256"},
		{"rsa-pkcs8", "rsa", "pkcs8 -topk8 -v2 aes-256-cbc"},
		{"ec-pkcs8", "ec", "pkcs8 -topk8 -v2 aes-128-cbc -v2prf hmacWithSHA1"},
		{"ed25519-scrypt", "ed25519", "pkcs8 -topk8 -scrypt"},
	}
	for _, tt := range tests {
		if tt.make != "" {
			args := strings.Fields(tt.make)
			run(append(args, "-in", file(tt.cert), "-out", file(tt.name), "-passout", "pass:open sesame")...)
		}
		t.Run(tt.name, func(t *testing.T) {
			o := Options{Cert: file(tt.cert + ".cert"), Key: file(tt.name), Passphrase: "open sesame"}
			load(t, o)
			if tt.make == "" {
				return
			}
			for passphrase, want := range map[string]error{"": errNoPassphrase, "open barley": errPassphrase} {
				o.Passphrase = passphrase
				_, err := Load(o)
				if err == nil || !strings.Contains(err.Error(), want.Error()) || !strings.Contains(err.Error(), file(tt.name)) {
					t.Errorf("passphrase %q: got %v; want the file and %q", passphrase, err, want)
				}
				if err != nil && passphrase != "" && strings.Contains(err.Error(), passphrase) {
					t.Errorf("the passphrase is in the error: %v", err)
				}
			}
		})
	}
}

func TestLoad_SaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	root := issue(t, "root", nil, nil)
	leaf := issue(t, "www.example.com", root, nil)
	cert := write(t, "cert.pem", certBlock(leaf))
	key := write(t, "key.pem", keyBlock(t, leaf.key))
	garbage := write(t, "garbage.pem", &pem.Block{Type: "PRIVATE KEY", Bytes: []byte("no")},
		&pem.Block{Type: "CERTIFICATE", Bytes: []byte("no")})
	empty := write(t, "empty.pem")
	damaged := write(t, "damaged.pem", damagedKey(t, leaf.key))
	tests := []struct {
		name string
		o    Options
		want []string
	}{
		{"nothing named", Options{Cert: cert}, []string{"needs both cert and key, or neither"}},
		{"no certificate file", Options{Cert: "/nonexistent/c", Key: key}, []string{"load certificate", "/nonexistent/c"}},
		{"no key file", Options{Cert: cert, Key: "/nonexistent/k"}, []string{"load key", "/nonexistent/k"}},
		{"key in the certificate's place", Options{Cert: key, Key: key}, []string{key, "no PEM block CERTIFICATE"}},
		{"certificate in the key's place", Options{Cert: cert, Key: cert}, []string{cert, "no PEM block with a private key"}},
		{"certificate is garbage", Options{Cert: garbage, Key: key}, []string{garbage, "certificate 1 in it cannot be parsed"}},
		{"key is garbage", Options{Cert: cert, Key: garbage}, []string{garbage, "cannot be parsed"}},
		{"encrypted key is damaged", Options{Cert: cert, Key: damaged, Passphrase: "x"}, []string{damaged, "damaged"}},
		{
			"key of another certificate",
			Options{Cert: cert, Key: write(t, "other.pem", keyBlock(t, root.key))},
			[]string{"does not match the certificate", cert, "CN=www.example.com"},
		},
		{
			"chain in the wrong order",
			Options{Cert: write(t, "chain.pem", certBlock(root), certBlock(leaf)), Key: key},
			[]string{"matches certificate 2", "put the server's certificate first"},
		},
		{"ca without certificates", Options{Cert: cert, Key: key, CA: []string{empty}}, []string{empty}},
		{"unknown method", Options{Cert: cert, Key: key, SecureProtocol: "TLSv9_method"}, []string{`"TLSv9_method" is unknown`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := Load(tt.o)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %q; want %q in it", err, want)
				}
			}
		})
	}
}

func TestLoad_WarnsAboutDates(t *testing.T) {
	t.Parallel()
	f := func(want string, edit func(*x509.Certificate)) {
		t.Helper()
		leaf := issue(t, "www.example.com", nil, edit)
		log, logged := capture()
		load(t, Options{
			Cert: write(t, "cert.pem", certBlock(leaf)), Key: write(t, "key.pem", keyBlock(t, leaf.key)), Log: log,
		})
		if got := logged(); want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("got %q; want %q", got, want)
		}
	}
	f("", nil)
	f("certificate has expired", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	f("certificate is not valid yet", func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) })
}

func TestReload_SwapsForNewConnectionsAndKeepsTheOldAfterAnError(t *testing.T) {
	t.Parallel()
	first := issue(t, "www.example.com", nil, nil)
	second := issue(t, "www.example.com", nil, nil)
	certPath := write(t, "cert.pem", certBlock(first))
	keyPath := write(t, "key.pem", keyBlock(t, first.key))
	b := load(t, Options{Cert: certPath, Key: keyPath})
	config := b.TLSConfig() // taken once, as a listener does
	replace := func(path string, block *pem.Block) {
		t.Helper()
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	serves := func(a *authority) {
		t.Helper()
		if _, err := shake(t, config, trusting(a, "www.example.com")); err != nil {
			t.Error(err)
		}
	}
	serves(first)
	replace(certPath, certBlock(second)) // the key is still the old one
	if err := b.Reload(); err == nil || !strings.Contains(err.Error(), "does not match") {
		t.Errorf("got %v; want a mismatch", err)
	}
	serves(first)
	replace(keyPath, keyBlock(t, second.key))
	if err := b.Reload(); err != nil {
		t.Fatal(err)
	}
	serves(second)
}

func TestReload_KeepsSessionTickets(t *testing.T) {
	t.Parallel()
	leaf := issue(t, "www.example.com", nil, nil)
	b := load(t, Options{Cert: write(t, "cert.pem", certBlock(leaf)), Key: write(t, "key.pem", keyBlock(t, leaf.key))})
	config := b.TLSConfig()
	client := trusting(leaf, "www.example.com")
	client.MaxVersion = tls.VersionTLS12 // its tickets arrive within the handshake
	client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	if _, err := shake(t, config, client); err != nil {
		t.Fatal(err)
	}
	if err := b.Reload(); err != nil {
		t.Fatal(err)
	}
	if state, err := shake(t, config, client); err != nil || !state.DidResume {
		t.Errorf("resumed: %v, %v; want true", state.DidResume, err)
	}
}

func TestByName_ComesFirst(t *testing.T) {
	t.Parallel()
	usual := issue(t, "www.example.com", nil, nil)
	other := issue(t, "other.example.com", nil, nil)
	b := load(t, Options{
		Cert: write(t, "cert.pem", certBlock(usual)), Key: write(t, "key.pem", keyBlock(t, usual.key)),
		ByName: func(name string, _ netip.Addr) *tls.Certificate {
			if name != "other.example.com" {
				return nil
			}
			return &tls.Certificate{Certificate: [][]byte{other.cert.Raw}, PrivateKey: other.key, Leaf: other.cert}
		},
	})
	if _, err := shake(t, b.TLSConfig(), trusting(other, "Other.example.com")); err != nil {
		t.Errorf("by name: %v", err)
	}
	if _, err := shake(t, b.TLSConfig(), trusting(usual, "www.example.com")); err != nil {
		t.Errorf("unknown name: %v", err)
	}
}
