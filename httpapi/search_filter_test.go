package httpapi

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// filtered is the address of a search with a _filter.
func filtered(typ, text string) string { return "/fhir/" + typ + "?_filter=" + url.QueryEscape(text) }

// What a _filter finds is what looking at every resource finds, and any tree of
// tests finds what the same tree of ordinary searches does.
func TestFiltersFindWhatLookingAtEverythingFinds(t *testing.T) {
	c := loadExamples(t)
	f := func(typ, text string, test is) {
		t.Helper()
		got, _, total := c.found(t, filtered(typ, text))
		slices.Sort(got)
		want := c.is(typ, test)
		if !slices.Equal(got, want) || total != len(got) {
			t.Errorf("%s finds\n%v, want\n%v", text, got, want)
		}
		if len(want) == 0 || len(want) > 1 && len(want) == len(c.is(typ, exists("id"))) {
			t.Errorf("%s: %d examples match, so it tests nothing", text, len(want))
		}
	}
	testFilterOperators(f)
	testFilterPaths(f)
	for _, typ := range []string{"Patient", "Observation"} {
		c.compareTrees(t, typ, filterLeaves[typ])
	}
}

func testFilterOperators(f func(typ, text string, test is)) {
	folded := func(test func(string) bool) func(string) bool {
		return func(s string) bool { return test(strings.ToLower(s)) }
	}
	f("Patient", `family eq "CHALMERS"`, has("name.family", "Chalmers"))
	f("Patient", `family eq Chalm or family eq chalmers`, has("name.family", "Chalmers"))
	f("Patient", `family ne chalmers`, holds("name.family", folded(func(s string) bool { return s != "chalmers" })))
	f("Patient", `family sw Chalm`, holds("name.family", begins("chalm")))
	f("Patient", `family ew Mers`, holds("name.family", folded(func(s string) bool { return strings.HasSuffix(s, "mers") })))
	f("Patient", `family co alm`, holds("name.family", folded(func(s string) bool { return strings.Contains(s, "alm") })))
	f("Patient", `family lt duck`, holds("name.family", folded(func(s string) bool { return s < "duck" })))
	f("Patient", `family le duck`, holds("name.family", folded(func(s string) bool { return s <= "duck" })))
	f("Patient", `family gt duck`, holds("name.family", folded(func(s string) bool { return s > "duck" })))
	f("Patient", `family ge duck`, holds("name.family", folded(func(s string) bool { return s >= "duck" })))
	f("Patient", `gender ne male`, all(exists("gender"), notIs(has("gender", "male"))))
	f("Patient", `not (gender eq male)`, notIs(has("gender", "male")))
	f("Patient", `gender pr false`, notIs(exists("gender")))
	f("Patient", `_id ne example`, notIs(has("id", "example")))
	f("Patient", `phone ne 0648352638`, inside("telecom", has("system", "phone"), notIs(has("value", "0648352638")), exists("value")))
	f("Observation", `code ne loinc|8302-2`, inside("code.coding", anyIs(exists("code"), exists("system")), notIs(all(has("code", "8302-2"), has("system", "http://loinc.org")))))
	f("Observation", `code eq loinc|8302-2`, inside("code.coding", has("code", "8302-2"), has("system", "http://loinc.org")))
	f("Observation", `date po 2012-09-17`, effective(func(a, b string) bool { return a[:10] <= "2012-09-17" && (b + "-12-31")[:10] >= "2012-09-17" }))
	f("Observation", `date co "2013-04-03T12:00:00Z"`, inside("effectivePeriod", holds("start", func(s string) bool { return s < "2013-04-03T12" }), anyIs(notIs(exists("end")), holds("end", func(s string) bool { return s > "2013-04-03T12" }))))
	f("ValueSet", `url ne http://hl7.org/fhir/ValueSet/example-extensional`, notIs(has("url", "http://hl7.org/fhir/ValueSet/example-extensional")))
	f("ValueSet", `url sw http://hl7.org/fhir/ValueSet/example-`, holds("url", begins("http://hl7.org/fhir/valueset/example-")))
}

func testFilterPaths(f func(typ, text string, test is)) {
	newborn := all(has("subject.reference", "#newborn"), inside("contained", has("id", "newborn"), has("gender", "male"), nameIs(begins("chalmers"))))
	f("Observation", `subject.name co "halm"`, anyIs(has("subject.reference", "Patient/example"), newborn))
	f("Observation", `subject:Patient[gender eq male and birthdate lt 1980].name co "halm"`, has("subject.reference", "Patient/example"))
	f("Observation", `subject[not (gender eq male)].name sw a or subject[gender eq male].family eq chalmers`, anyIs(has("subject.reference", "Patient/example"), newborn))
	f("Observation", `patient re Patient/f001 and not (status eq final)`, all(has("subject.reference", "Patient/f001"), notIs(has("status", "final"))))
	f("Patient", `_has:Observation:patient:code eq 15074-8`, has("id", "f001"))
	f("DocumentReference", `relatesTo[code eq appends].target re DocumentReference/example`, inside("relatesTo", has("code", "appends"), has("target.reference", "DocumentReference/example")))
}

// filterLeaves are tests and the ordinary searches that say the same.
var filterLeaves = map[string][][2]string{
	"Patient": {
		{`name sw van`, "name=van"}, {`name co "a"`, "name:contains=a"}, {`gender eq male`, "gender=male"}, {`gender eq female`, "gender=female"},
		{`active eq true`, "active=true"}, {`birthdate ge 1960`, "birthdate=ge1960"}, {`birthdate eq 1974-12-25`, "birthdate=1974-12-25"},
		{`birthdate ne 1944`, "birthdate=ne1944"}, {`organization pr true`, "organization:missing=false"}, {`organization.name pr true`, "organization.name:missing=false"},
		{`organization re Organization/1`, "organization=Organization/1"}, {`identifier eq 12345`, "identifier=12345"}, {`_id eq example`, "_id=example"},
		{`_lastUpdated gt 2020`, "_lastUpdated=gt2020"}, {`deceased eq true`, "deceased=true"}, {`_has:Observation:patient:status eq final`, "_has:Observation:patient:status=final"},
		{`address-city sw amster`, "address-city=amster"}, {`link pr false`, "link:missing=true"}, {`phone pr true`, "phone:missing=false"},
	},
	"Observation": {
		{`code eq loinc|8302-2`, "code=http://loinc.org|8302-2"}, {`code eq http://loinc.org|`, "code=http://loinc.org|"}, {`status eq final`, "status=final"},
		{`value-quantity gt 5`, "value-quantity=gt5"}, {`value-quantity eq 6.3|ucum|mmol/L`, "value-quantity=6.3|http://unitsofmeasure.org|mmol/L"},
		{`value-quantity le 100`, "value-quantity=le100"}, {`value-quantity ap 100`, "value-quantity=ap100"}, {`date ge 2012`, "date=ge2012"},
		{`date sa 2013`, "date=sa2013"}, {`date eb 2013`, "date=eb2013"}, {`subject re Patient/example`, "subject=Patient/example"}, {`subject re f001`, "subject=f001"},
		{`patient.name sw chal`, "patient.name=chal"}, {`subject:Patient[gender eq male].active eq true`, "subject:Patient._filter=gender eq male and active eq true"},
		{`component-code-value-quantity eq loinc|8480-6$lt200`, "component-code-value-quantity=loinc|8480-6$lt200"}, {`component-code pr true`, "component-code:missing=false"},
	},
}

// tree makes a random tree of tests, and what it finds by sets.
type tree struct {
	rng    *rand.Rand
	leaves []string
	found  []map[string]bool
	every  map[string]bool
}

func (r *tree) grow(depth int) (text string, finds map[string]bool) {
	kind := r.rng.IntN(5)
	if depth == 0 || kind == 0 {
		i := r.rng.IntN(len(r.leaves))
		return r.leaves[i], r.found[i]
	}
	text, finds = r.grow(depth - 1)
	if kind == 1 {
		return "not (" + text + ")", r.join(r.every, finds, func(a, b bool) bool { return a && !b })
	}
	text = "(" + text + ")"
	for range r.rng.IntN(3) + 1 { // from left to right
		more, also := r.grow(depth - 1)
		if r.rng.IntN(2) == 0 {
			text, finds = text+" and ("+more+")", r.join(finds, also, func(a, b bool) bool { return a && b })
		} else {
			text, finds = text+" or ("+more+")", r.join(finds, also, func(a, b bool) bool { return a || b })
		}
	}
	return text, finds
}

func (r *tree) join(a, b map[string]bool, test func(a, b bool) bool) map[string]bool {
	both := map[string]bool{}
	for name := range r.every {
		both[name] = test(a[name], b[name])
	}
	return both
}

// compareTrees compares random filters with sets of what ordinary searches find.
func (c *corpus) compareTrees(t *testing.T, typ string, leaves [][2]string) {
	t.Helper()
	set := func(path string) map[string]bool {
		names, _, _ := c.found(t, path)
		all := map[string]bool{}
		for _, name := range names {
			all[name] = true
		}
		return all
	}
	r := &tree{rng: rand.New(rand.NewPCG(1, uint64(len(typ)))), every: set("/fhir/" + typ + "?_count=1000")}
	for _, leaf := range leaves {
		name, value, _ := strings.Cut(leaf[1], "=")
		r.leaves = append(r.leaves, leaf[0])
		r.found = append(r.found, set(fmt.Sprintf("/fhir/%s?_count=1000&%s=%s", typ, name, url.QueryEscape(value))))
	}
	for range 150 {
		text, want := r.grow(3)
		got := set(filtered(typ, text) + "&_count=1000")
		for name := range r.every {
			if got[name] != want[name] {
				t.Fatalf("%s finds %s: %v, sets say %v", text, name, got[name], want[name])
			}
		}
	}
}

// A _filter stands beside other parameters, pages, sorts, and decides
// conditional interactions.
func TestFiltersAreParametersAsOthers(t *testing.T) {
	s := newMemAPI(t)
	for i, name := range []string{"Adam", "Berta", "Carl", "Dora", "Emil", "Frida"} {
		s.put(t, string(rune('a'+i)), fmt.Sprintf(`,"name":[{"given":[%q]}],"active":%t,"birthDate":"%d"`, name, i%2 == 0, 2000-i))
	}
	f := func(path string, want ...string) {
		t.Helper()
		got, _, _ := s.found(t, path)
		for i := range want {
			want[i] = "Patient/" + want[i]
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s finds %v, want %v", path, got, want)
		}
	}
	some := filtered("Patient", "given gt b and not (given eq emil)") // berta, carl, dora, frida
	f(some, "b", "c", "d", "f")
	f(some+"&active=true", "c")
	f(some+"&_filter="+url.QueryEscape("birthdate lt 1999"), "c", "d", "f")
	f(some+"&_sort=birthdate&_count=1", "f", "d", "c", "b")
	f("/fhir/Patient?_count=2&_filter="+url.QueryEscape(`given ew a or given ew "L"`), "b", "c", "d", "e", "f")
	f("/fhir/?_type=Patient,Practitioner&_filter="+url.QueryEscape("not (_id eq a)")+"&active=true", "c", "e")
	form := s.do(t, "POST", "/fhir/Patient/_search", "_filter="+url.QueryEscape("given eq Carl"), "Content-Type: "+contentTypeForm).bundle(t)
	if len(form.Entry) != 1 || form.Entry[0].Resource.ID != "c" {
		t.Errorf("POST finds %+v", form.Entry)
	}
	if a := s.do(t, "PUT", filtered("Patient", "given eq carl"), `{"resourceType":"Patient","gender":"male","name":[{"given":["Carl"]}]}`, typeHeader); a.status != 200 || !strings.Contains(a.body, `"id":"c"`) {
		t.Errorf("conditional update: %d %s", a.status, a.body)
	}
	if a := s.do(t, "POST", "/fhir/Patient", `{"resourceType":"Patient"}`, typeHeader, "If-None-Exist: _filter="+url.QueryEscape("given eq dora or given eq carl")); a.status != 412 {
		t.Errorf("conditional create of two: %d %s", a.status, a.body)
	}
	f("/fhir/Patient?_filter=", "a", "b", "d", "e", "f", "c")
}

// Both tests of a group's filter are about one element.
func TestFiltersOfOneElement(t *testing.T) {
	s := newMemAPI(t)
	text := func(code, value string) string {
		return fmt.Sprintf(`{"code":{"coding":[{"system":"http://loinc.org","code":%q}]},"valueCodeableConcept":{"coding":[{"code":%q}]},"exclude":false}`, code, value)
	}
	for id, characteristics := range map[string]string{"a": text("1", "x") + "," + text("2", "y"), "b": text("1", "y") + "," + text("2", "x")} {
		body := `{"resourceType":"Group","id":"` + id + `","type":"person","actual":false,"characteristic":[` + characteristics + `]}`
		if a := s.do(t, "PUT", "/fhir/Group/"+id, body, typeHeader); a.status != 201 {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	f := func(text string, want ...string) {
		t.Helper()
		got, _, _ := s.found(t, filtered("Group", text))
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s finds %v, want %v", text, got, want)
		}
	}
	f("characteristic[code eq loinc|1].value eq x", "Group/a")
	f("characteristic[value eq x].code eq 1", "Group/a")
	f("characteristic[code eq loinc|1 or code eq loinc|2].value eq y", "Group/a", "Group/b")
	f("not (characteristic[code eq 1].value eq x)", "Group/b")
	f("characteristic eq 1 and value eq y", "Group/a", "Group/b")
	f("characteristic[code eq 3].value eq x")
}

// Sets of codes are those of the modifiers :in, :not-in, :below and :above.
func TestFiltersOfCodeSets(t *testing.T) {
	s := newMemAPI(t)
	for _, r := range [][2]string{
		{"CodeSystem/s", `"url":"urn:s","status":"active","content":"complete","hierarchyMeaning":"is-a","concept":[{"code":"animal","concept":[{"code":"dog","concept":[{"code":"poodle"}]},{"code":"cat"}]}]`},
		{"ValueSet/v", `"url":"urn:v","status":"active","compose":{"include":[{"system":"urn:s","concept":[{"code":"dog"},{"code":"cat"}]}]}`},
		{"Basic/animal", ""}, {"Basic/dog", ""}, {"Basic/poodle", ""}, {"Basic/cat", ""},
	} {
		typ, id, _ := strings.Cut(r[0], "/")
		if r[1] == "" {
			r[1] = `"code":{"coding":[{"system":"urn:s","code":"` + id + `"}]}`
		}
		if a := s.do(t, "PUT", "/fhir/"+r[0], fmt.Sprintf(`{"resourceType":%q,"id":%q,%s}`, typ, id, r[1]), typeHeader); a.status != 201 {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	f := func(text string, want ...string) {
		t.Helper()
		got, _, _ := s.found(t, filtered("Basic", text))
		for i := range want {
			want[i] = "Basic/" + want[i]
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s finds %v, want %v", text, got, want)
		}
	}
	f("code in urn:v", "dog", "cat")
	f("code ni urn:v", "animal", "poodle")
	f("code ss urn:s|dog", "dog", "poodle")
	f("code sb urn:s|dog", "animal", "dog")
	f("code in ValueSet/v and not (code sb urn:s|poodle)", "cat")
	f("code ne urn:s|dog", "animal", "poodle", "cat")
}

// near is the distance on the great circle, in any unit.
func TestLocationsNearAPlace(t *testing.T) {
	s := newMemAPI(t)
	for id, position := range map[string]string{
		"berlin": `,"position":{"latitude":52.5200,"longitude":13.4050}`, "potsdam": `,"position":{"longitude":13.0645,"latitude":52.3906}`,
		"hamburg": `,"position":{"longitude":9.9937,"latitude":53.5511,"altitude":6}`, "nowhere": ``,
	} {
		if a := s.do(t, "PUT", "/fhir/Location/"+id, `{"resourceType":"Location","id":"`+id+`"`+position+`}`, typeHeader); a.status != 201 {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	f := func(query string, want ...string) {
		t.Helper()
		got, _, _ := s.found(t, "/fhir/Location?"+query)
		slices.Sort(got)
		for i := range want {
			want[i] = "Location/" + want[i]
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s finds %v, want %v", query, got, want)
		}
	}
	f("near=52.52|13.405|1", "berlin")
	f("near=52.52|13.405", "berlin", "potsdam") // 27 km
	f("near=52.52|13.405|26", "berlin")
	f("near=52.52|13.405|28|km", "berlin", "potsdam")
	f("near=52.52|13.405|28000|m", "berlin", "potsdam")
	f("near=52.52|13.405|16|[mi_us]", "berlin")
	f("near=52.52|13.405|17|mi", "berlin", "potsdam")
	f("near=52.52|13.405|1,53.55|9.99|1", "berlin", "hamburg")
	f("near=52.52|13.405||", "berlin", "potsdam")
	f("near=52.52|13.405|300&_count=1", "berlin", "hamburg", "potsdam")
	f("near:missing=true", "nowhere")
	f("_filter="+url.QueryEscape("near eq 52.52|13.405|26 or near pr false"), "berlin", "nowhere")
	if a := s.do(t, "PUT", "/fhir/Encounter/e", `{"resourceType":"Encounter","id":"e","status":"planned","class":{"code":"x"},"location":[{"location":{"reference":"Location/hamburg"}}]}`, typeHeader); a.status != 201 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	for path, want := range map[string]int{"Encounter?location.near=53.55|9.99|1": 1, "Encounter?location.near=52.52|13.405|1": 0} {
		if got, _, _ := s.found(t, "/fhir/"+path); len(got) != want {
			t.Errorf("%s finds %v", path, got)
		}
	}
}
