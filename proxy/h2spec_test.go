package proxy_test

import (
	"testing"
	"time"

	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	"github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/spec"

	"sluice/internal/backendtest"
)

// h2specMisses are the cases that are not passed; docs/http2.md says why.
var h2specMisses = map[string]bool{
	"Sends multiple values of SETTINGS_INITIAL_WINDOW_SIZE":                                        true,
	"Sends a HEADERS frame that contains the connection-specific header field":                     true,
	`Sends a HEADERS frame that contains the TE header field with any value other than "trailers"`: true,
}

// The conformance suite of HTTP/2 passes, but for what is known and explained.
func TestH2_Spec(t *testing.T) {
	b := backendtest.Echo(t, "b")
	e, _ := newMultiEdge(t, routeList{"*": {"any", b.URL()}})
	c := &config.Config{
		Host: "127.0.0.1", Port: e.port, Path: "/", Timeout: 2 * time.Second, MaxHeaderLen: 4000, TLS: true, Insecure: true,
	}
	passed, failed := 0, 0
	for _, group := range []*spec.TestGroup{generic.Spec(), http2.Spec(), hpack.Spec()} {
		group.Test(c)
		passed, failed = passed+group.PassedCount, failed+group.FailedCount+group.SkippedCount
		eachCase(group, func(tc *spec.TestCase) {
			if r := tc.Result; r != nil && (r.Failed || r.Skipped) && !h2specMisses[tc.Desc] {
				t.Errorf("%s: %s\n%v", tc.Parent.Title(), tc.Desc, r.Error)
			}
		})
	}
	if passed < 145-len(h2specMisses) || passed+failed != 145 {
		t.Errorf("%d cases of 145 passed, %d not", passed, failed)
	}
}

// eachCase calls f for every case that was run.
func eachCase(g *spec.TestGroup, f func(*spec.TestCase)) {
	for _, tc := range g.Tests {
		f(tc)
	}
	for _, sub := range g.Groups {
		eachCase(sub, f)
	}
}
