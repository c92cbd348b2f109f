package main

import "runtime/debug"

// version is set by the linker: -ldflags "-X main.version=1.2.3".
var version string

// programVersion is the linked version, or what the Go tool recorded for a build without one.
func programVersion() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	return "devel" + revision(info)
}

// revision is the commit that the binary was built from, empty outside a repository.
func revision(info *debug.BuildInfo) string {
	commit, changed := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = "-" + s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = "-changed"
		}
	}
	if commit == "" {
		return ""
	}
	return commit + changed
}
