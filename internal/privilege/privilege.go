// Package privilege turns a process that was started as root into one that runs as an ordinary
// user, and checks what that user may read.
//
// The program calls it once, after the listeners are bound and the logs and keys are open: Lookup
// while the configuration is checked, Drop at the start, Readable afterwards. It never gives
// privileges back, and it decides nothing about which user is a good idea.
package privilege

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
)

// Target is the user and the groups that a process is to run as. The zero value is root; make
// one with Lookup.
type Target struct {
	User   string // as given to Lookup
	UID    int
	GID    int
	Groups []int // supplementary groups; GID is always among them
}

// IsRoot says whether this process has root's rights (its effective user id is 0).
func IsRoot() bool { return os.Geteuid() == 0 }

// Drop makes every thread of this process run as the target: supplementary groups first, then the
// group, then the user, as each step takes away the right to do the one before it. It then tries
// to become root again and reports an error if that is possible. There is no way back; after an
// error the process is in an unknown state and must end.
//
// A process that is not root can only stay what it is: Drop does nothing when user and group are
// its own already, and is an error otherwise. Not safe for concurrent use.
func (t Target) Drop() error {
	if !IsRoot() {
		if t.UID == os.Geteuid() && t.GID == os.Getegid() {
			return nil
		}
		return fmt.Errorf("drop privileges to user %q (%d:%d): only root can change its user, and this process runs as "+
			"%d:%d; start it as root or leave user and group out", t.User, t.UID, t.GID, os.Geteuid(), os.Getegid())
	}
	// The syscall package applies these to all threads, unlike golang.org/x/sys.
	if err := syscall.Setgroups(t.Groups); err != nil {
		return fmt.Errorf("set supplementary groups %v of user %q: %w", t.Groups, t.User, err)
	}
	if err := syscall.Setgid(t.GID); err != nil {
		return fmt.Errorf("set group %d of user %q: %w", t.GID, t.User, err)
	}
	if err := syscall.Setuid(t.UID); err != nil {
		return fmt.Errorf("set user %d (%q): %w", t.UID, t.User, err)
	}
	return t.verify()
}

// verify reports how the process differs from the target, or can still become root.
func (t Target) verify() error {
	if os.Getuid() != t.UID || os.Geteuid() != t.UID || os.Getgid() != t.GID || os.Getegid() != t.GID {
		return fmt.Errorf("drop privileges to user %q (%d:%d): the process runs as %d:%d, effectively %d:%d",
			t.User, t.UID, t.GID, os.Getuid(), os.Getgid(), os.Geteuid(), os.Getegid())
	}
	groups, err := syscall.Getgroups()
	if err != nil {
		return fmt.Errorf("read supplementary groups of user %q: %w", t.User, err)
	}
	for _, g := range groups {
		if !slices.Contains(t.Groups, g) {
			return fmt.Errorf("drop privileges to user %q: the process still has group %d", t.User, g)
		}
	}
	if t.UID == 0 {
		return nil
	}
	if syscall.Setuid(0) == nil || syscall.Seteuid(0) == nil {
		return fmt.Errorf("drop privileges to user %q: %w", t.User, errStillRoot)
	}
	return nil
}

// errStillRoot is a kernel or a container that keeps capabilities across a change of user.
var errStillRoot = errors.New("the process can become root again; its capabilities were kept (securebits?)")
