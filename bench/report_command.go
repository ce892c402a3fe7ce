package main

import (
	"errors"
	"fmt"
	"html/template"
	"io"
	"os"
	"path/filepath"
	"strings"
)

type reportCommand struct {
	Files    []string `arg:"" optional:"" help:"Reports that benches wrote (--json). Those of one benchmark are taken as more runs of it." type:"existingfile"`
	HTML     string   `help:"Write a page with plots to this file." type:"path" name:"html"`
	Markdown string   `help:"Write tables to this file." type:"path"`
}

// Run makes one report of many. Nobody types a figure.
func (c *reportCommand) Run() error {
	reports, err := readReports(c.Files)
	if err != nil {
		return err
	}
	s := summarize(reports)
	if c.HTML != "" {
		err = errors.Join(err, writeTo(c.HTML, s.writeHTML))
	}
	if c.Markdown != "" {
		err = errors.Join(err, writeTo(c.Markdown, s.writeMarkdown))
	}
	if c.HTML == "" && c.Markdown == "" {
		err = s.writeMarkdown(os.Stdout)
	}
	return err
}

func writeTo(path string, write func(io.Writer) error) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := errors.Join(write(file), file.Close()); err != nil {
		return fmt.Errorf("cannot write %q: %w", path, err)
	}
	return nil
}

// source says where the data came from, without the folders around it.
func (r *report) source() string {
	if filepath.IsAbs(r.Data.Source) {
		return "NDJSON files in " + filepath.Base(r.Data.Source)
	}
	return r.Data.Source
}

// head is what a reader has to know of a report, in one line.
func (r *report) head() string {
	m := r.Machine
	return fmt.Sprintf("%s, commit %s; %s, %d cores, %d MiB, %s, %s, %s, load %s before; %s: %d files, %d resources, %.1f MB",
		r.Time.Format("2006-01-02 15:04 UTC"), r.Commit, m.CPU, m.Cores, m.MemoryBytes>>20, m.Kernel, m.FileSystem, m.Go, digits(r.LoadBefore),
		r.source(), r.Data.Files, r.Data.Resources, float64(r.Data.Bytes)/1e6)
}

// markdownHead says what the file is.
const markdownHead = `# Results

Written by ` + "`go run ./bench report`" + ` from what the benches wrote (` + "`make bench-full`" + `); figures that are typed here are lost with the next run.
Each is the median of its runs, with the lowest and the highest. A ratio compares what was measured in one round, in turns on the same machine.
Ratios of other machines and of other data differ; a load before a bench that is far above 0 spoils the figures on the clock, and the ratios less.
`

func (s *summary) writeMarkdown(w io.Writer) error {
	var text strings.Builder
	text.WriteString(markdownHead)
	text.WriteString("\n## Goals\n\n| goal | bound | measured | |\n|---|---|---|---|\n")
	for _, v := range s.judge() {
		fmt.Fprintf(&text, "| %s | %s | %s | %s |\n", v.claim, v.bound(), v.seen(), v.word())
	}
	for _, benchmark := range s.benchmarks() {
		fmt.Fprintf(&text, "\n## %s\n\n", benchmark)
		for _, r := range s.reports {
			if r.Benchmark == benchmark {
				fmt.Fprintf(&text, "`%s`\n(%s)\n\n", r.Command, r.head())
			}
		}
		text.WriteString("| run | figure | median | lowest | highest | runs | unit |\n|---|---|---|---|---|---|---|\n")
		for _, one := range s.of(benchmark, s.isKey) {
			low, high := spread(one.values)
			fmt.Fprintf(&text, "| %s | %s | %s | %s | %s | %d | %s |\n", one.run, one.figure, digits(one.median()), digits(low), digits(high), len(one.values), one.unit)
		}
	}
	_, err := io.WriteString(w, text.String())
	return err
}

// page is the report for a browser: one file, nothing to load.
var page = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Kiln: measured</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1000px; margin: 2em auto; padding: 0 1em; color: #222; background: #fff }
h2 { margin-top: 2.2em; border-bottom: 1px solid #ccc }
table { border-collapse: collapse; margin: 1em 0 } td, th { text-align: left; padding: .15em .8em .15em 0; border-bottom: 1px solid #eee; vertical-align: top }
td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.w { white-space: nowrap } .met { color: #17692f } .missed { color: #a3231c; font-weight: 600 } .unmeasured { color: #777 }
code { background: #f3f3f3; padding: .1em .3em } .source { color: #555; font-size: 13px }
svg.plot { display: block; margin: 1.2em 0; max-width: 100% } svg text { font: 12px system-ui, sans-serif; fill: #333 } svg .title { font-weight: 600; font-size: 14px }
svg .own { fill: #c2571a } svg .other { fill: #8aa0b4 } svg .whisker { stroke: #222; stroke-width: 1 } svg .one { stroke: #222; stroke-dasharray: 3 3 } svg .number { fill: #555 }
</style></head><body>
<h1>Kiln: measured</h1>
<p>Bars are medians, whiskers go from the lowest to the highest run. Orange is Kiln, or a ratio of Kiln's; a ratio compares what was measured in one round, in turns on the same machine.</p>
<h2>Goals</h2>
<table><tr><th>goal</th><th>bound</th><th>measured</th><th></th></tr>
{{range .Verdicts}}<tr><td>{{.Claim}}</td><td class="w">{{.Bound}}</td><td>{{.Seen}}</td><td class="w {{.Class}}">{{.Word}}</td></tr>
{{end}}</table>
{{range .Sections}}<h2>{{.Name}}</h2>
{{range .Heads}}<p class="source"><code>{{.Command}}</code><br>{{.Head}}</p>
{{end}}{{range .Plots}}{{.}}{{end}}
<details><summary>All figures</summary><table><tr><th>run</th><th>figure</th><th>median</th><th>lowest</th><th>highest</th><th>runs</th><th>unit</th></tr>
{{range .Rows}}<tr><td>{{.Run}}</td><td>{{.Figure}}</td><td class="n">{{.Median}}</td><td class="n">{{.Low}}</td><td class="n">{{.High}}</td><td class="n">{{.Runs}}</td><td>{{.Unit}}</td></tr>
{{end}}</table></details>
{{end}}</body></html>
`))

// What the page is made of.
type (
	pageVerdict struct{ Claim, Bound, Seen, Word, Class string }
	pageHead    struct{ Command, Head string }
	pageRow     struct {
		Run, Figure, Median, Low, High, Unit string
		Runs                                 int
	}
	pageSection struct {
		Name  string
		Heads []pageHead
		Plots []template.HTML
		Rows  []pageRow
	}
)

func (s *summary) writeHTML(w io.Writer) error {
	var content struct {
		Verdicts []pageVerdict
		Sections []pageSection
	}
	for _, v := range s.judge() {
		class := strings.ReplaceAll(v.word(), "not measured", "unmeasured")
		content.Verdicts = append(content.Verdicts, pageVerdict{v.claim, v.bound(), v.seen(), v.word(), class})
	}
	for _, benchmark := range s.benchmarks() {
		content.Sections = append(content.Sections, s.section(benchmark))
	}
	return page.Execute(w, content)
}

func (s *summary) section(benchmark string) pageSection {
	section := pageSection{Name: benchmark}
	for _, r := range s.reports {
		if r.Benchmark == benchmark {
			section.Heads = append(section.Heads, pageHead{r.Command, r.head()})
		}
	}
	for _, svg := range s.plots(benchmark) {
		section.Plots = append(section.Plots, template.HTML(svg)) // barPlot escapes every text
	}
	for _, one := range s.of(benchmark, func(*series) bool { return true }) {
		low, high := spread(one.values)
		section.Rows = append(section.Rows, pageRow{one.run, one.figure, digits(one.median()), digits(low), digits(high), one.unit, len(one.values)})
	}
	return section
}
