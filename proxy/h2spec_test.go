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

// The conformance suite of HTTP/2 passes as a whole.
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
			if r := tc.Result; r != nil && (r.Failed || r.Skipped) {
				t.Errorf("%s: %s\n%v", tc.Parent.Title(), tc.Desc, r.Error)
			}
		})
	}
	if passed != 145 || failed != 0 {
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
