package privilege

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// Readable reports why this process, as the user that it is now, cannot read the file or list the
// directory at path; nil if it can. Called after Drop, it finds what a later reload would fail on.
func Readable(path string) error {
	// O_NONBLOCK: opening a fifo must not wait for its writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return explain(path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return explain(path, err)
	}
	if info.IsDir() {
		if _, err = f.ReadDir(1); err != nil && !errors.Is(err, io.EOF) {
			return explain(path, err)
		}
	}
	return nil
}

// explain adds who was refused, which the system's error does not say.
func explain(path string, err error) error {
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("read %s as user %d, group %d: give that user access to the file and its folders: %w",
			path, os.Geteuid(), os.Getegid(), err)
	}
	return fmt.Errorf("read %s: %w", path, err)
}
