package httpapi

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"kiln/bulk"
	"kiln/engine"
	"kiln/fhir"
	"kiln/internal/vfs"
)

// corpus is the examples of R4 in a server, and parsed.
type corpus struct {
	*testServer
	all []map[string]any
}

// loadExamples writes the examples; a small head has most of them in runs.
func loadExamples(t *testing.T) *corpus {
	t.Helper()
	c := &corpus{testServer: newAPI(t, func(store *engine.Options, _ *bulk.Options, o *Options) {
		store.FS, store.Dir, store.CatalogInMem, store.HeadBytes = vfs.NewMem(1), "data", true, 1<<20
		o.ValidateWrites, o.Units = false, exampleUnits(t)
	})}
	known := map[string]bool{}
	eachLine(t, "examples-r4.ndjson.gz", func(line []byte) {
		var r map[string]any
		if err := json.Unmarshal(line, &r); err != nil {
			return
		}
		id, _ := r["id"].(string)
		name, _ := r["resourceType"].(string)
		if !fhir.ValidID([]byte(id)) || known[name+"/"+id] {
			return
		}
		if a := c.do(t, "PUT", "/fhir/"+name+"/"+id, string(line), typeHeader, "Prefer: return=minimal"); a.status == 201 {
			known[name+"/"+id] = true
			c.all = append(c.all, r)
		}
	})
	if len(c.all) < 500 {
		t.Fatalf("only %d examples", len(c.all))
	}
	return c
}

// found reads all pages of a search: the matches and what they bring, as Type/id.
func (s *testServer) found(t *testing.T, path string) (matches, included []string, total int) {
	t.Helper()
	total = -1
	for next := path; next != ""; {
		a := s.do(t, "GET", next, "")
		var b struct {
			Total *int
			Link  []struct{ Relation, URL string }
			Entry []struct {
				FullURL  string
				Resource struct{ ResourceType, ID string }
				Search   struct{ Mode string }
			}
		}
		if err := json.Unmarshal([]byte(a.body), &b); err != nil || a.status != 200 {
			t.Fatalf("GET %s: %d %.300s", next, a.status, a.body)
		}
		if b.Total != nil {
			total = *b.Total
		}
		next = ""
		for _, l := range b.Link {
			if l.Relation == "next" {
				next = l.URL
			}
		}
		for _, e := range b.Entry {
			name := e.Resource.ResourceType + "/" + e.Resource.ID
			if e.Search.Mode == "outcome" {
				continue
			}
			if !strings.HasSuffix(e.FullURL, "/fhir/"+name) {
				t.Errorf("fullUrl %s of %s", e.FullURL, name)
			}
			if e.Search.Mode == "match" {
				matches = append(matches, name)
			} else {
				included = append(included, name)
			}
		}
	}
	return matches, included, total
}

// is is a resource's condition in plain Go.
type is func(r map[string]any) bool

// at gives every value at a path, through lists.
func at(value any, path string) []any {
	values := []any{value}
	for _, name := range strings.Split(path, ".") {
		var next []any
		for _, v := range values {
			if m, ok := v.(map[string]any); ok {
				next = append(next, flat(m[name])...)
			}
		}
		values = next
	}
	return values
}

func flat(v any) []any {
	switch v := v.(type) {
	case nil:
		return nil
	case []any:
		var all []any
		for _, e := range v {
			all = append(all, flat(e)...)
		}
		return all
	}
	return []any{v}
}

func has(path string, values ...any) is {
	return func(r map[string]any) bool {
		return slices.ContainsFunc(at(r, path), func(v any) bool { return slices.Contains(values, v) })
	}
}

func exists(path string) is { return func(r map[string]any) bool { return len(at(r, path)) > 0 } }

func holds(path string, test func(string) bool) is {
	return func(r map[string]any) bool {
		return slices.ContainsFunc(at(r, path), func(v any) bool { s, ok := v.(string); return ok && test(s) })
	}
}

func number(path string, test func(float64) bool) is {
	return func(r map[string]any) bool {
		return slices.ContainsFunc(at(r, path), func(v any) bool { n, ok := v.(float64); return ok && test(n) })
	}
}

func all(tests ...is) is {
	return func(r map[string]any) bool {
		return !slices.ContainsFunc(tests, func(test is) bool { return !test(r) })
	}
}

func anyIs(tests ...is) is {
	return func(r map[string]any) bool { return slices.ContainsFunc(tests, func(test is) bool { return test(r) }) }
}

func notIs(test is) is { return func(r map[string]any) bool { return !test(r) } }

// inside says that one element at path fits all tests.
func inside(path string, tests ...is) is {
	return func(r map[string]any) bool {
		return slices.ContainsFunc(at(r, path), func(v any) bool { m, ok := v.(map[string]any); return ok && all(tests...)(m) })
	}
}

// begins is R4's string match, for what has no accents.
func begins(prefix string) func(string) bool {
	return func(s string) bool { return strings.HasPrefix(strings.ToLower(s), prefix) }
}

// nameIs is a Patient's name parameter.
func nameIs(test func(string) bool) is {
	return anyIs(holds("name.family", test), holds("name.given", test), holds("name.text", test), holds("name.prefix", test), holds("name.suffix", test))
}

// period compares the span of effective with [first, last] as text of the same form.
func effective(test func(first, last string) bool) is {
	return func(r map[string]any) bool {
		for _, v := range at(r, "effectiveDateTime") {
			if s, ok := v.(string); ok && test(s, s) {
				return true
			}
		}
		for _, v := range at(r, "effectivePeriod") {
			m := v.(map[string]any)
			first, _ := m["start"].(string)
			last, open := m["end"].(string)
			if !open {
				last = "9999"
			}
			if test(first, last) {
				return true
			}
		}
		return false
	}
}

func (c *corpus) is(typ string, test is) []string {
	var names []string
	for _, r := range c.all {
		if r["resourceType"] == typ && test(r) {
			names = append(names, typ+"/"+r["id"].(string))
		}
	}
	slices.Sort(names)
	return names
}

// What a search finds is what looking at every resource finds.
func TestSearchFindsWhatLookingAtEverythingFinds(t *testing.T) {
	c := loadExamples(t)
	vocabulary(t, c.testServer)
	f := func(query string, test is) {
		t.Helper()
		typ, _, _ := strings.Cut(query, "?")
		got, _, total := c.found(t, "/fhir/"+query)
		if total != len(got) {
			t.Errorf("%s: total %d, %d entries", query, total, len(got))
		}
		slices.Sort(got)
		want := c.is(typ, test)
		if !slices.Equal(got, want) {
			t.Errorf("%s finds\n%v, want\n%v", query, got, want)
		}
		if len(want) == 0 && !strings.Contains(query, "nothing") {
			t.Errorf("%s: no example matches, so it tests nothing", query)
		}
	}
	everything := func(map[string]any) bool { return true }
	testTokens(f, everything)
	testStrings(f)
	testReferences(f)
	testOrdered(f)
	testComposites(f)
	testCodes(f)
	testUnits(f)
}

func testTokens(f func(string, is), everything is) {
	f("Patient", everything)
	f("Observation?_count=1000", everything)
	f("Observation?code=15074-8", has("code.coding.code", "15074-8"))
	f("Observation?code=http://loinc.org|15074-8", inside("code.coding", has("code", "15074-8"), has("system", "http://loinc.org")))
	f("Observation?code=http://loinc.org|", inside("code.coding", has("system", "http://loinc.org"), exists("code")))
	f("Observation?code=http://nothing.org|15074-8", notIs(everything))
	f("Observation?identifier=|patientId-urn:oid:1.2.4~0000000000000000~152584~20170503155426~820", inside("identifier", notIs(exists("system"))))
	f("Observation?code=8302-2,8310-5", has("code.coding.code", "8302-2", "8310-5"))
	f("Observation?code:not=8302-2", notIs(has("code.coding.code", "8302-2")))
	f("Observation?code:not=8302-2,8310-5&status=final", all(notIs(has("code.coding.code", "8302-2", "8310-5")), has("status", "final")))
	f("Observation?status=final", has("status", "final"))
	f("Observation?value-quantity:missing=true", notIs(anyIs(exists("valueQuantity.value"), exists("valueSampledData"))))
	f("Observation?value-quantity:missing=false", exists("valueQuantity.value"))
	f("Patient?active=true", has("active", true))
	f("Patient?deceased=false", notIs(anyIs(has("deceasedBoolean", true), exists("deceasedDateTime"))))
	f("Patient?gender=male&active=true", all(has("gender", "male"), has("active", true)))
	f("Patient?identifier=12345", has("identifier.value", "12345"))
	f("Patient?identifier:of-type=http://terminology.hl7.org/CodeSystem/v2-0203|MR|12345", inside("identifier", has("value", "12345"), has("type.coding.code", "MR")))
	f("Patient?phone:missing=false", inside("telecom", has("system", "phone"), exists("value")))
	f("Patient?email=p.heuvel@gmail.com", inside("telecom", has("system", "email"), has("value", "p.heuvel@gmail.com")))
	f("Patient?_id=example,f001,nothing", has("id", "example", "f001"))
	f("Patient?_id:not=example", notIs(has("id", "example")))
	f("Observation?code:text=body", anyIs(holds("code.coding.display", begins("body")), holds("code.text", begins("body"))))
	f("Observation?combo-code=8480-6", anyIs(has("code.coding.code", "8480-6"), has("component.code.coding.code", "8480-6")))
	f("Patient?_tag:missing=true", notIs(exists("meta.tag")))
	f("Patient?_lastUpdated=gt2020-01-01", everything)
	f("Patient?_lastUpdated=lt2020-01-01&name=nothing", notIs(everything))
	f("Observation?_has:DiagnosticReport:result:status=final", has("id", "bmd", "example-phenotype"))
}

func testStrings(f func(string, is)) {
	f("Patient?name=van", nameIs(begins("van")))
	f("Patient?family=Chal", holds("name.family", begins("chal")))
	f("Patient?family:exact=Chalmers", has("name.family", "Chalmers"))
	f("Patient?family:exact=chalmers&name=nothing", notIs(exists("id")))
	f("Patient?name:contains=alm", nameIs(func(s string) bool { return strings.Contains(strings.ToLower(s), "alm") }))
	f("Patient?address-city=amster", holds("address.city", begins("amster")))
	f("Patient?given=peter,kari&gender=male", all(anyIs(holds("name.given", begins("peter")), holds("name.given", begins("kari"))), has("gender", "male")))
	f("ValueSet?url=http://hl7.org/fhir/ValueSet/example-extensional", has("url", "http://hl7.org/fhir/ValueSet/example-extensional"))
	f("ValueSet?url:below=http://hl7.org/fhir/ValueSet/", holds("url", begins("http://hl7.org/fhir/valueset/")))
	f("ValueSet?url:above=http://hl7.org/fhir/ValueSet/example-extensional/x/y", has("url", "http://hl7.org/fhir/ValueSet/example-extensional"))
}

func testReferences(f func(string, is)) {
	f("Observation?subject=Patient/example", has("subject.reference", "Patient/example"))
	f("Observation?patient=example", has("subject.reference", "Patient/example"))
	f("Observation?subject=example", has("subject.reference", "Patient/example", "Group/example", "Device/example", "Location/example"))
	f("Observation?subject:Patient=f001,f201", has("subject.reference", "Patient/f001", "Patient/f201"))
	f("Observation?subject:Group=herd1", has("subject.reference", "Group/herd1"))
	contained := all(has("subject.reference", "#newborn"), inside("contained", has("id", "newborn"), nameIs(begins("chal"))))
	f("Observation?patient.name=chal", anyIs(has("subject.reference", "Patient/example"), contained))
	f("Observation?subject:Patient.family=van&status=final", all(has("subject.reference", "Patient/f001"), has("status", "final")))
	f("DiagnosticReport?result.code=24701-5", has("result.reference", "Observation/bmd"))
	f("DiagnosticReport?result.subject:Patient.name:missing=false", has("result.reference", "Observation/bmd"))
	f("Patient?_has:Observation:patient:code=15074-8", has("id", "f001"))
	f("Patient?_has:Observation:patient:_has:DiagnosticReport:result:status=final", has("id", "pat2"))
	f("Patient?organization:missing=true", notIs(exists("managingOrganization.reference")))
}

func testOrdered(f func(string, is)) {
	day := func(s string) string { return s[:min(len(s), 10)] }
	f("Observation?date=1999-07-02", effective(func(a, b string) bool { return day(a) == "1999-07-02" && day(b) == "1999-07-02" }))
	f("Observation?date=1999", effective(func(a, b string) bool { return a[:4] == "1999" && b[:4] == "1999" }))
	f("Observation?date=gt2016-05-18", effective(func(_, b string) bool { return day(b) > "2016-05-18" }))
	f("Observation?date=ge2016-05-18", effective(func(a, b string) bool { return day(b) > "2016-05-18" || day(a) == "2016-05-18" && day(b) == day(a) }))
	f("Observation?date=lt2012-09-17", effective(func(a, _ string) bool { return day(a) < "2012-09-17" }))
	f("Observation?date=le2012-09-17", effective(func(a, b string) bool { return day(a) < "2012-09-17" || day(a) == "2012-09-17" && day(b) == day(a) }))
	f("Observation?date=sa2016", effective(func(a, _ string) bool { return a[:4] > "2016" }))
	f("Observation?date=eb2013", effective(func(_, b string) bool { return b[:4] < "2013" }))
	f("Observation?date=ge2013-04-03&date=lt2013-05", effective(func(a, b string) bool { return day(b) >= "2013-04-03" && a[:7] < "2013-05" }))
	f("Patient?birthdate=ne1974-12-25", holds("birthDate", func(s string) bool { return s != "1974-12-25" }))
	f("Observation?value-quantity=gt80", number("valueQuantity.value", func(n float64) bool { return n > 80 }))
	f("Observation?value-quantity=le6.2", number("valueQuantity.value", func(n float64) bool { return n <= 6.2 }))
	f("Observation?value-quantity=6.2", number("valueQuantity.value", func(n float64) bool { return n >= 6.15 && n < 6.25 }))
	f("Observation?value-quantity=ne6.2", number("valueQuantity.value", func(n float64) bool { return n < 6.15 || n >= 6.25 }))
	f("Observation?value-quantity=ap40", number("valueQuantity.value", func(n float64) bool { return n >= 36 && n <= 44 }))
	cm := inside("valueQuantity", has("system", "http://unitsofmeasure.org"), has("code", "cm"), number("value", func(n float64) bool { return n >= 25 }))
	f("Observation?value-quantity=ge25||cm", cm)
	f("Observation?value-quantity=185||lbs", inside("valueQuantity", has("unit", "lbs"), has("value", 185.0)))
	f("RiskAssessment?probability=gt0.0008", number("prediction.probabilityDecimal", func(n float64) bool { return n > 0.0008 }))
}

func testComposites(f func(string, is)) {
	pressure := func(code string, test func(float64) bool) is {
		return inside("component", has("code.coding.code", code), number("valueQuantity.value", test))
	}
	f("Observation?component-code-value-quantity=http://loinc.org|8480-6$lt110", pressure("8480-6", func(n float64) bool { return n < 110 }))
	f("Observation?component-code-value-quantity=8480-6$lt110", pressure("8480-6", func(n float64) bool { return n < 110 }))
	f("Observation?component-code-value-quantity=8480-6$ge100||mmHg", pressure("8480-6", func(n float64) bool { return n >= 100 }))
	f("Observation?component-code-value-quantity=8462-4$60,8480-6$107", anyIs(pressure("8462-4", func(n float64) bool { return n == 60 }), pressure("8480-6", func(n float64) bool { return n == 107 })))
	f("Observation?code-value-quantity=http://loinc.org|8302-2$gt30", all(has("code.coding.code", "8302-2"), number("valueQuantity.value", func(n float64) bool { return n > 30 })))
	f("Observation?code-value-quantity:missing=false", all(exists("code.coding.code"), exists("valueQuantity.value")))
	f("DocumentReference?relationship=appends$DocumentReference/example", inside("relatesTo", has("code", "appends"), has("target.reference", "DocumentReference/example")))
	f("ActivityDefinition?context-type-value=age$D000328", inside("useContext", has("code.code", "age"), has("valueCodeableConcept.coding.code", "D000328")))
}

// Pages of any size make one list, whatever is written meanwhile.
func TestSearchPagesShowOneMoment(t *testing.T) {
	s := newMemAPI(t)
	var want []string
	for i := range 25 {
		id := fmt.Sprintf("p%02d", i)
		s.put(t, id, `,"active":true,"birthDate":"19`+strconv.Itoa(99-i)+`-01-01"`)
		want = append(want, "Patient/"+id)
	}
	next, got := "/fhir/Patient?active=true&_count=4", []string(nil)
	for page := 0; next != ""; page++ {
		b := s.do(t, "GET", next, "").bundle(t)
		for _, e := range b.Entry {
			got = append(got, "Patient/"+e.Resource.ID)
		}
		if b.Total != 25 {
			t.Errorf("page %d has total %d", page, b.Total)
		}
		next = b.link("next")
		s.put(t, fmt.Sprintf("p%02d", 24-page), `,"active":false`)
		s.put(t, fmt.Sprintf("new%d", page), `,"active":true`)
		s.do(t, "DELETE", fmt.Sprintf("/fhir/Patient/p%02d", 10+page), "")
	}
	if !slices.Equal(got, want) {
		t.Errorf("the pages have\n%v, want\n%v", got, want)
	}
}

func TestSearchByPOSTIsSearchByGET(t *testing.T) {
	s := newMemAPI(t)
	s.put(t, "a", `,"active":true`)
	s.put(t, "b", `,"active":false`)
	const form = "Content-Type: application/x-www-form-urlencoded"
	f := func(path, body string, ids ...string) {
		t.Helper()
		b := s.do(t, "POST", path, body, form).bundle(t)
		var got []string
		for _, e := range b.Entry {
			got = append(got, e.Resource.ID)
		}
		if !slices.Equal(got, ids) {
			t.Errorf("POST %s %s finds %v, want %v", path, body, got, ids)
		}
	}
	f("/fhir/Patient/_search", "active=true", "a")
	f("/fhir/Patient/_search?active=true", "", "a")
	f("/fhir/Patient/_search?active=true", "_id=b")
	f("/fhir/Patient/_search", "_count=1", "a")
	f("/fhir/_search", "_type=Patient,Group&_id=a", "a")
	if a := s.do(t, "POST", "/fhir/Patient/_search", "{}", typeHeader); a.status != 415 {
		t.Errorf("JSON is taken for a form: %d", a.status)
	}
}

func TestSearchesThatAreRefused(t *testing.T) {
	s := newMemAPI(t)
	f := func(path string, status int, text string) {
		t.Helper()
		a := s.do(t, "GET", "/fhir/"+path, "")
		if a.status != status {
			t.Fatalf("%s: %d %.200s, want %d", path, a.status, a.body, status)
		}
		if _, diagnostics := a.outcome(t); !strings.Contains(diagnostics, text) {
			t.Errorf("%s: %q, want %q", path, diagnostics, text)
		}
	}
	f("Patient?nonsense=1", 400, "'nonsense' is not supported for resource type 'Patient'")
	f("?birthdate=2020", 400, "'birthdate' is not supported for all resource types")
	f("Patient?birthdate=yesterday", 400, "'yesterday' of the parameter 'birthdate' is not a date")
	f("Patient?name:below=x", 400, "modifier ':below'")
	f("Patient?gender:in=http://x", 400, "no codes with a system")
	f("Observation?code:in=|1", 400, "neither the url of a ValueSet nor a reference")
	f("Patient?_text=x", 400, "'_text' is not supported")
	f("Patient?_filter=name%20eq", 400, "at character 8: a blank and a value is expected, not the end")
	f("Patient?_filter=gender%20in%20http://x", 400, "In _filter, at character 1: The modifier ':in'")
	f("Patient?_filter:not=name%20eq%20x", 400, "modifier ':not'")
	f("Location?near=1", 400, "latitude|longitude|distance|unit")
	f("Location?near=91|2", 400, "a latitude from -90 to 90")
	f("Location?near=1|2|3|furlong", 400, "The unit 'furlong'")
	f("Location?near:not=1|2", 400, "modifier ':not'")
	f("Patient?_contained=maybe", 400, "none of false, true and both")
	f("Patient?_contained=true&_sort=name", 400, "Leave it out")
	f("Patient?_score=1", 400, "order them with '_sort'")
	f("Patient?_query=x", 400, "no named queries")
	f("Patient?_list=$current-allergies", 400, "Name a List by its id")
	f("Observation?value-quantity=x", 400, "'x' of the parameter 'value-quantity' is too long, or is not a value of type quantity")
	f("Observation?value-quantity=1|mg", 400, "number|system|code")
	f("Observation?code-value-quantity=a", 400, "components")
	f("Observation?subject.nonsense=1", 400, "'nonsense' is not supported")
	f("Observation?subject:Nobody=1", 400, "modifier ':Nobody'")
	f("Observation?code.x=1", 400, "is no reference")
	f("Patient?_sort=nonsense", 400, "Sorting by 'nonsense'")
	f("Patient?_count=-1", 400, "'-1'")
	f("Patient?_total=some", 400, "'some'")
	f("Patient?_include=Patient", 400, "Type:parameter")
	f("Patient?_include=Patient:gender", 400, "is no reference")
	f("Patient?_summary=nonsense", 400, "'nonsense'")
	f("Patient?gender=x|male", 400, "has a system")
	f("Patient?ct=AAAA", 400, "paging token")
	f("Patient?_has:Observation:code=x", 400, "_has:Type:reference:parameter")
	f("?_type=Nobody", 400, "'Nobody'")
	f("Observation/x/Patient", 400, "no compartment")
	f("Patient/x/Observation", 404, "couldn't be found")
	f("Patient?"+strings.Repeat("active=true&", 501), 400, "more than 500 conditions")
	f("Patient?_sort="+strings.Repeat("birthdate,", 11)+"gender", 400, "more than 10 keys")
	f("Patient?"+strings.Repeat("_include=Patient:organization&", 101), 400, "more than 100 includes")
	s.put(t, "a", `,"active":true`)
	plan := s.do(t, "GET", "/fhir/Patient?active=true&_explain=true", "")
	if !strings.Contains(plan.body, "active (1 walks): 1 versions") {
		t.Errorf("the plan is not shown: %s", plan.body)
	}
	a := s.do(t, "GET", "/fhir/Patient?nonsense=1", "", "Prefer: handling=lenient")
	if a.status != 200 || !strings.Contains(a.body, `"mode":"outcome"`) || !strings.Contains(a.body, "'nonsense'") || strings.Contains(a.bundle(t).link("self"), "nonsense") {
		t.Errorf("lenient: %d %s", a.status, a.body)
	}
}

func TestIncludesBringWhatIsReferredTo(t *testing.T) {
	c := loadExamples(t)
	f := func(query string, matches []string, included ...string) {
		t.Helper()
		got, brought, _ := c.found(t, "/fhir/"+query)
		slices.Sort(got)
		slices.Sort(brought)
		if !slices.Equal(got, matches) || !slices.Equal(brought, included) {
			t.Errorf("%s finds %v and brings %v, want %v and %v", query, got, brought, matches, included)
		}
	}
	f("Observation?_id=f001&_include=Observation:patient", []string{"Observation/f001"}, "Patient/f001")
	f("Observation?_id=f001&_include=Observation:subject:Group", []string{"Observation/f001"})
	f("Observation?_id=f001&_include=Observation:*", []string{"Observation/f001"}, "Patient/f001", "Practitioner/f005")
	f("Observation?_id=f001&_include=Observation:patient&_include:iterate=Patient:organization", []string{"Observation/f001"}, "Organization/f001", "Patient/f001")
	f("Patient?_id=f001&_revinclude=Observation:subject&_revinclude=Encounter:patient", []string{"Patient/f001"},
		"Encounter/f001", "Encounter/f002", "Encounter/f003", "Observation/ekg", "Observation/f001", "Observation/f002", "Observation/f003", "Observation/f004", "Observation/f005", "Observation/unsat")
	got, _, _ := c.found(t, "/fhir/Patient/f001/Observation?date=gt2013-04-04")
	slices.Sort(got)
	if want := c.is("Observation", all(has("subject.reference", "Patient/f001"), effective(func(_, b string) bool { return b > "2013-04-05" }))); !slices.Equal(got, want) {
		t.Errorf("compartment: %v, want %v", got, want)
	}
	whole, _, _ := c.found(t, "/fhir/Patient/f001/*?_count=7")
	if !slices.Contains(whole, "Patient/f001") || !slices.Contains(whole, "Encounter/f001") || slices.Contains(whole, "Patient/example") {
		t.Errorf("the whole compartment has %v", whole)
	}
}

func TestSearchCountsWithoutEntries(t *testing.T) {
	s := newMemAPI(t)
	for i := range 5 {
		s.put(t, "p"+strconv.Itoa(i), `,"active":`+strconv.FormatBool(i > 1))
	}
	for _, path := range []string{"?active=true&_summary=count", "?active=true&_count=0"} {
		if b := s.do(t, "GET", "/fhir/Patient"+path, "").bundle(t); b.Total != 3 || len(b.Entry) > 0 {
			t.Errorf("%s: %d, %d entries", path, b.Total, len(b.Entry))
		}
	}
	if a := s.do(t, "GET", "/fhir/Patient?_total=none", ""); strings.Contains(a.body, `"total"`) {
		t.Errorf("_total=none: %s", a.body)
	}
}

func TestSearchIsSorted(t *testing.T) {
	c := loadExamples(t)
	f := func(sort, path string, rising bool) {
		t.Helper()
		got, _, total := c.found(t, "/fhir/Patient?_count=4&_sort="+sort)
		last, missing := "", false
		for i, name := range got {
			value := ""
			for _, r := range c.all {
				if r["resourceType"] == "Patient" && "Patient/"+r["id"].(string) == name && len(at(r, path)) > 0 {
					value = at(r, path)[0].(string)
				}
			}
			if wrong := value < last; value != "" && i > 0 && !missing && wrong == rising && value != last || value != "" && missing {
				t.Errorf("_sort=%s: %s with %q stands behind %q", sort, name, value, last)
			}
			last, missing = value, value == ""
		}
		if len(got) != total || total < 20 {
			t.Errorf("_sort=%s: %d of %d patients", sort, len(got), total)
		}
	}
	f("birthdate", "birthDate", true)
	f("-birthdate", "birthDate", false)
	f("gender", "gender", true)
	f("-gender", "gender", false)
	// Several may have one instant, so only the first and the last are told apart.
	got, _, _ := c.found(t, "/fhir/Patient?_sort=-_lastUpdated&_count=5")
	back, _, _ := c.found(t, "/fhir/Patient?_sort=_lastUpdated")
	if len(got) != len(back) || got[0] == back[0] || slices.Index(got, back[0]) < len(got)/2 {
		t.Errorf("by time: %v and %v", got, back)
	}
}

func TestPagingTokensOfSearchesAreForTheirSearch(t *testing.T) {
	s := newMemAPI(t)
	for i := range 3 {
		s.put(t, "p"+strconv.Itoa(i), `,"active":true`)
	}
	next := s.do(t, "GET", "/fhir/Patient?active=true&_count=1", "").bundle(t).link("next")
	_, token, ok := strings.Cut(next, "ct=")
	if !ok {
		t.Fatalf("no next page: %q", next)
	}
	f := func(path string, status int) {
		t.Helper()
		if a := s.do(t, "GET", "/fhir/"+path, ""); a.status != status {
			t.Errorf("%s: %d %.200s", path, a.status, a.body)
		}
	}
	f("Patient?active=true&_count=1&ct="+token, 200)
	f("Patient?active=true&_count=1&_format=json&ct="+token, 200)
	f("Patient?active=false&_count=1&ct="+token, 400)
	f("Patient?_count=1&ct="+token, 400)
	f("Group?active=true&_count=1&ct="+token, 400)
	f("Patient/_history?ct="+token, 400)
	for i := range token {
		other := []byte(token)
		if other[i] = 'A'; token[i] == 'A' {
			other[i] = 'B'
		}
		if _, err := decodeSearchToken(s.opts.PagingKey, string(other)); err == nil {
			t.Errorf("a token with another character %d is taken", i)
		}
	}
	if _, err := decodeSearchToken(make([]byte, pagingKeyBytes), token); err == nil {
		t.Error("a token of another store is taken")
	}
}
