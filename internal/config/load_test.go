package config

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// loadText loads a configuration file with the given content.
func loadText(t *testing.T, content string, change ...func(*LoadOptions)) (*Config, []Warning, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	opts := LoadOptions{File: file}
	for _, f := range change {
		f(&opts)
	}
	return Load(opts)
}

// mustLoad is loadText for a content without mistakes.
func mustLoad(t *testing.T, content string, change ...func(*LoadOptions)) *Config {
	t.Helper()
	c, _, err := loadText(t, content, change...)
	if err != nil {
		t.Fatalf("load %s: %v", content, err)
	}
	return c
}

func strict(o *LoadOptions) { o.Strict = true }

func withFlags(flags map[string][]string) func(*LoadOptions) {
	return func(o *LoadOptions) { o.Flags = flags }
}

func withEnviron(environ ...string) func(*LoadOptions) {
	return func(o *LoadOptions) { o.Environ = environ }
}

func TestLoad_HipacheSample(t *testing.T) {
	t.Parallel()
	c, warnings, err := Load(LoadOptions{File: "testdata/hipache.json", Strict: true, Root: true})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := formatValue(&c.HTTP.Bind), "127.0.0.1:80, [::1]:8081"; got != want {
		t.Errorf("http.bind = %s, want %s", got, want)
	}
	wantHTTPS := []Bind{
		{
			Address: "127.0.0.1", Port: 443, Key: "/etc/ssl/ssl.key", Cert: "/etc/ssl/ssl.crt",
			Passphrase: "open sesame", CA: []string{"/etc/ssl/chain.pem"}, Ciphers: "EECDH+AESGCM",
		},
		{
			// Its own key is not opened by the passphrase of another.
			Address: "10.0.0.1", Port: 8443, Key: "/etc/ssl/b.key", Cert: "/etc/ssl/b.crt",
			CA: []string{"/etc/ssl/chain.pem"}, Ciphers: "EECDH+AESGCM",
		},
	}
	for i, want := range wantHTTPS {
		got := c.HTTPS.Bind[i]
		if !slices.Equal(got.CA, want.CA) {
			t.Errorf("https.bind[%d].ca = %q, want %q", i, got.CA, want.CA)
		}
		got.CA, want.CA = nil, nil
		if formatValue(&[]Bind{got}) != formatValue(&[]Bind{want}) || got.Passphrase != want.Passphrase {
			t.Errorf("https.bind[%d] = %+v, want %+v", i, got, want)
		}
	}
	if c.Server.RetryOnError != 3 || c.Server.DeadBackendTTL != 30*time.Second || c.User != "www-data" {
		t.Errorf("server = %+v, user = %q", c.Server, c.User)
	}
	if c.Server.MaxBackendConnections != 1024 {
		t.Errorf("maxBackendConnections = %d, want 1024: maxSockets counts only with httpKeepAlive true",
			c.Server.MaxBackendConnections)
	}
	for _, key := range []string{
		"server.workers", "server.lruCache", "server.maxSockets", "server.httpKeepAlive",
		"https.honorCipherOrder", "https.secureOptions",
	} {
		if n := countWarnings(warnings, key); n != 1 {
			t.Errorf("%d warnings about %s, want 1: %q", n, key, warnings)
		}
	}
}

func countWarnings(warnings []Warning, key string) int {
	n := 0
	for _, w := range warnings {
		if strings.HasPrefix(string(w), key+" ") {
			n++
		}
	}
	return n
}

func TestLoad_WithoutFile(t *testing.T) {
	t.Parallel()
	c, warnings, err := Load(LoadOptions{DefaultFile: filepath.Join(t.TempDir(), "none.json"), Root: true})
	if err != nil || len(warnings) > 0 {
		t.Fatalf("load: %v, warnings %q", err, warnings)
	}
	if got := formatValue(&c.HTTP.Bind); got != "127.0.0.1:8080" {
		t.Errorf("http.bind = %s, want 127.0.0.1:8080", got)
	}
	if !slices.Equal(c.Driver, []string{"file:routes.json"}) || c.Server.AccessLog != "stdout" {
		t.Errorf("driver = %q, accessLog = %q", c.Driver, c.Server.AccessLog)
	}
	if got := c.Origin("driver").String(); got != "default" {
		t.Errorf("origin of driver = %q, want default", got)
	}
}

func TestLoad_DefaultFile(t *testing.T) {
	t.Parallel()
	standard := filepath.Join(t.TempDir(), "hipache.json")
	if err := os.WriteFile(standard, []byte(`{"http": {"port": 81}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	flavored := strings.TrimSuffix(standard, ".json") + "_blue.json"
	if err := os.WriteFile(flavored, []byte(`{"http": {"port": 82}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		opts     LoadOptions
		wantPort int
		wantErr  string
	}{
		"default file":       {opts: LoadOptions{}, wantPort: 81},
		"flavor":             {opts: LoadOptions{Environ: []string{"SETTINGS_FLAVOR=blue"}}, wantPort: 82},
		"named file wins":    {opts: LoadOptions{File: standard, Environ: []string{"SETTINGS_FLAVOR=blue"}}, wantPort: 81},
		"flavor not there":   {opts: LoadOptions{Environ: []string{"SETTINGS_FLAVOR=red"}}, wantErr: "config_red.json"},
		"flavor is a path":   {opts: LoadOptions{Environ: []string{"SETTINGS_FLAVOR=../x"}}, wantErr: "not a path"},
		"named file missing": {opts: LoadOptions{File: standard + ".no"}, wantErr: "no such file"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.opts.DefaultFile = standard
			c, _, err := Load(tt.opts)
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Fatalf("error = %v, want one with %q", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if c.HTTP.Port != tt.wantPort {
				t.Errorf("http.port = %d, want %d", c.HTTP.Port, tt.wantPort)
			}
		})
	}
}

func TestLoad_FlavorInWorkingDirectory(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("config_test.json", []byte(`{"http": {"port": 83}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	c, _, err := Load(LoadOptions{Environ: []string{"SETTINGS_FLAVOR=test"}})
	if err != nil {
		t.Fatal(err)
	}
	if c.HTTP.Port != 83 || c.File != "config_test.json" {
		t.Errorf("port %d of %s, want 83 of config_test.json", c.HTTP.Port, c.File)
	}
}

func TestLoad_LayersAndOrigins(t *testing.T) {
	t.Parallel()
	content := "{\n\"server\": {\n\"retryOnError\": 1,\n\"tcpTimeout\": 7.5}\n}"
	env := withEnviron("SLUICE_SERVER_RETRY_ON_ERROR=2", "SLUICE_SERVER_CONNECT_TIMEOUT=2.5", "SLUICE_USER=")
	flags := withFlags(map[string][]string{"server-retry-on-error": {"4"}, "driver": {"redis://a:1", "redis://b:2"}})
	c := mustLoad(t, content, env, flags)
	origins := map[string]string{
		"server.retryOnError":    "flag --server-retry-on-error",
		"server.connectTimeout":  "environment SLUICE_SERVER_CONNECT_TIMEOUT",
		"server.tcpTimeout":      "file " + c.File + ":4",
		"server.responseTimeout": "from server.tcpTimeout",
		"server.deadBackendTTL":  "Hipache default",
		"server.balance":         "default",
		"user":                   "Hipache default", // an empty variable counts as none
	}
	for path, want := range origins {
		if got := c.Origin(path).String(); got != want {
			t.Errorf("origin of %s = %q, want %q", path, got, want)
		}
	}
	if c.Server.RetryOnError != 4 || c.Server.ConnectTimeout != 2500*time.Millisecond ||
		c.Server.ResponseTimeout != 7500*time.Millisecond || len(c.Driver) != 2 {
		t.Errorf("server = %+v, driver = %q", c.Server, c.Driver)
	}
	if !c.IsSet("server.tcpTimeout") || c.IsSet("server.balance") || c.IsSet("no.such") {
		t.Error("IsSet does not tell set keys from defaults")
	}
}

func TestLoad_MaxSocketsWithKeepAlive(t *testing.T) {
	t.Parallel()
	c := mustLoad(t, `{"server": {"maxSockets": 7, "httpKeepAlive": true}}`)
	if c.Server.MaxBackendConnections != 7 || c.Origin("server.maxBackendConnections").Name != "server.maxSockets" {
		t.Errorf("maxBackendConnections = %d %v, want 7 from server.maxSockets",
			c.Server.MaxBackendConnections, c.Origin("server.maxBackendConnections"))
	}
	c = mustLoad(t, `{"server": {"httpKeepAlive": true}}`)
	if c.Server.MaxBackendConnections != 1024 {
		t.Errorf("maxBackendConnections = %d, want 1024 where the file sets no maxSockets", c.Server.MaxBackendConnections)
	}
}

func TestLoad_EnvironmentSpellings(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"server.retryOnError":        "SLUICE_SERVER_RETRY_ON_ERROR",
		"server.deadBackendOn500":    "SLUICE_SERVER_DEAD_BACKEND_ON_500",
		"server.deadBackendTTL":      "SLUICE_SERVER_DEAD_BACKEND_TTL",
		"server.maxConnectionsPerIP": "SLUICE_SERVER_MAX_CONNECTIONS_PER_IP",
		"server.backendCA":           "SLUICE_SERVER_BACKEND_CA",
		"server.httpKeepAlive":       "SLUICE_SERVER_HTTP_KEEP_ALIVE",
		"cache.negativeTTL":          "SLUICE_CACHE_NEGATIVE_TTL",
		"driver":                     "SLUICE_DRIVER",
	}
	for path, want := range tests {
		if key, _ := keyByPath(path); key.Env() != want {
			t.Errorf("variable of %s = %s, want %s", path, key.Env(), want)
		}
	}
}

func TestLoad_ListsAsText(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ name, text, want string }{
		"commas":        {"SERVER_TRUSTED_PROXIES", "10.0.0.0/8,::1", "10.0.0.0/8, ::1/128"},
		"spaces":        {"SERVER_TRUSTED_PROXIES", "10.0.0.0/8 192.168.0.0/16", "10.0.0.0/8, 192.168.0.0/16"},
		"JSON":          {"SERVER_TRUSTED_PROXIES", `["10.0.0.0/8"]`, "10.0.0.0/8"},
		"nobody":        {"SERVER_TRUSTED_PROXIES", "[]", ""},
		"addresses":     {"HTTP_BIND", "[::1]:81,127.0.0.1", "[::1]:81, 127.0.0.1:80"},
		"everywhere":    {"HTTP_BIND", "*", ":80"},
		"host name":     {"HTTP_BIND", "localhost", "localhost:80"},
		"JSON address":  {"HTTP_BIND", `[{"address": "::1", "proxyProtocol": true}]`, "[::1]:80 (PROXY protocol)"},
		"URL with ,":    {"DRIVER", "redis://a:1,b:2 redis://c:3", "redis://a:1,b:2 redis://c:3"},
		"Go duration":   {"SERVER_TCP_TIMEOUT", "250ms", "0.25"},
		"with a space":  {"SERVER_TCP_TIMEOUT", " 3 ", "3"},
		"truth as 1":    {"SERVER_DEBUG", "1", "true"},
		"largest body":  {"SERVER_MAX_BODY_BYTES", "1099511627776", "1099511627776"},
		"upgrade names": {"SERVER_UPGRADES", "websocket, tcp", "websocket, tcp"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := mustLoad(t, `{}`, withEnviron("SLUICE_"+tt.name+"="+tt.text))
			for _, k := range Keys() {
				if k.Env() == "SLUICE_"+tt.name {
					if got := formatValue(k.field(c)); got != tt.want {
						t.Errorf("%s = %q, want %q", k.Path, got, tt.want)
					}
				}
			}
		})
	}
}

func TestLoad_SyntaxErrorHasLineAndColumn(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		content      string
		line, column int
		hint         string
	}{
		"comment":        {"{\n  // no\n}", 2, 3, "no comments"},
		"trailing comma": {"{\n  \"a\": 1,\n}", 3, 1, "comma after the last"},
		"cut short":      {"{\"a\": ", 1, 6, "unexpected end"},
		"bad word":       {"{\n\"a\": tru}", 2, 9, "invalid character"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := loadText(t, tt.content)
			var syntax *SyntaxError
			if !errors.As(err, &syntax) {
				t.Fatalf("error = %v, want a SyntaxError", err)
			}
			if syntax.Line != tt.line || syntax.Column != tt.column || !strings.Contains(err.Error(), tt.hint) {
				t.Errorf("error = %v, want line %d, column %d, with %q", err, tt.line, tt.column, tt.hint)
			}
		})
	}
	if _, _, err := loadText(t, `[1]`); err == nil || !strings.Contains(err.Error(), "one JSON object, not a list") {
		t.Errorf("a list: %v", err)
	}
	if _, _, err := loadText(t, strings.Repeat(" ", maxFileBytes+1)); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("a huge file: %v", err)
	}
}

func TestLoad_SnapshotOfARoutesFileIsSaidToBeOfNoUse(t *testing.T) {
	t.Parallel()
	for driver, want := range map[string]int{"file:routes.json": 1, "redis:": 0} {
		_, warnings, err := loadText(t, `{"driver": "`+driver+`", "cache": {"snapshot": "/tmp/snapshot"}}`)
		if err != nil {
			t.Fatal(err)
		}
		if n := countWarnings(warnings, "cache.snapshot"); n != want {
			t.Errorf("%s: %d warnings, want %d: %q", driver, n, want, warnings)
		}
	}
}
