package proxy_test

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite what the wire goldens expect")

// wireSection is one part of a golden file: what one side sends, or what it must receive.
type wireSection struct{ name, text string }

// The sections of a golden file. They are played in their order, on one connection on each side. Lines end in CRLF on the
// wire; a line that ends in \n has a bare LF there, one that ends in a backslash no line end at all. $PORT stands for the listener's port, $DATE for a date.
const (
	clientSends      = "client sends"
	backendReceives  = "backend receives"
	backendSends     = "backend sends"
	clientReceives   = "client receives"
	backendCloses    = "backend closes" // its text is empty
	clientSeesTheEnd = "client sees the end"
)

// TestWire plays the golden conversations: every byte on both sides of the edge.
func TestWire(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/wire/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			comment, sections := readWire(t, file)
			played := playWire(t, sections)
			if *update {
				writeWire(t, file, comment, played)
				return
			}
			for i, want := range sections {
				if got := played[i].text; got != want.text {
					t.Errorf("%s, section %d, %s:\n%s\nwant:\n%s", file, i, want.name, got, want.text)
				}
			}
		})
	}
}

// readWire splits a golden file at its `-- name --` lines.
func readWire(t *testing.T, file string) (comment string, sections []wireSection) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		name, ok := strings.CutPrefix(strings.TrimSuffix(line, " --\n"), "-- ")
		switch {
		case ok && strings.HasSuffix(line, " --\n"):
			sections = append(sections, wireSection{name: name})
		case len(sections) == 0:
			comment += line
		default:
			sections[len(sections)-1].text += line
		}
	}
	return comment, sections
}

func writeWire(t *testing.T, file, comment string, sections []wireSection) {
	t.Helper()
	for _, s := range sections {
		comment += "-- " + s.name + " --\n" + s.text
	}
	if err := os.WriteFile(file, []byte(comment), 0o600); err != nil {
		t.Fatal(err)
	}
}

// playWire runs the conversation and returns the sections with what was really received.
func playWire(t *testing.T, sections []wireSection) []wireSection {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "error_default.html"), []byte("<p>error</p>"), 0o600); err != nil {
		t.Fatal(err)
	}
	e := newEdge(t, one("a.example", "http://"+ln.Addr().String()), func(s *setup) { s.pages.StaticDir = dir })
	c := e.dial()
	var backend net.Conn
	played := make([]wireSection, len(sections))
	for i, s := range sections {
		played[i] = s
		switch s.name {
		case clientSends:
			c.send(toWire(s.text, e.port))
		case backendReceives:
			if backend == nil {
				if backend, err = accept(ln); err != nil {
					t.Fatalf("section %d, %s: %v", i, s.name, err)
				}
				defer backend.Close()
			}
			played[i].text = fromWire(receive(t, backend, toWire(s.text, e.port)), e.port)
		case backendSends:
			if _, err := io.WriteString(backend, toWire(s.text, e.port)); err != nil {
				t.Fatalf("section %d, %s: %v", i, s.name, err)
			}
		case backendCloses:
			_ = backend.Close()
			backend = nil
		case clientReceives:
			played[i].text = fromWire(receive(t, c.Conn, toWire(s.text, e.port)), e.port)
		case clientSeesTheEnd:
			c.wantEnd()
		default:
			t.Fatalf("section %d: unknown name %q", i, s.name)
		}
	}
	return played
}

func accept(ln net.Listener) (net.Conn, error) {
	_ = ln.(*net.TCPListener).SetDeadline(time.Now().Add(patience))
	return ln.Accept()
}

// receive reads as many bytes as are wanted, and those that come right behind them.
func receive(t *testing.T, c net.Conn, want string) []byte {
	t.Helper()
	got := make([]byte, len(want))
	n := 0
	if !*update {
		_ = c.SetReadDeadline(time.Now().Add(2 * time.Second))
		n, _ = io.ReadFull(c, got)
		if n < len(want) {
			return got[:n]
		}
	}
	quiet := 30 * time.Millisecond
	if *update {
		quiet = 500 * time.Millisecond
	}
	_ = c.SetReadDeadline(time.Now().Add(quiet))
	more, _ := io.ReadAll(c)
	return append(got[:n], more...)
}

// dateOnWire has the length of a Date field's value, so that both forms are equally long.
const dateOnWire = "Thu, 01 Jan 1970 00:00:00 GMT"

var dates = regexp.MustCompile(`[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT`)

// toWire turns the text of a section into bytes.
func toWire(text string, port int) string {
	text = strings.NewReplacer("$PORT", fmt.Sprint(port), "$DATE", dateOnWire).Replace(text)
	var b strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if bare, ok := strings.CutSuffix(line, `\n`); ok {
			b.WriteString(bare + "\n")
			continue
		}
		if joined, ok := strings.CutSuffix(line, `\`); ok {
			b.WriteString(joined)
			continue
		}
		b.WriteString(line + "\r\n")
	}
	return b.String()
}

// fromWire turns bytes into the text of a section.
func fromWire(raw []byte, port int) string {
	raw = dates.ReplaceAll(raw, []byte("$$DATE"))
	raw = bytes.ReplaceAll(raw, fmt.Appendf(nil, "Port: %d\r\n", port), []byte("Port: $PORT\r\n"))
	var b strings.Builder
	for line := range bytes.Lines(raw) {
		text, end := bytes.TrimSuffix(line, []byte("\n")), `\`
		switch {
		case bytes.HasSuffix(line, []byte("\r\n")):
			text, end = bytes.TrimSuffix(text, []byte("\r")), ""
		case len(text) < len(line):
			end = `\n`
		}
		b.Write(text)
		b.WriteString(end + "\n")
	}
	return b.String()
}
