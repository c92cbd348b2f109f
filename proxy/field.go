package proxy

// fieldKind says what a header field means to the proxy. Fields that mean nothing to it are plain, and pass.
type fieldKind uint8

const (
	fieldPlain fieldKind = iota

	// Framing: decide where a message ends.
	fieldContentLength
	fieldTransferEncoding

	fieldHost

	// Hop-by-hop: for this connection only (RFC 9110 §7.6.1, and the legacy set of RFC 2616 §13.5.1).
	fieldConnection
	fieldKeepAlive
	fieldProxyConnection
	fieldProxyAuth
	fieldTE
	fieldTrailer
	fieldUpgrade
	fieldHTTP2Settings

	fieldExpect
	fieldMaxForwards

	// Forwarding: what the application believes about its client.
	fieldForwardedFor
	fieldForwardedProto
	fieldForwardedProtocol
	fieldForwardedPort
	fieldRealIP
	fieldClientCert     // what a client proved by a certificate: ours if we asked, else as fieldForwardedOther
	fieldForwardedOther // Forwarded, X-Forwarded-Host and the like: believed from trusted peers, dropped from others

	// Read, and passed.
	fieldReferer
	fieldUserAgent
	fieldRetryAfter
	fieldDebug
	fieldDebugRouter
	fieldDate

	// A name that differs from a framing or forwarding field only by `_` for `-`.
	fieldLookalike
)

// isForwarding reports whether a client that lists the field in Connection is ignored, because the proxy decides it.
func (k fieldKind) isForwarding() bool { return k >= fieldForwardedFor && k <= fieldForwardedOther }

// knownFields holds the names that have a kind, in lower case.
var knownFields = map[string]fieldKind{
	"content-length":       fieldContentLength,
	"transfer-encoding":    fieldTransferEncoding,
	"host":                 fieldHost,
	"connection":           fieldConnection,
	"keep-alive":           fieldKeepAlive,
	"proxy-connection":     fieldProxyConnection,
	"proxy-authenticate":   fieldProxyAuth,
	"proxy-authorization":  fieldProxyAuth,
	"te":                   fieldTE,
	"trailer":              fieldTrailer,
	"upgrade":              fieldUpgrade,
	"http2-settings":       fieldHTTP2Settings,
	"expect":               fieldExpect,
	"max-forwards":         fieldMaxForwards,
	"x-forwarded-for":      fieldForwardedFor,
	"x-forwarded-proto":    fieldForwardedProto,
	"x-forwarded-protocol": fieldForwardedProtocol,
	"x-forwarded-port":     fieldForwardedPort,
	"x-real-ip":            fieldRealIP,
	"forwarded":            fieldForwardedOther,
	"x-forwarded-host":     fieldForwardedOther,
	"x-forwarded-server":   fieldForwardedOther,
	"x-forwarded-ssl":      fieldForwardedOther,
	"x-forwarded-scheme":   fieldForwardedOther,
	"x-forwarded-prefix":   fieldForwardedOther,
	"x-url-scheme":         fieldForwardedOther,
	"front-end-https":      fieldForwardedOther,
	"client-cert":          fieldClientCert,
	"client-cert-chain":    fieldClientCert,

	"x-client-cert-subject":     fieldClientCert,
	"x-client-cert-fingerprint": fieldClientCert,

	"referer":        fieldReferer,
	"user-agent":     fieldUserAgent,
	"retry-after":    fieldRetryAfter,
	"x-debug":        fieldDebug,
	"x-debug-router": fieldDebugRouter,
	"date":           fieldDate,
}

// maxKnownName is the length of the longest name in knownFields.
const maxKnownName = 25

type knownField struct {
	name string
	kind fieldKind
}

// fieldsByLength is knownFields for the hot path: at most four names share a length, and a first byte decides mostly.
var fieldsByLength = func() (t [maxKnownName + 1][]knownField) {
	for name, kind := range knownFields {
		t[len(name)] = append(t[len(name)], knownField{name, kind})
	}
	return t
}()

// classify returns the kind of a field name. The name is a token.
func classify(name []byte) fieldKind {
	if len(name) > maxKnownName {
		return fieldPlain
	}
	first := lower[name[0]]
	for _, k := range fieldsByLength[len(name)] {
		if k.name[0] != first {
			continue
		}
		if same, underscored := matchName(name, k.name); same {
			if !underscored {
				return k.kind
			}
			if k.kind <= fieldTransferEncoding || k.kind.isForwarding() {
				return fieldLookalike
			}
			return fieldPlain
		}
	}
	return fieldPlain
}

// matchName compares name with known, taking `_` for `-`, and reports whether it had to.
func matchName(name []byte, known string) (same, underscored bool) {
	for i, c := range name {
		if lower[c] != known[i] {
			return false, false
		}
		if c == '_' {
			underscored = true
		}
	}
	return true, underscored
}
