package index

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"kiln/fhir/search"
	"kiln/internal/shareddata"
)

// comparison compares the extractor with the oracle.
type comparison struct {
	extractor *Extractor
	table     *search.Table
	found     map[*search.Param]int // values
	failures  int
}

func newComparison(t *testing.T) *comparison {
	t.Helper()
	table, err := search.Load()
	if err != nil {
		t.Fatal(err)
	}
	return &comparison{extractor: testExtraction(t).NewExtractor(nil), table: table, found: map[*search.Param]int{}}
}

// check compares all parameters of one resource. It reports false for a line
// that is no resource. A loose check counts only: for resources of other
// versions of FHIR, where an element's shape is not that of R4.
func (c *comparison) check(t *testing.T, line []byte, loose bool) bool {
	t.Helper()
	sink := &recorder{}
	c.extractor.Reset(sink)
	r, err := c.extractor.Scan(line)
	if err != nil || r.Type == 0 {
		return false
	}
	typ, id := r.Type, string(r.ID)
	var tree any
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	if err := d.Decode(&tree); err != nil {
		t.Fatal(err)
	}
	terms := map[Param][][]byte{}
	for _, term := range sink.terms {
		terms[term.p] = append(terms[term.p], term.value)
	}
	for _, p := range c.table.Params() {
		if p.Virtual != search.Stored || p.Type != typ && p.Type != 0 {
			continue
		}
		got, want := gotOf(p, terms), wantOf(t, p, node{value: tree})
		c.found[p] += len(got)
		if !loose && !slices.Equal(got, want) {
			if c.failures++; c.failures <= 20 {
				t.Errorf("%s of %s/%s\n got %q\nwant %q", p.Code, typ, id, got, want)
			}
		}
	}
	return true
}

func unique(all []string) []string {
	slices.Sort(all)
	return slices.Compact(all)
}

// gotOf describes what the terms of a resource answer for a parameter.
func gotOf(p *search.Param, terms map[Param][][]byte) (all []string) {
	for _, s := range p.Sources {
		all = append(all, sourceTerms(s, terms)...)
	}
	for i, pairing := range p.Pairings {
		for j, whole := range pairing.Whole {
			for _, s := range whole {
				for _, text := range sourceTerms(s, terms) {
					all = append(all, fmt.Sprintf("%d whole %d: %s", i, j, text))
				}
			}
		}
		if pairing.Group != nil {
			for _, value := range terms[Param(pairing.Group.Number)] {
				all = append(all, fmt.Sprintf("%d pair %s", i, describePair(pairing.Group, value)))
			}
		}
	}
	return unique(all)
}

func sourceTerms(s search.Source, terms map[Param][][]byte) (all []string) {
	for _, value := range terms[Param(s.Field.Number)] {
		if s.Only != 0 && !slices.ContainsFunc([]int{refUUID, refID, refAbsolute}, func(form int) bool {
			return bytes.HasPrefix(value, AppendReferenceType(nil, form, s.Only))
		}) {
			continue
		}
		if s.System != "" && !bytes.HasPrefix(value, AppendTokenSystem(nil, []byte(s.System))) {
			continue
		}
		all = append(all, describeTerm(s.Field.Kind, value))
	}
	return all
}

// components are the definitions of composites as the specification has them.
func wantOf(t *testing.T, p *search.Param, root node) (all []string) {
	if p.Kind != search.Composite {
		for _, n := range evaluate(p.Expression, root, root) {
			all = append(all, expected(p.Kind, n)...)
		}
		return unique(all)
	}
	components := oracleComponents(t, p)
	for i, group := range splitOutside(p.Expression, " | ") {
		pairing := p.Pairings[i]
		for j, whole := range pairing.Whole {
			for _, text := range expectedOf(components[j], whole, root) {
				all = append(all, fmt.Sprintf("%d whole %d: %s", i, j, text))
			}
		}
		for _, at := range evaluate(group, root, root) {
			for _, pair := range expectedPairs(pairing, components, at, root) {
				all = append(all, fmt.Sprintf("%d pair %s", i, pair))
			}
		}
	}
	return unique(all)
}

func expectedOf(component string, whole []search.Source, root node) (all []string) {
	if len(whole) == 0 {
		return nil
	}
	for _, n := range evaluate(component, root, root) {
		all = append(all, expected(whole[0].Field.Kind, n)...)
	}
	return all
}

// expectedPairs pairs the components of one element of a group.
func expectedPairs(pairing search.Pairing, components []string, at, root node) []string {
	if pairing.Group == nil {
		return nil
	}
	pairs, part := []string{""}, 0
	for j, component := range components {
		if len(pairing.Whole[j]) > 0 {
			continue
		}
		var longer []string
		for _, n := range evaluate(component, at, root) {
			for _, text := range expected(pairing.Group.Parts[part].Kind, n) {
				if strings.HasPrefix(text, "text ") || strings.HasPrefix(text, "type ") {
					continue
				}
				for _, pair := range pairs {
					longer = append(longer, strings.TrimPrefix(pair+" $ "+text, " $ "))
				}
			}
		}
		pairs = longer
		part++
	}
	return pairs
}

// oracleComponents are the components' expressions from the definitions.
func oracleComponents(t *testing.T, p *search.Param) (expressions []string) {
	t.Helper()
	for _, component := range strings.Split(p.Components, ";") {
		_, expression, ok := strings.Cut(component, "=")
		if !ok {
			t.Fatalf("%s has components %q", p.Code, p.Components)
		}
		expressions = append(expressions, expression)
	}
	return expressions
}

// Every parameter gives the terms that its expression says, on every example.
func TestExtractorAgreesWithExpressions(t *testing.T) {
	c := newComparison(t)
	lines, _ := corpusLines(t, "public-mini")
	for _, name := range []string{"examples-r4.ndjson.gz", "odd-r4.ndjson.gz"} {
		lines = append(lines, fileLines(t, shareddata.Path(t, "data", name))...)
	}
	checked := 0
	for _, line := range lines {
		stu3 := bytes.Contains(line, []byte(`"definition":{"reference"`))
		if c.check(t, line, stu3) {
			checked++
		}
	}
	for _, line := range fileLines(t, shareddata.Path(t, "data", "validator-cases.ndjson.gz")) {
		c.check(t, line, true)
	}
	if checked < 3000 {
		t.Errorf("only %d resources were compared", checked)
	}
	var without strings.Builder
	for _, p := range c.table.Params() {
		if c.found[p] == 0 {
			name := p.Type.String()
			if p.Type == 0 {
				name = "*"
			}
			fmt.Fprintf(&without, "%s %s\n", name, p.Code)
		}
	}
	const list = "testdata/parameters-without-data.txt"
	want, _ := os.ReadFile(list)
	if without.String() == string(want) {
		return
	}
	t.Errorf("the parameters that no example has a value for are not those of %s", list)
	if os.Getenv("KILN_UPDATE") != "" {
		if err := os.WriteFile(list, []byte(without.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestExtractorAllocatesNothing(t *testing.T) {
	lines, _ := corpusLines(t, "public-mini")
	x := testExtraction(t).NewExtractor(nullSink{})
	for _, line := range lines {
		if _, err := x.Scan(line); err != nil {
			t.Fatal(err)
		}
	}
	allocs := testing.AllocsPerRun(3, func() {
		for _, line := range lines {
			_, _ = x.Scan(line)
		}
	})
	if allocs > 0 {
		t.Errorf("%d resources cost %v allocations", len(lines), allocs)
	}
}

type nullSink struct{}

func (nullSink) AddTerm(Param, []byte) {}

// TestTermsOfOneResourceAreBounded: components that pair every code with every
// value multiply what they say.
func TestTermsOfOneResourceAreBounded(t *testing.T) {
	var codings []string
	for i := range 64 {
		codings = append(codings, fmt.Sprintf(`{"system":"%s","code":"%d"}`, strings.Repeat("s", 900), i))
	}
	concept := `{"coding":[` + strings.Join(codings, ",") + `]}`
	component := `{"code":` + concept + `,"valueCodeableConcept":` + concept + `}`
	f := func(components int) error {
		body := `{"resourceType":"Observation","component":[` + component + strings.Repeat(","+component, components-1) + `]}`
		_, err := testExtraction(t).NewExtractor(nullSink{}).Scan([]byte(body))
		return err
	}
	if err := f(10); err != nil {
		t.Errorf("10 components: %v", err)
	}
	if err := f(70); !errors.Is(err, ErrTerms) {
		t.Errorf("70 components, which give over 300 MB of terms: error %v", err)
	}
}
