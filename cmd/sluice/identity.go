package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"syscall"

	"sluice/internal/config"
	"sluice/internal/privilege"
)

// identity is whom the process becomes once everything that needs root is open.
type identity struct {
	target privilege.Target
	change bool
}

// findIdentity looks up user and group before anything is opened, so that a wrong name is told at
// once. A process that is not root stays who it is.
func findIdentity(cfg *config.Config, log *slog.Logger) (identity, error) {
	if !privilege.IsRoot() {
		if isAlready(cfg) {
			return identity{}, nil
		}
		for _, path := range []string{"user", "group"} {
			if cfg.IsSet(path) {
				log.Warn("configuration: "+path+" is ignored: only a process started as root can change it", "uid", os.Geteuid())
			}
		}
		return identity{}, nil
	}
	target, err := privilege.Lookup(cfg.User, cfg.Group)
	if err != nil {
		return identity{}, fmt.Errorf("user and group: %w", err)
	}
	return identity{target: target, change: true}, nil
}

// isAlready reports whether the process runs as the user and group that the configuration names, as
// one does that an old process has started.
func isAlready(cfg *config.Config) bool {
	target, err := privilege.Lookup(cfg.User, cfg.Group)
	return err == nil && target.UID == os.Geteuid() && target.GID == os.Getegid()
}

// assume becomes the user. There is no way back.
func (id identity) assume(log *slog.Logger) error {
	if !id.change {
		return nil
	}
	if err := id.target.Drop(); err != nil {
		return err
	}
	log.Info("running as", "user", id.target.User, "uid", id.target.UID, "gid", id.target.GID)
	return nil
}

// probe tries, as the user that the process is now, what a reload will read and what a reopened
// log will write, and names each file that is out of reach. The process itself runs on: it has
// everything open already.
func probe(cfg *config.Config, log *slog.Logger) {
	for _, file := range filesToReload(cfg) {
		// A file that is missing is told by what needs it.
		if err := privilege.Readable(file); errors.Is(err, fs.ErrPermission) {
			log.Warn("SIGHUP and SIGUSR2 will not be able to read a file", "file", file, "error", err)
		}
	}
	if file := cfg.Server.AccessLog; isFile(file) {
		if err := appendable(file); err != nil {
			log.Warn("SIGUSR1 and SIGUSR2 will not be able to open the access log", "file", file, "error", err)
		}
	}
}

// give hands a log file or folder that the start created as root to the user that will reopen it.
// What was there before keeps its owner.
func (id identity) give(path string) error {
	if !id.change {
		return nil
	}
	if err := os.Chown(path, id.target.UID, id.target.GID); err != nil {
		return fmt.Errorf("give access log to user %s: %w", id.target.User, err)
	}
	return nil
}

// filesToReload lists what SIGHUP reads, each file once.
func filesToReload(cfg *config.Config) []string {
	seen := make(map[string]bool)
	var files []string
	add := func(names ...string) {
		for _, name := range names {
			if name != "" && !seen[name] {
				seen[name] = true
				files = append(files, name)
			}
		}
	}
	add(cfg.File, cfg.Server.StaticDir, cfg.Server.BackendCA, cfg.TLS.Directory)
	for _, b := range cfg.HTTPS.Bind {
		add(b.Cert, b.Key)
		add(b.CA...)
		add(b.ClientCA...)
	}
	for _, driver := range cfg.Driver {
		if name, ok := strings.CutPrefix(driver, "file:"); ok {
			add(strings.TrimPrefix(name, "//"))
		}
	}
	return files
}

// isFile tells a file's name from the words that an access log can be instead.
func isFile(accessLog string) bool {
	return accessLog != "stdout" && accessLog != "syslog" && accessLog != "none"
}

// appendable reports why the user cannot open a log for writing.
func appendable(file string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND|syscall.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("open access log: %w; give the file to that user", err)
	}
	return f.Close()
}
