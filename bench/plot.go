package main

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// bar is one of a plot: a length, and how far it varied.
type bar struct {
	label           string
	value, low, top float64
	own             bool // kiln's, drawn in another colour
}

// Sizes of plots, in pixels.
const (
	plotWidth  = 760
	plotRow    = 34 // a label and the bar below it
	plotHead   = 26
	plotRight  = 110 // for the number behind the longest bar
	barHeight  = 12
	labelAbove = 15
)

// barPlot draws horizontal bars with whiskers from the lowest to the highest value as
// SVG. Ratios get a line at 1 and a logarithmic scale, on which half and double are
// equally far from it.
func barPlot(title, unit string, bars []bar, ratios bool) string {
	scale := linearScale(bars)
	if ratios {
		scale = ratioScale(bars)
	}
	var svg strings.Builder
	height := plotHead + plotRow*len(bars)
	fmt.Fprintf(&svg, `<svg class="plot" viewBox="0 0 %d %d" width="%d" role="img" aria-label="%s">`, plotWidth, height, plotWidth, html.EscapeString(title))
	fmt.Fprintf(&svg, `<text x="0" y="15" class="title">%s</text>`, html.EscapeString(title))
	for i, b := range bars {
		drawBar(&svg, b, unit, float64(plotHead+i*plotRow), scale)
	}
	if ratios {
		x := scale(1)
		fmt.Fprintf(&svg, `<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" class="one"/>`, x, x, plotHead, height)
	}
	svg.WriteString("</svg>\n")
	return svg.String()
}

// drawBar draws it from the left edge, and its whisker.
func drawBar(svg *strings.Builder, b bar, unit string, y float64, scale func(float64) float64) {
	class := "other"
	if b.own {
		class = "own"
	}
	end, top := scale(b.value), y+labelAbove
	fmt.Fprintf(svg, `<text x="0" y="%.1f">%s</text><rect x="0" y="%.1f" width="%.1f" height="%d" class="%s"/>`,
		y+labelAbove-4, html.EscapeString(b.label), top, max(end, 1), barHeight, class)
	if b.top > b.low {
		middle := top + barHeight/2
		fmt.Fprintf(svg, `<line x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f" class="whisker"/>`, scale(b.low), scale(b.top), middle, middle)
		for _, x := range []float64{scale(b.low), scale(b.top)} {
			fmt.Fprintf(svg, `<line x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f" class="whisker"/>`, x, x, middle-4, middle+4)
		}
	}
	fmt.Fprintf(svg, `<text x="%.1f" y="%.1f" class="number">%s %s</text>`, max(end, scale(b.top))+6, top+barHeight-2, digits(b.value), html.EscapeString(unit))
}

// linearScale begins at 0.
func linearScale(bars []bar) func(float64) float64 {
	most := 0.0
	for _, b := range bars {
		most = max(most, b.value, b.top)
	}
	return func(v float64) float64 {
		if most == 0 {
			return 0
		}
		return v / most * (plotWidth - plotRight)
	}
}

// ratioScale shows at least from a half to double.
func ratioScale(bars []bar) func(float64) float64 {
	low, most := 0.5, 2.0
	for _, b := range bars {
		for _, v := range []float64{b.value, b.low, b.top} {
			if v > 0 {
				low, most = min(low, v), max(most, v)
			}
		}
	}
	low /= 1.2 // so that the shortest bar can be seen
	return func(v float64) float64 {
		return math.Log(max(v, low)/low) / math.Log(most/low) * (plotWidth - plotRight)
	}
}

// plots draws what a benchmark has: a plot for each comparison, and one for each of
// the key figures that several runs have.
func (s *summary) plots(benchmark string) (svgs []string) {
	var runs []string
	for _, one := range s.of(benchmark, (*series).isComparison) {
		if !slices.Contains(runs, one.run) {
			runs = append(runs, one.run)
		}
	}
	for _, run := range runs {
		all := s.of(benchmark, func(one *series) bool { return one.run == run })
		unit, ratios := all[0].unit, all[0].unit == "times"
		if ratios {
			unit = "" // the title says it
		}
		svgs = append(svgs, barPlot(strings.TrimPrefix(run, comparison), unit, bars(all, func(one *series) string { return one.figure }), ratios))
	}
	for _, name := range keyFigures {
		all := s.of(benchmark, func(one *series) bool {
			return one.figure == name && !one.isComparison() && s.isKey(one) && !strings.HasPrefix(one.run, serverInAll)
		})
		if len(all) > 1 {
			svgs = append(svgs, barPlot(name, all[0].unit, bars(all, func(one *series) string { return one.run }), false))
		}
	}
	return svgs
}

func bars(all []*series, label func(*series) string) []bar {
	drawn := make([]bar, len(all))
	for i, one := range all {
		low, top := spread(one.values)
		drawn[i] = bar{label: label(one), value: one.median(), low: low, top: top, own: strings.HasPrefix(one.run, "kiln") || one.isComparison()}
	}
	return drawn
}
