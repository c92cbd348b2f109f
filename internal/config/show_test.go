package config

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// secrets is a configuration with a secret in every place that can hold one.
const secrets = `{
	"driver": ["redis://:hush1@127.0.0.1:6379/0", "redis://:hu@sh2@10.0.0.9/0?password=hush3#p"],
	"https": {"key": "k", "cert": "c", "passphrase": "hush4",
		"bind": ["::1", {"address": "127.0.0.1", "key": "k2", "cert": "c2", "passphrase": "hush5"}]}
}`

func TestWrite_SecretsHidden(t *testing.T) {
	t.Parallel()
	c := mustLoad(t, secrets)
	var text, encoded strings.Builder
	if err := c.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	if err := c.WriteJSON(&encoded); err != nil {
		t.Fatal(err)
	}
	for name, out := range map[string]string{"text": text.String(), "JSON": encoded.String()} {
		if strings.Contains(out, "hu@sh2") || strings.Contains(out, "sh2@") || strings.Contains(out, "hush") {
			t.Errorf("%s shows a secret:\n%s", name, out)
		}
		if !strings.Contains(out, hidden+"@127.0.0.1:6379/0") {
			t.Errorf("%s hides the address of the store as well:\n%s", name, out)
		}
	}
	other := mustLoad(t, strings.ReplaceAll(secrets, "hush", "other"))
	for _, change := range Diff(c, other) {
		if strings.Contains(change.String(), "hush") || strings.Contains(change.String(), "other") {
			t.Errorf("change shows a secret: %v", change)
		}
	}
	if len(Diff(c, other)) != 3 {
		t.Errorf("changes = %v, want driver, https.bind and https.passphrase", Diff(c, other))
	}
}

func TestMistake_SecretsHidden(t *testing.T) {
	t.Parallel()
	for _, content := range []string{
		`{"https": {"passphrase": ["hush"]}}`,
		`{"driver": ["redis://:hush@a\n"]}`,
		`{"driver": ["redis://:hush@a", 5]}`,
		`{"https": {"bind": [{"address": "::1", "passphrase": ["hush"]}]}}`,
	} {
		_, _, err := loadText(t, content)
		if err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: error = %v, want one without the secret", content, err)
		}
	}
}

func TestHideURL(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"redis:":                             "redis:",
		"redis://127.0.0.1:6379/0#p":         "redis://127.0.0.1:6379/0#p",
		"redis://:pw@h:1/2":                  "redis://:(hidden)@h:1/2",
		"redis://user:pw@h":                  "redis://user:(hidden)@h",
		"redis://pw@h":                       "redis://(hidden)@h",
		"redis://:a@b/c@h":                   "redis://:(hidden)@h",
		"redis:pw@h":                         "redis:(hidden)@h",
		"pw@h":                               "(hidden)@h",
		"redis://h?sentinel_password=x&a=b":  "redis://h?sentinel_password=(hidden)&a=b",
		"redis+sentinel://:pw@h1:1,h2/m/0#p": "redis+sentinel://:(hidden)@h1:1,h2/m/0#p",
		"redis+sentinel://u:a,b@h1,h2/m":     "redis+sentinel://u:(hidden)@h1,h2/m",
		"redis+sentinel://:pw@h1,h2/m?sentinelPassword=x": "redis+sentinel://:(hidden)@h1,h2/m?sentinelPassword=(hidden)",
		"redis+sentinel://h/m?sentinelPassword=a@b#p":     "redis+sentinel://h/m?sentinelPassword=(hidden)#p",
		"rediss+cluster://u:pw@h1,h2?ca=/c.pem":           "rediss+cluster://u:(hidden)@h1,h2?ca=/c.pem",
		"redis+cluster://h1,u:pw@h2":                      "redis+cluster://h1,u:(hidden)@h2",
		"file:routes.json":                                "file:routes.json",
	}
	for url, want := range tests {
		if got := HideURL(url); got != want {
			t.Errorf("HideURL(%q) = %q, want %q", url, got, want)
		}
	}
}

func TestWriteText_EveryKeyWithOrigin(t *testing.T) {
	t.Parallel()
	c := mustLoad(t, `{"server": {"retryOnError": 5}}`, withEnviron("SLUICE_USER=nobody"))
	var out strings.Builder
	if err := c.WriteText(&out); err != nil {
		t.Fatal(err)
	}
	lines := make(map[string]string)
	for line := range strings.Lines(out.String()) {
		if fields := strings.Fields(line); len(fields) > 0 {
			lines[fields[0]] = strings.Join(fields[1:], " ")
		}
	}
	for _, k := range Keys() {
		if _, ok := lines[k.Path]; ok != (k.Instead == "") {
			t.Errorf("%s is shown: %v", k.Path, ok)
		}
	}
	for path, want := range map[string]string{
		"server.retryOnError": "5 file " + c.File + ":1",
		"server.tcpTimeout":   "30 s Hipache default",
		"user":                "nobody environment SLUICE_USER",
		"server.via":          "- default",
	} {
		if lines[path] != want {
			t.Errorf("%s: %q, want %q", path, lines[path], want)
		}
	}
}

func TestWriteJSON_KeepsTypes(t *testing.T) {
	t.Parallel()
	c := mustLoad(t, `{"server": {"tcpTimeout": 0.5}}`)
	var out strings.Builder
	if err := c.WriteJSON(&out); err != nil {
		t.Fatal(err)
	}
	var got map[string]struct {
		Value  any
		Origin string
	}
	if err := json.Unmarshal([]byte(out.String()), &got); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]any{
		"server.tcpTimeout": 0.5, "server.debug": false, "server.retryOnError": 3.0, "server.balance": "random",
	} {
		if got[path].Value != want {
			t.Errorf("%s = %v, want %v", path, got[path].Value, want)
		}
	}
}

func TestDiff_SaysWhatNeedsRestart(t *testing.T) {
	t.Parallel()
	old := mustLoad(t, `{"server": {"retryOnError": 3}, "http": {"port": 81}}`)
	now := mustLoad(t, `{"server": {"retryOnError": 5}, "http": {"port": 82}}`)
	live := map[string]bool{"server.retryOnError": true, "http.port": false, "http.bind": false}
	changes := Diff(old, now)
	if len(changes) != len(live) {
		t.Errorf("changes = %v, want those of %v", changes, live)
	}
	for _, c := range changes {
		if want, ok := live[c.Path]; !ok || c.Live != want {
			t.Errorf("%v: live %v, want %v", c, c.Live, want)
		}
	}
	if same := Diff(old, old); len(same) != 0 {
		t.Errorf("changes between equals: %v", same)
	}
}

func TestMerge_KeepsWhatNeedsRestart(t *testing.T) {
	t.Parallel()
	running := mustLoad(t, `{"server": {"retryOnError": 3}, "http": {"port": 81}}`)
	loaded := mustLoad(t, `{"server": {"retryOnError": 5}, "http": {"port": 82}}`)
	merged := Merge(running, loaded)
	if merged.Server.RetryOnError != 5 || merged.HTTP.Port != 81 || merged.HTTP.Bind[0].Port != 81 {
		t.Errorf("merged: retryOnError %d, port %d, bind %v; want 5, 81 and 81",
			merged.Server.RetryOnError, merged.HTTP.Port, merged.HTTP.Bind)
	}
	if running.Server.RetryOnError != 3 || loaded.HTTP.Port != 82 {
		t.Error("Merge changed one of its arguments")
	}
}

// Clients' authorities take effect on a reload, those of an entry of https.bind too; the rest of an entry does not, and
// does not ask for a restart because of them.
func TestMerge_TakesClientCAOfEntries(t *testing.T) {
	t.Parallel()
	load := func(bind string) *Config {
		t.Helper()
		c, _, err := loadText(t, `{"driver": "file:r.json", "https": {"cert": "c", "key": "k", "clientCa": "shared", "bind": [`+bind+`]}}`)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	running := load(`"::1", {"address": "::1", "port": 8443, "clientCa": "old"}`)
	loaded := load(`{"address": "::1", "port": 8443, "clientCa": ["new", "other"]}, {"address": "::1", "clientCa": "own"}`)
	merged := Merge(running, loaded)
	if got := fmt.Sprint(merged.HTTPS.Bind[0].ClientCA, merged.HTTPS.Bind[1].ClientCA); got != "[own] [new other]" {
		t.Errorf("got %s", got)
	}
	if got := fmt.Sprint(running.HTTPS.Bind[0].ClientCA, running.HTTPS.Bind[1].ClientCA); got != "[shared] [old]" {
		t.Errorf("the running configuration has changed: %s", got)
	}
	same := load(`"::1", {"address": "::1", "port": 8443, "clientCa": "new"}`)
	if changes := Diff(running, same); len(changes) != 0 {
		t.Errorf("clientCa of an entry asks for more: %v", changes)
	}
}
