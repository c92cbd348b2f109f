package chart

import (
	"fmt"
	"math"
	"strings"
)

// Lines is one figure: lines over a common axis.
type Lines struct {
	// Title stands above the figure, Note below it; Note may be empty.
	Title, Note string
	// Lines are drawn in the order of the palette, which repeats after five.
	Lines []Line
	// LogX spaces the horizontal axis by powers of ten; every X is positive then.
	LogX bool
	// FormatX and FormatY print the numbers at the axes, for example "%.0f min". Empty means "%g".
	FormatX, FormatY string
}

// Line is one line of a figure; X and Y are equally long, X ascends.
type Line struct {
	Name string
	X, Y []float64
	// Dots marks each point: for a few measured ones.
	Dots bool
}

// palette holds colours that stay apart for those who see red and green alike.
var palette = []string{"#1f6feb", "#d97706", "#0f766e", "#9d174d", "#555555"}

// steps is about how many lines a grid has in each direction.
const steps = 5

// leftMargin leaves room for the numbers of the vertical axis.
const leftMargin = 76

// span is a range of one axis.
type span struct {
	low, high float64
	log       bool
}

// place maps v to 0..1.
func (a span) place(v float64) float64 {
	low, high := a.low, a.high
	if a.log {
		v, low, high = math.Log10(v), math.Log10(low), math.Log10(high)
	}
	if high == low {
		return 0
	}
	return (v - low) / (high - low)
}

// ticks are round numbers inside the axis, about as many as steps: multiples of 1, 2 or 5 times a power
// of ten, so that what is printed is where the line is; powers of ten on a logarithmic axis.
func (a span) ticks() []float64 {
	var list []float64
	if a.log {
		for v := math.Pow(10, math.Ceil(math.Log10(a.low)-rounding)); v <= a.high*(1+rounding); v *= 10 {
			list = append(list, v)
		}
		return list
	}
	rough := (a.high - a.low) / steps
	if rough <= 0 {
		return []float64{a.low}
	}
	step := math.Pow(10, math.Floor(math.Log10(rough)))
	for _, factor := range []float64{5, 2} {
		if step*factor <= rough*coarser {
			step *= factor
			break
		}
	}
	for i := int(math.Ceil(a.low/step - rounding)); float64(i)*step <= a.high+rounding*step; i++ {
		list = append(list, float64(i)*step) // A whole number is never -0.
	}
	return list
}

// coarser is by how much a step may be more than a fifth of the axis: four lines are as good as seven.
const coarser = 1.3

// rounding is how far from a round number a sum of floating-point numbers may be.
const rounding = 1e-9

// SVG returns the figure as a document that stands alone. The vertical axis begins at 0.
func (l Lines) SVG() string {
	x, y := l.spans()
	var s strings.Builder
	open(&s, height)
	text(&s, width/2, 26, 15, l.Title)
	text(&s, width/2, height-10, 11, l.Note)
	toX := func(v float64) float64 { return leftMargin + x.place(v)*(width-leftMargin-margin) }
	toY := func(v float64) float64 { return margin + (1-y.place(v))*plotHeight }
	l.grid(&s, x, y, toX, toY)
	for i, line := range l.Lines {
		colour := palette[i%len(palette)]
		s.WriteString(`<polyline fill="none" stroke-width="1.5" stroke="` + colour + `" points="`)
		for j := range line.X {
			fmt.Fprintf(&s, "%.1f,%.1f ", toX(line.X[j]), toY(line.Y[j]))
		}
		s.WriteString(`"/>` + "\n")
		for j := range line.X {
			if line.Dots {
				fmt.Fprintf(&s, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", toX(line.X[j]), toY(line.Y[j]), colour)
			}
		}
		// The names stand in one row under the title.
		at := float64(leftMargin) + float64(i)*float64(width-leftMargin-margin)/float64(len(l.Lines))
		fmt.Fprintf(&s, `<rect x="%.1f" y="33" width="10" height="10" fill="%s"/>`+"\n", at, colour)
		write(&s, at+14, 42, 11, "start", line.Name)
	}
	s.WriteString("</svg>\n")
	return s.String()
}

// spans are the ranges that hold every point.
func (l Lines) spans() (x, y span) {
	x, y = span{low: math.Inf(1), high: math.Inf(-1), log: l.LogX}, span{}
	for _, line := range l.Lines {
		for i := range line.X {
			x.low, x.high = min(x.low, line.X[i]), max(x.high, line.X[i])
			y.high = max(y.high, line.Y[i])
		}
	}
	if x.low > x.high {
		x.low, x.high, x.log = 0, 1, false // No points at all.
	}
	if y.high == 0 {
		y.high = 1
	}
	y.high *= 1.05 // The highest line does not touch the names.
	return x, y
}

// grid draws the axes with their numbers.
func (l Lines) grid(s *strings.Builder, x, y span, toX, toY func(float64) float64) {
	formatX, formatY := orG(l.FormatX), orG(l.FormatY)
	for _, v := range y.ticks() {
		fmt.Fprintf(s, `<path d="M%d %.1fH%d" stroke="#ddd"/>`+"\n", leftMargin, toY(v), width-margin)
		write(s, leftMargin-6, toY(v)+4, 11, "end", fmt.Sprintf(formatY, v))
	}
	for _, v := range x.ticks() {
		text(s, toX(v), margin+plotHeight+16, 11, fmt.Sprintf(formatX, v))
	}
}

func orG(format string) string {
	if format == "" {
		return "%g"
	}
	return format
}
