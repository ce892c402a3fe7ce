package httpapi

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"kiln/fhir/ucum"
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

// exampleUnits is a small table of our own, in the form of UCUM's.
func exampleUnits(t *testing.T) *ucum.Table {
	t.Helper()
	units, err := ucum.Read([]byte(`<root xmlns="http://unitsofmeasure.org/ucum-essence" version="test">
		<prefix Code="k"><value value="1e3"/></prefix><prefix Code="d"><value value="1e-1"/></prefix><prefix Code="c"><value value="1e-2"/></prefix><prefix Code="m"><value value="1e-3"/></prefix>
		<base-unit Code="m"/><base-unit Code="s"/><base-unit Code="g"/><base-unit Code="K"/>
		<unit Code="L" isMetric="yes"><value Unit="dm3" value="1"/></unit><unit Code="mol" isMetric="yes"><value Unit="1" value="6e23"/></unit>
		<unit Code="[in_i]" isMetric="no"><value Unit="cm" value="2.54"/></unit><unit Code="[lb_av]" isMetric="no"><value Unit="g" value="453.59237"/></unit>
		<unit Code="Pa" isMetric="yes"><value Unit="kg/(m.s2)" value="1"/></unit><unit Code="m[Hg]" isMetric="yes"><value Unit="kPa" value="133.322"/></unit>
		<unit Code="Cel" isMetric="yes" isSpecial="yes"><value Unit="cel(1 K)"><function name="Cel" value="1" Unit="K"/></value></unit>
		<unit Code="[degF]" isMetric="no" isSpecial="yes"><value Unit="degf(5 K/9)"><function name="degF" value="5" Unit="K/9"/></value></unit>
	</root>`))
	if err != nil {
		t.Fatal(err)
	}
	return units
}

// testUnits compares searches in other units with a look at every resource.
func testUnits(f func(string, is)) {
	// in is a quantity whose number, times the factor of its unit and plus 32 for
	// degrees, is as asked.
	in := func(path string, factors map[any]float64, plus float64, test func(float64) bool) is {
		var any []is
		for code, factor := range factors {
			any = append(any, inside(path, has("system", "http://unitsofmeasure.org"), has("code", code), number("value", func(n float64) bool { return test(n*factor + plus) })))
		}
		return anyIs(any...)
	}
	const ucum = "|http://unitsofmeasure.org|"
	length := map[any]float64{"cm": 0.01, "[in_i]": 0.0254}
	f("Observation?value-quantity=ge0.25"+ucum+"m", in("valueQuantity", length, 0, func(n float64) bool { return n >= 0.25 }))
	f("Observation?value-quantity=ge25"+ucum+"cm", in("valueQuantity", length, 0, func(n float64) bool { return n >= 0.25 }))
	f("Observation?value-quantity=lt1.5"+ucum+"m", in("valueQuantity", length, 0, func(n float64) bool { return n < 1.5 }))
	f("Observation?value-quantity=84"+ucum+"kg", in("valueQuantity", map[any]float64{"[lb_av]": 0.45359237}, 0, func(n float64) bool { return n >= 83.5 && n < 84.5 }))
	f("Observation?value-quantity=gt5"+ucum+"g/L", in("valueQuantity", map[any]float64{"g/dL": 10}, 0, func(n float64) bool { return n > 5 }))
	f("Observation?value-quantity=ap0.006"+ucum+"mol/L", in("valueQuantity", map[any]float64{"mmol/L": 0.001}, 0, func(n float64) bool { return n >= 0.0054 && n <= 0.0066 }))
	f("Observation?value-quantity=lt98"+ucum+"[degF]", in("valueQuantity", map[any]float64{"Cel": 1.8}, 32, func(n float64) bool { return n < 98 }))
	pressure := map[any]float64{"mm[Hg]": 0.133322, "kPa": 1}
	f("Observation?component-value-quantity=gt10"+ucum+"kPa", in("component.valueQuantity", pressure, 0, func(n float64) bool { return n > 10 }))
	f("Observation?combo-value-quantity=le8000"+ucum+"Pa", anyIs(in("component.valueQuantity", pressure, 0, func(n float64) bool { return n <= 8 }), in("valueQuantity", pressure, 0, func(n float64) bool { return n <= 8 })))
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
