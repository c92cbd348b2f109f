package acme

import (
	"strings"

	"golang.org/x/net/publicsuffix"
)

const (
	maxNameBytes  = 253
	maxLabelBytes = 63
)

// eligible tells whether a certificate can be asked for under a name: a host name of two labels or
// more, in lower case, and no address. An authority refuses others, and would count the attempt.
func eligible(name string) bool {
	if len(name) > maxNameBytes || !strings.Contains(name, ".") {
		return false
	}
	last := ""
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > maxLabelBytes || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if b := label[i]; (b < 'a' || b > 'z') && (b < '0' || b > '9') && b != '-' {
				return false
			}
		}
		last = label
	}
	return strings.Trim(last, "0123456789") != ""
}

// registeredDomain returns the domain that authorities count a name's certificates by: one label
// below a public suffix. A name that is such a suffix itself stands for itself.
func registeredDomain(name string) string {
	domain, err := publicsuffix.EffectiveTLDPlusOne(name)
	if err != nil {
		return name
	}
	return domain
}

// isToken tells whether text can be the token of a challenge (RFC 8555 §8.3: base64url). Nothing else
// becomes part of a key.
func isToken(text string) bool {
	if len(text) < 16 || len(text) > 128 {
		return false
	}
	for i := range len(text) {
		switch b := text[i]; {
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9', b == '-', b == '_':
		default:
			return false
		}
	}
	return true
}
