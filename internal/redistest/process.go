package redistest

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// programVariable names another program to test against, such as valkey-server.
const programVariable = "REDISTEST_SERVER"

// errMissing is the one failure that the reader mends outside the code.
var errMissing = errors.New("redis-server, or what REDISTEST_SERVER names, is not in PATH: " +
	"apt-get install redis-server")

// process is one run of redis-server.
type process struct {
	cmd  *exec.Cmd
	log  *Tail
	done chan struct{} // closed when the process has been waited for
}

// startProcess starts redis-server so that it dies with this program. The kernel ties the death
// signal to the thread that forked, hence the goroutine that holds its thread as long as the
// process lives.
func startProcess(args []string, apart bool) (*process, error) {
	path, err := exec.LookPath(cmp.Or(os.Getenv(programVariable), "redis-server"))
	if err != nil {
		return nil, errMissing
	}
	p := &process{cmd: exec.Command(path, args...), log: &Tail{}, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if apart {
		p.cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNET
	}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // Killed or failed: its log tells.
		}
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start redis-server: %w", err)
	}
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) kill() {
	_ = p.cmd.Process.Kill() // It fails only for a process that has ended by itself.
	<-p.done
}

// lastWords is the end of the server's log on one line.
func (p *process) lastWords() string { return p.log.String() }
