package cache

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// MaxWeight bounds #weight=, so that one element cannot starve the others by a slip of the finger.
const MaxWeight = 1000

// Reasons for which a backend element is unusable; they are Backend.Err.
var (
	errNoBackendHost  = errors.New("no host")
	errBadBackendHost = errors.New("invalid host")
	errBadBackendPort = errors.New("invalid port")
	errBadScheme      = errors.New("scheme is neither http, https nor h2c")
	errOwnListener    = errors.New("address is a listener of this server")
)

// optionError is an option of a backend's fragment that means nothing, or not with that value.
type optionError string

func (e optionError) Error() string {
	return fmt.Sprintf("invalid option %q: there are weight=1 to weight=%d, and for https sni=name and tlsVerify=off",
		string(e), MaxWeight)
}

// invalidCause returns the metric label of what is wrong with an element.
func invalidCause(err error) string {
	switch {
	case errors.Is(err, errNoBackendHost):
		return "no_host"
	case errors.Is(err, errBadBackendHost):
		return "bad_host"
	case errors.Is(err, errBadBackendPort):
		return "bad_port"
	case errors.Is(err, errBadScheme):
		return "bad_scheme"
	case errors.Is(err, errOwnListener):
		return "own_listener"
	default:
		return "unknown_option"
	}
}

// Backend is one element of a frontend's list, parsed. It is immutable. What each request reads
// stands first: it fills one cache line.
type Backend struct {
	// URL is the element exactly as stored; it is what a mark announces.
	URL string
	// Key identifies the connection pool: scheme, address and TLS options joined. Backends of
	// different frontends with equal keys share a pool.
	Key string
	// Err is not nil when the element is unusable; such a backend must never be chosen.
	Err error
	// Weight is 1, or what #weight= says, at most MaxWeight.
	Weight int
	// TLS tells that the element's scheme is https.
	TLS bool
	// H2C tells that the element's scheme is h2c: HTTP/2 without TLS, with prior knowledge.
	H2C bool
	// SkipVerify tells that #tlsVerify=off asks for no certificate check.
	SkipVerify bool
	// Address is the host:port to dial, an IPv6 host in brackets. The port defaults to 80, with
	// https to 443.
	Address string
	// ServerName is the TLS server name: the URL's host, or what #sni= names. Empty without TLS.
	ServerName string
}

// parseBackend parses one element: a URL, or host:port with http assumed. Path, query and user
// information are ignored, as in Hipache. Options ride in the fragment, which Hipache and planb
// ignore: #weight=N, #sni=name, #tlsVerify=off, joined by "&". badOption is the first option that
// means nothing; it does not make the backend unusable.
func parseBackend(element string, own func(string) bool) (b Backend, badOption string) {
	b = Backend{URL: element, Weight: 1}
	rest, fragment, _ := strings.Cut(element, "#")
	scheme, authority, found := strings.Cut(rest, "://")
	if !found {
		scheme, authority = "http", strings.TrimPrefix(rest, "//")
	}
	switch {
	case strings.EqualFold(scheme, "https"):
		b.TLS = true
	case strings.EqualFold(scheme, "h2c"):
		b.H2C = true
	case !strings.EqualFold(scheme, "http"):
		b.Err = errBadScheme
		return b, ""
	}
	host, err := b.setAddress(authority)
	if err != nil {
		b.Err = err
		return b, ""
	}
	if b.TLS {
		b.ServerName = strings.Trim(host, "[]")
	}
	badOption = b.setOptions(fragment)
	b.Key = b.poolKey()
	if own(b.Address) {
		b.Err = errOwnListener
	}
	return b, badOption
}

// setAddress fills Address from an authority and what may follow it, and returns the host.
func (b *Backend) setAddress(authority string) (string, error) {
	if i := strings.IndexAny(authority, "/?"); i >= 0 {
		authority = authority[:i]
	}
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		authority = authority[i+1:]
	}
	host, port, err := splitAuthority(authority)
	if err != nil {
		return "", err
	}
	lower := strings.ToLower(host)
	if port != "" && lower == host {
		b.Address = authority
		return host, nil
	}
	if port == "" {
		port = "80"
		if b.TLS {
			port = "443"
		}
	}
	b.Address = lower + ":" + port
	return lower, nil
}

// splitAuthority cuts host from port and checks both; the port may be absent.
func splitAuthority(authority string) (host, port string, err error) {
	host = authority
	if strings.HasPrefix(authority, "[") {
		end := strings.IndexByte(authority, ']')
		if end < 0 {
			return "", "", errBadBackendHost
		}
		host, port = authority[:end+1], authority[end+1:]
		if a, err := netip.ParseAddr(host[1:end]); err != nil || !a.Is6() {
			return "", "", errBadBackendHost
		}
	} else if i := strings.IndexByte(authority, ':'); i >= 0 {
		host, port = authority[:i], authority[i:]
	}
	switch {
	case host == "":
		return "", "", errNoBackendHost
	case host[0] != '[' && !validBackendName(host):
		return "", "", errBadBackendHost
	case port == "":
		return host, "", nil
	case port[0] != ':' || !validPort([]byte(port[1:])):
		return "", "", errBadBackendPort
	}
	return host, port[1:], nil
}

// validBackendName tells whether host consists of what names and IPv4 addresses consist of.
func validBackendName(host string) bool {
	if len(host) > maxHostBytes {
		return false
	}
	for i := range len(host) {
		c := host[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}

// setOptions applies a fragment and returns its first meaningless option.
func (b *Backend) setOptions(fragment string) (bad string) {
	for fragment != "" {
		var option string
		option, fragment, _ = strings.Cut(fragment, "&")
		name, arg, _ := strings.Cut(option, "=")
		if !b.setOption(name, arg) && bad == "" {
			bad = option
		}
	}
	return bad
}

func (b *Backend) setOption(name, arg string) bool {
	switch name {
	case "weight":
		n, err := strconv.Atoi(arg)
		if err != nil || n < 1 {
			return false
		}
		b.Weight = min(n, MaxWeight)
		return n <= MaxWeight
	case "sni":
		if !validBackendName(arg) || arg == "" {
			return false
		}
		if b.TLS {
			b.ServerName = strings.ToLower(arg)
		}
	case "tlsVerify":
		if arg != "off" && arg != "on" {
			return false
		}
		b.SkipVerify = b.TLS && arg == "off"
	default:
		return false
	}
	return true
}

// poolKey joins what two backends must share to share connections.
func (b *Backend) poolKey() string {
	if b.H2C {
		return "h2c://" + b.Address
	}
	if !b.TLS {
		// Fast path: the usual element begins with its key, so a million of them need no copy.
		const scheme = "http://"
		if rest, ok := strings.CutPrefix(b.URL, scheme); ok && strings.HasPrefix(rest, b.Address) {
			return b.URL[:len(scheme)+len(b.Address)]
		}
		return scheme + b.Address
	}
	key := "https://" + b.Address + "#sni=" + b.ServerName
	if b.SkipVerify {
		key += "&tlsVerify=off"
	}
	return key
}
