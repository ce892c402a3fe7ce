package structure

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"kiln/fhir"
)

// scanned fails the test when src is nothing that Check may be given.
func scanned(t testing.TB, src string) []byte {
	t.Helper()
	if _, err := fhir.NewScanner(fhir.ScannerOptions{}).Scan([]byte(src), nil); err != nil {
		t.Fatalf("the test's resource is not one: %v: %s", err, src)
	}
	return []byte(src)
}

// brief lists issues as "code expression", one a line.
func brief(issues []Issue) string {
	lines := make([]string, 0, len(issues))
	for _, issue := range issues {
		lines = append(lines, strings.TrimSpace(issue.Code+" "+issue.Expression))
	}
	return strings.Join(lines, "\n")
}

// expectIssues checks that src has exactly the issues wanted, whose texts hold text.
func expectIssues(t *testing.T, src, want, text string) {
	t.Helper()
	issues := NewChecker().Check(scanned(t, src))
	if got := brief(issues); got != want {
		t.Errorf("%s: got\n%s\nwant\n%s", src, got, want)
	}
	for _, issue := range issues {
		if !strings.Contains(issue.Text, text) {
			t.Errorf("%s: text %q does not say %q", src, issue.Text, text)
		}
	}
}

const observation = `{"resourceType":"Observation","status":"final","code":{"text":"x"}`

func TestRightResourcesHaveNoIssue(t *testing.T) {
	f := func(src string) {
		t.Helper()
		expectIssues(t, src, "", "")
	}
	f(`{"resourceType":"Patient"}`)
	f(" { \"id\" : \"a\" ,\n\t\"name\" : [ { \"given\" : [ \"A\" , \"B\" ] } ] , \"active\" : true , \"resourceType\" : \"Patient\" } ")
	f(`{"\u0072esourceType":"Patient","\u006eame":[{"famil\u0079":"x"}]}`)
	f(observation + `,"valueQuantity":{"value":-1.50e+10,"unit":"mg"}}`)
	f(observation + `,"valueString":"x","_valueString":{"id":"1"}}`)
	f(observation + `,"_valueString":{"id":"1"}}`)
	f(`{"resourceType":"Observation","_status":{"extension":[{"url":"http://a","valueCode":"unknown"}]},"code":{"text":"x"}}`)
	f(`{"resourceType":"Patient","_birthDate":{"id":"x"},"birthDate":"1990"}`)
	f(`{"resourceType":"Patient","extension":[{"url":"a","extension":[{"url":"b","valueBoolean":false}]}]}`)
	f(`{"resourceType":"Patient","contained":[{"resourceType":"Organization","id":"o","name":"x"}]}`)
	f(`{"resourceType":"Bundle","type":"batch","entry":[{"resource":{"id":"1","resourceType":"Patient","contained":[{"resourceType":"Basic","code":{"text":"x"}}]},"request":{"method":"POST","url":"Patient"}}]}`)
	f(`{"resourceType":"Parameters","parameter":[{"name":"a","part":[{"name":"b","resource":{"resourceType":"Patient"}}]}]}`)
	f(`{"resourceType":"Questionnaire","status":"draft","item":[{"linkId":"1","type":"group","item":[{"linkId":"1.1","type":"string"}]}]}`)
	f(`{"resourceType":"Observation","status":"final","code":{"text":"x"},"component":[{"code":{"text":"y"},"referenceRange":[{"text":"z"}]}]}`)
	f(`{"resourceType":"Basic","text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">\u00e9</div>"},"code":{"text":"x"}}`)
}

func TestElementsAndJSONTypes(t *testing.T) {
	f := func(members, want, text string) {
		t.Helper()
		expectIssues(t, `{"resourceType":"Patient",`+members+`}`, want, text)
	}
	f(`"foo":1`, "structure Patient.foo", `Unknown element "foo": Patient has none of that name.`)
	f(`"name":[{"family":"x"},{"given":["y"],"middle":{"a":[1]}}]`, "structure Patient.name[1].middle", "HumanName has none of that name")
	f(`"":1`, "structure Patient", `Unknown element ""`)
	f(`"a b":1`, "structure Patient", `Unknown element "a b"`)
	f(`"_":1`, "structure Patient._", `Unknown element "_"`)
	f(`"fhir_comments":["x"]`, "structure Patient.fhir_comments", "not part of R4")
	f(`"name":[{"resourceType":"Patient"}]`, "structure Patient.name[0].resourceType", "none of that name")
	f(`"active":"true"`, "structure Patient.active", "Expected a boolean (true or false, without quotes), found a string.")
	f(`"active":null`, "structure Patient.active", "found null")
	f(`"active":{}`, "structure Patient.active", "found an object")
	f(`"active":[true]`, "structure Patient.active", "There can be only one: expected a boolean")
	f(`"birthDate":1990`, "structure Patient.birthDate", "Expected a date (YYYY, YYYY-MM or YYYY-MM-DD), found a number.")
	f(`"multipleBirthInteger":"1"`, "structure Patient.multipleBirth", "found a string")
	f(`"name":{"family":"x"}`, "structure Patient.name", "The element can repeat: expected an array, found an object.")
	f(`"name":["x"]`, "structure Patient.name[0]", "Expected an object (HumanName), found a string.")
	f(`"name":[null]`, "structure Patient.name[0]", "found null")
	f(`"name":[[{"family":"x"}]]`, "structure Patient.name[0]", "found an array")
	f(`"name":[]`, "structure Patient.name", "The array is empty")
	f(`"name":[{}]`, "structure Patient.name[0]", "The object is empty")
	f(`"maritalStatus":[{"text":"x"}]`, "structure Patient.maritalStatus", "expected an object (CodeableConcept), found an array")
	f(`"maritalStatus":{"text":"x","text":"y"}`, "structure Patient.maritalStatus.text", "The key 'text' is repeated.")
	f(`"maritalStatus":{"coding":[{"code":"x"}],"coding":[{"code":"y"}]}`, "structure Patient.maritalStatus.coding", "The key 'coding' is repeated.")
	f(`"foo":1,"bar":[{}],"active":1`, "structure Patient.foo\nstructure Patient.bar\nstructure Patient.active", "")
}

func TestRequiredElements(t *testing.T) {
	f := func(src, want, text string) {
		t.Helper()
		expectIssues(t, src, want, text)
	}
	f(`{"resourceType":"Observation","status":"final"}`, "required Observation.code", "The element 'code' is missing; Observation must have it.")
	f(`{"resourceType":"Observation"}`, "required Observation.status\nrequired Observation.code", "is missing")
	f(`{"resourceType":"MedicationRequest","status":"active","intent":"order","subject":{"display":"x"}}`, "required MedicationRequest.medication", "'medication[x]' is missing; MedicationRequest must have it, with its type in its name as in 'medicationCodeableConcept'")
	f(observation+`,"component":[{"code":{"text":"x"}},{"valueString":"y"}]}`, "required Observation.component[1].code", "Observation.component must have it")
	f(observation+`,"text":{"div":"<div>x</div>"}}`, "required Observation.text.status", "Narrative must have it")
	f(`{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Basic"}}]}`, "required Bundle.entry[0].resource.code\nrequired Bundle.type", "is missing")
	f(`{"resourceType":"Parameters","parameter":[{"name":"a","resource":{"resourceType":"Basic"}}]}`, "required Parameters.parameter[0].resource.code", "is missing")
}

func TestChoices(t *testing.T) {
	f := func(members, want, text string) {
		t.Helper()
		expectIssues(t, observation+","+members+"}", want, text)
	}
	f(`"valueString":"x","valueInteger":1`, "structure Observation.value", "There can be only one value[x]; there are valueString and valueInteger.")
	f(`"valueString":"x","_valueInteger":{"id":"1"}`, "structure Observation.value", "valueString and valueInteger")
	f(`"component":[{"code":{"text":"x"},"valueString":"x","valueString":"y"}]`, "structure Observation.component[0].value", "The key 'valueString' is repeated.")
	f(`"component":[{"code":{"text":"x"},"valueRange":{"id":"x"},"valueRange":{"id":"y"}}]`, "structure Observation.component[0].value", "The key 'valueRange' is repeated.")
	f(`"valueAddress":{"city":"x"}`, "structure Observation.valueAddress", "only some types are allowed there")
	f(`"value":"x"`, "structure Observation.value", "'value[x]' of Observation has its type in its name")
	f(`"valueQuantity":"x"`, "structure Observation.value", "Expected an object (Quantity), found a string.")
	f(`"valueQuantity":{"value":"1"}`, "structure Observation.value.value", "Expected a decimal")
}

func TestPrimitiveExtensions(t *testing.T) {
	f := func(members, want, text string) {
		t.Helper()
		expectIssues(t, `{"resourceType":"Patient",`+members+`}`, want, text)
	}
	f(`"name":[{"given":["a",null,"b"],"_given":[null,{"id":"x"},null]}]`, "", "")
	f(`"name":[{"_given":[{"id":"x"},{"id":"y"}]}]`, "", "")
	f(`"name":[{"given":[null,"a"],"_given":[{"id":"x"}]}]`, "", "")
	f(`"name":[{"given":["a"],"_given":[null,{"id":"x"}]}]`, "", "")
	f(`"name":[{"given":["a",null]}]`, "structure Patient.name[0].given[1]", "neither a value nor an extension")
	f(`"name":[{"given":["a",null],"_given":[{"id":"x"},null]}]`, "structure Patient.name[0].given[1]", "neither a value nor an extension")
	f(`"name":[{"_given":[null,{"id":"x"}],"given":[null,"b"]}]`, "structure Patient.name[0].given[0]", "neither a value nor an extension")
	f(`"name":[{"_given":[null]}]`, "structure Patient.name[0].given[0]", "neither a value nor an extension")
	f(`"name":[{"_given":{"id":"x"}}]`, "structure Patient.name[0].given", "expected an array")
	f(`"_birthDate":[{"id":"x"}]`, "structure Patient.birthDate", "There can be only one")
	f(`"_birthDate":"x"`, "structure Patient.birthDate", "Expected an object")
	f(`"_birthDate":null`, "structure Patient.birthDate", "found null")
	f(`"_birthDate":{}`, "structure Patient.birthDate", "empty")
	f(`"_birthDate":{"value":"x"}`, "structure Patient.birthDate.value", "Element has none of that name")
	f(`"name":[{"_family":{"id":"x"},"_family":{"id":"y"}}]`, "structure Patient.name[0].family", "The key '_family' is repeated.")
	f(`"_name":[{"id":"x"}]`, "structure Patient.name", "not a primitive that can have an id or extensions")
	f(`"_foo":1`, "structure Patient.foo", `"_foo"`)
	f(`"name":[{"id":"x","_id":{"id":"y"},"family":"z"}]`, "structure Patient.name[0].id", "not a primitive that can have")
	f(`"extension":[{"url":"a","_url":{"id":"y"},"valueCode":"z"}]`, "structure Patient.extension[0].url", "not a primitive that can have")
	f(`"text":{"status":"empty","div":"<div/>","_div":{"id":"y"}}`, "structure Patient.text.div", "not a primitive that can have")
}

func TestExtensions(t *testing.T) {
	f := func(members, want, text string) {
		t.Helper()
		expectIssues(t, `{"resourceType":"Patient",`+members+`}`, want, text)
	}
	f(`"extension":[{"valueString":"x"}]`, "required Patient.extension[0].url", "'url' is missing")
	f(`"extension":[{"url":"a"}]`, "structure Patient.extension[0]", "neither a value[x] nor extensions")
	f(`"extension":[{"url":"a","_valueString":{"id":"x"}}]`, "", "")
	f(`"extension":[{"url":"a","valueString":"x","extension":[{"url":"b","valueCode":"c"}]}]`, "structure Patient.extension[0]", "both a value[x] and extensions")
	f(`"_birthDate":{"extension":[{"url":"a","valueFoo":1,"valueCode":"c"}]}`, "structure Patient.birthDate.extension[0].valueFoo", "only some types")
	f(`"name":[{"modifierExtension":[{"url":"a","valueCode":"c"}]}]`, "structure Patient.name[0].modifierExtension", "HumanName has none")
}

func TestResourcesInResources(t *testing.T) {
	f := func(src, want, text string) {
		t.Helper()
		expectIssues(t, src, want, text)
	}
	f(`{"resourceType":"Dog"}`, "structure Resource", `"Dog" is not a resource type of R4.`)
	f(`{"resourceType":"DomainResource"}`, "structure Resource", "not a resource type")
	f(`{"resourceType":"Patient","contained":[{"resourceType":"Dog"},{"id":"x"},{"resourceType":1},"x"]}`,
		"structure Patient.contained[0]\nrequired Patient.contained[1]\nrequired Patient.contained[2]\nstructure Patient.contained[3]", "")
	f(`{"resourceType":"Patient","contained":[{"resourceType":"Patient","contained":[{"resourceType":"Patient"}]}]}`,
		"structure Patient.contained[0].contained", "A contained resource must not contain others.")
	f(`{"resourceType":"Patient","contained":[{"birthDate":"x","name":[{"id":{"a":"}"}}],"resourceType":"Patient"}]}`,
		"value Patient.contained[0].birthDate\nstructure Patient.contained[0].name[0].id", "")
	f(`{"resourceType":"Bundle","type":"batch","entry":[{"resource":{"resourceType":"Patient","resourceType":"Patient"}}]}`,
		"structure Bundle.entry[0].resource.resourceType", "repeated")
	f(`{"resourceType":"Binary","contentType":"a/b","text":{"status":"empty","div":"<div/>"}}`, "structure Binary.text", "Binary has none")
}

func TestIssuesAreBounded(t *testing.T) {
	f := func(items int, item, list string, listed int, last string) {
		t.Helper()
		src := `{"resourceType":"Questionnaire","status":"draft","item":[` + strings.Repeat(item+",", items-1) + item + `]` + list + `}`
		c := NewChecker()
		for range 2 { // the second check knows nothing of the first
			issues := c.Check(scanned(t, src))
			if len(issues) != listed || issues[len(issues)-1].Text != last {
				t.Errorf("%d items: got %d issues, the last %+v", items, len(issues), issues[len(issues)-1])
			}
		}
	}
	const bad = `{"type":"display","linkId":1}`
	text := "Expected a string (a text of at most 1048576 characters, none of them a control character), found a number."
	f(IssuesMax, bad, "", IssuesMax, text)
	f(IssuesMax+1, bad, "", IssuesMax+1, "1 more issues are not listed.")
	f(IssuesMax+300, bad, "", IssuesMax+1, "300 more issues are not listed.")
	// Warnings do not push an error out.
	f(300, `{"type":"display"}`, `,"foo":1`, WarningsMax+2, fmt.Sprintf("%d more issues are not listed.", 300-WarningsMax))
}

func TestWhatTheExamplesLackIsAWarning(t *testing.T) {
	c := NewChecker()
	issues := c.Check(scanned(t, `{"resourceType":"SearchParameter","url":"a","name":"n","status":"draft","description":"d","code":"c","type":"token"}`))
	if brief(issues) != "required SearchParameter.base" || issues[0].Severity != SeverityWarning || Refused(issues) {
		t.Errorf("got %+v, want one warning", issues)
	}
	issues = c.Check(scanned(t, `{"resourceType":"SearchParameter"}`))
	if !Refused(issues) {
		t.Errorf("got %+v, want a refusal", issues)
	}
}

func TestQuotedTextIsBounded(t *testing.T) {
	src := `{"resourceType":"Patient","birthDate":"` + strings.Repeat("é", 1000) + `","` + strings.Repeat("k", 1000) + `":1}`
	for _, issue := range NewChecker().Check(scanned(t, src)) {
		if len(issue.Text) > 300 || len(issue.Expression) > 100 {
			t.Errorf("issue is too long: %+v", issue)
		}
	}
}

func TestCheckDoesNotAllocate(t *testing.T) {
	src := scanned(t, `{"resourceType":"Patient","id":"a","text":{"status":"generated","div":"<div>\"\u00e9\"</div>"},"name":[{"given":["a",null],"_given":[null,{"extension":[{"url":"u","valueCode":"c"}]}]}],"birthDate":"1990-01-01","deceasedBoolean":false}`)
	c := NewChecker()
	if issues := c.Check(src); len(issues) > 0 {
		t.Fatal(issues)
	}
	if n := testing.AllocsPerRun(100, func() { c.Check(src) }); n != 0 {
		t.Errorf("a check allocates %v times", n)
	}
}

func TestEveryMemberIsFound(t *testing.T) {
	seen := 0
	for n := range nodes {
		for number := nodes[n].first; number < nodes[n].end; number++ {
			if got := table.find(uint16(n), []byte(members[number].key)); got != number {
				t.Errorf("%s.%s: found member %d, want %d", nodes[n].path, members[number].key, got, number)
			}
			seen++
		}
	}
	if seen != len(members)-1 || seen < 7000 {
		t.Errorf("the nodes have %d members, the table %d", seen, len(members)-1)
	}
	for code := fhir.TypeCode(1); code <= fhir.TypeMax; code++ {
		if path := nodes[resourceNodes[code]].path; path != code.String() {
			t.Errorf("the node of %s is %s", code, path)
		}
	}
	if slices.Contains(kindTexts[kindBoolean:], "") {
		t.Error("a primitive has no text")
	}
}
