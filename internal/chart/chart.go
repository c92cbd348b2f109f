// Package chart draws figures as SVG: bars over named steps, lying bars in groups, lines over an axis.
// The make targets that measure use it to keep their results as pictures in docs/; nothing that serves
// requests does. It reads and writes no file and holds no state.
package chart

import (
	"fmt"
	"html"
	"strings"
)

// Bars is one figure: a bar per label.
type Bars struct {
	// Title stands above the figure, Note below it; Note may be empty.
	Title, Note string
	// Labels name the bars, from left to right, Values their heights, from 0; both are equally long.
	Labels []string
	Values []float64
	// Format prints a value above its bar, for example "%.0f ns"; empty prints none.
	Format string
}

// The sizes of a figure, in pixels.
const (
	width      = 720
	height     = 320
	margin     = 48
	plotWidth  = width - 2*margin
	plotHeight = height - 2*margin - 16
)

// SVG returns the figure as a document that stands alone.
func (b Bars) SVG() string {
	var s strings.Builder
	open(&s, height)
	text(&s, width/2, 26, 15, b.Title)
	text(&s, width/2, height-10, 11, b.Note)
	top := 0.0
	for _, v := range b.Values {
		top = max(top, v)
	}
	step := float64(plotWidth) / float64(max(len(b.Labels), 1))
	base := float64(margin + plotHeight)
	for i, label := range b.Labels {
		h := 0.0
		if top > 0 {
			h = b.Values[i] / top * plotHeight
		}
		x := margin + float64(i)*step
		fmt.Fprintf(&s, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="#3a6ea5"/>`+"\n",
			x+step*0.1, base-h, step*0.8, h)
		text(&s, x+step/2, base+16, 11, label)
		if b.Format != "" {
			text(&s, x+step/2, base-h-4, 11, fmt.Sprintf(b.Format, b.Values[i]))
		}
	}
	fmt.Fprintf(&s, `<path d="M%d %.1fH%d" stroke="#333"/>`+"\n</svg>\n", margin, base, width-margin)
	return s.String()
}

// open writes the beginning of a document of the given height, on white.
func open(s *strings.Builder, height int) {
	fmt.Fprintf(s, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" `+
		`viewBox="0 0 %d %d" font-family="sans-serif">`+"\n",
		width, height, width, height)
	s.WriteString(`<rect width="100%" height="100%" fill="#fff"/>` + "\n")
}

// text writes one line that is centred on x.
func text(s *strings.Builder, x, y float64, size int, words string) {
	write(s, x, y, size, "middle", words)
}

// write writes one line; anchor says which part of it stands at x: start, middle or end.
func write(s *strings.Builder, x, y float64, size int, anchor, words string) {
	if words != "" {
		fmt.Fprintf(s, `<text x="%.1f" y="%.1f" font-size="%d" text-anchor="%s" fill="#222">%s</text>`+"\n",
			x, y, size, anchor, html.EscapeString(words))
	}
}
