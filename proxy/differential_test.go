package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// reading is what a parser makes of a message: refused, or a description of what it understood.
type reading string

const refused reading = "refused"

// ourReading reads a request, body included, as a client connection does.
func ourReading(raw string) reading {
	r, bad := judgeRequest(raw)
	if bad != KindNone {
		return refused
	}
	data, err := "", error(nil)
	if r.framing != framingNone {
		b := &body{}
		b.start(pieces(raw[len(r.b):], 1<<20, io.EOF), r.framing, r.contentLength)
		data, err = readBody(b)
	}
	return describe(string(r.method), string(r.target), string(r.authority), r.keepAlive, data, err)
}

// newNetHTTP starts a server of net/http that answers every request with its reading of it.
func newNetHTTP(t *testing.T) *httptest.Server {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		target := r.RequestURI
		if r.URL.IsAbs() {
			_, rest, _ := strings.Cut(target, "://")
			target = rest[len(r.URL.Host):]
		}
		_, _ = io.WriteString(w, string(describe(r.Method, target, r.Host, !r.Close, string(data), err)))
	}))
	server.Config.DisableGeneralOptionsHandler = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	t.Cleanup(server.Close)
	return server
}

// netHTTPReading reads a request as net/http's server does.
func netHTTPReading(t *testing.T, server *httptest.Server, raw string) reading {
	t.Helper()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, raw); err != nil {
		t.Fatal(err)
	}
	_ = conn.(*net.TCPConn).CloseWrite()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		return refused
	}
	return reading(text)
}

func describe(method, target, host string, keepAlive bool, data string, err error) reading {
	if err != nil {
		data, err = "", errors.New("broken body")
	}
	return reading(fmt.Sprintf("%s %s for %s, goes on %v, body %q %v", method, target, host, keepAlive, data, err))
}

// TestDifferential_Requests reads requests as we do and as net/http's server does. Where the two differ, why says why.
func TestDifferential_Requests(t *testing.T) {
	t.Parallel()
	const host = "Host: h\r\n"
	server := newNetHTTP(t)
	for _, c := range []struct{ raw, why string }{
		{"GET / HTTP/1.1\r\n" + host + "\r\n", ""},
		{"GET /a%20b?c=d HTTP/1.1\r\n" + host + "\r\n", ""},
		{"GET //a/b HTTP/1.1\r\n" + host + "\r\n", ""},
		{"GET /a://b HTTP/1.1\r\n" + host + "\r\n", ""},
		{"GET http://t/a?b HTTP/1.1\r\n" + host + "\r\n", ""},
		{"GET http://t HTTP/1.1\r\n" + host + "\r\n", ""},
		{"OPTIONS * HTTP/1.1\r\n" + host + "\r\n", ""},
		{"QUERY / HTTP/1.1\r\n" + host + "\r\n", ""},
		{"GET / HTTP/1.0\r\n" + host + "\r\n", ""},
		{"GET / HTTP/1.0\r\n" + host + "Connection: keep-alive\r\n\r\n", ""},
		{"GET / HTTP/1.1\r\n" + host + "Connection: x, close\r\n\r\n", ""},
		{"POST / HTTP/1.1\r\n" + host + "Content-Length: 5\r\n\r\nhello", ""},
		{"POST / HTTP/1.1\r\n" + host + "Content-Length: 5\r\n\r\nhell", ""},
		{"POST / HTTP/1.1\r\n" + host + "Content-Length: 0\r\n\r\n", ""},
		{"POST / HTTP/1.1\r\n" + host + "Content-Length: +5\r\n\r\nhello", ""},
		{"POST / HTTP/1.1\r\n" + host + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", ""},
		{"POST / HTTP/1.1\r\n" + host + "Content-Length: 5, 5\r\n\r\nhello", ""},
		{"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", ""},
		{"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", ""},
		{"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n0\r\n\r\n", ""},
		{"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n", ""},
		{"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", ""},
		{"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: \vchunked\r\n\r\n0\r\n\r\n", ""},
		{"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ""},
		{"POST / HTTP/1.1\r\n" + host + "Transfer_Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello", ""},
		{"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", ""},
		{"GET / HTTP/1.1\r\n\r\n", ""},
		{"GET / HTTP/2.0\r\n" + host + "\r\n", ""},
		{"GET / HTTP/1.1\r\n" + host + "X : y\r\n\r\n", ""},
		{"GET / HTTP/1.1\r\n" + host + ": y\r\n\r\n", ""},
		{"GET / HTTP/1.1\r\n" + host + "X\r\n\r\n", ""},
		{"GET / HTTP/1.1\r\n" + host + "X: \x00\r\n\r\n", ""},
		{"GET / HTTP/1.1\r\n X: y\r\n" + host + "\r\n", ""},
		{"GE(T / HTTP/1.1\r\n" + host + "\r\n", ""},
		{"GET /\x01 HTTP/1.1\r\n" + host + "\r\n", ""},
		{"GET /a b HTTP/1.1\r\n" + host + "\r\n", ""},
		{"GET * HTTP/1.1\r\n" + host + "\r\n", "net/http leaves it to the handler to refuse * with any method"},

		{"GET / HTTP/1.1\n" + "Host: h\n\n", "net/http takes a bare LF for a line end"},
		{"GET / HTTP/1.1\r\n" + host + "X: a\n\r\n", "net/http takes a bare LF for a line end"},
		{"GET / HTTP/1.1\r\n" + host + "X: a\r\n b\r\n\r\n", "net/http unfolds lines in requests"},
		{"\r\nGET / HTTP/1.1\r\n" + host + "\r\n", "RFC 9112 §2.2: an empty line before a request is skipped; net/http does so after a POST only"},
		{"POST / HTTP/1.1\r\n" + host + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "net/http joins equal lengths"},
		{"POST / HTTP/1.1\r\n" + host + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "net/http lets Transfer-Encoding win"},
		{"POST / HTTP/1.0\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "net/http ignores Transfer-Encoding in HTTP/1.0"},
		{"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n5 ;a\r\nhello\r\n0\r\n\r\n", "RFC 9112 §7.1.1: white space before an extension"},
		{"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n0\r\nX : y\r\n\r\n", "net/http hands a handler the body before it has read the trailers"},
		{"GET /%zz HTTP/1.1\r\n" + host + "\r\n", "a target is for the application to judge; net/http decodes it"},
		{"GET http://t?q HTTP/1.1\r\n" + host + "\r\n", ""},
		{"GET /a#b HTTP/1.1\r\n" + host + "\r\n", "net/http takes the fragment for a part of the path"},
		{"GET ftp://t/ HTTP/1.1\r\n" + host + "\r\n", "net/http leaves it to the handler to refuse schemes"},
		{"GET / HTTP/1.0\r\n\r\n", "without a host there is nothing to look up"},
		{"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "hosts are judged by the lookup"},
		{"CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n", "CONNECT is not offered"},
		{"TRACE / HTTP/1.1\r\n" + host + "\r\n", "TRACE is not offered"},
		{"GET / HTTP/1.2\r\n" + host + "\r\n", ""},
	} {
		t.Run(fmt.Sprintf("%.70q", c.raw), func(t *testing.T) {
			t.Parallel()
			ours, theirs := ourReading(c.raw), netHTTPReading(t, server, c.raw)
			switch {
			case ours != theirs && c.why == "":
				t.Errorf("we read %s\nnet/http reads %s", ours, theirs)
			case ours == theirs && c.why != "":
				t.Errorf("no difference any more (%s): both read %s", c.why, ours)
			}
		})
	}
}

// TestDifferential_Smuggling holds what a stricter reader must never let through: for each of these requests other servers
// in use find another end or another host than we would, so all must be refused.
func TestDifferential_Smuggling(t *testing.T) {
	t.Parallel()
	const post = "POST / HTTP/1.1\r\nHost: h\r\n"
	heads := []string{
		"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
		"Content-Length: 5\r\nContent-Length: 0\r\n", "Content-Length: 5\r\ncontent-length: 5\r\n", "Content-Length : 5\r\n",
		"Content-Length:\t+5\r\n", "Content-Length: 5\x00\r\n", "Content-Length: 5\v\r\n", "Content-Length: 0x5\r\n",
		"Transfer-Encoding : chunked\r\n", "Transfer-Encoding: xchunked\r\n", "Transfer-Encoding:\vchunked\r\n",
		"Transfer-Encoding: chunked\x00\r\n", "Transfer-Encoding: \x00chunked\r\n", "Transfer-Encoding:\r\n chunked\r\n",
		"Transfer-Encoding\r\n: chunked\r\n", "X: y\rTransfer-Encoding: chunked\r\n", "X: y\nTransfer-Encoding: chunked\r\n",
		"X: y\n\r\nContent-Length: 5\r\n", "\x00Transfer-Encoding: chunked\r\n", "Transfer-Encoding: identity, chunked\r\n",
		"Transfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\n", "Transfer-Encoding: cow\r\nTransfer-Encoding: chunked\r\n",
		"Transfer-Encoding:chunked,\r\n", "Transfer-Encoding: \"chunked\"\r\n", "transfer-encoding: chunked;a=b\r\n",
		" Transfer-Encoding: chunked\r\n", "Foo: bar\r\n\tTransfer-Encoding: chunked\r\n", "Host: other\r\n", "host: h\r\n",
	}
	for _, fields := range heads {
		if r, bad := judgeRequest(post + fields + "\r\n"); bad != KindBadRequest {
			t.Errorf("%q: got %q, framing %d of %d", fields, bad, r.framing, r.contentLength)
		}
	}
	if len(slices.Compact(slices.Sorted(slices.Values(heads)))) != len(heads) {
		t.Error("the list has an element twice")
	}
}
