package main

import (
	"fmt"
	"os/exec"
	"testing"

	"sluice/internal/logtest"
)

// Both ways to fix the number of threads, and the default.
func TestProcess_Threads(t *testing.T) {
	t.Parallel()
	binary, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		args, env []string
		fixed     int // 0 where they follow the load
	}{
		"by the key":      {args: []string{"--server-threads=3"}, fixed: 3},
		"by the variable": {env: []string{"GOMAXPROCS=3"}, fixed: 3},
		"by both":         {args: []string{"--server-threads=4"}, env: []string{"GOMAXPROCS=3"}, fixed: 4},
		"by the load":     {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			port, adminPort, log := freePort(t), freePort(t), new(logtest.Buffer)
			routes := routesFile(t, map[string]string{"www.example.com": "http://127.0.0.1:1"})
			cmd := exec.Command(binary, append(tt.args, "--user=root", routes, //nolint:gosec // our own
				fmt.Sprintf("--http-port=%d", port), fmt.Sprintf("--admin-port=%d", adminPort))...)
			cmd.Env = append(cmd.Environ(), tt.env...)
			cmd.Stderr = log
			p := launchCommand(t, cmd, log, port, adminPort)
			if _, follows := p.metric(`sluice_thread_changes_total{to="fewer"}`); follows != (tt.fixed == 0) {
				t.Errorf("the number of threads follows the load: %v", follows)
			}
			if threads, _ := p.metric("go_gomaxprocs"); tt.fixed > 0 && threads != float64(tt.fixed) {
				t.Errorf("got %v threads, want %d", threads, tt.fixed)
			}
		})
	}
}
