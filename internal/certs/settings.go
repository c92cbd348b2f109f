package certs

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
)

// settings is what a listener's options mean to package tls.
type settings struct {
	minVersion uint16
	maxVersion uint16
	ciphers    []uint16 // nil is Go's default
}

// parseSettings reads the options that name no files.
func parseSettings(o Options) (settings, error) {
	s := settings{minVersion: tls.VersionTLS12, maxVersion: tls.VersionTLS13}
	switch o.Preset {
	case "", PresetIntermediate:
	case PresetModern:
		s.minVersion = tls.VersionTLS13
	default:
		return settings{}, fmt.Errorf("read TLS settings: preset %q is unknown; use %s or %s",
			o.Preset, PresetModern, PresetIntermediate)
	}
	switch method := canonicalMethod(o.SecureProtocol); method {
	case "", "TLS_method", "SSLv23_method":
	case "TLSv1_2_method":
		s.minVersion, s.maxVersion = tls.VersionTLS12, tls.VersionTLS12
	case "TLSv1_3_method":
		s.minVersion = tls.VersionTLS13
	case "SSLv2_method", "SSLv3_method", "TLSv1_method", "TLSv1_1_method":
		o.Log.Warn("secureProtocol names a version that is not safe any more; TLS 1.2 and 1.3 are served instead",
			"secureProtocol", o.SecureProtocol)
	default:
		return settings{}, fmt.Errorf("read TLS settings: secureProtocol %q is unknown; "+
			`leave it out for TLS 1.2 and 1.3, or use "TLSv1_2_method"`, o.SecureProtocol)
	}
	if s.ciphers = parseCiphers(o); s.ciphers == nil {
		s.ciphers = safeSuites()
	}
	return s, nil
}

// The presets, after Mozilla's of the same names.
const (
	PresetModern       = "modern"
	PresetIntermediate = "intermediate"
)

// safeSuites returns the suites of TLS 1.2 with forward secrecy and authenticated encryption: Go's
// default without those in CBC mode.
func safeSuites() []uint16 {
	var ids []uint16
	for _, s := range suites() {
		if !s.weak && isECDHE(s) && classes["TLSv1.2"](s) {
			ids = append(ids, s.id)
		}
	}
	return ids
}

// canonicalMethod drops what node allows between a version and "_method".
func canonicalMethod(method string) string {
	method = strings.Replace(method, "_server_method", "_method", 1)
	return strings.Replace(method, "_client_method", "_method", 1)
}

// suite is a cipher suite of package tls under both of its names.
type suite struct {
	id      uint16
	openSSL string
	name    string
	weak    bool // outside of Go's default
}

// openSSLName turns the IANA name of a TLS 1.2 suite into OpenSSL's, which leaves out what was
// usual when it was coined.
var openSSLName = strings.NewReplacer(
	"TLS_RSA_WITH_", "", "TLS_", "", "_WITH_", "-",
	"AES_128", "AES128", "AES_256", "AES256", "_CBC", "",
	"CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305", "3DES_EDE_CBC", "DES-CBC3", "RC4_128", "RC4",
	"_", "-",
)

// suites lists all that package tls can do in TLS 1.2.
func suites() []suite {
	var list []suite
	add := func(known []*tls.CipherSuite, weak bool) {
		for _, c := range known {
			if slices.Contains(c.SupportedVersions, tls.VersionTLS12) {
				list = append(list, suite{c.ID, openSSLName.Replace(c.Name), c.Name, weak})
			}
		}
	}
	add(tls.CipherSuites(), false)
	add(tls.InsecureCipherSuites(), true)
	return list
}

// classes are the words of OpenSSL's cipher lists that name more than one suite. A class never
// brings in weak suites; those must be named one by one.
var classes = map[string]func(s suite) bool{
	"ALL":      func(suite) bool { return true },
	"DEFAULT":  func(suite) bool { return true },
	"HIGH":     func(suite) bool { return true },
	"TLSv1.2":  func(s suite) bool { return strings.Contains(s.name, "GCM") || strings.Contains(s.name, "CHACHA20") },
	"ECDHE":    isECDHE,
	"EECDH":    isECDHE,
	"kECDHE":   isECDHE,
	"kEECDH":   isECDHE,
	"ECDSA":    isECDSA,
	"aECDSA":   isECDSA,
	"aRSA":     func(s suite) bool { return !isECDSA(s) },
	"RSA":      func(s suite) bool { return !isECDHE(s) },
	"kRSA":     func(s suite) bool { return !isECDHE(s) },
	"AES":      func(s suite) bool { return strings.Contains(s.name, "AES") },
	"AES128":   func(s suite) bool { return strings.Contains(s.name, "AES_128") },
	"AES256":   func(s suite) bool { return strings.Contains(s.name, "AES_256") },
	"AESGCM":   func(s suite) bool { return strings.Contains(s.name, "GCM") },
	"CHACHA20": func(s suite) bool { return strings.Contains(s.name, "CHACHA20") },
	"RC4":      func(s suite) bool { return strings.Contains(s.name, "RC4") },
	"3DES":     func(s suite) bool { return strings.Contains(s.name, "3DES") },
	"SHA":      func(s suite) bool { return strings.HasSuffix(s.name, "_SHA") },
	"SHA1":     func(s suite) bool { return strings.HasSuffix(s.name, "_SHA") },
	"SHA256":   func(s suite) bool { return strings.HasSuffix(s.name, "_SHA256") },
	"SHA384":   func(s suite) bool { return strings.HasSuffix(s.name, "_SHA384") },
}

func isECDHE(s suite) bool { return strings.HasPrefix(s.name, "TLS_ECDHE_") }
func isECDSA(s suite) bool { return strings.Contains(s.name, "_ECDSA_") }

// parseCiphers returns the suites that the list names, nil for Go's default.
//
// "!X" and "-X" take suites away, "+X" only reorders, "@X" sets what Go does not have. A word that
// takes away what Go does not know has done its work; one that asks for it is worth a warning.
func parseCiphers(o Options) []uint16 {
	words := strings.FieldsFunc(o.Ciphers, func(r rune) bool { return strings.ContainsRune(":, ;\t\n", r) })
	var chosen, banned []suite
	var unknown []string
	for _, word := range words {
		switch word[0] {
		case '!':
			banned = append(banned, matching(word[1:], true)...)
		case '-':
			chosen = without(chosen, matching(word[1:], true))
		case '+', '@':
		default:
			found := matching(word, false)
			chosen = append(chosen, found...)
			if len(found) == 0 && !isTLS13(word) {
				unknown = append(unknown, word)
			}
		}
	}
	chosen = without(chosen, banned)
	return o.conclude(chosen, unknown)
}

// conclude warns about what a list of ciphers asked for in vain or should not ask for, and returns
// the rest.
func (o Options) conclude(chosen []suite, unknown []string) []uint16 {
	if len(unknown) > 0 {
		o.Log.Warn("ciphers that are not known here are left out", "ciphers", strings.Join(unknown, ":"))
	}
	var ids []uint16
	var weak []string
	for _, s := range chosen {
		if slices.Contains(ids, s.id) {
			continue
		}
		ids = append(ids, s.id)
		if s.weak {
			weak = append(weak, s.openSSL)
		}
	}
	if len(weak) > 0 {
		o.Log.Warn("ciphers names suites that are weak; they are served because they are named",
			"ciphers", strings.Join(weak, ":"))
	}
	if o.Ciphers != "" && len(ids) == 0 {
		o.Log.Warn("ciphers names no suite of TLS 1.2 that is known here; the default set is served",
			"ciphers", o.Ciphers)
	}
	if o.HonorCipherOrder && len(ids) > 0 {
		o.Log.Info("honorCipherOrder: the server chooses among the ciphers, " +
			"by safety and speed rather than by the order of the list")
	}
	return ids
}

// isTLS13 says whether name is a suite of TLS 1.3, all of which are always served.
func isTLS13(name string) bool {
	return slices.ContainsFunc(tls.CipherSuites(), func(c *tls.CipherSuite) bool {
		return c.Name == name && slices.Contains(c.SupportedVersions, tls.VersionTLS13)
	})
}

// matching returns the suites that a word names: one by either of its names, or a class, or what
// several classes joined by "+" have in common, with its weak suites or without them.
func matching(word string, withWeak bool) []suite {
	all := suites()
	if at := slices.IndexFunc(all, func(s suite) bool { return s.openSSL == word || s.name == word }); at >= 0 {
		return all[at : at+1]
	}
	found := slices.DeleteFunc(all, func(s suite) bool { return s.weak && !withWeak })
	for class := range strings.SplitSeq(word, "+") {
		is, known := classes[class]
		if !known {
			return nil
		}
		found = slices.DeleteFunc(found, func(s suite) bool { return !is(s) })
	}
	return found
}

// without returns list less the suites in banned.
func without(list, banned []suite) []suite {
	return slices.DeleteFunc(list, func(s suite) bool { return slices.Contains(banned, s) })
}
