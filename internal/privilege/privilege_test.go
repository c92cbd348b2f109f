package privilege

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// childEnv makes the test binary a process that drops its privileges and prints an outcome.
const childEnv = "PRIVILEGE_TEST_CHILD"

// order is what a child is told to do.
type order struct {
	User, Group string
	Read        []string // paths to try afterwards
}

// outcome is what it found.
type outcome struct {
	Err     string
	Threads []string // "Uid ... Gid ... Groups ..." of each, doubles removed
	IsRoot  bool
	Read    []string // results of Readable, "" for nil
	Again   string   // error of a second Drop
}

func TestMain(m *testing.M) {
	if text := os.Getenv(childEnv); text != "" {
		var o order
		if err := json.Unmarshal([]byte(text), &o); err != nil {
			panic(err)
		}
		if err := json.NewEncoder(os.Stdout).Encode(obey(o)); err != nil {
			panic(err)
		}
		return
	}
	os.Exit(m.Run())
}

// obey drops the privileges of this process, which has several threads by then.
func obey(o order) outcome {
	ready, stop := make(chan struct{}), make(chan struct{})
	defer close(stop)
	for range 4 {
		go func() {
			runtime.LockOSThread()
			ready <- struct{}{}
			<-stop
		}()
	}
	for range 4 {
		<-ready
	}
	t, err := Lookup(o.User, o.Group)
	if err == nil {
		err = t.Drop()
	}
	out := outcome{Err: message(err), IsRoot: IsRoot(), Threads: threads()}
	for _, path := range o.Read {
		out.Read = append(out.Read, message(Readable(path)))
	}
	out.Again = message(t.Drop())
	return out
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// threads reads the identities of this process's threads from the kernel.
func threads() []string {
	files, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil || len(files) < 4 {
		return []string{fmt.Sprintf("only %d threads: %v", len(files), err)}
	}
	var found []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return []string{err.Error()}
		}
		var ids []string
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "Uid:") || strings.HasPrefix(line, "Gid:") || strings.HasPrefix(line, "Groups:") {
				ids = append(ids, strings.Fields(line)...)
			}
		}
		if id := strings.Join(ids, " "); !slices.Contains(found, id) {
			found = append(found, id)
		}
	}
	return found
}

// child runs the order in a process of its own, started as credential says (nil: as this one).
func child(t *testing.T, o order, credential *syscall.Credential) outcome {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.Output()
	if err != nil {
		t.Fatalf("child: %v\n%s", err, stderr.String())
	}
	var out outcome
	if err = json.Unmarshal(stdout, &out); err != nil {
		t.Fatalf("child said %q: %v", stdout, err)
	}
	return out
}

func needRoot(t *testing.T) {
	t.Helper()
	if !IsRoot() {
		t.Skip("only root can change its user")
	}
}

// account is an ordinary user that every machine has.
func account(t *testing.T) *user.User {
	t.Helper()
	for _, name := range []string{"www-data", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			return u
		}
	}
	t.Skip("neither www-data nor nobody on this machine")
	return nil
}

func TestDrop_ChangesEveryThread(t *testing.T) {
	t.Parallel()
	needRoot(t)
	u := account(t)
	four := func(id string) string { return strings.TrimSuffix(strings.Repeat(id+" ", 4), " ") }
	tests := []struct {
		name, user, group string
		want              string
	}{
		{"by name", u.Username, "", "Uid: " + four(u.Uid) + " Gid: " + four(u.Gid) + " Groups: " + u.Gid},
		{"by id", u.Uid, "", "Uid: " + four(u.Uid) + " Gid: " + four(u.Gid) + " Groups: " + u.Gid},
		{"other group", u.Username, "12345", "Uid: " + four(u.Uid) + " Gid: " + four("12345") + " Groups: " + u.Gid + " 12345"},
		{"unknown id", "54321", "12345", "Uid: " + four("54321") + " Gid: " + four("12345") + " Groups: 12345"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			// The child starts with groups that it must lose.
			got := child(t, order{User: tt.user, Group: tt.group}, &syscall.Credential{Groups: []uint32{0, 4, 27}})
			if got.Err != "" || got.IsRoot || got.Again != "" {
				t.Errorf("error %q, root %v, second drop %q", got.Err, got.IsRoot, got.Again)
			}
			if len(got.Threads) != 1 || got.Threads[0] != tt.want {
				t.Errorf("got %q; want all threads to be %q", got.Threads, tt.want)
			}
		})
	}
}

func TestDrop_ToRootStaysRoot(t *testing.T) {
	t.Parallel()
	needRoot(t)
	if got := child(t, order{User: "root"}, nil); got.Err != "" || !got.IsRoot {
		t.Errorf("error %q, root %v; want to stay root", got.Err, got.IsRoot)
	}
}

func TestDrop_NeedsRoot(t *testing.T) {
	t.Parallel()
	needRoot(t) // to start the child as somebody else
	got := child(t, order{User: "54321", Group: "12345"}, &syscall.Credential{Uid: 54322, Gid: 12345})
	if want := "only root can change its user, and this process runs as 54322:12345"; !strings.Contains(got.Err, want) {
		t.Errorf("got %q; want %q in it", got.Err, want)
	}
	got = child(t, order{User: "54321", Group: "12345"}, &syscall.Credential{Uid: 54321, Gid: 12345})
	if got.Err != "" {
		t.Errorf("dropping to what the process is already: %s", got.Err)
	}
}

func TestReadable_AsTheNewUser(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := t.TempDir()
	// The test's own folders may be closed to others.
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	secret, open, closed := filepath.Join(dir, "key.pem"), filepath.Join(dir, "open"), filepath.Join(dir, "closed")
	err := errors.Join(
		os.WriteFile(secret, nil, 0o600),
		os.WriteFile(open, nil, 0o644),
		os.Mkdir(closed, 0o700),
	)
	if err != nil {
		t.Fatal(err)
	}
	paths := []string{secret, open, closed, dir, filepath.Join(closed, "inside")}
	got := child(t, order{User: "54321", Group: "12345", Read: paths}, nil)
	for i, refused := range []bool{true, false, true, false, true} {
		want := ""
		if refused {
			want = "read " + paths[i] + " as user 54321, group 12345: give that user access"
		}
		if (got.Read[i] == "") == refused || !strings.HasPrefix(got.Read[i], want) {
			t.Errorf("%s: got %q; want %q", paths[i], got.Read[i], want)
		}
	}
}

func TestReadable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(Readable(dir), Readable(fifo)); err != nil { // the fifo has no writer
		t.Error(err)
	}
	if err := Readable(filepath.Join(dir, "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v; want %v", err, os.ErrNotExist)
	}
}

func TestLookup(t *testing.T) {
	t.Parallel()
	u := account(t)
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	tests := []struct {
		name, user, group string
		uid, gid          int
		err               string
	}{
		{"name", u.Username, "", uid, gid, ""},
		{"id of an account", u.Uid, "", uid, gid, ""},
		{"group by name", u.Username, "root", uid, 0, ""},
		{"group by id", u.Username, "12345", uid, 12345, ""},
		{"root", "root", "", 0, 0, ""},
		{"empty", "", "", 0, 0, `the name is empty; name a user, or "root" to stay root`},
		{"unknown name", "no-such-user", "", 0, 0, `look up user "no-such-user": no such user`},
		{"unknown id without a group", "54321", "", 0, 0, "its group is unknown; set group as well"},
		{"unknown group", u.Username, "no-such-group", 0, 0, `look up group "no-such-group": no such group`},
		{"negative id", "-1", "0", 0, 0, "no such user"},
		{"id that means no change", "4294967295", "0", 0, 0, "no such user"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := Lookup(tt.user, tt.group)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %v; want %q in it", err, tt.err)
				}
				return
			}
			if err != nil || got.UID != tt.uid || got.GID != tt.gid {
				t.Errorf("got %+v, %v; want %d:%d", got, err, tt.uid, tt.gid)
			}
			if !slices.Contains(got.Groups, got.GID) {
				t.Errorf("groups %v lack the group %d", got.Groups, got.GID)
			}
		})
	}
}
