package main

import (
	"fmt"
	"html"
	"os"
	"strings"
)

// Measures of the picture, in its own units.
const (
	pictureWidth = 760
	nameWidth    = 130
	barWidth     = 520
	barHeight    = 18
	barGap       = 4
	groupGap     = 34
)

// savePicture draws the medians of CPU time per request as bars, a group for each kind of work, into an SVG file.
func savePicture(o *options, works []work, samples []sample) error {
	if o.picture == "" {
		return nil
	}
	var b strings.Builder
	y := 10
	for _, w := range works {
		y += groupGap
		largest := 0.0 // Each group has a scale of its own: a large answer costs forty times a small one.
		for _, name := range o.contestants {
			largest = max(largest, cpuOf(samples, w, name))
		}
		fmt.Fprintf(&b, `<text x="8" y="%d" class="title">%s</text>`+"\n", y-10, html.EscapeString(w.title))
		for i, name := range o.contestants {
			y = drawBar(&b, y, name, cpuOf(samples, w, name), largest, i == 0)
		}
	}
	head := fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d"
	font-family="sans-serif" font-size="13">
<title>CPU time per request in microseconds, median of %d rounds; shorter is better</title>
<style>svg{background:#fff}.title{font-weight:bold;fill:#222}
.name,.value{fill:#333}.bar{fill:#9db4c8}.ours{fill:#1f6feb}</style>
`, pictureWidth, y+16, o.rounds)
	svg := []byte(head + b.String() + "</svg>\n")
	if err := os.WriteFile(o.picture, svg, 0o644); err != nil { //nolint:gosec // a page's picture
		return fmt.Errorf("save picture: %w", err)
	}
	return nil
}

// drawBar draws one contestant's bar at y and returns where the next one goes.
func drawBar(b *strings.Builder, y int, name string, value, largest float64, ours bool) int {
	class := "bar"
	if ours {
		class = "ours"
	}
	length := value / largest * barWidth
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end" class="name">%s</text>`,
		nameWidth-8, y+14, html.EscapeString(name))
	fmt.Fprintf(b, `<rect x="%d" y="%d" width="%.0f" height="%d" class="%s"/>`, nameWidth, y, length, barHeight, class)
	fmt.Fprintf(b, `<text x="%.0f" y="%d" class="value">%.1f µs</text>`+"\n", nameWidth+length+6, y+14, value)
	return y + barHeight + barGap
}

// cpuOf is the median CPU time per request of one contestant at one kind of work, in microseconds.
func cpuOf(samples []sample, w work, contestant string) float64 {
	var values []float64
	for _, s := range samples {
		if s.Work == w.name && s.Contestant == contestant {
			values = append(values, s.CPUMicros)
		}
	}
	if len(values) == 0 {
		return 0
	}
	return median(values)
}
