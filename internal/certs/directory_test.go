package certs

import (
	"crypto"
	"crypto/tls"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"sluice/internal/certtest"
	"sluice/internal/logtest"
)

// put writes a pair into a folder, each file by a rename.
func put(t *testing.T, folder, name string, p certtest.Pair) {
	t.Helper()
	for suffix, text := range map[string]string{".crt": p.Certificate, ".key": p.Key} {
		path := filepath.Join(folder, name+suffix)
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
}

func openDirectory(t *testing.T, folder string, limit int, log *logtest.Buffer) *Directory {
	t.Helper()
	d, err := OpenDirectory(folder, limit, log.Logger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

func serial(d *Directory, name string) string {
	cert := d.Certificate(name)
	if cert == nil {
		return "none"
	}
	return cert.Leaf.SerialNumber.String()
}

func awaitSerial(t *testing.T, d *Directory, name, want string) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); serial(d, name) != want; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("certificate of %s: got %s in the end, want %s", name, serial(d, name), want)
		}
	}
}

func TestDirectory_ByNameAndFollowed(t *testing.T) {
	t.Parallel()
	folder, ca := t.TempDir(), certtest.New(t)
	exact, wild := ca.Issue(t, "www.a.example"), ca.Issue(t, "*.a.example")
	put(t, folder, "www.a.example", exact)
	put(t, folder, "*.a.example", wild)
	var log logtest.Buffer
	d := openDirectory(t, folder, 100, &log)
	for name, want := range map[string]string{
		"www.a.example": exact.Serial, "b.a.example": wild.Serial, "c.b.a.example": "none", "a.example": "none",
		"../" + filepath.Base(folder) + "/www.a.example": "none",
	} {
		if got := serial(d, name); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	renewed := ca.Issue(t, "www.a.example")
	put(t, folder, "www.a.example", renewed)
	awaitSerial(t, d, "www.a.example", renewed.Serial)
	late := ca.Issue(t, "late.example")
	put(t, folder, "late.example", late)
	awaitSerial(t, d, "late.example", late.Serial)

	// A renewal that went wrong leaves the one before in use, and says so once.
	broken := renewed
	broken.Key = late.Key
	put(t, folder, "www.a.example", broken)
	for end := time.Now().Add(5 * time.Second); !strings.Contains(log.String(), "do not belong together"); time.Sleep(5 * time.Millisecond) {
		if got := serial(d, "www.a.example"); got != renewed.Serial || time.Now().After(end) {
			t.Fatalf("got %s, want %s and a line in the log:\n%s", got, renewed.Serial, log.String())
		}
	}
	for _, suffix := range []string{".crt", ".key"} {
		if err := os.Remove(filepath.Join(folder, "www.a.example"+suffix)); err != nil {
			t.Fatal(err)
		}
	}
	awaitSerial(t, d, "www.a.example", wild.Serial)
	if text := log.String(); strings.Contains(text, strings.Split(late.Key, "\n")[1]) {
		t.Error("the log holds a key")
	}
}

func TestDirectory_ExpiredIsTheLastChoice(t *testing.T) {
	t.Parallel()
	folder, ca := t.TempDir(), certtest.New(t)
	expired, wild := ca.IssueWith(t, certtest.Expired, "x.a.example"), ca.Issue(t, "*.a.example")
	put(t, folder, "x.a.example", expired)
	d := openDirectory(t, folder, 100, new(logtest.Buffer))
	if got := serial(d, "x.a.example"); got != expired.Serial {
		t.Errorf("alone: got %s, want the expired one", got)
	}
	put(t, folder, "*.a.example", wild)
	awaitSerial(t, d, "x.a.example", wild.Serial)
}

func TestDirectory_KeepsNoMoreThanAllowed(t *testing.T) {
	t.Parallel()
	folder, ca := t.TempDir(), certtest.New(t)
	want := map[string]string{}
	for _, name := range []string{"a.example", "b.example", "c.example", "d.example", "e.example"} {
		p := ca.Issue(t, name)
		put(t, folder, name, p)
		want[name] = p.Serial
	}
	d := openDirectory(t, folder, 2, new(logtest.Buffer))
	for range 3 {
		for name, serialNumber := range want {
			if got := serial(d, name); got != serialNumber {
				t.Errorf("%s: got %s, want %s", name, got, serialNumber)
			}
		}
	}
	if d.count > 2 {
		t.Errorf("%d certificates are kept, want 2 at most", d.count)
	}
}

func TestOpenDirectory_Missing(t *testing.T) {
	t.Parallel()
	if _, err := OpenDirectory(filepath.Join(t.TempDir(), "none"), 1, new(logtest.Buffer).Logger()); err == nil {
		t.Error("no error")
	}
}

func TestStaple(t *testing.T) {
	t.Parallel()
	root := issue(t, "root", nil, nil)
	site := issue(t, "www.example.com", root, nil)
	answer := func(serial *big.Int, status int, until time.Time, signer crypto.Signer) []byte {
		der, err := ocsp.CreateResponse(root.cert, root.cert, ocsp.Response{
			Status: status, SerialNumber: serial, ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: until,
		}, signer)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	soon, other := time.Now().Add(time.Hour), issue(t, "other", nil, nil)
	for name, tt := range map[string]struct {
		answer []byte
		want   string // of the log; empty: it is stapled
	}{
		"good":            {answer(site.cert.SerialNumber, ocsp.Good, soon, root.key), ""},
		"revoked":         {answer(site.cert.SerialNumber, ocsp.Revoked, soon, root.key), "does not say"},
		"old":             {answer(site.cert.SerialNumber, ocsp.Good, time.Now().Add(-time.Minute), root.key), "too old"},
		"another's":       {answer(big.NewInt(5), ocsp.Good, soon, root.key), "not stapled"},
		"another signer":  {answer(site.cert.SerialNumber, ocsp.Good, soon, other.key), "not stapled"},
		"no answer in it": {[]byte("x"), "not stapled"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := new(logtest.Buffer)
			cert := write(t, "cert.pem", certBlock(site), certBlock(root))
			if err := os.WriteFile(cert+".ocsp", tt.answer, 0o600); err != nil {
				t.Fatal(err)
			}
			b := load(t, Options{Cert: cert, Key: write(t, "key.pem", keyBlock(t, site.key)), Log: log.Logger()})
			state, err := shake(t, b.TLSConfig(), trusting(root, "www.example.com"))
			if err != nil {
				t.Fatal(err)
			}
			if stapled := len(state.OCSPResponse) > 0; stapled != (tt.want == "") || !strings.Contains(log.String(), tt.want) {
				t.Errorf("stapled %v, logged %q", stapled, log.String())
			}
		})
	}
}

func TestParse_SaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	ca := certtest.New(t)
	p := ca.Issue(t, "a.example")
	encrypted := string(pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")}))
	for name, tt := range map[string]struct{ chain, key, want string }{
		"good":            {p.Certificate, p.Key, ""},
		"one text":        {p.Certificate + p.Key, p.Certificate + p.Key, ""},
		"authority first": {ca.PEM() + p.Certificate, p.Key, "put the server's first"},
		"no certificate":  {p.Key, p.Key, "no PEM block CERTIFICATE"},
		"no key":          {p.Certificate, p.Certificate, "no PEM block with a private key"},
		"encrypted key":   {p.Certificate, encrypted, "store it in the clear"},
		"damaged":         {strings.Replace(p.Certificate, "MII", "AAA", 1), p.Key, "cannot be parsed"},
	} {
		cert, err := Parse([]byte(tt.chain), []byte(tt.key))
		if text := errorText(err); !strings.Contains(text, tt.want) || (err == nil) != (tt.want == "") {
			t.Errorf("%s: got %q, want %q", name, text, tt.want)
		}
		if err == nil && cert.Leaf == nil {
			t.Errorf("%s: no leaf", name)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestClientCA_VerifiesWhoHasOne(t *testing.T) {
	t.Parallel()
	ca := certtest.New(t)
	server := ca.Issue(t, "www.example.com")
	caFile := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(caFile, []byte(ca.PEM()), 0o600); err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	put(t, folder, "server", server)
	b := load(t, Options{Cert: filepath.Join(folder, "server.crt"), Key: filepath.Join(folder, "server.key"), ClientCA: []string{caFile}})
	for name, tt := range map[string]struct {
		by   *certtest.Authority
		good bool
	}{"none": {nil, true}, "known": {ca, true}, "unknown": {certtest.New(t), false}} {
		// In TLS 1.3 a client learns only later that its certificate was refused.
		client := &tls.Config{RootCAs: ca.Pool(), ServerName: "www.example.com", MaxVersion: tls.VersionTLS12}
		if tt.by != nil {
			p := tt.by.Issue(t, "client")
			cert, err := tls.X509KeyPair([]byte(p.Certificate), []byte(p.Key))
			if err != nil {
				t.Fatal(err)
			}
			client.Certificates = []tls.Certificate{cert}
		}
		if _, err := shake(t, b.TLSConfig(), client); (err == nil) != tt.good {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Load(Options{Cert: filepath.Join(folder, "server.crt"), Key: filepath.Join(folder, "server.key"), ClientCA: []string{folder}}); err == nil {
		t.Error("a folder as clientCa: no error")
	}
}
