package structure

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kiln/fhir"
	"kiln/internal/shareddata"
)

// validatorCase is a row of testdata/validator_cases.tsv: a resource that the test
// suite of HL7's validator (FHIR/fhir-test-cases at 2dee8a0, validator/manifest.json)
// has for R4 and expects errors for. What is accepted has the reason why its
// structure alone cannot tell:
//
//	terminology           a code, display or code system
//	profile               a profile that the test suite brings along
//	extension definition  where an extension may be, and what it may hold
//	reference             what is referred to, or whether it is there
//	narrative             what is inside the div
//	invariant             a FHIRPath invariant of the specification
//	rule between elements other rules that the validator knows by program
type validatorCase struct{ file, verdict, why string }

func validatorCases(t *testing.T) map[string]validatorCase {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "validator_cases.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]validatorCase{}
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n")[1:] {
		f := strings.Split(line, "\t")
		cases[f[0]] = validatorCase{f[0], f[1], f[2]}
	}
	return cases
}

// TestValidatorCases: of the invalid R4 cases, those are refused that the table
// says. The others of the 488 are valid, of other versions of FHIR, or profiles:
// they have to be answered without a panic.
func TestValidatorCases(t *testing.T) {
	index, err := os.ReadFile(shareddata.Path(t, "data", "validator-cases-index.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	rows := strings.Split(strings.TrimSpace(string(index)), "\n")[1:]
	lines := shareddata.Lines(t, "data", "validator-cases.ndjson.gz")
	if len(rows) != len(lines) {
		t.Fatalf("the index has %d rows for %d lines", len(rows), len(lines))
	}
	cases, checker := validatorCases(t), NewChecker()
	refused := 0
	for i, line := range lines {
		columns := strings.Split(rows[i], "\t")
		verdict, why := judge(checker, line)
		if verdict == "refused" {
			refused++
		}
		file := filepath.Base(columns[len(columns)-1])
		want, ok := cases[file]
		if !ok {
			continue
		}
		delete(cases, file)
		if verdict != want.verdict || verdict == "refused" && why != want.why {
			t.Errorf("%s: %s (%s), want %s (%s)", file, verdict, why, want.verdict, want.why)
		}
	}
	if len(cases) > 0 || refused != 123 {
		t.Errorf("%d lines were refused; not found: %v", refused, cases)
	}
}

// judge is what the server does with a line, and the first reason.
func judge(checker *Checker, line []byte) (verdict, why string) {
	if _, err := fhir.NewScanner(fhir.ScannerOptions{}).Scan(line, nil); err != nil {
		_, why, _ = strings.Cut(err.Error(), ": ")
		return "refused", why
	}
	for _, issue := range checker.Check(line) {
		if issue.Severity == SeverityError {
			return "refused", brief([]Issue{issue})
		}
	}
	return "accepted", ""
}
