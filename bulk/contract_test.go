package bulk

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"kiln/engine"
	"kiln/fhir"
)

// contractWay is how a row's lines arrive.
type contractWay uint8

const (
	wayOne contractWay = iota
	wayFiles
	wayJobs
	contractWays
)

func (w contractWay) String() string {
	return [contractWays]string{"one file", "a file for each line", "a job for each line"}[w]
}

// outcome is what a row comes to in a way.
func (row *contractRow) outcome(way contractWay) *contractOutcome {
	files := cmp.Or(row.files, row.one)
	return [contractWays]*contractOutcome{row.one, files, cmp.Or(row.jobs, files)}[way]
}

// Every row of the table, in each way that its lines can arrive, and once more
// after a restart.
func TestImportContract(t *testing.T) {
	for i := range contractRows {
		row := &contractRows[i]
		for way := range contractWays {
			want := row.outcome(way)
			if want == noWay || row.raw != nil && way == wayFiles {
				continue // files that are given as bytes are not taken apart
			}
			t.Run(row.row+"/"+strings.ReplaceAll(way.String(), " ", "-"), func(t *testing.T) {
				t.Parallel()
				r := &contractRun{testSite: newFrozenSite(t), row: row, way: way}
				r.check(want)
			})
		}
	}
}

func TestImportContractHasAllRows(t *testing.T) {
	have := map[string]bool{}
	for _, row := range contractRows {
		have[row.row] = true
		if row.why == "" && (row.files != nil || row.jobs != nil) {
			t.Errorf("row %s does not say why its ways differ", row.row)
		}
	}
	for n := 1; n <= 77; n++ {
		if !have[strconv.Itoa(n)] {
			t.Errorf("row %d is missing", n)
		}
	}
	if !have["62b"] || len(have) != 78 {
		t.Errorf("the table has %d rows", len(have))
	}
}

// contractRun is one row in one way.
type contractRun struct {
	*testSite
	row    *contractRow
	way    contractWay
	placed []placedLine
	jobsOf []*ImportStatus
}

// placedLine says where a line of the row lies.
type placedLine struct {
	job, input int
	line       int // of those in the input that are not empty
	offset     int
	id         string
}

// newFrozenSite has a clock that stands still.
func newFrozenSite(t *testing.T) *testSite {
	t.Helper()
	s := makeTestSite(t)
	s.frozen = true
	s.open()
	t.Cleanup(s.close)
	return s
}

func (r *contractRun) check(want *contractOutcome) {
	r.t.Helper()
	r.clock.Store(contractBefore.UnixMilli())
	for i, line := range r.row.before {
		r.prepare(i, line)
	}
	r.clock.Store(contractNow.UnixMilli())
	for job, inputs := range r.inputs() {
		r.runJob(job, inputs)
	}
	r.checkJobs(want)
	history := parseHistory(r.t, want.history)
	r.checkHistory("", history)
	r.close()
	r.open()
	r.checkHistory("after a restart ", history)
}

// prepare does one step of what was before.
func (r *contractRun) prepare(number int, step string) {
	r.t.Helper()
	if id, ok := strings.CutPrefix(step, "api delete "); ok {
		r.commit(engine.Change{Type: fhir.TypeByName([]byte("Patient")), ID: []byte(id), Delete: true})
		return
	}
	if line, ok := strings.CutPrefix(step, "api "); ok {
		r.commit(apiChange(r.t, expandLine(r.t, line)))
		return
	}
	url := r.file(fmt.Sprintf("before%d.ndjson", number), expandLine(r.t, step))
	if got := testCounts(r.importAs(&ImportRequest{InputSource: "before", Inputs: []ImportInput{{URL: url}}})); got != "1/0" {
		r.t.Fatalf("before, line %s is %s", step, got)
	}
}

func (s *testSite) commit(changes ...engine.Change) {
	s.t.Helper()
	if _, err := s.store.Commit(context.Background(), changes); err != nil {
		s.t.Fatal(err)
	}
}

// apiChange writes a resource as the API does.
func apiChange(t *testing.T, resource string) engine.Change {
	t.Helper()
	r, err := fhir.NewScanner(fhir.ScannerOptions{}).Scan([]byte(resource), nil)
	if err != nil {
		t.Fatal(err)
	}
	return engine.Change{Type: r.Type, ID: slices.Clone(r.ID), IDAt: r.IDAt, Body: slices.Clone(r.Body), Splice: r.Splice}
}

// importAs runs an import to its end, well or not.
func (s *testSite) importAs(request *ImportRequest) *ImportStatus {
	s.t.Helper()
	request.URL = "http://host/$import"
	id, err := s.jobs.StartImport(context.Background(), request)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.wait(id)
}

// inputs are the texts of the files of each job.
func (r *contractRun) inputs() (jobs [][]string) {
	r.t.Helper()
	texts := r.row.raw
	if texts == nil {
		for _, line := range r.row.lines {
			texts = append(texts, expandLine(r.t, line))
		}
		if r.way == wayOne {
			texts = []string{strings.Join(texts, "\n")}
		}
	}
	jobs = [][]string{texts}
	if r.way == wayJobs {
		jobs = nil
		for _, text := range texts {
			jobs = append(jobs, []string{text})
		}
	}
	for job, inputs := range jobs {
		for input, text := range inputs {
			r.place(job, input, text)
		}
	}
	return jobs
}

// place notes where the lines of an input lie.
func (r *contractRun) place(job, input int, text string) {
	offset, line := 0, 0
	for part := range strings.SplitSeq(text, "\n") {
		if strings.TrimSuffix(part, "\r") != "" {
			line++
			id := ""
			if _, rest, ok := strings.Cut(part, `"id":"`); ok {
				id, _, _ = strings.Cut(rest, `"`)
			}
			r.placed = append(r.placed, placedLine{job: job, input: input, line: line, offset: offset, id: id})
		}
		offset += len(part) + 1
	}
}

func (r *contractRun) runJob(job int, inputs []string) {
	r.t.Helper()
	request := &ImportRequest{
		InputSource: strconv.Itoa(job), Mode: r.row.mode, AllowNegativeVersions: r.row.negative, UnitBytes: r.row.unit,
	}
	for i, text := range inputs {
		request.Inputs = append(request.Inputs, ImportInput{URL: r.file(fmt.Sprintf("%d-%d.ndjson", job, i), text), Type: r.row.typ})
	}
	request.Inputs[len(inputs)-1].Etag = r.row.etag
	r.jobsOf = append(r.jobsOf, r.importAs(request))
}

// checkJobs compares the jobs' states, counts and error files.
func (r *contractRun) checkJobs(want *contractOutcome) {
	r.t.Helper()
	loaded, refused := int64(0), int64(0)
	texts := map[placedLine]string{}
	for job, status := range r.jobsOf {
		r.checkState(status, want)
		for i, in := range status.Inputs {
			loaded, refused = loaded+in.Loaded, refused+in.Refused
			if in.Type != r.row.typ {
				r.t.Errorf("the output's type is %q", in.Type)
			}
			got := r.errorTexts(status, i)
			for _, p := range r.placed {
				if p.job == job && p.input == i {
					texts[p] = ""
				}
			}
			if len(got) != int(in.Refused) {
				r.t.Errorf("input %d has %d refused lines and the error file %q", i, in.Refused, got)
			}
			r.fileTexts(texts, job, i, got)
		}
	}
	if got := fmt.Sprintf("%d/%d", loaded, refused); got != want.counts {
		r.t.Errorf("ok/err is %s, want %s", got, want.counts)
	}
	if want.failed == "" && int(loaded+refused) != len(r.placed) {
		r.t.Errorf("%d lines are counted of %d", loaded+refused, len(r.placed))
	}
	r.checkTexts(texts, want)
}

func (r *contractRun) checkState(status *ImportStatus, want *contractOutcome) {
	r.t.Helper()
	if want.failed == "" {
		if status.State != Completed || status.Error != nil {
			r.t.Errorf("the job ends as %d: %+v", status.State, status.Error)
		}
		return
	}
	text := strings.ReplaceAll(want.failed, "{url}", status.Inputs[len(status.Inputs)-1].URL)
	if status.State != Failed || status.Error == nil || status.Error.Status != 400 || status.Error.Text != text {
		r.t.Errorf("the job ends as %d: %+v, want 400 %q", status.State, status.Error, text)
	}
}

// fileTexts sorts the lines of an error file to the lines that they are about.
func (r *contractRun) fileTexts(texts map[placedLine]string, job, input int, got []string) {
	r.t.Helper()
	for _, text := range got {
		text, where, _ := strings.Cut(text, " | ")
		found := false
		for _, p := range r.placed {
			if p.job == job && p.input == input && where == fmt.Sprintf("Failed to process resource at line: %d with stream start offset: %d", p.line, p.offset) {
				found, texts[p] = true, text
			}
		}
		if !found {
			r.t.Errorf("the error %q is about no line: %q", text, where)
		}
	}
}

// checkTexts compares what became of each line.
func (r *contractRun) checkTexts(texts map[placedLine]string, want *contractOutcome) {
	r.t.Helper()
	expected := map[int]string{}
	for _, text := range want.refused {
		number, text, _ := strings.Cut(text, ":")
		n, err := strconv.Atoi(number)
		if err != nil || n > len(r.placed) {
			r.t.Fatalf("bad refusal %q", number)
		}
		expected[n-1] = text
	}
	for n, p := range r.placed {
		code, full := "", ""
		if text, ok := expected[n]; ok {
			code, full = expandRefusal(text, p.id, p.line)
			code += ": "
		}
		begin, open := strings.CutSuffix(code+full, "...")
		if got := texts[p]; got != begin && (!open || !strings.HasPrefix(got, begin)) {
			r.t.Errorf("line %d is refused as %q, want %q", n+1, got, code+full)
		}
	}
}

func (r *contractRun) checkHistory(when string, want contractHistory) {
	r.t.Helper()
	got := r.readHistory(r.t)
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if !slices.Equal(got[key], want[key]) {
			r.t.Errorf("%s%s has %q, want %q", when, key, got[key], want[key])
		}
		delete(got, key)
	}
	if len(got) > 0 {
		r.t.Errorf("%sthere is also %q", when, got)
	}
	if r.row.holds == "" {
		return
	}
	for key := range want {
		r.checkHolds(key)
	}
}

// checkHolds looks for what a resource must have kept.
func (r *contractRun) checkHolds(key string) {
	r.t.Helper()
	snap, err := r.store.Snapshot()
	if err != nil {
		r.t.Fatal(err)
	}
	defer snap.Release()
	typ, id := contractType(r.t, key)
	v, err := snap.Get(typ, id)
	if err != nil || !strings.Contains(string(v.AppendJSON(nil)), r.row.holds) {
		r.t.Errorf("%s is %s, %v, want %s in it", key, v.AppendJSON(nil), err, r.row.holds)
	}
}
