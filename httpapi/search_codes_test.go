package httpapi

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// write stores a resource as another user would.
func (s *testServer) write(t *testing.T, path, body string) {
	t.Helper()
	if a := s.do(t, "PUT", "/fhir/"+path, body, typeHeader); a.status != 200 && a.status != 201 {
		t.Fatalf("PUT %s: %d %.300s", path, a.status, a.body)
	}
}

// testCodes compares searches by value sets with a look at every resource.
func testCodes(f func(string, is)) {
	const loinc = "http://loinc.org"
	coded := func(path string, codes ...any) is {
		return inside(path, has("system", loinc), has("code", codes...))
	}
	f("Observation?code:in=ValueSet/vitals", coded("code.coding", "8302-2", "8310-5", "8867-4"))
	f("Observation?code:in=http://example.org/vitals", coded("code.coding", "8302-2", "8310-5", "8867-4"))
	f("Observation?code:in=http://example.org/vitals&status=final", all(coded("code.coding", "8302-2", "8310-5", "8867-4"), has("status", "final")))
	f("Observation?code:not-in=http://example.org/vitals&_count=1000", notIs(coded("code.coding", "8302-2", "8310-5", "8867-4")))
	f("Observation?code:not-in=ValueSet/vitals,ValueSet/pressures&_count=1000", notIs(coded("code.coding", "8302-2", "8310-5", "8867-4", "85354-9", "8480-6", "8462-4")))
	f("Observation?combo-code:in=ValueSet/pressures", anyIs(coded("code.coding", "85354-9", "8480-6", "8462-4"), coded("component.code.coding", "85354-9", "8480-6", "8462-4")))
	f("Observation?component-code:below="+loinc+"|85354-9", coded("component.code.coding", "85354-9", "8480-6", "8462-4"))
	f("Observation?code:above="+loinc+"|8480-6", coded("code.coding", "85354-9", "8480-6"))
}

// vocabulary is what testCodes searches by.
func vocabulary(t *testing.T, s *testServer) {
	t.Helper()
	s.write(t, "ValueSet/vitals", `{"resourceType":"ValueSet","id":"vitals","url":"http://example.org/vitals","status":"active","compose":{"include":[{"system":"http://loinc.org","concept":[{"code":"8302-2"},{"code":"8310-5"},{"code":"8867-4"}]}]}}`)
	s.write(t, "ValueSet/pressures", `{"resourceType":"ValueSet","id":"pressures","status":"active","compose":{"include":[{"system":"http://loinc.org","filter":[{"property":"concept","op":"is-a","value":"85354-9"}]}]}}`)
	s.write(t, "CodeSystem/loinc", `{"resourceType":"CodeSystem","id":"loinc","url":"http://loinc.org","status":"active","content":"complete","hierarchyMeaning":"is-a","concept":[{"code":"85354-9","concept":[{"code":"8480-6"},{"code":"8462-4"}]}]}`)
}

// The pages of a search are of the value set as it was when the first was read, and
// the order of another parameter does not change what :text finds.
func TestSearchPagesByCodesShowOneMoment(t *testing.T) {
	s := newMemAPI(t)
	vocabulary(t, s)
	codes := []string{"8302-2", "8310-5", "8867-4"}
	var inOrder, byDate []string
	for i := range 9 {
		s.write(t, fmt.Sprintf("Observation/o%d", i), fmt.Sprintf(`{"resourceType":"Observation","id":"o%d","status":"final","effectiveDateTime":"20%d-01-01","code":{"coding":[{"system":"http://loinc.org","code":"%s","display":"Vital %d"}]}}`, i, 30-i, codes[i%3], i))
		inOrder, byDate = append(inOrder, fmt.Sprintf("o%d", i)), append([]string{fmt.Sprintf("o%d", i)}, byDate...)
	}
	f := func(path string, want []string) {
		t.Helper()
		var got []string
		for next := path; next != ""; {
			b := s.do(t, "GET", next, "").bundle(t)
			for _, e := range b.Entry {
				got = append(got, e.Resource.ID)
			}
			next = b.link("next")
			if next != "" {
				s.write(t, "ValueSet/vitals", `{"resourceType":"ValueSet","id":"vitals","url":"http://example.org/vitals","status":"active","compose":{"include":[{"system":"urn:none","concept":[{"code":"`+strings.Repeat("x", len(got))+`"}]}]}}`)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s gives %v, want %v", path, got, want)
		}
	}
	f("/fhir/Observation?code:in=ValueSet/vitals&_count=2", inOrder)
	vocabulary(t, s)
	f("/fhir/Observation?code:in=http://example.org/vitals&_sort=date&_count=2", byDate)
	vocabulary(t, s)
	f("/fhir/Observation?code:below=http://loinc.org|85354-9&_count=2", nil)
	f("/fhir/Observation?code:text=vital&_count=2", inOrder)
	f("/fhir/Observation?code:text=vital&_sort=date&_count=2", byDate)
	f("/fhir/Observation?code:text=VITAL%203&_sort=-date", []string{"o3"})
}
