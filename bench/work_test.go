package bench

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"

	"sluice/internal/backendtest"
)

// work is one kind of request and its answer.
type work struct {
	name     string
	request  string // without the Host field and the empty line
	body     string
	response string // of the backend
	closes   bool   // each request on a connection of its own
	tunnel   bool   // body is a message that comes back after a 101
}

// works are measured through every implementation.
var works = []work{
	{name: "get_small", request: "GET /small?q=1 HTTP/1.1\r\n", response: response(128)},
	{name: "get_10k", request: "GET /10k HTTP/1.1\r\n", response: response(10 << 10)},
	{
		name:     "post_1k",
		request:  "POST /form HTTP/1.1\r\nContent-Type: application/octet-stream\r\nContent-Length: 1024\r\n",
		body:     strings.Repeat("x", 1024),
		response: response(128),
	},
	{name: "get_1m", request: "GET /1m HTTP/1.1\r\n", response: response(1 << 20)},
	{
		name:    "get_chunked",
		request: "GET /chunked HTTP/1.1\r\n",
		response: "HTTP/1.1 200 OK\r\nServer: bench\r\nDate: Sun, 22 Nov 2026 12:00:00 GMT\r\n" +
			"Content-Type: text/plain; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n" +
			"200\r\n" + strings.Repeat("x", 512) + "\r\n200\r\n" + strings.Repeat("x", 512) + endOfChunks,
	},
	{
		name: "get_close", request: "GET /small?q=1 HTTP/1.1\r\nConnection: close\r\n",
		response: response(128), closes: true,
	},
	{
		name: "websocket",
		request: "GET /echo HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
			"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
		// A client's frame of 128 bytes, masked. For a proxy it is bytes, whatever they say.
		body: "\x82\xfe\x00\x80\x01\x02\x03\x04" + strings.Repeat("m", 128),
		response: "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
			"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
		tunnel: true,
	},
}

// endOfChunks ends the last chunk of data, and the body.
const endOfChunks = "\r\n0\r\n\r\n"

// response is a backend's answer with the fields that servers usually send.
func response(bodyBytes int) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nServer: bench\r\nDate: Sun, 22 Nov 2026 12:00:00 GMT\r\n"+
		"Content-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n\r\n%s",
		bodyBytes, strings.Repeat("x", bodyBytes))
}

// to is the request for one host, as a browser would send it.
func (w work) to(host string) []byte {
	return []byte(w.request + "Host: " + host + "\r\n" +
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n" +
		"Accept: text/html,application/xhtml+xml\r\nAccept-Encoding: gzip, deflate, br\r\n\r\n" + w.body)
}

// message is what is sent over and over on one connection.
func (w work) message(host string) []byte {
	if w.tunnel {
		return []byte(w.body)
	}
	return w.to(host)
}

// requests are those for every host, in random order: memory that was just used must not be what
// is used next.
func (w work) requests(hosts int) [][]byte {
	list := make([][]byte, hosts)
	for i, j := range rand.Perm(hosts) {
		list[i] = w.message(hostName(j))
	}
	return list
}

// backend answers all requests of w.
func (w work) backend(s *suite) *backendtest.Backend {
	if w.tunnel {
		return backendtest.Raw(s, w.echo)
	}
	return backendtest.Canned(s, w.response)
}

// echo answers a request with the 101, and with every byte that follows.
func (w work) echo(c *backendtest.Conn) {
	if _, err := c.ReadHead(); err != nil {
		return
	}
	if _, err := c.WriteString(w.response); err != nil {
		return
	}
	buf := make([]byte, 4<<10)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return
		}
	}
}

// hostName is the i-th name that is routed.
func hostName(i int) string { return fmt.Sprintf("h%06d.bench.test", i) }

// count writes a number for the name of a benchmark: 1, 10k, 1M.
func count(n int) string {
	switch {
	case n%1_000_000 == 0:
		return strconv.Itoa(n/1_000_000) + "M"
	case n%1000 == 0:
		return strconv.Itoa(n/1000) + "k"
	}
	return strconv.Itoa(n)
}

// procs is the number of cores that the benchmark may use.
func procs() int { return runtime.GOMAXPROCS(0) }
