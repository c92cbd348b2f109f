package pages

import (
	"bytes"
	_ "embed"
	"html/template"
	"net/http"
)

//go:embed page.html
var pageSource string

// text is what the embedded page of one status says.
type text struct {
	Heading string
	What    string   // what happened, in the visitor's words
	Do      []string // what the visitor can do
	Causes  []cause  // what X-Sluice-Error can say with this status, for whoever runs the site
	Look    string   // where he should look next
	Way     way
}

// cause is one value of the X-Sluice-Error header and what it means.
type cause struct {
	Word, Meaning string
}

// way is how far a request came: a state for each of the three stops.
type way [3]stop

// stop is one station on the way of a request. State is a CSS class of page.html.
type stop struct {
	Name, State, Label string
}

// Where the request came to grief: at the client, in the gateway itself, or behind it.
var (
	endsAtClient = way{
		{"Your request", "failed", "not accepted"},
		{"Gateway", "fine", "working"},
		{"Site", "unasked", "not asked"},
	}
	endsAtGateway = way{
		{"Your request", "fine", "received"},
		{"Gateway", "failed", "trouble here"},
		{"Site", "unasked", "not asked"},
	}
	endsAtSite = way{
		{"Your request", "fine", "received"},
		{"Gateway", "fine", "working"},
		{"Site", "failed", "trouble here"},
	}
)

// builtin is the table of the embedded pages.
var builtin = buildTable()

// buildTable renders every embedded page.
func buildTable() table {
	tmpl := template.Must(template.New("page").Parse(pageSource))
	var t table
	t.fallback = mustRender(tmpl, 0, fallbackText)
	for i := range t.byStatus {
		t.byStatus[i] = t.fallback
	}
	for status, text := range texts {
		t.byStatus[status-minStatus] = mustRender(tmpl, status, text)
	}
	return t
}

// mustRender makes one page; status 0 stands for the page that names no status. It can only fail
// through a mistake in page.html, which the first test or start shows.
func mustRender(tmpl *template.Template, status int, t text) page {
	var buf bytes.Buffer
	err := tmpl.Execute(&buf, struct {
		Status int
		Reason string
		text
	}{status, http.StatusText(status), t})
	if err != nil {
		panic("BUG: pages: " + err.Error())
	}
	return page{body: buf.Bytes(), contentType: "text/html; charset=utf-8"}
}
