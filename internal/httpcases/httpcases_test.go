package httpcases

import (
	"slices"
	"strings"
	"testing"
)

func TestCases_AllFilesWithUniqueIDs(t *testing.T) {
	t.Parallel()
	cases, err := Cases()
	if err != nil {
		t.Fatal(err)
	}
	if len(cases) < 700 {
		t.Errorf("%d cases, want at least 700", len(cases))
	}
	ids := map[string]bool{}
	for _, c := range cases {
		if c.ID == "" || c.Title == "" || c.Level == "" || c.Source == "" || ids[c.ID] {
			t.Errorf("case %q (%s): its id is taken, or id, title, level or source is missing", c.ID, c.Title)
		}
		ids[c.ID] = true
	}
}

func TestParse_RefusesMistakes(t *testing.T) {
	t.Parallel()
	for name, line := range map[string]string{
		"unknown field":       `{"id": "X1", "want_clint": {}}`,
		"unknown verb":        `{"id": "X1", "client": [{"shout": 1}]}`,
		"two verbs":           `{"id": "X1", "client": [{"wait": 1, "fin": true}]}`,
		"verb of other side":  `{"id": "X1", "client": [{"echo": true}]}`,
		"early in the middle": `{"id": "X1", "backend": [["x", {"early": true}]]}`,
		"rune beyond a byte":  `{"id": "X1", "client": ["\u20ac"]}`,
	} {
		if cases, err := parse([]byte(line)); err == nil || !strings.Contains(err.Error(), "X1") {
			t.Errorf("%s: got %d cases, %v; want an error that names X1", name, len(cases), err)
		}
	}
}

// TestPlay_ClientMeetsBackend plays without a proxy: the client speaks to the scripted backend.
func TestPlay_ClientMeetsBackend(t *testing.T) {
	t.Parallel()
	const request = `"GET / HTTP/1.1\r\nHost: h\r\n\r\n"`
	tests := []struct {
		name, line string
		faults     []string
	}{
		{"default answer", `{"client": [` + request + `], "want_backend": {"requests": [1], "bodies": [1],
			"connections": [1], "has": ["host: H"], "has_exact": ["Host: h"], "lacks": ["x-"], "lacks_exact": ["host"],
			"order": ["get", "host"]}, "want_client": {"statuses": [[200]], "closed": false, "whole": true,
			"has": ["OK"], "counts": {"200": 1}, "min_bytes": 20}, "answer_ms": 2000}`, nil},
		{"every expectation can fail", `{"client": [` + request + `], "want_backend": {"requests": [0, 2],
			"bodies": [0], "connections": [2], "has": ["x-y"], "has_exact": ["host"], "has_if_asked": ["x-z"],
			"lacks": ["GET"], "lacks_exact": ["Host"], "order": ["host", "get"], "sees_client_leave": true},
			"want_client": {"statuses": [[201, 204]], "statuses_any": [[], [[200], [200]]], "last_status": [404],
			"closed": true, "whole": false, "cut_or_502": true, "has": ["nope"], "lacks": ["ok"], "order": ["ok", "http"],
			"counts": {"ok": 7}, "min_bytes": 1000, "arrives_ms": {"nope": 10}}}`, []string{
			`"nope" arrived: false, after 0s, want at most 10 ms`,
			`backend complete bodies: 1, want [0]`,
			`backend connection not closed after the client left`,
			`backend connections: 1, want [2]`,
			`backend got "Host"`,
			`backend got "get"`,
			`backend lacks "host"`,
			`backend lacks "x-y"`,
			`backend lacks "x-z"`,
			`backend order broken at "get"`,
			`backend requests: 1, want [0 2]`,
			`client answer complete: true, want false ()`,
			`client connection closed: false, want true`,
			`client got "ok"`,
			`client got "ok" 2 times, want 7`,
			`client got 40 bytes, want at least 1000`,
			`client lacks "nope"`,
			`client order broken at "http"`,
			`client statuses [200], want [[201 204]]`,
			`client statuses [200], want one of [[] [[200] [200]]]`,
			`last status of [200], want [404]`,
			`truncated answer looks complete: [200]`,
		}},
		{"cut answer", `{"client": [` + request + `], "backend": [["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
			{"close": true}]], "want_client": {"statuses": [[200]], "whole": false, "closed": true, "cut_or_502": true}}`, nil},
		{"reset", `{"client": [` + request + `], "backend": [[{"reset": true}]],
			"want_client": {"statuses": [], "closed": true}}`, nil},
		{"steps of both sides", `{"client": [` + request + `, {"until": "WAITED"}, {"repeat": ["ab", 2]}, {"fin": true}],
			"backend": [["HTTP/1.1 101 Switching\r\n\r\n", {"wait": 20}, {"repeat": ["WAITED", 1]}, {"echo": true}]],
			"want_client": {"statuses": [[101]], "has": ["abab"], "closed": true, "arrives_ms": {"WAITED": 2000}}}`, nil},
		{"echo at the end", `{"client": [` + request + `, {"bulk": 4}, {"wait": 50}, {"fin": true}],
			"backend": [["HTTP/1.1 101 Switching\r\n\r\n", {"echo_eof": "bye"}]],
			"want_backend": {"has": ["zzzz"]}, "want_client": {"has": ["bye"]}}`, nil},
		{"client leaves", `{"client": [` + request + `, {"wait": 30}, {"close": true}, {"wait": 50}],
			"backend": [[{"wait_eof": 5000}]], "want_backend": {"sees_client_leave": true}}`, nil},
		{"early answer and a second connection", `{"client": ["POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n", {"until": "no"},
			{"new": true}, ` + request + `], "backend": [[{"early": true}, "HTTP/1.1 413 X\r\nContent-Length: 2\r\n\r\nno", {"close": true}]],
			"want_backend": {"requests": [2], "bodies": [1], "connections": [2]},
			"want_client": {"statuses": [[413], [200]]}}`, nil},
		{"head and interim answers", `{"client": ["HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", ` + request + `],
			"backend": [["HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n"]],
			"want_client": {"statuses": [[200], [200]], "last_status": [200], "whole": true}}`, nil},
		{"malformed request", `{"client": ["GET /\r\n\r\n"], "want_backend": {"requests": [0], "has": ["##malformed request"]},
			"want_client": {"statuses": [], "closed": true}}`, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cases, err := parse([]byte(tt.line))
			if err != nil {
				t.Fatal(err)
			}
			b, err := Listen("127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			results := Play([]Lane{{Front: b.Addr(), Backend: b}}, cases)
			if got := results[0].Faults; !slices.Equal(got, tt.faults) {
				t.Errorf("faults %q\nwant %q\n%v", got, tt.faults, results[0])
			}
		})
	}
}
