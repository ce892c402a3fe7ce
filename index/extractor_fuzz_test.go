package index

import (
	"strings"
	"testing"

	"kiln/fhir/search"
)

// Whatever a resource looks like, extraction neither panics nor gives a value
// that cannot be read back, and leaves nothing open for the next resource.
func FuzzExtract(f *testing.F) {
	for _, seed := range []string{
		`{"resourceType":"Observation","code":{"coding":[{"system":"s","code":"c","display":"d"}],"text":"t"},"valueQuantity":{"value":1.50,"unit":"mg","comparator":"<"},"component":[{"code":{"coding":{"code":"x"}},"valueQuantity":{"value":-2e-3}}]}`,
		`{"resourceType":"Patient","identifier":[{"type":{"coding":[{"code":"MR"}]},"value":"1"}],"deceasedDateTime":"2020","telecom":[{"system":"phone","value":"1"}],"name":{"family":"É"},"meta":{"tag":[{"code":"a"}],"profile":["p|1"]}}`,
		`{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Composition","id":"a"}},{"resource":{}}]}`,
		`{"resourceType":"MolecularSequence","variant":[{"start":1,"end":2}],"referenceSeq":{"windowStart":3,"chromosome":{"coding":[{"code":"1"}]}}}`,
		`{"resourceType":"Library","relatedArtifact":[{"type":"depends-on","resource":"x"}],"useContext":[{"code":{"code":"a"},"valueRange":{"low":{"value":1},"high":{"value":2,"unit":"y"}}}]}`,
		`{"resourceType":"Location","position":{"latitude":1,"longitude":-2.5}}`,
		`{"resourceType":"ServiceRequest","occurrenceTiming":{"event":["2020","2021-01"],"repeat":{"boundsPeriod":{"start":"2019"}}},"subject":{"identifier":{"value":"x"}}}`,
	} {
		f.Add([]byte(seed))
	}
	table, err := search.Load()
	if err != nil {
		f.Fatal(err)
	}
	fields := map[Param]*search.Field{}
	for _, field := range table.Fields() {
		fields[Param(field.Number)] = field
	}
	sink := &recorder{}
	x := testExtraction(f).NewExtractor(sink)
	f.Fuzz(func(t *testing.T, src []byte) {
		sink.terms = sink.terms[:0]
		if _, err := x.Scan(src); err != nil {
			return
		}
		if len(x.frames)+len(x.types)+len(x.pairs.parts) > 0 {
			t.Fatalf("something is left open behind %q", src)
		}
		for _, term := range sink.terms {
			field := fields[term.p]
			text := ""
			if field.Kind == search.Composite {
				text = describePair(field, term.value)
			} else {
				text = describeTerm(field.Kind, term.value)
			}
			if strings.HasPrefix(text, "bad ") || strings.HasPrefix(text, "bytes ") {
				t.Fatalf("field %s of %q has a value %x: %s", field.Name, src, term.value, text)
			}
		}
	})
}
