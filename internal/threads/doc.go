// Package threads decides how many threads of this process run Go code at a time.
//
// The runtime's choice, one for each core, is right as long as cores are free for them. On a machine
// whose cores are all taken, by clients, backends and this process together, more threads than the
// process has work for share a core with each other: each stands still for whole time slices while it
// holds requests that it has begun, and they hand work to and fro. One thread less then serves the same
// requests for less CPU time, and sooner.
//
// A Follower looks at the kernel's accounts a few times a second and lets threads go only while all three
// are true: no core is idle, threads of this process wait for each other, and its work fits into
// fewer. It takes them back as soon as a core is idle, where others would get the cores instead, since
// fewer threads get a smaller share beside programs that compute, and where a request costs more with
// fewer. What it decides by is in governor.go, without a clock or a kernel, so that tests can play machines
// to it.
//
// Of requests it knows their number alone. The program starts one; nothing else may set GOMAXPROCS beside
// it.
package threads
