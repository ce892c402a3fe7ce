package bulk

import (
	"slices"
	"strings"
	"testing"

	"kiln/fhir/structure"
)

func TestMisbuiltLinesAreRefusedWhenAsked(t *testing.T) {
	f := func(rest, want string) {
		t.Helper()
		line := patient("a", rest)
		for _, on := range []bool{false, true} {
			w := testScanner(t, InitialLoad, "")
			if on {
				w.checker = structure.NewChecker()
			}
			_, refusals := testLines(t, w, line+"\n")
			if on && refusals != want || !on && refusals != "" {
				t.Errorf("checked %v: %s gives %q, want %q", on, line, refusals, want)
			}
		}
	}
	f(`,"active":true,"meta":{"versionId":"1","lastUpdated":"2020-01-01T00:00:00Z"}`, "")
	f(`,"active":1`, "1@0 structure: Patient.active: Expected a boolean (true or false, without quotes), found a number.\n")
	f(`,"birthDate":"x"`, "1@0 value: Patient.birthDate: \"x\" is not a date (YYYY, YYYY-MM or YYYY-MM-DD).\n")
	f(`,"link":[{"type":"seealso"}]`, "1@0 required: Patient.link[0].other: The element 'other' is missing; Patient.link must have it.\n")
	f(`,"a":1,"b":2,"c":3,"d":4`, `1@0 structure: Patient.a: Unknown element "a": Patient has none of that name. `+
		`Patient.b: Unknown element "b": Patient has none of that name. Patient.c: Unknown element "c": Patient has none of that name. There are more issues.`+"\n")
	f(`,"active":1,"meta":{"extension":[{"url":"http://azurehealthcareapis.com/data-extensions/deleted-state","valueString":"soft-deleted"}]}`, "")
}

func TestWarningsDoNotRefuseALine(t *testing.T) {
	w := testScanner(t, InitialLoad, "")
	w.checker = structure.NewChecker()
	rows, refusals := testLines(t, w, `{"resourceType":"Questionnaire","id":"q","status":"draft","item":[{"type":"display"}]}`+"\n")
	if refusals != "" || !strings.HasPrefix(rows, "1@0 ") {
		t.Errorf("got rows %q, refusals %q", rows, refusals)
	}
}

func TestImportChecksStructureWhenTheServerSaysSo(t *testing.T) {
	s := newTestSite(t)
	input := s.file("1.ndjson", patient("a", `,"active":1`), patient("b", ""))
	if got := s.imports(InitialLoad, 0, input); got != "2/0" {
		t.Errorf("without the check: %s", got)
	}
	s.jobs.opts.ValidateStructure = true
	s.restartJobs()
	status := s.wait(s.start(IncrementalLoad, 0, input))
	want := []string{`structure: Patient.active: Expected a boolean (true or false, without quotes), found a number. | Failed to process resource at line: 1 with stream start offset: 0`}
	if got := testCounts(status); got != "1/1" || !slices.Equal(s.errorTexts(status, 0), want) {
		t.Errorf("with the check: %s, %q", got, s.errorTexts(status, 0))
	}
}
