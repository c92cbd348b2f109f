package config

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestLoad_Mistakes(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		content string
		want    string // part of the only mistake's line, FILE for the file's path
	}{
		"text for a number":     {`{"server": {"retryOnError": "many"}}`, `server.retryOnError = "many" (file FILE:1): must be a whole number`},
		"number with fraction":  {`{"server": {"retryOnError": 1.5}}`, `server.retryOnError = 1.5 (file FILE:1): must be a whole number`},
		"number out of range":   {`{"server": {"retryOnError": -1}}`, `must be from 0 to 100`},
		"truth for a number":    {`{"server": {"retryOnError": true}}`, `server.retryOnError = true`},
		"list for a number":     {`{"server": {"retryOnError": [1, "a"]}}`, `server.retryOnError = [1, "a"]`},
		"text for truth":        {`{"server": {"debug": "false"}}`, `must be true or false`},
		"negative seconds":      {`{"server": {"tcpTimeout": -1}}`, `must be from 0 to`},
		"endless seconds":       {`{"server": {"tcpTimeout": 1e300}}`, `must be at most`},
		"words for seconds":     {`{"server": {"tcpTimeout": "soon"}}`, `must be a number of seconds, such as 30 or 0.5`},
		"zero where some":       {`{"server": {"connectTimeout": 0}}`, `must be more than 0`},
		"unknown choice":        {`{"server": {"balance": "fastest"}}`, `must be "random", "roundrobin", "leastconn" or "p2c"`},
		"truth for a string":    {`{"server": {"accessLog": true}}`, `must be a string`},
		"port of nobody":        {`{"http": {"port": 70000}}`, `http.port = 70000 (file FILE:1): must be from 1 to 65535`},
		"section is a number":   {`{"server": 5}`, `server = 5 (file FILE:1): must be an object with keys`},
		"network":               {`{"server": {"trustedProxies": ["10.0.0.0/33"]}}`, `"10.0.0.0/33" is not`},
		"upgrade h2c":           {`{"server": {"upgrades": ["h2c"]}}`, `must be protocol names other than h2c`},
		"header name":           {`{"server": {"requestIdHeader": "X Id"}}`, `must be a header field name`},
		"via":                   {`{"server": {"via": "a b"}}`, `must be a name without spaces`},
		"control character":     {`{"server": {"accessLog": "a\nb"}}`, `must be a file name without control characters`},
		"address":               {`{"http": {"bind": "1.2.3"}}`, `"1.2.3" is no address`},
		"address of 5 numbers":  {`{"http": {"bind": "300.1.1.1"}}`, `"300.1.1.1" is no address`},
		"address is a number":   {`{"http": {"bind": 80}}`, `must be an IP, a list of IPs`},
		"bind with odd port":    {`{"http": {"bind": "127.0.0.1:x"}}`, `the port of "127.0.0.1:x"`},
		"bind port too large":   {`{"http": {"bind": [{"address": "::1", "port": 70000}]}}`, `the port 70000 is not`},
		"bind with typing slip": {`{"http": {"bind": [{"addresz": "::1"}]}}`, `did you mean "address"?`},
		"bind unknown field":    {`{"http": {"bind": [{"nonsense": 1}]}}`, `"nonsense" is unknown there`},
		"bind field type":       {`{"http": {"bind": [{"address": "::1", "proxyProtocol": 1}]}}`, `its "proxyProtocol" must be true or false`},
		"nothing to listen on":  {`{"http": {"bind": []}}`, `there is nothing to listen on`},
		"https without key":     {`{"https": {"bind": "::1", "cert": "c"}}`, `needs a key and a certificate, or neither: entry 1 ([::1]:443)`},
		"https with nothing":    {`{"driver": "file:r.json", "https": {"bind": "::1"}}`, `needs a key and a certificate: entry 1 ([::1]:443) has neither`},
		"http3 with TLS 1.2": {
			`{"https": {"bind": "::1", "key": "k", "cert": "c", "http3": true, "secureProtocol": "TLSv1_2_method"}}`,
			`needs TLS 1.3, which secureProtocol "TLSv1_2_method" of [::1]:443 excludes`,
		},
		"http3 with the PROXY protocol": {
			`{"https": {"bind": [{"address": "::1", "proxyProtocol": true}], "key": "k", "cert": "c", "http3": true}}`,
			"needs an https.bind entry without proxyProtocol, and there is none",
		},
		"http3 without https":   {`{"https": {"http3": true}}`, "needs an https.bind entry"},
		"line break in altSvc":  {`{"https": {"altSvc": "a\nb"}}`, "text without control characters"},
		"certificate on http":   {`{"http": {"bind": [{"cert": "c", "key": "k"}]}}`, `move :80 to https.bind`},
		"address used twice":    {`{"http": {"bind": ["::1", "::1"]}}`, `must not use [::1]:80 twice`},
		"admin on http's port":  {`{"http": {"port": 8079}}`, `it is in http.bind already`},
		"no driver":             {`{"driver": []}`, `must name a store`},
		"three drivers":         {`{"driver": ["redis:", "redis:", "redis:"]}`, `must be one URL, or two`},
		"file beside Redis":     {`{"driver": ["redis:", "file:routes.json"]}`, `must not put file: beside another store`},
		"driver is a number":    {`{"driver": 5}`, `must be a string or a list of strings`},
		"empty user":            {`{"user": ""}`, `user = "" (file FILE:1): must not be empty when started as root`},
		"drain without timeout": {`{"server": {"drainDelay": 1, "drainTimeout": 0}}`, `must be more than 0 when server.drainDelay`},
		"unknown key":           {`{"server": {"retryOnEror": 1}}`, `server.retryOnEror (file FILE:1): unknown key; did you mean "server.retryOnError"?`},
		"swapped letters":       {`{"server": {"retryOnErrro": 1}}`, `did you mean "server.retryOnError"?`},
		"wrong case":            {`{"server": {"tcptimeout": 1}}`, `did you mean "server.tcpTimeout"?`},
		"unknown at the top":    {`{"drivers": "redis:"}`, `did you mean "driver"?`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var file string
			_, _, err := loadText(t, tt.content, func(o *LoadOptions) { o.Root, file = true, o.File })
			var mistakes Mistakes
			if !errors.As(err, &mistakes) {
				t.Fatalf("error = %v, want Mistakes", err)
			}
			if want := strings.ReplaceAll(tt.want, "FILE", file); len(mistakes) != 1 || !strings.Contains(err.Error(), want) {
				t.Errorf("mistakes:\n%v\nwant one with\n%s", err, want)
			}
		})
	}
}

func TestLoad_AllMistakesAtOnce(t *testing.T) {
	t.Parallel()
	content := "{\n\"server\": {\"retryOnError\": \"x\",\n\"tcpTimout\": 3},\n\"http\": {\"port\": 0}\n}"
	_, _, err := loadText(t, content, withEnviron("SLUICE_CACHE_MAX_AGE=never", "SLUICE_SERVER_DEBUGG=1"),
		withFlags(map[string][]string{"admin-port": {"-1"}}))
	var mistakes Mistakes
	if !errors.As(err, &mistakes) {
		t.Fatalf("error = %v, want Mistakes", err)
	}
	var got []string
	for _, m := range mistakes {
		got = append(got, m.Path)
	}
	want := []string{
		"server.retryOnError", "server.tcpTimout", "http.port",
		"cache.maxAge", "SLUICE_SERVER_DEBUGG", "admin.port",
	}
	if !slices.Equal(got, want) {
		t.Errorf("mistakes in %q, want %q", got, want)
	}
	if mistakes[1].Origin.Line != 3 || mistakes[1].Nearest != "server.tcpTimeout" {
		t.Errorf("mistake = %+v, want line 3 and server.tcpTimeout", mistakes[1])
	}
}

// TestLoad_AllMistakesOfBothKinds: a wrong value does not hide what is wrong between other keys.
func TestLoad_AllMistakesOfBothKinds(t *testing.T) {
	t.Parallel()
	content := `{"server": {"tcpTimeout": -1, "drainDelay": 5, "drainTimeout": 0}, "user": "",
		"http": {"port": 70000, "bind": ["::1", "::1"]}, "https": {"bind": "::1", "cert": "c"}, "driver": ["redis:", "redis:", "redis:"]}`
	_, _, err := loadText(t, content, func(o *LoadOptions) { o.Root = true })
	var mistakes Mistakes
	if !errors.As(err, &mistakes) {
		t.Fatalf("error = %v, want Mistakes", err)
	}
	var got []string
	for _, m := range mistakes {
		got = append(got, m.Path)
	}
	// That http.bind names an address twice is not told: its port is not known.
	want := []string{"server.tcpTimeout", "http.port", "https.bind", "driver", "user", "server.drainTimeout"}
	if !slices.Equal(got, want) {
		t.Errorf("mistakes in %q, want %q", got, want)
	}
}

func TestLoad_UnknownKeys(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		content     string
		environ     []string
		mistakes    int // at start
		strict      int // with --dry
		warnings    int // in both
		wantNearest string
	}{
		"slip":                  {content: `{"server": {"debg": true}}`, mistakes: 1, strict: 1, wantNearest: "server.debug"},
		"slip of a section":     {content: `{"htpp": {"port": 8080}}`, mistakes: 1, strict: 1, wantNearest: "http"},
		"short, in a section":   {content: `{"server": {"x": 1}}`, mistakes: 0, strict: 1},
		"for another program":   {content: `{"api": {"resume": 1}}`, mistakes: 0, strict: 1},
		"wrong section":         {content: `{"cache": {"retryOnError": 1}}`, mistakes: 0, strict: 1, wantNearest: "server.retryOnError"},
		"variable, slip":        {content: `{}`, environ: []string{"SLUICE_SERVER_DEBG=1"}, mistakes: 1, strict: 1, wantNearest: "SLUICE_SERVER_DEBUG"},
		"variable, other":       {content: `{}`, environ: []string{"SLUICE_HOME=/x"}, warnings: 1},
		"Kubernetes' variables": {content: `{}`, environ: []string{"SLUICE_SERVICE_HOST=10.0.0.1", "SLUICE_PORT=tcp://10.0.0.1:80", "SLUICE_PORT_80_TCP=tcp://10.0.0.1:80"}},
		"others' variables":     {content: `{}`, environ: []string{"HOME=/root", "SLUICEX=1"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, dry := range []bool{false, true} {
				want := tt.mistakes
				if dry {
					want = tt.strict
				}
				_, warnings, err := loadText(t, tt.content, withEnviron(tt.environ...), func(o *LoadOptions) { o.Strict = dry })
				var mistakes Mistakes
				errors.As(err, &mistakes)
				if len(mistakes) != want {
					t.Errorf("strict %v: %v, want %d mistakes", dry, err, want)
				}
				if len(mistakes) > 0 && mistakes[0].Nearest != tt.wantNearest {
					t.Errorf("strict %v: nearest %q, want %q", dry, mistakes[0].Nearest, tt.wantNearest)
				}
				if wantWarnings := tt.warnings + tt.strict - want; len(warnings) != wantWarnings {
					t.Errorf("strict %v: warnings %q, want %d", dry, warnings, wantWarnings)
				}
			}
		})
	}
}

func TestLoad_CheckDriver(t *testing.T) {
	t.Parallel()
	refuse := func(o *LoadOptions) {
		o.CheckDriver = func(driver string) error {
			if strings.HasPrefix(driver, "etcd:") {
				return errors.New("must be a redis: or file: URL")
			}
			return nil
		}
	}
	mustLoad(t, `{"driver": "redis:"}`, refuse)
	_, _, err := loadText(t, `{"driver": "etcd://u:hush@h"}`, refuse)
	if err == nil || !strings.Contains(err.Error(), "must be a redis: or file: URL") || strings.Contains(err.Error(), "hush") {
		t.Errorf("error = %v, want the checker's, without the password", err)
	}
}

func TestEditDistance(t *testing.T) {
	t.Parallel()
	tests := []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"a", "", 1},
		{"", "ab", 2},
		{"debug", "debug", 0},
		{"debgu", "debug", 1},
		{"kitten", "sitting", 3},
		{"flaw", "lawn", 2},
	}
	for _, tt := range tests {
		if got := editDistance(tt.a, tt.b); got != tt.want {
			t.Errorf("editDistance(%q, %q) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}
