package chart

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestBars_AreOneWellFormedDocument(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		bars Bars
		want []string
	}{
		"plain":   {Bars{Title: "a < b", Labels: []string{"1", "10k"}, Values: []float64{10, 20}, Format: "%.0f ns"}, []string{"a &lt; b", "20 ns", "10k"}},
		"zeroes":  {Bars{Title: "t", Labels: []string{"x"}, Values: []float64{0}}, []string{`height="0.0"`}},
		"nothing": {Bars{}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			svg := test.bars.SVG()
			for d := xml.NewDecoder(strings.NewReader(svg)); ; {
				if _, err := d.Token(); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatalf("%v in\n%s", err, svg)
				}
			}
			for _, want := range test.want {
				if !strings.Contains(svg, want) {
					t.Errorf("%q is missing in\n%s", want, svg)
				}
			}
		})
	}
}
