package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
)

// Change is a key that has another value after a reload.
type Change struct {
	Path     string
	Old, New string // as --dry shows them; secrets are hidden in both
	Live     bool   // takes effect at once; otherwise only a restart brings it
}

// String tells the change in one line, such as "server.retryOnError: 3 -> 5".
func (c Change) String() string {
	return fmt.Sprintf("%s: %q -> %q", c.Path, c.Old, c.New)
}

// Diff lists what a reload from old to now changes, in the order of the table.
func Diff(old, now *Config) []Change {
	var changes []Change
	for _, k := range table {
		if k.Instead != "" || k.equal(old, now) {
			continue
		}
		changes = append(changes, Change{Path: k.Path, Old: k.display(old), New: k.display(now), Live: k.Live})
	}
	return changes
}

// equal compares by the whole value: what is displayed leaves secrets out.
func (k Key) equal(a, b *Config) bool {
	if k.Path == "https.bind" {
		return reflect.DeepEqual(withoutClientCA(a.HTTPS.Bind), withoutClientCA(b.HTTPS.Bind))
	}
	return reflect.DeepEqual(k.field(a), k.field(b))
}

// withoutClientCA returns entries without the one thing that takes effect while they are listened on.
func withoutClientCA(binds []Bind) []Bind {
	binds = slices.Clone(binds)
	for i := range binds {
		binds[i].ClientCA = nil
	}
	return binds
}

// Merge gives the configuration that a process runs with after a reload: loaded, except that keys
// which need a restart keep the value that they have in running. Of the entries of https.bind only
// their clientCa is loaded's.
func Merge(running, loaded *Config) *Config {
	merged := *loaded
	merged.origins = maps.Clone(loaded.origins)
	for _, k := range table {
		if k.Instead != "" || k.Live {
			continue
		}
		reflect.ValueOf(k.field(&merged)).Elem().Set(reflect.ValueOf(k.field(running)).Elem())
		merged.origins[k.Path] = running.origins[k.Path]
	}
	merged.HTTPS.Bind = slices.Clone(running.HTTPS.Bind)
	for i := range merged.HTTPS.Bind {
		b := &merged.HTTPS.Bind[i]
		if at := slices.IndexFunc(loaded.HTTPS.Bind, func(l Bind) bool { return l.HostPort() == b.HostPort() }); at >= 0 {
			b.ClientCA = loaded.HTTPS.Bind[at].ClientCA
		}
	}
	return &merged
}
