// Package redistest runs a real redis-server for a test: on a free loopback port and a unix
// socket, in a directory of its own, without persistence. It can kill the server, bring it back on
// the same port, freeze it, and give it a replica, put Sentinels over it or make it part of a
// Cluster, so that a test meets the failures of a real store rather than those of a mock. A gate in
// front of a server refuses commands as an older one would.
//
// Every server ends with the test that started it, by its process id, and with the test binary
// itself if that dies first. The package has its own small RESP2 client, so that what a test writes
// and reads does not pass through the client library under test. It imports nothing of sluice, and
// it works on Linux only. Tests, benchmarks and the load test call it, never the program.
package redistest
