package config

import (
	"slices"
	"strings"
	"testing"
)

func TestLoad_LegacySample(t *testing.T) {
	t.Parallel()
	c, warnings, err := Load(LoadOptions{File: "testdata/hipache-0.3.json", Strict: true})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := formatValue(&c.HTTP.Bind), "127.0.0.1:8000, [::1]:8000"; got != want {
		t.Errorf("http.bind = %s, want %s", got, want)
	}
	want := "127.0.0.1:8443 (cert /etc/ssl/ssl.crt, key /etc/ssl/ssl.key), " +
		"[::1]:8443 (cert /etc/ssl/ssl.crt, key /etc/ssl/ssl.key)"
	if got := formatValue(&c.HTTPS.Bind); got != want {
		t.Errorf("https.bind = %s, want %s", got, want)
	}
	wantDriver := []string{"redis://:p%40ss%2Fword@10.0.0.5:6380/2", "redis://10.0.0.6:6381"}
	if !slices.Equal(c.Driver, wantDriver) {
		t.Errorf("driver = %q, want %q", c.Driver, wantDriver)
	}
	for _, w := range warnings {
		if strings.Contains(string(w), "ss%2Fword") || strings.Contains(string(w), "p@ss") {
			t.Errorf("warning shows the password: %s", w)
		}
	}
}

func TestLoad_LegacyKeys(t *testing.T) {
	t.Parallel()
	value := func(path string) func(*Config) string {
		return func(c *Config) string {
			key, _ := keyByPath(path)
			return formatValue(key.field(c))
		}
	}
	tests := map[string]struct {
		content string
		get     func(*Config) string
		want    string
	}{
		"port":                    {`{"server": {"port": 1080}}`, value("http.bind"), "127.0.0.1:1080"},
		"port as text":            {`{"server": {"port": "1080"}}`, value("http.port"), "1080"},
		"today's port wins":       {`{"server": {"port": 1080}, "http": {"port": 90}}`, value("http.port"), "90"},
		"address":                 {`{"server": {"address": "10.1.1.1"}}`, value("http.bind"), "10.1.1.1:80"},
		"address without https":   {`{"server": {"address": "10.1.1.1"}}`, value("https.bind"), ""},
		"today's bind wins":       {`{"server": {"address": "10.1.1.1"}, "http": {"bind": "::"}}`, value("http.bind"), "[::]:80"},
		"https on http addresses": {`{"server": {"https": {"key": "k", "cert": "c"}}}`, value("https.bind"), "127.0.0.1:443 (cert c, key k)"},
		"https on server.address": {`{"server": {"address": "::1"}, "https": {"key": "k", "cert": "c"}}`, value("https.bind"), "[::1]:443 (cert c, key k)"},
		"https beside port of http": {
			`{"server": {"https": {"key": "k", "cert": "c", "port": 8443}}, "http": {"bind": [{"address": "::1", "port": 81}]}}`,
			value("https.bind"), "[::1]:8443 (cert c, key k)",
		},
		"new https without bind": {`{"https": {"key": "k", "cert": "c"}}`, value("https.bind"), ""},
		"server.https.bind":      {`{"server": {"https": {"bind": "::1", "key": "k", "cert": "c"}}}`, value("https.bind"), "[::1]:443 (cert c, key k)"},
		"server.https.passphrase": {
			`{"server": {"https": {"key": "k", "cert": "c", "passphrase": "p"}}}`, value("https.passphrase"), "p",
		},
		"redisHost":            {`{"redisHost": "10.0.0.5"}`, value("driver"), "redis://10.0.0.5:6379"},
		"redisPort":            {`{"redisPort": 7000}`, value("driver"), "redis://127.0.0.1:7000"},
		"redisPassword":        {`{"redisPassword": "x"}`, value("driver"), "redis://:x@127.0.0.1:6379"},
		"redisDatabase":        {`{"redisDatabase": 3}`, value("driver"), "redis://127.0.0.1:6379/3"},
		"redisHost is IPv6":    {`{"redisHost": "::1"}`, value("driver"), "redis://[::1]:6379"},
		"redisHost is a path":  {`{"redisHost": "/run/redis.sock", "redisDatabase": 1}`, value("driver"), "unix:///run/redis.sock?db=1"},
		"redisMaster":          {`{"redisHost": "a", "redisMasterHost": "b", "redisMasterPort": 1, "redisMasterPassword": "p", "redisMasterDatabase": 4}`, value("driver"), "redis://a:6379 redis://:p@b:1/4"},
		"driver wins":          {`{"redisHost": "a", "driver": "redis:"}`, value("driver"), "redis:"},
		"uniqueIdHeader":       {`{"server": {"uniqueIdHeader": "X-Id"}}`, value("server.requestIdHeader"), "X-Id"},
		"no legacy section":    {`{"server": {"https": false}}`, value("https.bind"), ""},
		"null is not set":      {`{"server": {"staticDir": null, "retryOnError": null}}`, value("server.retryOnError"), "3"},
		"user as a number":     {`{"user": 33}`, value("user"), "33"},
		"address6 alone":       {`{"server": {"address6": "::1"}}`, value("http.bind"), "[::1]:80"},
		"ca as one string":     {`{"https": {"ca": "x.pem"}}`, value("https.ca"), "x.pem"},
		"byte order mark":      {"\xef\xbb\xbf{\"http\": {\"port\": 81}}", value("http.port"), "81"},
		"last of doubled wins": {`{"http": {"port": 81}, "http": {"port": 82}}`, value("http.port"), "82"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := mustLoad(t, tt.content, strict)
			if got := tt.get(c); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestLoad_WarnsOncePerOldName(t *testing.T) {
	t.Parallel()
	for _, old := range []string{"server.port", "server.address", "server.address6", "server.uniqueIdHeader"} {
		name := strings.TrimPrefix(old, "server.")
		value := `"::1"`
		switch name {
		case "port":
			value = "81"
		case "uniqueIdHeader":
			value = `"X-Id"`
		}
		_, warnings, err := loadText(t, `{"server": {"`+name+`": `+value+`}}`, strict)
		if err != nil {
			t.Errorf("%s: %v", old, err)
		}
		if countWarnings(warnings, old) != 1 {
			t.Errorf("%s: want one warning, got %q", old, warnings)
		}
	}
}
