package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
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

// data is what was measured with, in one line.
func (r *report) data() string {
	return fmt.Sprintf("%s: %s, %s resources, %.1f MB", r.source(), counted(r.Data.Files, "file"), grouped(strconv.FormatInt(r.Data.Resources, 10)), float64(r.Data.Bytes)/1e6)
}

// place is what several reports may share: the machine, the commit and the data.
func (r *report) place() string {
	return fmt.Sprintf("Commit %s. %s. Data: %s.", r.Commit, r.Machine.text(), r.data())
}

// when tells when a report was made, and beside how much.
func (r *report) when() string {
	return fmt.Sprintf("%s, load of the machine before: %s", r.Time.Format("2006-01-02 15:04 UTC"), digits(r.LoadBefore))
}

// places lists the machines, commits and data of the reports, most often one.
func (s *summary) places() (all []string) {
	for _, r := range s.reports {
		if !slices.Contains(all, r.place()) {
			all = append(all, r.place())
		}
	}
	return all
}

// head is what a reader has to know of one of the reports.
func (s *summary) head(r *report) string {
	if len(s.places()) == 1 {
		return r.when()
	}
	return r.when() + ". " + r.place()
}

// How figures came about, for every report.
const aboutFigures = "Each figure is the median of its runs, with the lowest and the highest. A ratio compares what was measured in one round, in turns on the same machine. " +
	"On other machines and with other data ratios differ; a load before a bench that is far above 0 spoils the figures on the clock, and the ratios less."

// aboutPublished stands above the figures of others.
const aboutPublished = "The best figures that others have published for FHIR servers, beside those here that are most like them. They were measured on other machines, with other data and other clients, " +
	"so they only tell the order of magnitude."

// markdownHead says what the file is.
const markdownHead = `# Results

Written by ` + "`go run ./bench report`" + ` from what the benches wrote (` + "`make bench-full`" + `); figures that are typed here are lost with the next run.
` + aboutFigures + "\n"

func (s *summary) writeMarkdown(w io.Writer) error {
	var text strings.Builder
	text.WriteString(markdownHead)
	for _, place := range s.places() {
		fmt.Fprintf(&text, "\n%s\n", place)
	}
	text.WriteString("\n## Goals\n\n| goal | bound | measured | |\n|---|---|---|---|\n")
	for _, v := range s.judge() {
		fmt.Fprintf(&text, "| %s | %s | %s | %s |\n", v.claim, v.bound(), v.seen(), v.word())
	}
	text.WriteString("\n## Beside published figures\n\n" + aboutPublished + "\n\n| what | published | by, on | here | here to it |\n|---|---|---|---|---|\n")
	for _, p := range s.besidePublished() {
		fmt.Fprintf(&text, "| %s | %s | %s | %s | %s |\n", p.what, p.published(), p.by, p.seen(), p.ratio())
	}
	for _, benchmark := range s.benchmarks() {
		s.writeBenchmark(&text, benchmark)
	}
	_, err := io.WriteString(w, text.String())
	return err
}

// writeBenchmark writes how one was run, its comparisons, and its key figures.
func (s *summary) writeBenchmark(text *strings.Builder, benchmark string) {
	fmt.Fprintf(text, "\n## %s\n\n%s\n\n", benchmark, benchNotes[benchmark])
	for _, r := range s.reports {
		if r.Benchmark == benchmark {
			fmt.Fprintf(text, "`%s`\n(%s)\n\n", r.Command, s.head(r))
		}
	}
	s.writeTable(text, "compared", s.of(benchmark, (*series).isComparison))
	s.writeTable(text, "run", s.of(benchmark, func(one *series) bool { return s.isKey(one) && !one.isComparison() }))
}

// writeTable writes figures of runs; a run's name stands before the first of them.
func (s *summary) writeTable(text *strings.Builder, heading string, all []*series) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintf(text, "| %s | figure | median | lowest | highest | unit | runs |\n|---|---|--:|--:|--:|---|--:|\n", heading)
	before := ""
	for _, one := range all {
		name := strings.TrimPrefix(one.run, comparison)
		if one.run == before {
			name = ""
		}
		before = one.run
		low, high := spread(one.values)
		fmt.Fprintf(text, "| %s | %s | %s | %s | %s | %s | %d |\n", name, one.figure, one.shown(one.median()), one.shown(low), one.shown(high), one.unit, len(one.values))
	}
	text.WriteString("\n")
}
