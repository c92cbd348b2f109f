package proxy_test

import (
	"bufio"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/internal/httpcases"
	"sluice/proxy"
)

// differences are the cases that net/http's server reads in another way behind the proxy than by itself, by the reason.
// docs/http.md gives the reasons to users.
var differences = map[string]string{
	"folded lines are refused":                                          "FO01 FO02 FO03 FO04 A25 A42 H23",
	"a bare LF ends no line":                                            "A46 LR25",
	"lengths are not mended: no two, no 20 digits":                      "A04 LC15 LC29",
	"length and coding together are refused":                            "A01 A02 LC26",
	"an HTTP/1.0 request has no Transfer-Encoding":                      "A43 LT28",
	"chunk extensions hold no control bytes":                            "LK18",
	"white space before a chunk extension is taken":                     "LK11",
	"trailers are judged like fields":                                   "LR19 LR20 LR22",
	"an empty line before a first request is skipped":                   "R07 KP13",
	"a fragment is no part of a target":                                 "RB02 RB03 RA24",
	"targets are paths, http(s) URLs, or OPTIONS *":                     "RB04 RB05 RB10 RB11 RB12 RB20 RB24 RA31 RA33 R18 RV16",
	"OPTIONS of a URL without path means *":                             "RA29",
	"userinfo is refused":                                               "RA18 RA19",
	"CONNECT and TRACE are not offered":                                 "A78 R30 RM13 RM14 RM15 RM16 RM17 RM18 RM19 RM20 RM21 RM25",
	"OPTIONS with Max-Forwards 0 ends here":                             "R28 RM24",
	"hosts that are not served are refused":                             "KA09 KP07 KP08 H04 RA09 RH14",
	"hosts are names or addresses, with a port or not":                  hostDifferences,
	"expectations other than 100-continue are dropped":                  "KE10 KE12 KE14",
	"a client that leaves before the end of its request gets no answer": "KE03 KE04 KY05 KU17",
}

const hostDifferences = "H10 H11 H13 H15 RA17 RA22 RA32 RA26 RA27 RA28 RH12 RH13 RH19 RH20 RH22 RH23 RH24 RH27 RH29 RH30 RH31 " +
	"RH32 RH33 RH35 RH36 RH37 RH38 RH39 RH40 RH41 RH42 RH43 RH46 RH47 RH51 RH52"

// understood is what a handler of net/http is given.
type understood struct {
	Method, Target, Host, Body string
}

// newReader starts a server of net/http that answers every request with what it understood, and refuses broken bodies.
func newReader(t *testing.T) *httptest.Server {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, "broken body", http.StatusBadRequest)
			return
		}
		u := understood{r.Method, r.RequestURI, r.Host, string(data)}
		if r.URL.IsAbs() { // The proxy passes these on in origin-form.
			_, rest, _ := strings.Cut(u.Target, "://")
			u.Target = "/" + strings.TrimPrefix(rest[len(r.URL.Host):], "/")
		}
		_ = json.NewEncoder(w).Encode(u) // A client that left is its own business.
	}))
	server.Config.DisableGeneralOptionsHandler = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	t.Cleanup(server.Close)
	return server
}

// readings sends raw and a FIN, and lists what each request was understood as. The list ends at the first refusal.
func readings(addr, raw string) (list []string, err error) {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, raw); err == nil { // A server may refuse before it has read it all.
		_ = conn.(*net.TCPConn).CloseWrite()
	}
	for r := bufio.NewReader(conn); ; {
		a, err := readAnswer(r, "GET")
		switch {
		case a == nil && isTimeout(err):
			return list, err
		case a == nil:
			return list, nil // The end, in order or by an RST.
		case a.StatusCode < 200:
		case a.StatusCode == http.StatusOK && err == nil:
			list = append(list, strings.TrimSpace(a.body))
		default:
			return append(list, "refused"), nil
		}
	}
}

// TestDifferential_Cases puts the requests of all cases to net/http's server twice: directly, and through the proxy. Either
// it understands the same, or the difference is one that is explained.
func TestDifferential_Cases(t *testing.T) {
	t.Parallel()
	cases, err := httpcases.Cases()
	if err != nil {
		t.Fatal(err)
	}
	reasons := map[string]string{}
	for why, ids := range differences {
		for id := range strings.FieldsSeq(ids) {
			reasons[id] = why
		}
	}
	server := newReader(t)
	direct := server.Listener.Addr().String()
	front := serveCases(t, proxy.DefaultConfig(), caseRoutes(t, direct))
	var players sync.WaitGroup
	places := make(chan struct{}, 8) // More would only wait for a core.
	for _, c := range cases {
		raw, alone := c.Sent()
		if !alone || strings.Contains(raw, "HEAD ") || len(raw) > 16<<10 {
			continue // Answers that need their method to be read, and limits, which every server has its own.
		}
		places <- struct{}{}
		players.Go(func() {
			defer func() { <-places }()
			compareReadings(t, c, raw, direct, front, reasons[c.ID])
		})
	}
	players.Wait()
}

func compareReadings(t *testing.T, c *httpcases.Case, raw, direct, front, why string) {
	theirs, err := readings(direct, raw)
	if err != nil {
		t.Errorf("%s %s: net/http: %v", c.ID, c.Title, err)
	}
	ours, err := readings(front, raw)
	if err != nil {
		t.Errorf("%s %s: through the proxy: %v", c.ID, c.Title, err)
	}
	switch same := slices.Equal(ours, theirs); {
	case !same && why == "":
		t.Errorf("%s %s: net/http understands %q, through the proxy %q", c.ID, c.Title, theirs, ours)
	case same && why != "":
		t.Errorf("%s %s: no difference any more (%s): %q", c.ID, c.Title, why, ours)
	}
}
