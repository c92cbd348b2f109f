//go:build !race

package proxy_test

import (
	"encoding/csv"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"sluice/internal/backendtest"
)

// slowTime is how long each attack of slow clients lasts.
var slowTime = flag.Duration("slow", 4*time.Second, "how long slowhttptest attacks, in each of its modes")

// slowBound is how long others may wait meanwhile. They are served in a tenth of a second at most on a machine that has nothing
// else to do.
const slowBound = 5 * time.Second

// slowModes are the attacks of slowhttptest. Time limits end the first two; one who reads slowly is held to minBodyRate, which
// takes longer than this, and would not notice: the end comes behind what it has not read.
var slowModes = []struct {
	name, flag string
	clients    int
	timeouts   bool // end them while the attack lasts
}{
	{"slow heads", "-H", 400, true},
	{"slow bodies", "-B", 400, true},
	{"slow readers", "-X", 60, false},
}

// testSlowClients lets hundreds of clients dawdle. Everybody else is served as if they were not there.
func testSlowClients(t *testing.T, binary string) {
	attacker := installed(t, "slowhttptest", "slowhttptest")
	for i, tt := range slowModes {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := backendtest.Canned(t, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(slowAnswer), slowAnswer))
			p := startProgram(t, binary, 4+i, b.URL(), map[string]any{"headerTimeout": 1, "bodyIdleTimeout": 0.5})
			before := p.memory("VmRSS")
			prefix := filepath.Join(t.TempDir(), "attack")
			attack := exec.CommandContext(t.Context(), attacker, tt.flag, "-u", "http://"+p.addr+"/", "-c", strconv.Itoa(tt.clients),
				"-r", "200", "-l", strconv.Itoa(int(slowTime.Seconds())), "-i", "1", "-p", "5", "-w", "1", "-y", "1", "-n", "1", "-z", "1",
				"-g", "-o", prefix)
			done := make(chan error, 1)
			go func() { done <- attack.Run() }()
			asked, slowest := askMeanwhile(t, p, done)
			rows := attackLog(t, prefix+".csv")
			last := rows[len(rows)-1]
			t.Logf("%s: %d clients, %d closed, %d asked meanwhile and were served within %v, process grew by %d KiB",
				tt.name, last.connected+last.closed, last.closed, asked, slowest, (p.memory("VmHWM")-before)>>10)
			if asked < 10 || slowest > slowBound {
				t.Errorf("clients of good manners could ask %d times, and waited up to %v; want at most %v", asked, slowest, slowBound)
			}
			for _, row := range rows {
				if !row.available {
					t.Errorf("slowhttptest found no service after %d s", row.second)
				}
			}
			if n := p.metric(`sluice_errors_total{cause="request_timeout"}`); tt.timeouts && (n < 100 || last.closed < 100) {
				t.Errorf("%v timeouts counted, %d closed; want the slow ones ended", n, last.closed)
			}
		})
	}
}

// slowAnswer is longer than what the kernel takes off the proxy's hands for a client that reads nothing: the proxy has to wait.
var slowAnswer = string(make([]byte, 6<<20))

// askMeanwhile asks as a client of good manners does, until the attack is over. It returns how often, and the longest time.
func askMeanwhile(t *testing.T, p *program, done chan error) (asked int, slowest time.Duration) {
	t.Helper()
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("slowhttptest: %v", err)
			}
			return asked, slowest
		case <-time.After(50 * time.Millisecond):
		}
		start, c := time.Now(), p.dial()
		if a := c.do("HEAD", "/", "a.example", "Connection: close"); a.StatusCode != 200 {
			t.Errorf("a client of good manners got %d %q", a.StatusCode, a.cause())
		}
		_ = c.Close()
		asked++
		slowest = max(slowest, time.Since(start))
	}
}

// attackRow is one second of an attack, as slowhttptest saw it.
type attackRow struct {
	second, closed, connected int
	available                 bool
}

func attackLog(t *testing.T, path string) (rows []attackRow) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines, err := csv.NewReader(file).ReadAll()
	if err != nil || len(lines) < 3 {
		t.Fatalf("%s: %q, %v", path, lines, err)
	}
	for _, line := range lines[1:] { // Seconds, Closed, Pending, Connected, Service Available
		var n [5]int
		for i := range n {
			n[i], _ = strconv.Atoi(line[i])
		}
		rows = append(rows, attackRow{n[0], n[1], n[3], n[4] > 0})
	}
	return rows
}
