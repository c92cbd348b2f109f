// Package acme obtains certificates from a certificate authority by ACME (RFC 8555), for names that
// a fleet of edges is asked for, and renews them.
//
// An Issuer belongs to one process. What the processes of a fleet must agree on lies in a Store that
// they share: the account, who works on a name, answers to challenges, failures, counts of orders,
// when what is due. So any edge answers a challenge, one at a time orders a certificate for a name,
// and a failure that one has seen stops all.
//
// It never overwrites a certificate that somebody else put into the store, never orders one for a
// name without a route of its own, and never logs a key. Cmd/sluice calls it in handshakes, and the
// proxy for challenges; all methods of an Issuer are safe for concurrent use.
package acme
