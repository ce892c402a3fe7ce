package main

import (
	"html/template"
	"io"
	"strings"
)

// page is the report for a browser: one file, nothing to load.
var page = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Kiln: measured</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1000px; margin: 2em auto; padding: 0 1em; color: #222; background: #fff }
h2 { margin-top: 2.2em; border-bottom: 1px solid #ccc }
table { border-collapse: collapse; margin: 1em 0 } td, th { text-align: left; padding: .15em .8em .15em 0; border-bottom: 1px solid #eee; vertical-align: top }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.w { white-space: nowrap } .met { color: #17692f } .missed { color: #a3231c; font-weight: 600 } .unmeasured { color: #777 }
code { background: #f3f3f3; padding: .1em .3em } .source { color: #555; font-size: 13px }
svg.plot { display: block; margin: 1.2em 0; max-width: 100% } svg text { font: 12px system-ui, sans-serif; fill: #333 } svg .title { font-weight: 600; font-size: 14px }
svg .own { fill: #c2571a } svg .other { fill: #8aa0b4 } svg .whisker { stroke: #222; stroke-width: 1 } svg .one { stroke: #222; stroke-dasharray: 3 3 } svg .number { fill: #555 }
</style></head><body>
<h1>Kiln: measured</h1>
<p>{{.About}} Bars are medians, whiskers go from the lowest to the highest run. Orange is Kiln, or a ratio of Kiln's.</p>
{{range .Places}}<p class="source">{{.}}</p>
{{end}}<h2>Goals</h2>
<table><tr><th>goal</th><th>bound</th><th>measured</th><th></th></tr>
{{range .Verdicts}}<tr><td>{{.Claim}}</td><td class="w">{{.Bound}}</td><td>{{.Seen}}</td><td class="w {{.Class}}">{{.Word}}</td></tr>
{{end}}</table>
<h2>Beside published figures</h2>
<p>{{.AboutPublished}}</p>
<table><tr><th>what</th><th>published</th><th>by, on</th><th>here</th><th>here to it</th></tr>
{{range .Published}}<tr><td>{{.What}}</td><td>{{.Published}}</td><td>{{.By}}</td><td>{{.Seen}}</td><td class="n">{{.Ratio}}</td></tr>
{{end}}</table>
{{range .Sections}}<h2 id="{{.Name}}">{{.Name}}</h2>
<p>{{.Note}}</p>
{{range .Heads}}<p class="source"><code>{{.Command}}</code><br>{{.Head}}</p>
{{end}}{{range .Plots}}{{.}}{{end}}
<details><summary>All figures</summary><table><tr><th>run</th><th>figure</th><th class="n">median</th><th class="n">lowest</th><th class="n">highest</th><th>unit</th><th class="n">runs</th></tr>
{{range .Rows}}<tr><td>{{.Run}}</td><td>{{.Figure}}</td><td class="n">{{.Median}}</td><td class="n">{{.Low}}</td><td class="n">{{.High}}</td><td>{{.Unit}}</td><td class="n">{{.Runs}}</td></tr>
{{end}}</table></details>
{{end}}</body></html>
`))

// What the page is made of.
type (
	pageContent struct {
		About, AboutPublished string
		Places                []string
		Verdicts              []pageVerdict
		Published             []pagePublished
		Sections              []pageSection
	}
	pageVerdict   struct{ Claim, Bound, Seen, Word, Class string }
	pagePublished struct{ What, Published, By, Seen, Ratio string }
	pageHead      struct{ Command, Head string }
	pageRow       struct {
		Run, Figure, Median, Low, High, Unit string
		Runs                                 int
	}
	pageSection struct {
		Name, Note string
		Heads      []pageHead
		Plots      []template.HTML
		Rows       []pageRow
	}
)

func (s *summary) writeHTML(w io.Writer) error {
	content := pageContent{About: aboutFigures, AboutPublished: aboutPublished, Places: s.places()}
	for _, v := range s.judge() {
		class := strings.ReplaceAll(v.word(), "not measured", "unmeasured")
		content.Verdicts = append(content.Verdicts, pageVerdict{v.claim, v.bound(), v.seen(), v.word(), class})
	}
	for _, p := range s.besidePublished() {
		content.Published = append(content.Published, pagePublished{p.what, p.published(), p.by, p.seen(), p.ratio()})
	}
	for _, benchmark := range s.benchmarks() {
		content.Sections = append(content.Sections, s.section(benchmark))
	}
	return page.Execute(w, content)
}

func (s *summary) section(benchmark string) pageSection {
	section := pageSection{Name: benchmark, Note: benchNotes[benchmark]}
	for _, r := range s.reports {
		if r.Benchmark == benchmark {
			section.Heads = append(section.Heads, pageHead{r.Command, s.head(r)})
		}
	}
	for _, svg := range s.plots(benchmark) {
		section.Plots = append(section.Plots, template.HTML(svg)) // barPlot escapes every text
	}
	for _, one := range s.of(benchmark, func(*series) bool { return true }) {
		low, high := spread(one.values)
		section.Rows = append(section.Rows, pageRow{one.run, one.figure, one.shown(one.median()), one.shown(low), one.shown(high), one.unit, len(one.values)})
	}
	return section
}
