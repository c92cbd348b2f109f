package config

import (
	"fmt"
	"maps"
	"reflect"
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
	return reflect.DeepEqual(k.field(a), k.field(b))
}

// Merge gives the configuration that a process runs with after a reload: loaded, except that keys
// which need a restart keep the value that they have in running.
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
	return &merged
}
