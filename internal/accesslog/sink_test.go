package accesslog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/syslog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

func TestOpen_RefusesWhatItCannotWrite(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		o    Options
		want string
	}{
		{"no path", Options{}, `name a file, or "stdout"`},
		{"unknown format", Options{Path: "none", Format: "clf"}, `format "clf" is unknown; use "hipache" or "json"`},
		{"no folder", Options{Path: "/nonexistent/access.log"}, "open access log: open /nonexistent/access.log"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := Open(tt.o); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v; want %q in it", err, tt.want)
			}
		})
	}
}

// TestWriter_FifoNobodyReads is the sink that takes nothing: no call waits for it, and what does
// not fit into memory is dropped as whole lines and counted.
func TestWriter_FifoNobodyReads(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	set := metrics.NewSet()
	// More than the fifo itself holds, so that a write has to wait.
	w := open(t, Options{Path: path, MaxPending: 256 << 10, Metrics: set})
	const lines = 10_000
	start := time.Now()
	logN(w, 0, lines)
	logging := time.Since(start)
	eventually(t, "drops", func() bool {
		logN(w, lines, 100)
		return counter(set, "dropped_total") > 0
	})
	if limit := 5 * time.Second; logging > limit {
		t.Errorf("logging %d lines took %v; want less than %v", lines, logging, limit)
	}
	if err := w.Reopen(); !errors.Is(err, errStuck) {
		t.Errorf("Reopen: got %v; want %v", err, errStuck)
	}
	start = time.Now()
	err := w.Close()
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("Close took %v", took)
	}
	if err == nil || !strings.Contains(err.Error(), "were not written") {
		t.Errorf("Close: got %v; want it to say what was lost", err)
	}
	if err = w.Flush(); !errors.Is(err, ErrClosed) {
		t.Errorf("Flush after Close: got %v; want %v", err, ErrClosed)
	}
}

func TestWriter_FifoReaderComesLate(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	w := open(t, Options{Path: path})
	logN(w, 0, 10)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	reader, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if err = w.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(reader)
	if got := bytes.Count(text, newline); err != nil || got != 10 {
		t.Errorf("got %d lines, %v; want 10", got, err)
	}
}

// TestStdout replaces os.Stdout, so it runs alone.
func TestStdout(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	stdout := os.Stdout
	os.Stdout = writer
	w, err := Open(Options{Path: "stdout"})
	os.Stdout = stdout
	if err != nil {
		t.Fatal(err)
	}
	logN(w, 0, 1)
	if err = w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err = writer.WriteString("still open\n"); err != nil {
		t.Fatalf("Close closed standard output: %v", err)
	}
	writer.Close()
	text, err := io.ReadAll(reader)
	if err != nil || !strings.HasSuffix(string(text), "0.011 0.009\nstill open\n") {
		t.Errorf("got %q, %v", text, err)
	}
}

func TestSyslog_OneMessageALine(t *testing.T) {
	t.Parallel()
	address := filepath.Join(t.TempDir(), "log")
	daemon, err := net.ListenPacket("unixgram", address)
	if err != nil {
		t.Fatal(err)
	}
	defer daemon.Close()
	w := startWith(t, Options{}, &syslogSink{dial: func() (*syslog.Writer, error) {
		return syslog.Dial("unixgram", address, syslog.LOG_INFO|syslog.LOG_LOCAL0, "sluice")
	}})
	logN(w, 0, 2)
	if err = w.Close(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	for i := range 2 {
		if err = daemon.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, _, err := daemon.ReadFrom(buf)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := string(buf[:n]), fmt.Sprintf(`"GET /%d HTTP/1.1"`, i); !strings.Contains(got, want) ||
			!strings.HasPrefix(got, "<134>") {
			t.Errorf("got %q; want %s with facility local0, severity info", got, want)
		}
	}
}

func TestSyslog_WaitsForTheDaemon(t *testing.T) {
	t.Parallel()
	address := filepath.Join(t.TempDir(), "log")
	w := startWith(t, Options{}, &syslogSink{dial: func() (*syslog.Writer, error) {
		return syslog.Dial("unixgram", address, syslog.LOG_INFO, "sluice")
	}})
	logN(w, 0, 1)
	if err := w.Flush(); err == nil {
		t.Fatal("Flush succeeded without a daemon")
	}
	daemon, err := net.ListenPacket("unixgram", address)
	if err != nil {
		t.Fatal(err)
	}
	defer daemon.Close()
	if err = daemon.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	if n, _, err := daemon.ReadFrom(buf); err != nil || !bytes.Contains(buf[:n], []byte("GET /0 ")) {
		t.Errorf("got %q, %v; want the line that waited", buf[:n], err)
	}
}
