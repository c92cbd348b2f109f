// Package bench measures the hot path of sluice from end to end, beside twins that do the same
// work with other means: net/http's ReverseProxy and fasthttp's HostClient with nothing added.
//
// Client, proxy and backend share one process and speak over loopback sockets. Client and backend
// allocate nothing per request, so that allocations per operation are the proxy's; only where each
// request takes a connection of its own (work=get_close) the client's dialling is in them. Names are
// key=value pairs for benchstat, for example:
//
//	go test -run '^$' -bench . -count 10 ./bench | tee new.txt
//	benchstat -col /impl new.txt
//
// The package has benchmarks only, and nothing imports it.
package bench
