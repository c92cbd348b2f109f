package chart

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestSVG_IsOneWellFormedDocument(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		figure interface{ SVG() string }
		want   []string
	}{
		"plain":   {Bars{Title: "a < b", Labels: []string{"1", "10k"}, Values: []float64{10, 20}, Format: "%.0f ns"}, []string{"a &lt; b", "20 ns", "10k"}},
		"zeroes":  {Bars{Title: "t", Labels: []string{"x"}, Values: []float64{0}}, []string{`height="0.0"`}},
		"nothing": {Bars{}, nil},
		"lines": {Lines{
			Title: "a & b", FormatX: "%.0f s", FormatY: "%.0f MiB",
			Lines: []Line{{Name: "first", X: []float64{0, 10}, Y: []float64{0, 100}}, {Name: "second", X: []float64{5}, Y: []float64{50}, Dots: true}},
		}, []string{"a &amp; b", ">0 s<", ">2 s<", ">10 s<", ">0 MiB<", ">100 MiB<", "first", "<circle", `points="76.0,`}},
		"powers of ten": {Lines{LogX: true, Lines: []Line{{X: []float64{1, 1000}, Y: []float64{1, 2}}}}, []string{">1<", ">10<", ">100<", ">1000<"}},
		"one point":     {Lines{Lines: []Line{{X: []float64{3}, Y: []float64{0}}}}, nil},
		"no lines":      {Lines{LogX: true}, nil},
		"groups": {Groups{Title: "t", Format: "%.1f µs", Groups: []Group{
			{Title: "small", Bars: []Bar{{Name: "<a>", Value: 10, Ours: true}, {Name: "b", Value: 5}}},
			{Title: "large", Bars: []Bar{{Name: "a", Value: 0}}},
		}}, []string{"10.0 µs", "&lt;a&gt;", `width="500.0"`, `width="250.0"`, "large"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			svg := test.figure.SVG()
			for d := xml.NewDecoder(strings.NewReader(svg)); ; {
				if _, err := d.Token(); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatalf("%v in\n%s", err, svg)
				}
			}
			if strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
				t.Errorf("a place is no number in\n%s", svg)
			}
			for _, want := range test.want {
				if !strings.Contains(svg, want) {
					t.Errorf("%q is missing in\n%s", want, svg)
				}
			}
		})
	}
}
