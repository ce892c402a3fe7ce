package main

import (
	"fmt"
	"slices"
)

// goal is what a figure should be.
type goal struct {
	claim string
	seriesKey
	atLeast, atMost float64 // one of them; 0: no bound
	// every: the goal is for each figure of the run, whatever its name; the furthest from
	// the bound is told.
	every bool
}

// Names of runs that goals and the scenarios share.
const (
	importRatios  = "comparison: imports, kiln's rate to"
	exportRatios  = "comparison: exports, kiln's rate to"
	readRatios    = "comparison: reads, kiln's rate to the bare handler's"
	createRatios  = "comparison: durable creates, kiln's rate to inserts"
	createFloor   = "comparison: a lone client's median create to one fsync and 100 µs"
	searchRatios  = "comparison: PostgreSQL's median, of its fastest statement, to kiln's"
	growthRatios  = "comparison: the largest store to that of the data once"
	largestStore  = "kiln: the largest store"
	loadedRatios  = "comparison: an incremental import into a store with more, to an initial one into none"
	heldTenfold   = "10 times as much, or more"
	rateOfOne     = "one resource"
	fromCopyToGIN = "PostgreSQL's COPY and GIN index"
)

var goals = []goal{
	{claim: "import, every search parameter indexed: times the rate of COPY and one GIN index", seriesKey: seriesKey{"import", importRatios, fromCopyToGIN}, atLeast: 6},
	{claim: "the same, further", seriesKey: seriesKey{"import", importRatios, fromCopyToGIN}, atLeast: 10},
	{claim: "import: resources a second", seriesKey: seriesKey{"import", kilnRun, "resources per second"}, atLeast: 150_000},
	{claim: "import: times the rate of DuckDB's load of the lines as text", seriesKey: seriesKey{"import", importRatios, "DuckDB's load as text"}, atLeast: 1},
	{claim: "import: times the rate of DuckDB's load of the lines as JSON", seriesKey: seriesKey{"import", importRatios, "DuckDB's load as JSON"}, atLeast: 1},
	{claim: "import: peak memory, MiB", seriesKey: seriesKey{"import", kilnRun, "peak memory of the server"}, atMost: 1024},
	{claim: "disk: bytes a resource, everything included", seriesKey: seriesKey{"import", kilnRun, "all on disk"}, atMost: 200},
	{claim: "disk: the same without the ballast (a reserve of fixed size)", seriesKey: seriesKey{"import", kilnRun, "all but the ballast on disk"}, atMost: 200},
	{claim: "disk, the largest store: bytes a resource, everything included", seriesKey: seriesKey{"grow", largestStore, "all on disk"}, atMost: 200},
	{claim: "incremental import into a store with 10 times as much: part of the initial rate", seriesKey: seriesKey{"grow", loadedRatios, heldTenfold}, atLeast: 0.8},
	{claim: "export: times the rate of COPY TO", seriesKey: seriesKey{"export", exportRatios, "PostgreSQL's COPY TO"}, atLeast: 4},
	{claim: "the same, further", seriesKey: seriesKey{"export", exportRatios, "PostgreSQL's COPY TO"}, atLeast: 8},
	{claim: "export: times the rate of DuckDB's COPY TO", seriesKey: seriesKey{"export", exportRatios, "DuckDB's COPY TO"}, atLeast: 1},
	{claim: "reads, all in cache: part of a bare handler's rate with the same body", seriesKey: seriesKey{"read", readRatios, rateOfOne}, atLeast: 0.5},
	{claim: "reads, a store ten times the cache and more: 99th percentile, ms", seriesKey: seriesKey{"grow", largestStore, "99 of 100 below"}, atMost: 5},
	{claim: "durable creates, 64 clients: times the rate of inserts with GIN", seriesKey: seriesKey{"write", createRatios, "64 clients"}, atLeast: 1.5},
	{claim: "durable creates, 1 client: times one fsync and 100 µs", seriesKey: seriesKey{"write", createFloor, "by the medians"}, atMost: 1.3},
	{claim: "searches: times PostgreSQL's fastest statement, the worst row", seriesKey: seriesKey{benchmark: "search", run: searchRatios}, every: true, atLeast: 1},
	{claim: "first page of a selective search, a patient and a code: ms", seriesKey: seriesKey{"search", "patient and code: page", "kiln: median"}, atMost: 2},
	{claim: "first page of a code: ms", seriesKey: seriesKey{"search", "code: page", "kiln: median"}, atMost: 2},
	{claim: "growth: import rate of the largest store to that of the smallest", seriesKey: seriesKey{"grow", growthRatios, "import rate"}, atLeast: 0.9},
	{claim: "growth: median of reads, the largest store to the smallest", seriesKey: seriesKey{"grow", growthRatios, "median of reads"}, atMost: 1.5},
	{claim: "growth: median of a selective search, the largest store to the smallest", seriesKey: seriesKey{"grow", growthRatios, "median of selective searches"}, atMost: 1.5},
	{claim: "start after a clean stop, the largest store: s", seriesKey: seriesKey{"grow", largestStore, "start after a clean stop"}, atMost: 2},
	{claim: "start after kill -9, the largest store: s", seriesKey: seriesKey{"grow", largestStore, "start after kill -9"}, atMost: 5},
	{claim: "heap that serves reads, the largest store: MiB", seriesKey: seriesKey{"grow", largestStore, "heap of the server"}, atMost: 300},
}

// verdict is a goal and what was measured.
type verdict struct {
	goal
	measured *series // nil: nothing was
}

// judge looks each goal up.
func (s *summary) judge() (verdicts []verdict) {
	for _, g := range goals {
		v := verdict{goal: g, measured: s.find[g.seriesKey]}
		if g.every {
			v.measured = s.worst(g)
		}
		verdicts = append(verdicts, v)
	}
	return verdicts
}

// worst is the figure of the run that is furthest from the goal; nil without any.
func (s *summary) worst(g goal) *series {
	all := s.of(g.benchmark, func(one *series) bool { return one.run == g.run })
	if len(all) == 0 {
		return nil
	}
	byMedian := func(a, b *series) int {
		if g.atMost > 0 {
			a, b = b, a
		}
		switch x, y := a.median(), b.median(); {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	}
	return slices.MinFunc(all, byMedian)
}

func (v *verdict) met() bool {
	return v.measured != nil && v.measured.median() >= v.atLeast && (v.atMost == 0 || v.measured.median() <= v.atMost)
}

// word is the verdict for readers.
func (v *verdict) word() string {
	switch {
	case v.measured == nil:
		return "not measured"
	case v.met():
		return "met"
	}
	return "missed"
}

// bound is what is asked for, in words.
func (v *verdict) bound() string {
	if v.atMost > 0 {
		return fmt.Sprintf("at most %g", v.atMost)
	}
	return fmt.Sprintf("at least %g", v.atLeast)
}

// seen is what was measured, in words.
func (v *verdict) seen() string {
	if v.measured == nil {
		return ""
	}
	text := v.measured.text()
	if v.every {
		text += " (" + v.measured.figure + ")"
	}
	return text
}

// text is the median, and the spread where there is one.
func (s *series) text() string {
	if len(s.values) == 1 {
		return digits(s.values[0])
	}
	low, high := spread(s.values)
	return fmt.Sprintf("%s (%s to %s, %d runs)", digits(s.median()), digits(low), digits(high), len(s.values))
}
