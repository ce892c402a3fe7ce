package index

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/internal/shareddata"
)

// definedParam is a row of the definitions, and the parameter that was compiled
// of it.
type definedParam struct {
	*search.Param
	typ, code, expression string
	found                 int // real resources with a value, in the oracle's eyes
}

// definedParams reads all rows of the definitions.
func definedParams(t *testing.T) (params []*definedParam) {
	t.Helper()
	table, err := search.Load()
	if err != nil {
		t.Fatal(err)
	}
	rows := strings.Split(strings.TrimSpace(string(shareddata.Read(t, shareddata.Path(t, "definitions", "search-params-r4.tsv")))), "\n")[1:]
	for _, row := range rows {
		columns := strings.Split(row, "\t")
		d := &definedParam{typ: columns[0], code: columns[1], expression: columns[3]}
		of := fhir.TypeByName([]byte(d.typ)) // 0 for Resource and DomainResource
		if d.Param = table.Param(of, d.code); d.Param == nil || d.Type != of || d.Kind.String() != columns[2] || d.Components != columns[5] {
			t.Fatalf("%s of %s is compiled as %+v", d.code, d.typ, d.Param)
		}
		params = append(params, d)
	}
	return params
}

// checkContained compares the types of what a resource contains.
func checkContained(t *testing.T, tree any, sink *recorder) {
	t.Helper()
	want, got := map[string]bool{}, map[string]bool{}
	list, _ := tree.(map[string]any)["contained"].([]any)
	for _, element := range list {
		inner, _ := element.(map[string]any)
		name, _ := inner["resourceType"].(string)
		if typ := fhir.TypeByName([]byte(name)); typ != 0 {
			want[string(AppendType(nil, typ))] = true
		}
	}
	for _, term := range sink.terms {
		if term.p == ParamContained {
			got[string(term.value)] = true
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("the types of the contained resources are %x, want %x", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
}

// comparison compares the extractor with the oracle.
type comparison struct {
	extractor *Extractor
	params    []*definedParam
	fields    map[Param]bool // that were met
	checked   int
	failures  int
}

// check compares all parameters of one resource; what is no resource is left
// out. A loose check fails of nothing: for resources of other versions of FHIR, where
// an element's shape is not that of R4, and only what agrees counts.
func (c *comparison) check(t *testing.T, line []byte, loose bool) {
	t.Helper()
	sink := &recorder{}
	c.extractor.Reset(sink)
	r, err := c.extractor.Scan(line)
	if err != nil || r.Type == 0 {
		return
	}
	typ, id := r.Type, string(r.ID)
	var tree any
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	if err := d.Decode(&tree); err != nil {
		t.Fatal(err)
	}
	c.checked++
	checkContained(t, tree, sink)
	terms := map[Param][][]byte{}
	for _, term := range sink.terms {
		terms[term.p] = append(terms[term.p], term.value)
		c.fields[term.p] = true
	}
	for _, p := range c.params {
		if p.Virtual != search.Stored || p.Type != typ && p.Type != 0 {
			continue
		}
		got, want := gotOf(p.Param, terms), wantOf(t, p, node{value: tree})
		agree := slices.Equal(got, want)
		if agree && len(want) > 0 {
			p.found++
		}
		if !agree && !loose {
			if c.failures++; c.failures <= 20 {
				t.Errorf("%s of %s/%s\n got %q\nwant %q", p.code, typ, id, got, want)
			}
		}
	}
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
func wantOf(t *testing.T, p *definedParam, root node) (all []string) {
	if p.Kind != search.Composite {
		for _, n := range evaluate(p.expression, root, root) {
			all = append(all, expected(p.Kind, n)...)
		}
		return unique(all)
	}
	components := oracleComponents(t, p.Param)
	for i, group := range splitOutside(p.expression, " | ") {
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

// Every parameter gives, of every real resource that is at hand, the terms that
// its expression says, and those that no resource has a value for are known.
//
// Of the generated data only some resources of each type and folder are read, and
// those with a new field; KILN_ALL_DATA=1 reads all 470,000, which takes minutes. KILN_UPDATE=1 writes the
// list of those without a value.
func TestEveryParameterOnRealResources(t *testing.T) {
	c := &comparison{extractor: testExtraction(t).NewExtractor(nil), params: definedParams(t), fields: map[Param]bool{}}
	if len(c.params) != 1706 {
		t.Errorf("%d parameters are defined", len(c.params))
	}
	names := []string{"examples-r4.ndjson.gz", "odd-r4.ndjson.gz", "public-mini"}
	if !raceDetector {
		names = append(names, "public", "native-ndjson", "bench", "huge-r4.ndjson.gz", "validator-cases.ndjson.gz")
	}
	for _, name := range names {
		c.checkAll(t, name)
	}
	if raceDetector {
		return // the list is of all data
	}
	if c.checked < 4000 {
		t.Errorf("only %d resources were compared", c.checked)
	}
	var without strings.Builder
	with := 0
	for _, p := range c.params {
		switch {
		case p.found > 0:
			with++
		case p.Virtual == search.Stored:
			fmt.Fprintf(&without, "%s %s\n", p.typ, p.code)
		default:
			fmt.Fprintf(&without, "%s %s (%s)\n", p.typ, p.code, virtualWords[p.Virtual])
		}
	}
	t.Logf("%d of %d parameters have a value in %d resources", with, len(c.params), c.checked)
	const list = "testdata/parameters-without-data.txt"
	want, _ := os.ReadFile(list)
	if without.String() == string(want) {
		return
	}
	t.Errorf("the parameters that no resource has a value for are not those of %s", list)
	if os.Getenv("KILN_UPDATE") != "" {
		if err := os.WriteFile(list, []byte(without.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

var virtualWords = map[search.Virtual]string{
	search.ByKey: "answered from the keys", search.ByClock: "answered from the dates of versions", search.Unsupported: "refused",
}

// sampledMax is how many resources of a type are read in one set of generated
// data, or as entries of Bundles.
const sampledMax = 25

// checkAll compares the resources of a file or folder of the shared data, and
// those that stand in its Bundles.
func (c *comparison) checkAll(t *testing.T, name string) {
	t.Helper()
	all := os.Getenv("KILN_ALL_DATA") != ""
	loose := strings.HasPrefix(name, "validator")
	seen := map[string]int{}
	for _, line := range shareddata.Lines(t, "data", name) {
		typ := lineType(line)
		sampled := !strings.Contains(name, ".ndjson") // a folder
		if seen[typ]++; all || !sampled && len(line) < 1<<20 || seen[typ] <= sampledMax || c.isNew(line) {
			c.check(t, line, loose || isSTU3(line))
		}
		if typ != "Bundle" {
			continue
		}
		for _, entry := range bundleEntries(line) {
			typ := "in a Bundle: " + lineType(entry)
			if seen[typ]++; all || seen[typ] <= sampledMax || c.isNew(entry) {
				c.check(t, entry, loose || isSTU3(entry))
			}
		}
	}
}

// isNew tells whether a line has a field that none had before. The extractor
// only chooses what is read here; all data were compared without a choice.
func (c *comparison) isNew(line []byte) bool {
	sink := &recorder{}
	c.extractor.Reset(sink)
	if _, err := c.extractor.Scan(line); err != nil {
		return false
	}
	return slices.ContainsFunc(sink.terms, func(term givenTerm) bool { return !c.fields[term.p] })
}

// isSTU3 tells lines that are of FHIR's third version.
func isSTU3(line []byte) bool { return bytes.Contains(line, []byte(`"definition":{"reference"`)) }

var resourceTypeMember = regexp.MustCompile(`"resourceType"\s*:\s*"([A-Za-z]+)"`)

// lineType is the type that a line says first.
func lineType(line []byte) string {
	if m := resourceTypeMember.FindSubmatch(line); m != nil {
		return string(m[1])
	}
	return ""
}

// bundleEntries are the resources in a Bundle; none of one that is not built as it should be.
func bundleEntries(line []byte) (entries [][]byte) {
	var b struct {
		Entry []struct{ Resource json.RawMessage }
	}
	if json.Unmarshal(line, &b) != nil {
		return nil
	}
	for _, e := range b.Entry {
		if len(e.Resource) > 0 {
			entries = append(entries, e.Resource)
		}
	}
	return entries
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
