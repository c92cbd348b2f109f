package chart

import (
	"fmt"
	"strings"
)

// Groups is one figure: lying bars in groups, each group with a scale of its own, since what one group
// measures may be forty times what another does.
type Groups struct {
	// Title stands above the figure.
	Title  string
	Groups []Group
	// Format prints a value behind its bar, for example "%.1f µs".
	Format string
}

// Group is a few bars under one heading.
type Group struct {
	Title string
	Bars  []Bar
}

// Bar is one lying bar; one that is Ours stands out.
type Bar struct {
	Name  string
	Value float64
	Ours  bool
}

// Measures of lying bars, in pixels.
const (
	nameWidth = 130
	barLength = width - nameWidth - 90
	barHeight = 16
	barGap    = 4
	groupGap  = 30
)

// SVG returns the figure as a document that stands alone.
func (g Groups) SVG() string {
	var s strings.Builder
	y := margin
	for _, group := range g.Groups {
		y += groupGap + len(group.Bars)*(barHeight+barGap)
	}
	open(&s, y)
	text(&s, width/2, 26, 15, g.Title)
	y = margin
	for _, group := range g.Groups {
		write(&s, 8, float64(y+10), 12, "start", group.Title)
		y += groupGap - 10
		largest := 0.0
		for _, bar := range group.Bars {
			largest = max(largest, bar.Value)
		}
		for _, bar := range group.Bars {
			g.drawBar(&s, y, bar, largest)
			y += barHeight + barGap
		}
		y += 10
	}
	s.WriteString("</svg>\n")
	return s.String()
}

func (g Groups) drawBar(s *strings.Builder, y int, bar Bar, largest float64) {
	colour, length := "#9db4c8", 0.0
	if bar.Ours {
		colour = palette[0]
	}
	if largest > 0 {
		length = bar.Value / largest * barLength
	}
	base := float64(y + barHeight - 4)
	write(s, nameWidth-8, base, 12, "end", bar.Name)
	fmt.Fprintf(s, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n",
		nameWidth, y, length, barHeight, colour)
	write(s, nameWidth+length+6, base, 12, "start", fmt.Sprintf(g.Format, bar.Value))
}
