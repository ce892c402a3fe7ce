package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
)

// seriesKey names a figure of runs that have one name.
type seriesKey struct{ benchmark, run, figure string }

// series is a figure with its values in all runs of one name, at least one.
type series struct {
	seriesKey
	unit   string
	values []float64
}

func (s *series) median() float64 { return median(s.values) }

func (s *series) shown(v float64) string { return shown(v, s.unit) }

// summary is what reports say together. Reports of one benchmark are more runs of it.
type summary struct {
	reports []*report
	series  []*series // in the order in which they came
	find    map[seriesKey]*series
}

// readReports reads what benches wrote with --json.
func readReports(paths []string) (reports []*report, err error) {
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		r := &report{}
		if err := json.Unmarshal(text, r); err != nil {
			return nil, fmt.Errorf("cannot read the report %q: %w", path, err)
		}
		if r.Benchmark == "" || len(r.Runs) == 0 {
			return nil, fmt.Errorf("cannot use %q: it is no report of a bench", path)
		}
		reports = append(reports, r)
	}
	return reports, nil
}

func summarize(reports []*report) *summary {
	s := &summary{reports: reports, find: map[seriesKey]*series{}}
	for _, r := range reports {
		for _, run := range r.Runs {
			for _, f := range run.Figures {
				s.add(seriesKey{r.Benchmark, run.Name, f.Name}, f)
			}
		}
	}
	return s
}

func (s *summary) add(key seriesKey, f figure) {
	if s.find[key] == nil {
		s.find[key] = &series{seriesKey: key, unit: f.Unit}
		s.series = append(s.series, s.find[key])
	}
	s.find[key].values = append(s.find[key].values, f.Value)
}

// benchmarks lists them in the order in which they came.
func (s *summary) benchmarks() (names []string) {
	for _, r := range s.reports {
		if !slices.Contains(names, r.Benchmark) {
			names = append(names, r.Benchmark)
		}
	}
	return names
}

// of lists what a benchmark has, as far as keep says so.
func (s *summary) of(benchmark string, keep func(*series) bool) (found []*series) {
	for _, one := range s.series {
		if one.benchmark == benchmark && keep(one) {
			found = append(found, one)
		}
	}
	return found
}

// keyFigures are those that a reader looks for first, of every kind of run.
var keyFigures = []string{
	"time", "resources per second", "requests per second", "processor time", processorTime, "processor time a resource", copyAndGIN,
	"median latency", "99 of 100 below", hitsCounted, "pages per second", copyAndSync, processorOfRequest, "kiln: median", "PostgreSQL, b-tree: median", "DuckDB: median",
	"initial import", "incremental import, all new", "the same once more", "a new version of each",
	"median latency of searches", "start after a clean stop", "start after kill -9",
	"peak memory of the server", "heap of the server", "resident memory of the server", "all on disk",
	"all but the ballast on disk", "all but the ballast and the log on disk", "runs on disk", "on disk", "table on disk", "GIN index on disk",
}

// comparison begins the names of runs that are comparisons.
const comparison = "comparison: "

// isComparison tells whether a series is a ratio, or another thing that is compared.
func (s *series) isComparison() bool { return strings.HasPrefix(s.run, comparison) }

// isKey tells whether a reader looks for it first. How long clients sent requests was
// chosen, and is none.
func (s *summary) isKey(one *series) bool {
	chosen := one.figure == "time" && s.find[seriesKey{one.benchmark, one.run, "requests per second"}] != nil
	return one.isComparison() || slices.Contains(keyFigures, one.figure) && !chosen
}
