package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
)

// sight is what the application believes of a request.
type sight struct {
	Machine   string
	Worker    int
	Host      string
	Scheme    string
	Port      int
	Forwarded map[string]string // by the part of the name behind X-Forwarded-, in lower case
}

// visit is one request of the story and what its client saw.
type visit struct {
	host   string
	target string
	status int // 0: no answer began
	bytes  int // of the body; -1: unknown
	header http.Header
	saw    sight
	err    error
}

// byNginx tells whether nginx stood between.
func (v visit) byNginx() bool { return strings.HasPrefix(v.header.Get("Server"), "nginx") }

// fault is empty for an answer of the application, and says what is wrong with any other.
func (v visit) fault() string {
	if v.err == nil && v.status == http.StatusOK {
		return ""
	}
	return fmt.Sprintf("%s%s: status %d %s, error %v", v.host, v.target, v.status, v.header.Get("X-Sluice-Error"), v.err)
}

// visitor makes requests for any host, all of which go to the edge, and keeps a record of them:
// each has a target of its own, by which it is found in the access log. It follows no redirect.
type visitor struct {
	client *http.Client
	number atomic.Int64

	mu     sync.Mutex
	visits []visit
}

// newVisitor makes a visitor of an edge that serves plain HTTP on one port and HTTPS, with a
// certificate of the roots, on another.
func newVisitor(httpPort, httpsPort int, roots *x509.CertPool) *visitor {
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		port := httpPort
		if strings.HasSuffix(address, ":443") {
			port = httpsPort
		}
		return new(net.Dialer).DialContext(ctx, network, fmt.Sprintf("127.0.0.1:%d", port))
	}
	return &visitor{client: &http.Client{
		Timeout: patience,
		Transport: &http.Transport{
			DialContext: dial, TLSClientConfig: &tls.Config{RootCAs: roots}, MaxIdleConnsPerHost: storyClients,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// mark makes a URL's target one that no other request has.
func (c *visitor) mark(url string) string {
	separator := "?"
	if strings.Contains(url, "?") {
		separator = "&"
	}
	return fmt.Sprintf("%s%sn=%d", url, separator, c.number.Add(1))
}

// get requests the URL, marked, with fields, a list of names and values.
func (c *visitor) get(url string, fields ...string) visit {
	return c.getTraced(context.Background(), url, fields...)
}

// getTraced is get with a context that may hold a trace.
func (c *visitor) getTraced(ctx context.Context, url string, fields ...string) visit {
	conns := 0
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { conns++ }})
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.mark(url), nil)
	if err != nil {
		return visit{host: url, err: err}
	}
	for i := 0; i < len(fields); i += 2 {
		request.Header[fields[i]] = []string{fields[i+1]} // spelled as given
	}
	v := c.exchange(request)
	if conns > 1 {
		// The client library repeats in silence what a keep-alive connection left unanswered.
		v.err = fmt.Errorf("the edge left the request unanswered %d times", conns-1)
	}
	c.add(v)
	return v
}

func (c *visitor) exchange(request *http.Request) visit {
	v := visit{host: request.URL.Host, target: request.URL.RequestURI(), bytes: -1}
	response, err := c.client.Do(request)
	if err != nil {
		v.err = err
		return v
	}
	defer response.Body.Close()
	v.status, v.header = response.StatusCode, response.Header
	body, err := io.ReadAll(response.Body)
	if err != nil {
		v.err = err
		return v
	}
	v.bytes = len(body)
	if v.status == http.StatusOK {
		v.err = json.Unmarshal(body, &v.saw)
	}
	return v
}

func (c *visitor) add(v visit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.visits = append(c.visits, v)
}

// all returns the requests that have ended so far.
func (c *visitor) all() []visit {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]visit(nil), c.visits...)
}
