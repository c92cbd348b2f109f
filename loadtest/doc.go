// Command loadtest drives the built sluice binary beside nginx and HAProxy, with wrk, h2load and
// generators of its own.
//
// The scenario rivals sends each kind of work through each contestant to the same backend, in
// interleaved rounds, and prints medians and the ratios between them. CPU time per request, taken
// from the kernel's account of a contestant's processes, is the figure to look at: it moves least
// when machine, load generator and backend share a few cores. All contestants set the usual
// forwarding fields; sluice routes through a real redis-server, writes its access log to a file
// and has its metrics on; "+log" marks a rival that writes a log too. A rival that is not installed
// is named and left out. One that fails is left out of that kind of work, and a kind of work that
// fails does not keep the others from being measured.
//
// The others: latency measures at fixed rates, corrected for coordinated omission; growth measures
// sluice alone as hosts, connections, backends, bodies and cores become more; memory keeps a mixed
// load up and fails if memory grows; profile records what a profile-guided build reads;
// route-changes keeps sluice under load while the routes in use are rewritten a hundred times a
// second, and fails unless every request is answered with success.
//
// With -page a scenario writes its section of docs/performance.md, with -picture its figure. What
// rivals and growth know of each kind of work stands in rivals.json and growth.json beside the page,
// so that one can be measured anew by itself; the scenario page writes both sections from there.
//
// Everything runs on loopback, from one temporary directory, and ends with the program. Raw
// samples are kept as JSON. With a count of errors other than zero, or anything that failed, the exit
// status is 1.
package main
