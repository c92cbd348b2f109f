package cache

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// PolicyKey is one field that a hash "route:<host>" may hold.
type PolicyKey struct {
	// Name is the field's name in the store, and in the section "policy" of the configuration.
	Name string
	// Values says what it may be.
	Values string
	// Doc is one sentence for docs/routes.md.
	Doc string

	parse func(p *Policy, text string) error
}

// PolicyKeys returns the table of all fields, in the order of docs/routes.md. The slice is shared:
// callers must not change it. A further policy is a further row, a field of Policy and its effect in
// the proxy.
func PolicyKeys() []PolicyKey { return policyKeys }

var policyKeys = []PolicyKey{
	{
		"redirectHttps", "true or false",
		"Plain HTTP is answered by a redirect to the same URL under https.",
		func(p *Policy, text string) (err error) {
			p.RedirectHTTPS, err = parseBool(text)
			return err
		},
	},
	{
		"redirectCode", "308 or 301",
		"Status of this policy's redirects. 301 is for GET and HEAD; other methods get 308, which keeps method and body.",
		func(p *Policy, text string) error {
			if text != "308" && text != "301" {
				return errors.New("write 308 or 301")
			}
			p.MovedPermanently = text == "301"
			return nil
		},
	},
	{
		"hsts", "off, or seconds, then includeSubDomains, then preload",
		"Answers over TLS carry Strict-Transport-Security, unless the backend sent one.",
		func(p *Policy, text string) (err error) {
			p.HSTS, err = parseHSTS(text)
			return err
		},
	},
	{
		"canonicalHost", "off, or a host name",
		"Requests for another host are redirected to this one.",
		func(p *Policy, text string) error {
			if text == "off" {
				p.CanonicalHost = ""
				return nil
			}
			host, err := AppendHost(nil, []byte(text))
			if err != nil || strings.TrimSuffix(strings.ToLower(text), ".") != string(host) {
				return errors.New("write a host name, without scheme and port")
			}
			p.CanonicalHost = string(host)
			return nil
		},
	},
}

func parseBool(text string) (bool, error) {
	switch strings.ToLower(text) {
	case "true", "1", "yes", "on":
		return true, nil
	case "false", "0", "no", "off":
		return false, nil
	}
	return false, errors.New("write true or false")
}

// maxHSTS is ten years in seconds; more is a mistake.
const maxHSTS = 10 * 366 * 24 * 3600

// parseHSTS returns the value of Strict-Transport-Security (RFC 6797 §6.1). Zero seconds tell clients
// to forget what they were told; "off" sends nothing.
func parseHSTS(text string) (string, error) {
	if text == "off" || text == "" {
		return "", nil
	}
	words := strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune("; ,\t", r) })
	malformed := errors.New(`write off, or seconds such as "31536000; includeSubDomains; preload"`)
	if len(words) == 0 {
		return "", malformed
	}
	seconds, err := strconv.ParseUint(strings.TrimPrefix(words[0], "max-age="), 10, 32)
	if err != nil || seconds > maxHSTS {
		return "", malformed
	}
	value := fmt.Sprintf("max-age=%d", seconds)
	for i, known := range []string{"includeSubDomains", "preload"} {
		if at := slices.IndexFunc(words, func(w string) bool { return strings.EqualFold(w, known) }); at > 0 {
			value += "; " + known
			words = slices.Delete(words, at, at+1)
		} else if i == 0 && len(words) > 1 && strings.EqualFold(words[1], "preload") {
			return "", errors.New("preload needs includeSubDomains")
		}
	}
	if len(words) > 1 {
		return "", malformed
	}
	return value, nil
}
