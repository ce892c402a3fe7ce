package structure

import (
	"slices"
	"testing"

	"kiln/fhir"
	"kiln/internal/shareddata"
)

// TestRealResources: what real servers and the specification give is right, but
// for these lines of odd-r4.ndjson.gz, which are wrong on purpose or by mistake.
func TestRealResources(t *testing.T) {
	f := func(scanned int, refused []string, elements ...string) {
		t.Helper()
		s, c := fhir.NewScanner(fhir.ScannerOptions{}), NewChecker()
		count := 0
		var got []string
		for _, line := range shareddata.Lines(t, elements...) {
			r, err := s.Scan(line, nil)
			if err != nil {
				continue
			}
			count++
			if issues := c.Check(line); Refused(issues) {
				got = append(got, string(r.TypeName)+"/"+string(r.ID)+": "+brief(issues[:1]))
			}
		}
		if count != scanned {
			t.Errorf("%v: scanned %d lines, want %d", elements, count, scanned)
		}
		if !slices.Equal(got, refused) {
			t.Errorf("%v: refused\n%q\nwant\n%q", elements, got, refused)
		}
	}
	f(60250, nil, "data", "public")
	f(761, nil, "data", "examples-r4.ndjson.gz")
	f(13, nil, "data", "huge-r4.ndjson.gz")
	f(26937, nil, "data", "native-ndjson")
	f(46497, nil, "data", "bench", "fhir-data-pipes-hiv")
	f(308, refusedOdd, "data", "odd-r4.ndjson.gz")
}

// refusedOdd are the resources of odd-r4.ndjson.gz that R4 does not allow: files
// of a test suite that are wrong on purpose, resources of STU3 under an R4 name,
// and (meta.lastUpdated without a zone, empty identifier systems, the bundle of
// numeric ids) plain mistakes.
var refusedOdd = []string{
	"Provenance/8a42c91e-dd16-4a9c-aed5-637076d8d7de: required Provenance.target",
	"Observation/2c46f396-61d2-471f-ba07-15fcb6ae80de: required Observation.code",
	"Observation/2c46f396-61d2-471f-ba07-15fcb6ae80de: required Observation.code",
	"Patient/example: value Patient.meta.lastUpdated",
	"Bundle/: value Bundle.entry[0].resource.identifier[0].system",
	"Bundle/: value Bundle.entry[0].resource.identifier[0].system",
	"/example: structure Resource",
	"Money/: structure Resource",
	"Patient/: structure Patient.name1",
	"Observation/: required Observation.text.div",
	"Bundle/: required Bundle.type",
	"Bundle/: value Bundle.entry[0].resource.identifier[0].system",
	"Observation/test: structure Observation.text",
	"ChargeItem/example: structure ChargeItem.encounter",
	"SearchParameter/id: structure SearchParameter.component[0].definition",
	"SearchParameter/id: structure SearchParameter.component[0].definition",
	"SearchParameter/id: structure SearchParameter.component[0].definition",
	"SearchParameter/id: structure SearchParameter.component[0].definition",
	"SearchParameter/id: structure SearchParameter.component[0].definition",
	"Bundle/: structure Bundle.entry[0].resource.id",
}
