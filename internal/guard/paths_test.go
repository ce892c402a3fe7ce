package guard

import (
	"bytes"
	"testing"

	"kiln/bench/synth"
	"kiln/fhir"
	"kiln/fhir/structure"
	"kiln/index"
)

// hotPath is a piece of work that is done for every resource or request.
type hotPath struct {
	name string
	// open makes what the work needs; one call of the work is ops operations.
	open func(tb testing.TB) (work func())
	ops  int
	// times is how often the work is done to measure its allocations once.
	times int
	// slack is the share by which allocations and bytes may rise: 0 where they repeat
	// exactly, more where goroutines share the work.
	slack float64
	// Instructions are counted of countFrom and of countFrom + countTimes works.
	countFrom, countTimes int
	// instructionSlack is the share by which they may rise, some times what one count
	// was seen to differ from the next: the runtime does its own work beside.
	instructionSlack float64
}

// hotPaths, in the order of a resource's life.
var hotPaths = []hotPath{
	{name: "scan", open: openScan, ops: sampleLines, times: 3, countFrom: 1, countTimes: 20, instructionSlack: 0.02},
	{name: "scan-terms", open: openScanTerms, ops: sampleLines, times: 3, countFrom: 1, countTimes: 20, instructionSlack: 0.02},
	{name: "check-structure", open: openCheck, ops: sampleLines, times: 3, countFrom: 1, countTimes: 20, instructionSlack: 0.02},
	{name: "build-terms", open: openBuildTerms, ops: sampleLines, times: 3, countFrom: 1, countTimes: 20, instructionSlack: 0.02},
	{name: "build-bodies", open: openBuildBodies, ops: sampleLines, times: 3, countFrom: 1, countTimes: 10, instructionSlack: 0.02},
	{name: "lookup-key", open: openLookup, ops: sampleLines, times: 3, countFrom: 1, countTimes: 40, instructionSlack: 0.02},
	{name: "lookup-ascending", open: openLookupAscending, ops: sampleLines, times: 3, countFrom: 1, countTimes: 80, instructionSlack: 0.02},
	{name: "read-body", open: openReadBody, ops: sampleLines, times: 3, countFrom: 1, countTimes: 300, instructionSlack: 0.03},
	{name: "splice", open: openSplice, ops: sampleLines, times: 3, countFrom: 1, countTimes: 300, instructionSlack: 0.02},
	{name: "count-and", open: openCountAnd, ops: 1, times: 20, countFrom: 20, countTimes: 1500, instructionSlack: 0.03},
	{name: "count-or", open: openCountOr, ops: 1, times: 20, countFrom: 20, countTimes: 1500, instructionSlack: 0.03},
	{name: "get", open: openGet, ops: storeRows, times: 1, countFrom: 1, countTimes: 4, instructionSlack: 0.02},
	{name: "commit", open: openCommit, ops: commitsOnce, times: 1, slack: 0.02, countFrom: 1, countTimes: 40, instructionSlack: 0.03},
	{name: "http-read", open: openHTTPRead, ops: readsOnce, times: 2, slack: 0.02, countFrom: 1, countTimes: 60, instructionSlack: 0.03},
	{name: "import", open: openImport, ops: sampleLines, times: 2, slack: 0.05, countFrom: 1, countTimes: 10, instructionSlack: 0.03},
	{name: "export", open: openExport, ops: storeRows, times: 2, slack: 0.05, countFrom: 1, countTimes: 10, instructionSlack: 0.03},
}

// sampleLines is how many resources the sample has.
const sampleLines = 400

// sample is resources of all types in the shares that a patient has of them, in
// the same order and bytes every time.
func sample(tb testing.TB) (lines [][]byte) {
	tb.Helper()
	all := [][]byte{}
	_, err := synth.Generate(synth.Options{Seed: 9, Patients: 2, First: 1}, func(_ string, line []byte) error {
		all = append(all, bytes.Clone(line))
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	if len(all) < sampleLines {
		tb.Fatalf("there are only %d resources", len(all))
	}
	for i := range sampleLines {
		lines = append(lines, all[i*len(all)/sampleLines])
	}
	return lines
}

// scanned is a resource with its terms, and memory of its own.
type scanned struct {
	fhir.Resource
	terms []term
}

type term struct {
	field index.Param
	value []byte
}

func (s *scanned) AddTerm(p index.Param, value []byte) {
	s.terms = append(s.terms, term{p, bytes.Clone(value)})
}

// scanSample scans the sample with its terms.
func scanSample(tb testing.TB) (all []scanned) {
	tb.Helper()
	extractor := newExtractor(tb)
	for _, line := range sample(tb) {
		s := scanned{}
		extractor.Reset(&s)
		resource := must(extractor.Scan(line))(tb)
		s.Resource = *resource
		s.ID, s.Body = bytes.Clone(resource.ID), bytes.Clone(resource.Body)
		all = append(all, s)
	}
	return all
}

func newExtractor(tb testing.TB) *index.Extractor {
	return must(index.LoadExtraction())(tb).NewExtractor(noTerms{})
}

// noTerms is a sink that keeps nothing.
type noTerms struct{}

func (noTerms) AddTerm(index.Param, []byte) {}

// must gives v, or ends the test. Only for what is not measured: it allocates.
func must[T any](v T, err error) func(tb testing.TB) T {
	return func(tb testing.TB) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

func openScan(tb testing.TB) func() {
	lines, scanner := sample(tb), fhir.NewScanner(fhir.ScannerOptions{})
	return func() {
		for _, line := range lines {
			if _, err := scanner.Scan(line, nil); err != nil {
				tb.Fatal(err)
			}
		}
	}
}

func openScanTerms(tb testing.TB) func() {
	lines, extractor := sample(tb), newExtractor(tb)
	return func() {
		for _, line := range lines {
			if _, err := extractor.Scan(line); err != nil {
				tb.Fatal(err)
			}
		}
	}
}

func openCheck(tb testing.TB) func() {
	lines, checker := sample(tb), structure.NewChecker()
	return func() {
		for _, line := range lines {
			if issues := checker.Check(line); structure.Refused(issues) {
				tb.Fatalf("%v: %s", issues, line)
			}
		}
	}
}
