package patch

import (
	"errors"
	"testing"

	"kiln/fhir"
)

// operation writes one operation of a FHIRPath Patch; parts are the JSON of parts.
func operation(kind, path string, parts string) string {
	if parts != "" {
		parts = "," + parts
	}
	return `{"name":"operation","part":[{"name":"type","valueCode":"` + kind + `"},{"name":"path","valueString":"` + path + `"}` + parts + `]}`
}

func TestFHIRPathPatch(t *testing.T) {
	f := func(doc, op, want string, kind error) {
		t.Helper()
		got, err := FHIRPath([]byte(doc), []byte(`{"resourceType":"Parameters","parameter":[`+op+`]}`), "Patient", testLimit)
		checkPatched(t, doc+" "+op, got, err, want, kind)
	}
	const head = `{"resourceType":"Patient","id":"a"`
	// add
	f(head+`}`, operation("add", "Patient", `{"name":"name","valueString":"birthDate"},{"name":"value","valueDate":"1930-01-01"}`), head+`,"birthDate":"1930-01-01"}`, nil)
	f(head+`}`, operation("add", "Patient", `{"name":"name","valueString":"contact"},{"name":"value","part":[{"name":"name","valueHumanName":{"text":"a name"}},{"name":"telecom","valueContactPoint":{"value":"1"}},{"name":"telecom","valueContactPoint":{"value":"2"}}]}`),
		head+`,"contact":[{"name":{"text":"a name"},"telecom":[{"value":"1"},{"value":"2"}]}]}`, nil)
	f(head+`}`, operation("add", "Patient", `{"name":"name","valueString":"deceased"},{"name":"value","valueBoolean":true}`), head+`,"deceasedBoolean":true}`, nil)
	f(head+`}`, operation("add", "Patient", `{"name":"name","valueString":"deceasedBoolean"},{"name":"value","valueBoolean":true}`), head+`,"deceasedBoolean":true}`, nil)
	f(head+`,"name":[{"text":"x"}]}`, operation("add", "Patient", `{"name":"name","valueString":"name"},{"name":"value","valueHumanName":{"text":"y"}}`), head+`,"name":[{"text":"x"},{"text":"y"}]}`, nil)
	f(head+`,"name":[{"text":"x"}]}`, operation("add", "Patient.name[0]", `{"name":"name","valueString":"given"},{"name":"value","valueString":"g"}`), head+`,"name":[{"text":"x","given":["g"]}]}`, nil)
	f(head+`,"birthDate":"1990"}`, operation("add", "Patient.birthDate", `{"name":"name","valueString":"extension"},{"name":"value","valueExtension":{"url":"http://x","valueString":"v"}}`),
		head+`,"birthDate":"1990","_birthDate":{"extension":[{"url":"http://x","valueString":"v"}]}}`, nil)
	f(head+`,"birthDate":"1990"}`, operation("add", "Patient", `{"name":"name","valueString":"birthDate"},{"name":"value","valueDate":"1930"}`), "", ErrNotApplicable)
	f(head+`}`, operation("add", "Patient", `{"name":"name","valueString":"nothing"},{"name":"value","valueDate":"1930"}`), "", ErrNotApplicable)
	f(head+`}`, operation("add", "Patient.name[0]", `{"name":"name","valueString":"given"},{"name":"value","valueString":"g"}`), "", ErrNotApplicable)
	// insert, move
	const lists = head + `,"identifier":[{"system":"a"},{"system":"b"},{"system":"c"}]}`
	f(lists, operation("insert", "Patient.identifier", `{"name":"index","valueInteger":1},{"name":"value","valueIdentifier":{"system":"n","value":"\u00e9"}}`), head+`,"identifier":[{"system":"a"},{"system":"n","value":"\u00e9"},{"system":"b"},{"system":"c"}]}`, nil)
	f(lists, operation("insert", "Patient.identifier", `{"name":"index","valueInteger":4},{"name":"value","valueIdentifier":{"system":"n"}}`), "", ErrNotApplicable)
	f(lists, operation("move", "Patient.identifier", `{"name":"source","valueInteger":2},{"name":"destination","valueInteger":0}`), head+`,"identifier":[{"system":"c"},{"system":"a"},{"system":"b"}]}`, nil)
	f(lists, operation("move", "Patient.identifier", `{"name":"source","valueInteger":3},{"name":"destination","valueInteger":0}`), "", ErrNotApplicable)
	// delete
	f(lists, operation("delete", "Patient.identifier.where(system = 'b')", ""), head+`,"identifier":[{"system":"a"},{"system":"c"}]}`, nil)
	f(lists, operation("delete", "Patient.identifier.first()", ""), head+`,"identifier":[{"system":"b"},{"system":"c"}]}`, nil)
	f(lists, operation("delete", "Patient.identifier.last()", ""), head+`,"identifier":[{"system":"a"},{"system":"b"}]}`, nil)
	f(lists, operation("delete", "Patient.birthDate", ""), lists, nil)
	f(lists, operation("delete", "Patient.identifier", ""), "", ErrNotApplicable)
	f(head+`,"birthDate":"1990","_birthDate":{"id":"x"}}`, operation("delete", "birthDate", ""), head+`}`, nil)
	f(head+`,"name":[{"given":["x","y"],"_given":[{"id":"1"},{"id":"2"}]}]}`, operation("delete", "Patient.name.given[0]", ""), head+`,"name":[{"given":["y"],"_given":[{"id":"2"}]}]}`, nil)
	f(head+`,"extension":[{"url":"http://x","valueString":"v"},{"url":"http://y","valueCode":"c"}]}`, operation("delete", `Patient.extension('http://x')`, ""), head+`,"extension":[{"url":"http://y","valueCode":"c"}]}`, nil)
	// replace
	f(head+`,"birthDate":"1990","active":true}`, operation("replace", "Patient.birthDate", `{"name":"value","valueDate":"1930"}`), head+`,"birthDate":"1930","active":true}`, nil)
	f(head+`,"birthDate":"1990"}`, operation("replace", "Patient.birthDate", `{"name":"value","valueString":"1930"}`), head+`,"birthDate":"1930"}`, nil)
	f(head+`,"deceasedBoolean":true,"active":true}`, operation("replace", "Patient.deceased", `{"name":"value","valueDateTime":"1999"}`), head+`,"deceasedDateTime":"1999","active":true}`, nil)
	f(head+`,"contact":[{"name":{"text":"x"},"gender":"male"}]}`, operation("replace", "Patient.contact[0].name.text", `{"name":"value","valueString":"y"}`), head+`,"contact":[{"name":{"text":"y"},"gender":"male"}]}`, nil)
	f(head+`,"name":[{"given":["x","y"]}]}`, operation("replace", "Patient.name.given.where($this = 'y')", `{"name":"value","valueString":"z"}`), head+`,"name":[{"given":["x","z"]}]}`, nil)
	f(head+`,"multipleBirthInteger":2}`, operation("replace", "Patient.multipleBirth.ofType(integer)", `{"name":"value","valueInteger":3}`), head+`,"multipleBirthInteger":3}`, nil)
	f(head+`}`, operation("replace", "Patient.birthDate", `{"name":"value","valueDate":"1930"}`), "", ErrNotApplicable)
	f(head+`,"contained":[{"resourceType":"Observation","id":"o","valueQuantity":{"value":1.00}}]}`, operation("replace", "Patient.contained[0].value.unit", `{"name":"value","valueString":"g"}`), "", ErrNotApplicable)
	f(head+`,"contained":[{"resourceType":"Observation","id":"o","valueQuantity":{"value":1.00}}]}`, operation("add", "Patient.contained.where(id='o').value", `{"name":"name","valueString":"unit"},{"name":"value","valueString":"g"}`), head+`,"contained":[{"resourceType":"Observation","id":"o","valueQuantity":{"value":1.00,"unit":"g"}}]}`, nil)
}

func TestFHIRPathPatchRefusals(t *testing.T) {
	f := func(patch string) {
		t.Helper()
		got, err := FHIRPath([]byte(`{"resourceType":"Patient"}`), []byte(patch), "Patient", testLimit)
		checkPatched(t, patch, got, err, "", ErrMalformed)
	}
	f(``)
	f(`[]`)
	f(`{"resourceType":"Patient"}`)
	f(`{"resourceType":"Parameters","parameter":{}}`)
	g := func(op string) { t.Helper(); f(`{"resourceType":"Parameters","parameter":[` + op + `]}`) }
	g(`1`)
	g(`{"name":"other"}`)
	g(`{"name":"operation","part":[]}`)
	g(operation("delete", "", ""))
	g(operation("sum", "Patient.name", ""))
	g(operation("delete", "Patient.name.exists()", ""))
	g(operation("delete", "Patient.name[", ""))
	g(operation("delete", "Patient.name[x]", ""))
	g(operation("delete", "Patient.name.where(use)", ""))
	g(operation("delete", "Patient.name | Patient.contact", ""))
	g(operation("delete", "Patient..name", ""))
	g(operation("add", "Patient", `{"name":"name","valueString":"birthDate"}`))
	g(operation("add", "Patient", `{"name":"name","valueString":"birthDate"},{"name":"value"}`))
	g(operation("add", "Patient", `{"name":"name","valueString":"birthDate"},{"name":"value","valueDate":"1","valueString":"2"}`))
	g(operation("insert", "Patient.name", `{"name":"index","valueInteger":-1},{"name":"value","valueString":"x"}`))
	g(operation("delete", "Patient.name", `{"name":"other","valueInteger":1}`))
}

func FuzzPatches(f *testing.F) {
	f.Add([]byte(`{"resourceType":"Patient","name":[{"given":["x"]}]}`), []byte(`[{"op":"move","from":"/name/0","path":"/a"}]`))
	f.Add([]byte(`{"resourceType":"Patient","birthDate":"1"}`), []byte(`{"birthDate":null}`))
	f.Add([]byte(`{"resourceType":"Patient","birthDate":"1"}`), []byte(`{"resourceType":"Parameters","parameter":[`+operation("delete", "Patient.birthDate", "")+`]}`))
	f.Fuzz(func(t *testing.T, doc, patch []byte) {
		root, err := parseTree(doc)
		if err != nil || !root.isObject() {
			return
		}
		for _, apply := range []func() ([]byte, error){
			func() ([]byte, error) { return JSON(doc, patch, testLimit) },
			func() ([]byte, error) { return Merge(doc, patch, testLimit) },
			func() ([]byte, error) { return FHIRPath(doc, patch, "Patient", testLimit) },
		} {
			got, err := apply()
			if err != nil {
				continue
			}
			again, err := parseTree(got)
			if err != nil && !errors.Is(err, fhir.ErrTooDeep) || err == nil && string(again.text) != string(got) {
				t.Errorf("%s patched by %s is %s: %v", doc, patch, got, err)
			}
		}
	})
}
