// Command loadtest drives the built sluice binary with wrk beside nginx and HAProxy.
//
// The default scenario, rivals, sends the same work through each contestant to the same backend,
// in interleaved rounds, and prints medians and the ratios between them. CPU time per request,
// taken from the kernel's account of a contestant's processes, is the figure to look at: it moves
// least when machine, load generator and backend share a few cores. All contestants set the usual
// forwarding fields; sluice routes through a real redis-server, writes its access log to a file
// and has its metrics on; "+log" marks a rival that writes a log too.
//
// The scenario route-changes keeps sluice under load while the routes in use are rewritten a
// hundred times a second, and fails unless every request is answered with success.
//
// Everything runs on loopback, from one temporary directory, and ends with the program. Raw
// samples are kept as JSON. With a count of errors other than zero the exit status is 1.
package main
