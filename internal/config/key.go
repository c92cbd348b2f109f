package config

import (
	"net/netip"
	"strings"
	"time"
	"unicode"
)

// Key is one row of the table of everything that can be configured.
type Key struct {
	// Path is the key's place in the file, such as "server.retryOnError".
	Path string
	// Unit follows a number: "s", "bytes", "bytes/s", "per second"; empty for plain counts.
	Unit string
	// Default is the value when nothing sets the key, written as a flag would write it.
	Default string
	// Bare, where it differs, is the default of a start without any configuration file.
	Bare string
	// Hipache says that Default is Hipache's own rather than ours.
	Hipache bool
	// Live keys take effect on reload; the others need a restart.
	Live bool
	// Secret values are never printed.
	Secret bool
	// Rule is what a value must keep.
	Rule Rule
	// Doc is one sentence for --help and docs/configuration.md.
	Doc string
	// Instead is set for a key of Hipache's that has no meaning here; it says what sluice does
	// instead. Such a key is accepted with any value and has no variable and no flag.
	Instead string

	field func(*Config) any // pointer to the field; nil when Instead is set
}

// Keys returns the table, in the order in which --help and the documentation show it. The slice is
// shared: callers must not change it.
func Keys() []Key { return table }

var table = func() []Key {
	var all []Key
	for _, part := range [][]Key{
		listenKeys, tlsKeys, acmeKeys, storeKeys, policyKeys, proxyKeys, timeoutKeys, limitKeys, cacheKeys, processKeys,
	} {
		all = append(all, part...)
	}
	return all
}()

// keyByPath finds a row; ok is false for an unknown path.
func keyByPath(path string) (Key, bool) {
	for _, k := range table {
		if k.Path == path {
			return k, true
		}
	}
	return Key{}, false
}

// Section is the object that the key stands in, such as "server"; empty for a key at the top.
func (k Key) Section() string {
	section, _, found := strings.Cut(k.Path, ".")
	if !found {
		return ""
	}
	return section
}

// Env is the name of the environment variable that overrides the key, such as
// SLUICE_SERVER_RETRY_ON_ERROR; empty for a key without meaning.
func (k Key) Env() string {
	if k.Instead != "" {
		return ""
	}
	return envPrefix + strings.ToUpper(splitWords(k.Path, '_'))
}

// Flag is the name of the flag that overrides the key, without the dashes, such as
// server-retry-on-error; empty for a key without meaning.
func (k Key) Flag() string {
	if k.Instead != "" {
		return ""
	}
	return splitWords(k.Path, '-')
}

// Type names what the key holds, for people.
func (k Key) Type() string {
	if k.field == nil {
		return "any"
	}
	switch k.field(new(Config)).(type) {
	case *bool:
		return "true or false"
	case *int, *int64:
		return "whole number"
	case *time.Duration:
		return "seconds"
	case *[]string:
		return "list of strings"
	case *urlList:
		return "list of URLs"
	case *[]netip.Prefix:
		return "list of networks"
	case *[]Bind:
		return "list of addresses"
	default:
		return "string"
	}
}

// splitWords turns a path in camel case into lower-case words: deadBackendOn500 becomes
// dead-backend-on-500, maxConnectionsPerIP max-connections-per-ip.
func splitWords(path string, sep rune) string {
	var b strings.Builder
	previous := '.'
	for _, r := range path {
		switch {
		case r == '.':
			b.WriteRune(sep)
		case unicode.IsUpper(r) && (unicode.IsLower(previous) || unicode.IsDigit(previous)),
			unicode.IsDigit(r) && unicode.IsLetter(previous):
			b.WriteRune(sep)
			b.WriteRune(unicode.ToLower(r))
		default:
			b.WriteRune(unicode.ToLower(r))
		}
		previous = r
	}
	return b.String()
}
