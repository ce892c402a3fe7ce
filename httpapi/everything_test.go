package httpapi

import (
	"slices"
	"strings"
	"testing"
)

func TestEverythingOfAPatient(t *testing.T) {
	c := loadExamples(t)
	matches, included, total := c.found(t, "/fhir/Patient/f001/$everything?_count=6")
	if total != len(matches) {
		t.Errorf("total %d, %d entries", total, len(matches))
	}
	for _, name := range matches {
		typ, id, _ := strings.Cut(name, "/")
		refers := c.is(typ, func(r map[string]any) bool {
			return r["id"] == id && (name == "Patient/f001" || mentions(r, "Patient/f001"))
		})
		if len(refers) != 1 {
			t.Errorf("%s is not the patient's", name)
		}
	}
	for _, want := range []string{"Patient/f001", "Observation/f001", "Encounter/f003", "Condition/f001"} {
		if !slices.Contains(matches, want) {
			t.Errorf("%s is missing", want)
		}
	}
	if !slices.Contains(included, "Organization/f001") || !slices.Contains(included, "Practitioner/f005") {
		t.Errorf("what is referred to is missing: %v", included)
	}
	some, brought, _ := c.found(t, "/fhir/Patient/f001/$everything?_type=Observation")
	slices.Sort(some)
	if want := c.is("Observation", has("subject.reference", "Patient/f001")); !slices.Equal(some, want) || len(brought) > 0 {
		t.Errorf("of one type: %v and %v, want %v", some, brought, want)
	}
	posted := c.do(t, "POST", "/fhir/Patient/f001/$everything", `{"resourceType":"Parameters","parameter":[{"name":"_type","valueString":"Observation"},{"name":"_count","valueInteger":2}]}`, typeHeader).bundle(t)
	if posted.Total != len(some) || len(posted.Entry) != 2 {
		t.Errorf("by POST: %d, %d entries", posted.Total, len(posted.Entry))
	}
	c.do(t, "GET", "/fhir/Patient/f001/$everything?start=2020", "").expect(t, "start", 400, "")
	c.do(t, "GET", "/fhir/Observation/f001/$everything", "").expect(t, "of an Observation", 404, "")
	if none, _, _ := c.found(t, "/fhir/Patient/f001/$everything?_since=2100-01-01"); len(none) > 0 {
		t.Errorf("of the future: %v", none)
	}
}

// mentions tells whether any value is the text.
func mentions(v any, text string) bool {
	switch v := v.(type) {
	case string:
		return v == text
	case []any:
		return slices.ContainsFunc(v, func(e any) bool { return mentions(e, text) })
	case map[string]any:
		for _, e := range v {
			if mentions(e, text) {
				return true
			}
		}
	}
	return false
}
