package cache

// Backend is one element of a frontend's list, parsed. It is immutable.
type Backend struct {
	// URL is the element exactly as stored; it is what a mark announces.
	URL string
	// Address is the host:port to dial, an IPv6 host in brackets. The port defaults to 80, with
	// https to 443.
	Address string
	// TLS tells that the element's scheme is https.
	TLS bool
	// ServerName is the TLS server name: the URL's host, or what #sni= names. Empty without TLS.
	ServerName string
	// SkipVerify tells that #tlsVerify=off asks for no certificate check.
	SkipVerify bool
	// Weight is 1, or what #weight= says, at most MaxWeight.
	Weight int
	// Key identifies the connection pool: scheme, address and TLS options joined. Backends of
	// different frontends with equal keys share a pool.
	Key string
	// Err is not nil when the element is unusable; such a backend must never be chosen.
	Err error
}

// Frontend is what a host name resolves to: one list of the store, parsed. It is immutable after
// publication and may be kept as long as the caller likes; a pointer compares equal as long as the
// list's content did not change.
type Frontend struct {
	// Key is the list that matched, without "frontend:": the exact host, "*.suffix" or "*".
	Key string
	// VHost is the list's first element, a label for logs.
	VHost string
	// Backends are in the list's order: the position here is the backend index.
	Backends []Backend
}
