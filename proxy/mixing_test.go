package proxy_test

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/internal/backendtest"
)

// Sizes of the mixing test.
var (
	mixClients = flag.Int("mixclients", 2000, "clients of the mixing test, all at once")
	mixTime    = flag.Duration("mix", 5*time.Second, "how long the mixing test lasts")
)

const mixBackends = 8

// mixer is a backend that misbehaves in every way that could hand one client's answer to another. Each answer says in its
// head and in its body which request it is for. When the last byte for a request was written is noted in wrote.
func mixer(t testing.TB, seed uint64, wrote *sync.Map) *backendtest.Backend {
	return backendtest.Raw(t, func(c *backendtest.Conn) {
		random := rand.New(rand.NewPCG(seed, uint64(c.Index)))
		for {
			q, err := c.ReadHead()
			if err != nil {
				return
			}
			body, err := c.Body(q)
			if err != nil {
				return
			}
			id := q.Value("X-Id")
			early := random.IntN(20) == 0
			if !early {
				if _, err := discard(body); err != nil {
					return
				}
			}
			goesOn := misbehave(c, random, q.Method, id)
			wrote.Store(id, time.Now())
			if !goesOn {
				return
			}
			if early {
				if _, err := discard(body); err != nil {
					return
				}
			}
		}
	})
}

// misbehave answers one request, well or badly, and reports whether the connection goes on.
func misbehave(c *backendtest.Conn, random *rand.Rand, method, id string) bool {
	text := strings.Repeat(id+";", 1+random.IntN(40)*random.IntN(40))
	sized := fmt.Sprintf("HTTP/1.1 200 OK\r\nX-Id: %s\r\nContent-Length: %d\r\n\r\n", id, len(text))
	chunked := fmt.Sprintf("HTTP/1.1 200 OK\r\nX-Id: %s\r\nTransfer-Encoding: chunked\r\n\r\n", id)
	if method == "HEAD" {
		switch random.IntN(6) {
		case 0:
			_, _ = c.WriteString(sized + text) // a body after HEAD
		case 1:
			_, _ = c.WriteString(chunked)
		default:
			_, _ = c.WriteString(sized)
		}
		return true
	}
	whole := sized + text
	if random.IntN(2) == 0 {
		whole = chunked + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(text), text)
	}
	switch n := random.IntN(40); n {
	case 0: // two answers at once
		_, _ = c.WriteString(whole + whole)
	case 1: // bytes that come late
		_, _ = c.WriteString(whole)
		c.Sleep(time.Duration(random.IntN(3000)) * time.Microsecond)
		_, _ = c.WriteString(sized + text)
	case 2: // cut at any point
		_, _ = c.WriteString(whole[:random.IntN(len(whole))])
		return false
	case 3: // reset at any point
		_, _ = c.WriteString(whole[:random.IntN(len(whole))])
		_ = c.Reset()
		return false
	case 4: // a body where there is none
		_, _ = c.WriteString(fmt.Sprintf("HTTP/1.1 204 No Content\r\nX-Id: %s\r\nContent-Length: %d\r\n\r\n%s", id, len(text), text))
	case 5:
		_, _ = c.WriteString(fmt.Sprintf("HTTP/1.1 304 Not Modified\r\nX-Id: %s\r\nContent-Length: %d\r\n\r\n%s", id, len(text), text))
	case 6: // a switch that nobody asked for
		_, _ = c.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Id: " + id + "\r\n\r\n" + whole)
	case 7: // until the end of the connection
		_, _ = c.WriteString(fmt.Sprintf("HTTP/1.1 200 OK\r\nX-Id: %s\r\nX-Length: %d\r\n\r\n%s", id, len(text), text))
		return false
	case 8: // closes after the answer without a word
		_, _ = c.WriteString(whole)
		return false
	case 9: // interim answers
		_, _ = c.WriteString("HTTP/1.1 103 Early Hints\r\nX-Id: " + id + "\r\n\r\n" + whole)
	case 10: // in pieces
		for len(whole) > 0 {
			k := 1 + random.IntN(len(whole))
			_, _ = c.WriteString(whole[:k])
			whole = whole[k:]
			c.Sleep(time.Duration(random.IntN(500)) * time.Microsecond)
		}
	case 11: // nonsense
		_, _ = c.WriteString("nonsense " + id + "\r\n\r\n")
		return false
	default:
		_, _ = c.WriteString(whole)
	}
	return true
}

// mixed is what the clients of the mixing test saw.
type mixed struct {
	whole, failed, cut, crossed atomic.Int64

	wrote sync.Map // id of a request to the time when the last byte for it was written
	sent  sync.Map // id of a request to the time when it was sent

	complaints sync.Mutex
	list       []string
}

func (m *mixed) complain(format string, args ...any) {
	m.complaints.Lock()
	defer m.complaints.Unlock()
	if len(m.list) < 10 {
		m.list = append(m.list, fmt.Sprintf(format, args...))
	}
}

// crossing reports whether the answer to one request may have been taken for that to another because their bytes crossed
// on the wire: the answer's were not there yet when the other request was sent. Nobody can tell such bytes from an
// answer. A connection that was idle for less than a millisecond is not looked at for idempotent requests.
func (m *mixed) crossing(answerTo, id, method string) bool {
	wrote, ok := m.wrote.Load(answerTo)
	if !ok {
		return true
	}
	sent, _ := m.sent.Load(id)
	late := wrote.(time.Time)
	if method != "POST" {
		late = late.Add(time.Millisecond)
	}
	return sent.(time.Time).Before(late)
}

// Thousands of clients share the connections of backends that misbehave. Every answer carries the identity of its own
// request, and no cut body looks complete.
func TestMixing(t *testing.T) { // Not beside other tests: it keeps a machine busy.
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var m mixed
	routes := routeList{}
	for i := range mixBackends {
		routes["all.example"] = append(routes["all.example"], mixer(t, seed+uint64(i), &m.wrote).URL())
		routes[fmt.Sprintf("b%d.example", i)] = []string{"one", routes["all.example"][i]}
	}
	routes["all.example"] = append([]string{"all"}, routes["all.example"]...)
	e := newEdge(t, routes)
	var wg sync.WaitGroup
	end := time.Now().Add(*mixTime)
	for i := range *mixClients {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(1000+i)))
			for n := 0; time.Now().Before(end); n++ {
				m.session(e.addr, fmt.Sprintf("c%d-%d", i, n), random, end)
			}
		})
	}
	for time.Now().Before(end) { // The pause after surplus bytes would end all reuse with the first of them.
		e.server.ForgetSurplus()
		time.Sleep(time.Millisecond)
	}
	wg.Wait()
	e.awaitMetric("sluice_connections", 0)
	e.awaitInFlight(0)
	if n := e.metric("sluice_panics_total"); n != 0 {
		t.Errorf("%v panics", n)
	}
	if n := e.metric("sluice_backend_surplus_bytes_total"); n < 3 {
		t.Errorf("surplus bytes were found %v times only", n)
	}
	for _, c := range m.list {
		t.Error(c)
	}
	t.Logf("%d whole answers, %d cut, %d error pages, %d crossed", m.whole.Load(), m.cut.Load(), m.failed.Load(), m.crossed.Load())
	if m.whole.Load() < 200 || m.cut.Load() == 0 || m.failed.Load() == 0 {
		t.Error("too little has happened to prove anything")
	}
}

// session sends requests on one connection, now and then several at once, until it ends or the client leaves.
func (m *mixed) session(addr, name string, random *rand.Rand, end time.Time) {
	c, err := net.DialTimeout("tcp4", addr, patience)
	if err != nil {
		m.complain("dial: %v", err)
		return
	}
	defer c.Close()
	r := bufio.NewReader(c)
	for i := 0; time.Now().Before(end); i++ {
		_ = c.SetDeadline(time.Now().Add(6 * patience))
		batch := 1
		if random.IntN(5) == 0 {
			batch = 3
		}
		var text strings.Builder
		var ids, methods []string
		for k := range batch {
			id := fmt.Sprintf("%s-%d-%d", name, i, k)
			method := []string{"GET", "GET", "POST", "PUT", "HEAD"}[random.IntN(5)]
			text.WriteString(mixRequest(random, method, id))
			ids, methods = append(ids, id), append(methods, method)
			m.sent.Store(id, time.Now())
		}
		if _, err := io.WriteString(c, text.String()); err != nil {
			return // The edge ended the connection, as it may after any failure.
		}
		if random.IntN(50) == 0 {
			_ = c.(*net.TCPConn).SetLinger(0)
			return // The client leaves its answers.
		}
		for k := range ids {
			if !m.check(r, methods[k], ids[k]) {
				return
			}
		}
	}
}

func mixRequest(random *rand.Rand, method, id string) string {
	host := "all.example"
	if random.IntN(2) == 0 {
		host = fmt.Sprintf("b%d.example", random.IntN(mixBackends))
	}
	fields, body := []string{"X-Id: " + id}, ""
	if method == "POST" || method == "PUT" {
		body = strings.Repeat("x", random.IntN(1+random.IntN(40000)))
		if random.IntN(2) == 0 {
			fields = append(fields, fmt.Sprintf("Content-Length: %d", len(body)))
		} else {
			fields = append(fields, "Transfer-Encoding: chunked")
			if body != "" {
				body = fmt.Sprintf("%x\r\n%s\r\n", len(body), body)
			}
			body += "0\r\n\r\n"
		}
	}
	return request(method, "/"+id, host, fields...) + body
}

// check reads the answer to one request and reports whether the connection goes on.
func (m *mixed) check(r *bufio.Reader, method, id string) bool {
	a, err := readAnswer(r, method)
	for a != nil && a.StatusCode == 103 {
		if got := a.Header.Get("X-Id"); got != id && !m.crossing(got, id, method) {
			m.complain("interim answer of %q to %s %q", got, method, id)
		}
		a, err = readAnswer(r, method)
	}
	if a == nil || err != nil {
		if isTimeout(err) {
			m.complain("no answer to %q: %v", id, err)
		}
		m.cut.Add(1)
		return false
	}
	if a.cause() != "" {
		if a.Header.Get("X-Id") != "" {
			m.complain("%q: an error page with fields of an answer", id)
		}
		m.failed.Add(1)
		return !a.Close
	}
	if got := a.Header.Get("X-Id"); got != id {
		if !m.crossing(got, id, method) {
			m.complain("answer of %q to %s %q", got, method, id)
		}
		m.crossed.Add(1)
		return !a.Close
	}
	m.whole.Add(1)
	m.checkBody(a, method, id)
	return !a.Close
}

func (m *mixed) checkBody(a *answer, method, id string) {
	switch {
	case method == "HEAD" || a.StatusCode == http.StatusNoContent || a.StatusCode == http.StatusNotModified:
		if a.body != "" {
			m.complain("%q: a body where there is none: %.60q", id, a.body)
		}
		return
	case strings.Trim(strings.ReplaceAll(a.body, id+";", ""), "") != "":
		m.complain("%q: body %.80q", id, a.body)
	case a.Header.Get("X-Length") != "" && a.Header.Get("X-Length") != fmt.Sprint(len(a.body)):
		m.complain("%q: %d bytes of %s look complete", id, len(a.body), a.Header.Get("X-Length"))
	case a.body == "":
		m.complain("%q: empty body", id)
	}
}
