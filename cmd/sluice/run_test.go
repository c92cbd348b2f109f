package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// runArgs runs the program in this process and gives its exit status and output.
func runArgs(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	status = run(t.Context(), args, &out, &errs)
	return status, out.String(), errs.String()
}

func writeFile(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func writeConfig(t *testing.T, content string) string {
	t.Helper()
	return writeFile(t, filepath.Join(t.TempDir(), "config.json"), content)
}

func TestRun_Version(t *testing.T) {
	t.Parallel()
	status, stdout, _ := runArgs(t, "--version")
	if status != exitOK || !strings.HasPrefix(stdout, "sluice ") || strings.Count(stdout, "\n") != 1 {
		t.Errorf("status %d, output %q", status, stdout)
	}
}

func TestRun_Help(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{"--help", "-h"} {
		status, stdout, _ := runArgs(t, flag)
		if status != exitOK || !strings.Contains(stdout, "--config") || !strings.Contains(stdout, "--server-retry-on-error") {
			t.Errorf("%s: status %d, output %q", flag, status, stdout)
		}
	}
}

func TestRun_WrongFlag(t *testing.T) {
	t.Parallel()
	status, _, stderr := runArgs(t, "--confg", "x")
	if status != exitUsage || !strings.Contains(stderr, "did you mean --config?") {
		t.Errorf("status %d, output %q", status, stderr)
	}
}

func TestRun_Dry(t *testing.T) {
	t.Parallel()
	file := writeConfig(t, `{"server": {"accessLog": "none", "retryOnError": 5}, "driver": "redis://:hush@127.0.0.1/0"}`)
	for _, flag := range []string{"-d", "--dry", "--dry=json"} {
		status, stdout, stderr := runArgs(t, "-c", file, flag, "--user", "root")
		if status != exitOK || stderr != "" {
			t.Fatalf("%s: status %d, errors %q", flag, status, stderr)
		}
		for _, want := range []string{"server.retryOnError", "file " + file + ":1", "flag --user"} {
			if !strings.Contains(stdout, want) {
				t.Errorf("%s: output lacks %q:\n%s", flag, want, stdout)
			}
		}
		if strings.Contains(stdout, "hush") {
			t.Errorf("%s shows the password:\n%s", flag, stdout)
		}
		if flag == "--dry=json" && !json.Valid([]byte(stdout)) {
			t.Errorf("not JSON:\n%s", stdout)
		}
	}
}

func TestRun_DryListsAllMistakes(t *testing.T) {
	t.Parallel()
	file := writeConfig(t, `{"server": {"retryOnEror": 5, "tcpTimeout": "x"}, "http": {"port": 0}, "nonsense": 1}`)
	status, stdout, stderr := runArgs(t, "--dry", "--config", file)
	if status != exitFailed || stdout != "" {
		t.Errorf("status %d, output %q", status, stdout)
	}
	for _, want := range []string{
		`did you mean "server.retryOnError"?`, "server.tcpTimeout", "http.port = 0", "nonsense", "4 mistakes",
	} {
		if !strings.Contains(stderr, want) {
			t.Errorf("output lacks %q:\n%s", want, stderr)
		}
	}
}

func TestRun_DryOpensWhatTheFileNames(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	empty := writeFile(t, filepath.Join(folder, "empty.pem"), "")
	torn := writeFile(t, filepath.Join(folder, "torn.json"), `{"frontend:www.example.com": ["a"`)
	tests := map[string]struct{ content, want string }{
		"routes, missing":  {`{"driver": "file:` + folder + `/none.json"}`, "none.json: no such file"},
		"routes, torn":     {`{"driver": "file:` + torn + `"}`, `torn.json: line 1`},
		"certificate":      {`{"https": {"bind": "127.0.0.1", "cert": "` + folder + `/no.crt", "key": "` + folder + `/no.key"}}`, "no.crt"},
		"static folder":    {`{"server": {"staticDir": "` + folder + `/none"}}`, "server.staticDir"},
		"roots, missing":   {`{"server": {"backendCA": "` + folder + `/none.pem"}}`, "none.pem"},
		"roots, no PEM":    {`{"server": {"backendCA": "` + empty + `"}}`, "holds no certificate"},
		"driver":           {`{"driver": "etcd://127.0.0.1"}`, "driver"},
		"not JSON":         {"{\n\"a\": }", "line 2, column 6"},
		"not JSON, nearly": {"{\n\"a\": 1,\n}", "comma"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, _, stderr := runArgs(t, "--dry", "-c", writeConfig(t, tt.content), "--user", "root")
			if status != exitFailed || !strings.Contains(stderr, tt.want) {
				t.Errorf("status %d, output %q, want one with %q", status, stderr, tt.want)
			}
		})
	}
}

func TestRun_MistakesStopTheStart(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ content, want string }{
		"value":          {`{"server": {"balance": "best"}}`, `must be "random"`},
		"slip":           {`{"server": {"balanc": "random"}}`, `did you mean "server.balance"?`},
		"no such driver": {`{"driver": "memcached:"}`, "driver"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, _, stderr := runArgs(t, "-c", writeConfig(t, tt.content))
			if status != exitFailed || !strings.Contains(stderr, tt.want) {
				t.Errorf("status %d, output %q, want one with %q", status, stderr, tt.want)
			}
		})
	}
}

func TestRun_EmptyUserAsRoot(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can be refused")
	}
	status, _, stderr := runArgs(t, "-c", writeConfig(t, `{"user": ""}`))
	if status != exitFailed || !strings.Contains(stderr, "user") || !strings.Contains(stderr, `"root"`) {
		t.Errorf("status %d, output %q", status, stderr)
	}
}
