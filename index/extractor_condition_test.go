package index

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"kiln/fhir"
	"kiln/fhir/search"
)

// customFields compiles definitions' fields, which get numbers as a store gives them.
func customFields(t *testing.T, definitions ...search.Definition) (fields []*search.Field) {
	t.Helper()
	table, err := search.Load()
	if err != nil {
		t.Fatal(err)
	}
	for i := range definitions {
		d := &definitions[i]
		_, err := table.Compile(d, func(f *search.Field) *search.Field {
			f.Number = search.FieldCustomMin + uint16(len(fields))
			fields = append(fields, f)
			return f
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return fields
}

// termList is a sink that writes the terms of added fields down.
type termList []string

func (l *termList) AddTerm(p Param, value []byte) {
	if p >= search.FieldCustomMin {
		*l = append(*l, fmt.Sprintf("%d %q", p-search.FieldCustomMin, value))
	}
}

func customTerms(t *testing.T, body string, definitions ...search.Definition) []string {
	t.Helper()
	x, err := NewExtraction(customFields(t, definitions...))
	if err != nil {
		t.Fatal(err)
	}
	var got termList
	if _, err := x.NewExtractor(&got).Scan([]byte(body)); err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	return got
}

func TestConditionsKeepTheValuesOfTheirObjects(t *testing.T) {
	f := func(kind search.Kind, base, expression, body string, want ...string) {
		t.Helper()
		d := search.Definition{URL: "http://x.org/p", Code: "custom", Kind: kind, Bases: []string{base}, Expression: expression}
		body = strings.Replace(body, "{", `{"resourceType":"`+base+`",`, 1)
		for i := range want {
			want[i] = fmt.Sprintf("0 %q", want[i])
		}
		slices.Sort(want)
		if got := customTerms(t, body, d); !slices.Equal(got, want) {
			t.Errorf("%s of %s gives %q, want %q", expression, body, got, want)
		}
	}
	token := func(system, code string) string { return string(AppendToken(nil, []byte(system), []byte(code))) }
	folded := func(s string) string { return string(AppendString(nil, []byte(s), NewFolder())) }
	const race = `"extension":[
		{"extension":[{"url":"ombCategory","valueCoding":{"system":"s","code":"2106-3"}},
			{"valueCoding":{"system":"s","code":"2028-9"},"url":"ombCategory"},
			{"url":"detailed","valueCoding":{"system":"s","code":"other"}},{"url":"text","valueString":"White"}],"url":"http://x/race"},
		{"url":"http://x/ethnicity","extension":[{"url":"ombCategory","valueCoding":{"system":"s","code":"2135-2"}}]}]`
	f(search.Token, "Patient", "Patient.extension.where(url = 'http://x/race').extension.value.code", "{"+race+"}",
		token("", "2106-3"), token("", "2028-9"), token("", "other"))
	f(search.Token, "Patient", "Patient.extension('http://x/race').extension('ombCategory').value", "{"+race+"}",
		token("s", "2106-3"), token("s", "2028-9"))
	f(search.Token, "Patient", "Patient.extension('http://x/race').extension('ombCategory').value as Coding", "{"+race+"}",
		token("s", "2106-3"), token("s", "2028-9"))
	f(search.Token, "Patient", "(Patient.extension.where(url='http://x/ethnicity').extension.value.ofType(Coding))", "{"+race+"}", token("s", "2135-2"))
	f(search.Token, "Patient", "Patient.extension('http://x/nothing').extension.value", "{"+race+"}")
	f(search.String, "Patient", "Patient.extension('http://x/race').extension('text').value", "{"+race+"}", folded("White"))
	f(search.Token, "Patient", "(Patient.extension('e') | %resource.extension('e')).value", `{"extension":[{"url":"e","valueCode":"a"}]}`, token("", "a"))
	// Without a url, with one that is no text, and twice.
	f(search.Token, "Patient", "Patient.extension('e').value", `{"extension":[{"valueCode":"a"},{"url":7,"valueCode":"b"},{"url":"e","valueCode":"c"},{"valueCode":"d","url":"e"}]}`,
		token("", "c"), token("", "d"))
	// Extensions of primitives, alone and in lists.
	f(search.Date, "Patient", "Patient.birthDate.extension('t').value", `{"birthDate":"2000-01-01","_birthDate":{"extension":[{"url":"t","valueDateTime":"2000-01-01T10:00:00Z"}]}}`,
		dateTerm(t, "2000-01-01T10:00:00Z"))
	f(search.String, "Patient", "Patient.name.given.extension('q').value", `{"name":[{"given":["a","b"],"_given":[null,{"extension":[{"url":"q","valueString":"x"}]}]}]}`, folded("x"))
	// Other members than an extension's url.
	f(search.String, "Patient", "Patient.name.where(use='official').family", `{"name":[{"family":"a","use":"official"},{"use":"old","family":"b"},{"family":"c"}]}`, folded("a"))
	f(search.Token, "Patient", "Patient.identifier.where(system='m')", `{"identifier":[{"system":"m","value":"1"},{"system":"n","value":"2"}]}`, token("m", "1"))
	f(search.Reference, "Patient", "Patient.extension('r').value.where(resolve() is Practitioner)", `{"extension":[{"url":"r","valueReference":{"reference":"Practitioner/1"}}]}`,
		string(AppendReference(nil, []byte("Practitioner/1"))))
	f(search.Quantity, "Observation", "Observation.extension('w').value", `{"extension":[{"url":"w","valueQuantity":{"value":1}}]}`, quantityTerm(t, "1"))
}

func dateTerm(t *testing.T, text string) string {
	t.Helper()
	first, last, ok := fhir.ParseDate([]byte(text))
	if !ok {
		t.Fatal(text)
	}
	return string(AppendDate(nil, first, last))
}

func quantityTerm(t *testing.T, number string) string {
	t.Helper()
	value, ok := AppendDecimal(AppendQuantityUnit(nil, nil, nil), []byte(number))
	if !ok {
		t.Fatal(number)
	}
	return string(value)
}

func TestParametersOfEveryTypeReadEveryType(t *testing.T) {
	d := search.Definition{URL: "u", Code: "c", Kind: search.Token, Bases: []string{"DomainResource"}, Expression: "DomainResource.extension('e').value"}
	for _, name := range []string{"Patient", "Observation"} {
		body := `{"resourceType":"` + name + `","extension":[{"url":"e","valueCode":"a"}]}`
		if got := customTerms(t, body, d); len(got) != 1 {
			t.Errorf("%s gives %q", name, got)
		}
	}
}

// Several conditions on one object, and one resource after another.
func TestConditionsOfSeveralFieldsDoNotMix(t *testing.T) {
	d := func(expression string) search.Definition {
		return search.Definition{URL: "u", Code: "c", Kind: search.String, Bases: []string{"Patient"}, Expression: expression}
	}
	x, err := NewExtraction(customFields(t, d("Patient.name.where(use='official').family"), d("Patient.name.where(text='t').family"), d("Patient.name.where(use='old').given"),
		d("Patient.contact.name.where(use='old').family")))
	if err != nil {
		t.Fatal(err)
	}
	folded := func(n int, s string) string {
		return fmt.Sprintf("%d %q", n, AppendString(nil, []byte(s), NewFolder()))
	}
	var got termList
	extractor := x.NewExtractor(&got)
	f := func(body string, want ...string) {
		t.Helper()
		got = got[:0]
		if _, err := extractor.Scan([]byte(body)); err != nil {
			t.Fatal(err)
		}
		slices.Sort(got)
		if !slices.Equal(got, termList(want)) {
			t.Errorf("%s gives %q, want %q", body, got, want)
		}
	}
	f(`{"resourceType":"Patient","name":[{"use":"official","text":"t","family":"a","given":["g"]},{"use":"old","given":["b","c"],"family":"d"}]}`,
		folded(0, "a"), folded(1, "a"), folded(2, "b"), folded(2, "c"))
	f(`{"resourceType":"Patient","name":[{"use":"official","family":"a"}],"contact":[{"name":{"family":"x","use":"old"}}]}`, folded(0, "a"), folded(3, "x"))
	f(`{"resourceType":"Patient","name":[{"family":"a"}]}`)
}

// What a search would have to read inside of composites is refused, not left out.
func TestNestedGroupsAreRefused(t *testing.T) {
	table, err := search.Load()
	if err != nil {
		t.Fatal(err)
	}
	subject := search.URLPrefix + "clinical-code"
	d := search.Definition{URL: "u", Code: "c", Kind: search.Composite, Bases: []string{"Observation"}, Expression: "Observation.component.referenceRange",
		Components: []search.ComponentDefinition{{URL: subject, Expression: "type"}, {URL: subject, Expression: "appliesTo"}}}
	var fields []*search.Field
	if _, err := table.Compile(&d, func(f *search.Field) *search.Field {
		f.Number = search.FieldCustomMin
		fields = append(fields, f)
		return f
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := NewExtraction(fields); err == nil {
		t.Error("a group inside of a group is compiled")
	}
}
