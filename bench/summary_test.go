package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// madeReport has two runs of kiln's and one of another, whose name has to be escaped.
func madeReport() *report {
	r := &report{Benchmark: "import", Command: "go run ./bench import", Data: dataReport{Source: "/home/somebody/corpus", Files: 1}}
	r.Runs = []run{
		{kilnRun, []figure{{"resources per second", 100, "1/s"}, {"time", 2, "s"}}},
		{kilnRun, []figure{{"resources per second", 300, "1/s"}, {"time", 1, "s"}}},
		{"<other>", []figure{{"time", 8, "s"}}},
		{importRatios, []figure{{fromCopyToGIN, 4, "times"}}},
		{importRatios, []figure{{fromCopyToGIN, 9, "times"}}},
	}
	return r
}

func TestSummaryHasMediansAndSpreadOfAllReports(t *testing.T) {
	third := madeReport()
	third.Runs = []run{{kilnRun, []figure{{"resources per second", 110, "1/s"}}}}
	s := summarize([]*report{madeReport(), third})
	f := func(run, figure, want string) {
		t.Helper()
		found := s.find[seriesKey{"import", run, figure}]
		if found == nil || found.text() != want {
			t.Errorf("%s of %s: %+v, want %s", figure, run, found, want)
		}
	}
	f(kilnRun, "resources per second", "110 1/s (100 to 300, 3 runs)")
	f(kilnRun, "time", "1.50 s (1.00 to 2.00, 2 runs)")
	f("<other>", "time", "8.00 s")
}

func TestTimeThatWasChosenIsNoKeyFigure(t *testing.T) {
	r := madeReport()
	r.add("a load", figure{"time", 10, "s"}, figure{"requests per second", 1000, "1/s"}, figure{"slowest", 3, "ms"})
	s := summarize([]*report{r})
	f := func(run, figure string, want bool) {
		t.Helper()
		if got := s.isKey(s.find[seriesKey{"import", run, figure}]); got != want {
			t.Errorf("%s of %s: key figure %v, want %v", figure, run, got, want)
		}
	}
	f(kilnRun, "time", true)
	f("a load", "time", false)
	f("a load", "requests per second", true)
	f("a load", "slowest", false)
	f(importRatios, fromCopyToGIN, true)
}

func TestGoalsAreMetMissedOrNotMeasured(t *testing.T) {
	s := summarize([]*report{madeReport()})
	s.reports[0].add(kilnRun, figure{"peak memory of the server", 2000, "MiB"})
	s = summarize(s.reports)
	words := map[string]string{}
	for _, v := range s.judge() {
		words[v.benchmark+" "+v.figure+" "+v.bound()] = v.word()
	}
	f := func(goal, want string) {
		t.Helper()
		if words[goal] != want {
			t.Errorf("%s: %q, want %q", goal, words[goal], want)
		}
	}
	f("import "+fromCopyToGIN+" at least 6 times", "met") // the median is 6.5
	f("import "+fromCopyToGIN+" at least 10 times", "missed")
	f("import peak memory of the server at most 1024 MiB", "missed")
	f("read "+rateOfOne+" at least 0.5 times", "not measured")
}

func TestGoalOfEveryRowTellsTheWorst(t *testing.T) {
	r := &report{Benchmark: "search", Runs: []run{{searchRatios, []figure{{"a row", 3, "times"}, {"the worst row", 0.5, "times"}, {"another", 2, "times"}}}}}
	for _, v := range summarize([]*report{r}).judge() {
		if v.every && (v.word() != "missed" || v.seen() != "0.500 times: the worst row") {
			t.Errorf("%s: %s, %s", v.claim, v.word(), v.seen())
		}
	}
}

func TestReportsTellNoPlacesOfThisMachine(t *testing.T) {
	f := func(want string, arguments ...string) {
		t.Helper()
		if got := commandLine(arguments); got != want {
			t.Errorf("%q became %q, want %q", arguments, got, want)
		}
	}
	f("go run ./bench import --data DIR --runs 5", "import", "--data", "/home/x", "--runs", "5", "--json", "/tmp/x")
	f("go run ./bench import --data DIR --runs 5", "import", "--json=/tmp/x", "--data=/home/x", "--runs", "5")
}

func TestReportIsWrittenFromFiles(t *testing.T) {
	dir := t.TempDir()
	path, markdown, page := filepath.Join(dir, "a.json"), filepath.Join(dir, "a.md"), filepath.Join(dir, "a.html")
	if err := madeReport().save(path); err != nil {
		t.Fatal(err)
	}
	c := reportCommand{Files: []string{path}, Markdown: markdown, HTML: page}
	if err := c.Run(); err != nil {
		t.Fatal(err)
	}
	f := func(path, what string, there bool) {
		t.Helper()
		text, err := os.ReadFile(path)
		if err != nil || strings.Contains(string(text), what) != there {
			t.Errorf("%s: %q is there: not %v (%v)", path, what, there, err)
		}
	}
	f(markdown, "| <other> | time | 8.00 | 8.00 | 8.00 | s | 1 |", true)
	f(markdown, "NDJSON files in corpus", true)
	f(markdown, "/home", false)
	f(page, "&lt;other&gt;", true)
	f(page, "<other>", false)
	f(page, "/home", false)
	f(page, "<svg", true)
	f(page, "src=", false)
	c.Files = []string{markdown}
	if err := c.Run(); err == nil {
		t.Error("a file that is no report was taken")
	}
}

func TestFiguresAreShownAsTheirUnitsAsk(t *testing.T) {
	f := func(v float64, unit, want string) {
		t.Helper()
		if got := shown(v, unit); got != want {
			t.Errorf("%v %s is shown as %q, want %q", v, unit, got, want)
		}
	}
	f(0, "s", "0")
	f(0.0123456, "s", "0.0123")
	f(0.99951, "times", "1.00")
	f(9.915, "times", "9.91")
	f(99.99, "ms", "100")
	f(1234, "MB", "1234")
	f(262807.4, "resources/s", "262,807")
	f(46, "files", "46")
	f(346, "lines", "346")
	f(1000000, "lines", "1,000,000")
	if got := amount(1234567.5, "s"); got != "1,234,567.5 s" {
		t.Errorf("amount %q", got)
	}
}

func TestScalesOfPlots(t *testing.T) {
	ratio := ratioScale([]bar{{value: 4, low: 0.25, top: 4}})
	if double, half := ratio(2)-ratio(1), ratio(1)-ratio(0.5); double-half > 0.01 || half-double > 0.01 || ratio(0.25) <= 0 || ratio(4) != plotWidth-plotRight {
		t.Errorf("double is %v from 1, half %v, the least at %v, the most at %v", double, half, ratio(0.25), ratio(4))
	}
	linear := linearScale([]bar{{value: 10, top: 20}})
	if linear(0) != 0 || linear(20) != plotWidth-plotRight || linear(10)*2 != linear(20) {
		t.Errorf("0, 10 and 20 are at %v, %v and %v", linear(0), linear(10), linear(20))
	}
	if got := linearScale([]bar{{}})(0); got != 0 {
		t.Errorf("nothing is at %v", got)
	}
}
