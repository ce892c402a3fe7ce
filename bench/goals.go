package main

import (
	"fmt"
	"slices"
	"strconv"
)

// goal is what a figure should be.
type goal struct {
	claim string
	seriesKey
	atLeast, atMost float64 // one of them, or none: told beside the others
	unit            string  // of the bound and of what is measured
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
	calmRun       = "kiln: 1,000 reads a second at random, the largest store"
	loadedRatios  = "comparison: an incremental import into a store with more, to an initial one into none"
	heldTenfold   = "10 times as much, or more"
	rateCached    = "any resource, all in cache"
	rateOfOne     = "one resource"
	fromCopyToGIN = "PostgreSQL's COPY and GIN index"
)

var goals = []goal{
	{claim: "import with every search parameter indexed, to COPY and one GIN index: rate", seriesKey: seriesKey{"import", importRatios, fromCopyToGIN}, atLeast: 6, unit: "times"},
	{claim: "the same, further", seriesKey: seriesKey{"import", importRatios, fromCopyToGIN}, atLeast: 10, unit: "times"},
	{claim: "import", seriesKey: seriesKey{"import", kilnRun, "resources per second"}, atLeast: 150_000, unit: perSecond("resources")},
	{claim: "import, to DuckDB's raw load (the lines as text, no index): rate", seriesKey: seriesKey{"import", importRatios, "DuckDB's load as text"}, atLeast: 1, unit: "times"},
	{claim: "import, to DuckDB's load of the lines as JSON (no index): rate", seriesKey: seriesKey{"import", importRatios, "DuckDB's load as JSON"}, unit: "times"},
	{claim: "import: peak memory of the server", seriesKey: seriesKey{"import", kilnRun, "peak memory of the server"}, atMost: 1024, unit: "MiB"},
	{claim: "incremental import into a store with 10 times as much, to an initial one into none: rate", seriesKey: seriesKey{"grow", loadedRatios, heldTenfold}, atLeast: 0.8, unit: "times"},
	{claim: "disk, the data once: everything, the ballast and the reserved log included", seriesKey: seriesKey{"import", kilnRun, "all on disk"}, atMost: 200, unit: "bytes a resource"},
	{claim: "disk, the data once: all but ballast and log", seriesKey: seriesKey{"import", kilnRun, "all but the ballast and the log on disk"}, unit: "bytes a resource"},
	{claim: "disk, the largest store: everything included", seriesKey: seriesKey{"grow", largestStore, "all on disk"}, atMost: 200, unit: "bytes a resource"},
	{claim: "export, to COPY TO: rate", seriesKey: seriesKey{"export", exportRatios, "PostgreSQL's COPY TO"}, atLeast: 4, unit: "times"},
	{claim: "the same, further", seriesKey: seriesKey{"export", exportRatios, "PostgreSQL's COPY TO"}, atLeast: 8, unit: "times"},
	{claim: "export (synced), to DuckDB's COPY TO (not synced): rate", seriesKey: seriesKey{"export", exportRatios, "DuckDB's COPY TO"}, atLeast: 1, unit: "times"},
	{claim: "export (synced), to DuckDB's COPY TO and a sync: rate", seriesKey: seriesKey{"export", exportRatios, "DuckDB's COPY TO and a sync"}, unit: "times"},
	{claim: "reads at random, all in cache, to a bare handler with one body: rate", seriesKey: seriesKey{"read", readRatios, rateCached}, atLeast: 0.5, unit: "times"},
	{claim: "reads of one resource, all in cache, to a bare handler with the same body: rate", seriesKey: seriesKey{"read", readRatios, rateOfOne}, atLeast: 0.5, unit: "times"},
	{claim: "1,000 reads a second at random, a store of more than ten times the cache: 99 of 100 below", seriesKey: seriesKey{"grow", calmRun, "99 of 100 below"}, atMost: 5, unit: "ms"},
	{claim: "the same with 16 clients that ask as fast as they can", seriesKey: seriesKey{"grow", largestStore, "99 of 100 below"}, atMost: 5, unit: "ms"},
	{claim: "durable creates, 64 clients, to inserts into PostgreSQL with a GIN index: rate", seriesKey: seriesKey{"write", createRatios, "64 clients"}, atLeast: 1.5, unit: "times"},
	{claim: "durable creates, 1 client, to one bare sync and 100 µs: median time", seriesKey: seriesKey{"write", createFloor, "by the medians"}, atMost: 1.3, unit: "times"},
	{claim: "searches, to PostgreSQL's fastest statement: rate, the worst row", seriesKey: seriesKey{benchmark: "search", run: searchRatios}, every: true, atLeast: 1, unit: "times"},
	{claim: "first page of a selective search (a patient and a code): median", seriesKey: seriesKey{"search", "patient and code: page", "kiln: median"}, atMost: 2, unit: "ms"},
	{claim: "first page of a search for a code: median", seriesKey: seriesKey{"search", "code: page", "kiln: median"}, atMost: 2, unit: "ms"},
	{claim: "growth: import rate of the largest store to that of the smallest", seriesKey: seriesKey{"grow", growthRatios, "import rate"}, atLeast: 0.9, unit: "times"},
	{claim: "growth: median time of reads, the largest store to the smallest", seriesKey: seriesKey{"grow", growthRatios, "median of reads"}, atMost: 1.5, unit: "times"},
	{claim: "growth: median time of a selective search, the largest store to the smallest", seriesKey: seriesKey{"grow", growthRatios, "median of selective searches"}, atMost: 1.5, unit: "times"},
	{claim: "start after a clean stop, the largest store", seriesKey: seriesKey{"grow", largestStore, "start after a clean stop"}, atMost: 2, unit: "s"},
	{claim: "start after kill -9, the largest store", seriesKey: seriesKey{"grow", largestStore, "start after kill -9"}, atMost: 5, unit: "s"},
	{claim: "heap that serves reads, the largest store", seriesKey: seriesKey{"grow", largestStore, "heap of the server"}, atMost: 300, unit: "MiB"},
	{claim: "resources in the largest store", seriesKey: seriesKey{"grow", largestStore, "resources"}, atLeast: 4_000_000, unit: "resources"},
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
	case v.atLeast == 0 && v.atMost == 0:
		return "" // no goal
	case v.met():
		return "met"
	}
	return "missed"
}

// bound is what is asked for, in words.
func (v *verdict) bound() string {
	switch {
	case v.atMost > 0:
		return "at most " + amount(v.atMost, v.unit)
	case v.atLeast > 0:
		return "at least " + amount(v.atLeast, v.unit)
	}
	return "no goal"
}

// seen is what was measured, in words.
func (v *verdict) seen() string {
	if v.measured == nil {
		return ""
	}
	text := v.measured.text()
	if v.every {
		text += ": " + v.measured.figure
	}
	return text
}

// text is the median with its unit, and the spread where there is one.
func (s *series) text() string {
	if len(s.values) == 1 {
		return s.shown(s.values[0]) + " " + s.unit
	}
	low, high := spread(s.values)
	return fmt.Sprintf("%s %s (%s to %s, %d runs)", s.shown(s.median()), s.unit, s.shown(low), s.shown(high), len(s.values))
}

// amount is a bound with its unit.
func amount(value float64, unit string) string {
	return grouped(strconv.FormatFloat(value, 'f', -1, 64)) + " " + unit
}
