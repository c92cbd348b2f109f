package proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestVTC plays the scripts of testdata/vtc with varnishtest. A script's client connects to "${proxy}", its server listens on
// "${backend}", where every host leads.
func TestVTC(t *testing.T) {
	t.Parallel()
	program := installed(t, "varnishtest", "varnish")
	scripts, err := filepath.Glob("testdata/vtc/*.vtc")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts found: %v", err)
	}
	for i, script := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(script), ".vtc"), func(t *testing.T) {
			t.Parallel()
			backend := freeAddress(t, fmt.Sprintf("127.0.77.%d", i+1))
			e := newEdge(t, one("*", "http://"+backend))
			ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
			defer cancel()
			cmd := exec.CommandContext(ctx, program, "-q", "-t", "15", "-Dproxy="+e.addr, "-Dbackend="+backend, script)
			cmd.WaitDelay = time.Second
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			cmd.Env = append(cmd.Environ(), "TMPDIR="+t.TempDir())
			if err := cmd.Run(); err != nil {
				t.Errorf("%v\n%s", err, &out)
			}
			if n := e.metric("sluice_panics_total"); n != 0 {
				t.Errorf("%v panics", n)
			}
		})
	}
}

// freeAddress returns an address that is free and stays so if the IP is nobody else's, unlike 127.0.0.1.
func freeAddress(t testing.TB, ip string) string {
	t.Helper()
	ln, err := net.Listen("tcp4", ip+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// installed finds a program that the tests need, or says what to install.
func installed(t testing.TB, program, debianPackage string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatalf("%v: apt-get install %s, or run make deps", err, debianPackage)
	}
	return path
}
