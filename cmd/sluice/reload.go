package main

import (
	"errors"

	"sluice/cache"
	"sluice/internal/config"
)

// reload reads everything again that can change in a running process. It is all or nothing for the
// configuration: with a mistake in it the process goes on with what it has.
func (e *edge) reload() {
	loaded, warnings, err := config.Load(e.opts)
	if err != nil {
		e.logMistakes(err)
		return
	}
	merged := config.Merge(e.started, loaded)
	settings, err := proxySettings(merged)
	policy := defaultPolicy(merged)
	if err == nil {
		err = cache.CheckPolicy(policy)
	}
	if err == nil {
		err = e.proxy.Reload(settings)
	}
	if err == nil {
		err = e.routes.SetPolicy(policy)
	}
	if err != nil {
		e.log.Error("configuration not reloaded, nothing changed", "error", err)
		return
	}
	for _, w := range warnings {
		e.log.Warn("configuration: " + string(w))
	}
	e.log.setDebug(merged.Server.Debug)
	e.logChanges(loaded)
	e.current = merged
	e.reloadFiles()
}

func (e *edge) logMistakes(err error) {
	var mistakes config.Mistakes
	if !errors.As(err, &mistakes) {
		e.log.Error("configuration not reloaded, nothing changed", "error", err)
		return
	}
	for _, m := range mistakes {
		e.log.Error("configuration: " + m.Error())
	}
	e.log.Error("configuration not reloaded, nothing changed", "mistakes", len(mistakes))
}

// logChanges says which keys have another value now, and which would have after a restart. The
// latter are compared with the start, so that each reload says it again.
func (e *edge) logChanges(loaded *config.Config) {
	changed := 0
	for _, c := range config.Diff(e.current, loaded) {
		if c.Live {
			e.log.Info("configuration changed", "key", c.Path, "old", c.Old, "new", c.New)
			changed++
		}
	}
	var restart []string
	for _, c := range config.Diff(e.started, loaded) {
		if !c.Live {
			restart = append(restart, c.Path)
		}
	}
	if len(restart) > 0 {
		e.log.Warn("configuration: these keys changed and need a restart", "keys", restart)
	}
	e.log.Info("configuration reloaded", "file", loaded.File, "changed", changed, "need_restart", len(restart))
}

// reloadFiles reads certificates, clients' authorities and error pages again. Each stays what it was if it can't be
// read.
func (e *edge) reloadFiles() {
	for _, ln := range e.listeners {
		if ln.bundle == nil {
			continue
		}
		if err := ln.bundle.SetClientCA(e.clientCA(ln.bind)); err != nil {
			e.log.Error("authorities of clients not reloaded, the old ones count", "listener", ln.bind.HostPort(), "error", err)
		}
		if err := ln.bundle.Reload(); err != nil {
			e.log.Error("certificate not reloaded, the old one serves", "listener", ln.bind.HostPort(), "error", err)
			continue
		}
		if ln.bind.Cert == "" {
			continue
		}
		e.log.Info("certificate reloaded", "listener", ln.bind.HostPort(), "cert", ln.bind.Cert)
	}
	if err := e.pages.Reload(); err != nil {
		e.log.Error("error pages not reloaded, the old ones serve", "error", err)
	}
}

// clientCA returns the files of clients' authorities that the present configuration names for a listener.
func (e *edge) clientCA(b config.Bind) []string {
	for _, now := range e.current.HTTPS.Bind {
		if now.HostPort() == b.HostPort() {
			return now.ClientCA
		}
	}
	return b.ClientCA
}
