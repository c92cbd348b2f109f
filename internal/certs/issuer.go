package certs

import "sync"

// maxIssuers bounds the issuers that are remembered. Limit: a store in which there are more of them
// has its certificates hold some twice.
const maxIssuers = 1024

// issuers holds the certificates of authorities by their bytes: few of them sign very many, and each
// would be in memory as often.
var issuers = struct {
	mu    sync.Mutex
	known map[string][]byte
}{known: map[string][]byte{}}

// shareIssuers puts what is in memory already in the place of each certificate of a chain but the
// first.
func shareIssuers(chain [][]byte) {
	issuers.mu.Lock()
	defer issuers.mu.Unlock()
	for i := 1; i < len(chain); i++ {
		der := chain[i]
		known, ok := issuers.known[string(der)]
		if !ok {
			if len(issuers.known) >= maxIssuers {
				clear(issuers.known)
			}
			known = append([]byte(nil), der...) // der may be a piece of more
			issuers.known[string(known)] = known
		}
		chain[i] = known
	}
}
