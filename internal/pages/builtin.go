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
	Heading  string
	What     string    // what happened, in the visitor's words
	Do       []string  // what the visitor can do
	Operator string    // where whoever runs the site should look; the causes are X-Sluice-Error's
	Stations [3]string // how the browser, the gateway and the site fared, see the consts below
}

// How a station on the way of a request fared; also the names of its CSS classes.
const (
	fine    = "fine"
	failed  = "failed"
	unasked = "unasked"
)

// Whose trouble it was: the client's request, the gateway's own state, or the site's backend.
var (
	atBrowser = [3]string{failed, fine, unasked}
	atGateway = [3]string{fine, failed, unasked}
	atSite    = [3]string{fine, fine, failed}
)

// builtin is the table of the embedded pages.
var builtin = buildTable()

// buildTable renders every embedded page. A failure is a mistake in page.html itself.
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

// mustRender makes one page; status 0 stands for the page that names no status.
func mustRender(tmpl *template.Template, status int, t text) page {
	stations := make([]station, len(t.Stations))
	for i, state := range t.Stations {
		stations[i] = station{Name: stationNames[i], State: state, Label: stateLabels[state]}
	}
	var buf bytes.Buffer
	err := tmpl.Execute(&buf, map[string]any{
		"Status":   status,
		"Reason":   http.StatusText(status),
		"Text":     t,
		"Stations": stations,
	})
	if err != nil {
		panic("BUG: pages: " + err.Error())
	}
	return page{body: buf.Bytes(), contentType: "text/html; charset=utf-8"}
}

// station is one stop on the way of a request, as the page draws it.
type station struct {
	Name, State, Label string
}

var (
	stationNames = [3]string{"Your browser", "Gateway", "Site"}
	stateLabels  = map[string]string{
		fine:    "working",
		failed:  "trouble here",
		unasked: "not asked",
	}
)
