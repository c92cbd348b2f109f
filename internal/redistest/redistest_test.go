package redistest

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestStart_AnswersOnPortAndSocket(t *testing.T) {
	t.Parallel()
	s := Start(t)
	s.Do("SET", "k", "v\r\nw")
	if got := s.Text("GET", "k"); got != "v\r\nw" {
		t.Errorf("GET k = %q, want the stored value", got)
	}
	c, err := Dial("unix", s.Socket())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, err := c.Do("GET", "k"); err != nil || got != "v\r\nw" {
		t.Errorf("GET k over the socket = %v, %v", got, err)
	}
}

func TestDo_ReplyForms(t *testing.T) {
	t.Parallel()
	s := Start(t)
	if n := s.Int("RPUSH", "l", "a", "", "c"); n != 3 {
		t.Errorf("RPUSH = %d, want 3", n)
	}
	if got, want := s.Strings("LRANGE", "l", "0", "-1"), []string{"a", "", "c"}; !slices.Equal(got, want) {
		t.Errorf("LRANGE = %q, want %q", got, want)
	}
	if got := s.Do("GET", "absent"); got != nil {
		t.Errorf("GET absent = %v, want nil", got)
	}
	_, err := s.Try("GET", "l")
	if e := Error(""); !errors.As(err, &e) || !strings.HasPrefix(string(e), "WRONGTYPE") {
		t.Errorf("GET of a list: error %v, want WRONGTYPE", err)
	}
}

func TestKillAndRestart_SamePortEmpty(t *testing.T) {
	t.Parallel()
	s := Start(t, "--requirepass", "secret")
	port := s.Port
	s.Do("SET", "k", "v")
	s.Kill()
	if _, err := s.Try("PING"); err == nil {
		t.Error("PING of a killed server was answered")
	}
	s.Restart()
	if s.Port != port {
		t.Errorf("port changed from %d to %d", port, s.Port)
	}
	if got := s.Do("GET", "k"); got != nil {
		t.Errorf("GET k after a restart = %v, want nothing", got)
	}
	if want := fmt.Sprintf("redis://:secret@127.0.0.1:%d", port); s.URL() != want {
		t.Errorf("URL = %q, want %q", s.URL(), want)
	}
}

func TestStop_FreezesUntilContinue(t *testing.T) {
	t.Parallel()
	s := Start(t)
	c := s.Connect()
	s.Stop()
	if err := c.Send("PING"); err != nil {
		t.Fatal(err)
	}
	if v, err := c.Receive(200 * time.Millisecond); err == nil {
		t.Fatalf("a stopped server answered %v", v)
	}
	s.Continue()
	if got := s.Text("PING"); got != "PONG" {
		t.Errorf("PING after Continue = %q", got)
	}
}

func TestStartReplica_FollowsMaster(t *testing.T) {
	t.Parallel()
	master := Start(t, "--requirepass", "secret")
	replica := StartReplica(t, master)
	master.Do("SET", "k", "v")
	if err := poll(func() error {
		if got := replica.Text("GET", "k"); got != "v" {
			return fmt.Errorf("GET k on the replica = %q", got)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if _, err := replica.Try("SET", "k", "w"); err == nil {
		t.Error("the replica took a write")
	}
}

func TestSubscribe_DeliversInOrder(t *testing.T) {
	t.Parallel()
	s := Start(t)
	messages := s.Subscribe("dead")
	for i := range 10 {
		s.Do("PUBLISH", "dead", strconv.Itoa(i))
	}
	for i := range 10 {
		select {
		case m := <-messages:
			if m != strconv.Itoa(i) {
				t.Fatalf("message %d is %q", i, m)
			}
		case <-time.After(replyTimeout):
			t.Fatalf("message %d did not come", i)
		}
	}
}

func TestLoad_PipelinesManyCommands(t *testing.T) {
	t.Parallel()
	s := Start(t)
	const keys = 25_000
	s.Load(func(yield func(args ...string)) {
		for i := range keys {
			yield("RPUSH", "frontend:h"+strconv.Itoa(i), "id", "http://127.0.0.1:80")
		}
	})
	if n := s.Int("DBSIZE"); n != keys {
		t.Errorf("DBSIZE = %d, want %d", n, keys)
	}
}

func TestLaunch_BadArgumentSaysWhy(t *testing.T) {
	t.Parallel()
	_, err := Launch("--no-such-option", "1")
	if err == nil || !strings.Contains(err.Error(), "no-such-option") {
		t.Errorf("error %v, want the server's own words", err)
	}
}

func TestClose_EndsProcessAndDirectory(t *testing.T) {
	t.Parallel()
	s, err := Launch()
	if err != nil {
		t.Fatal(err)
	}
	pid := s.proc.pid()
	s.Close()
	if _, err := os.Stat("/proc/" + strconv.Itoa(pid)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("process %d still there: %v", pid, err)
	}
	if _, err := os.Stat(s.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directory still there: %v", err)
	}
}
