package httpapi

import (
	"strings"
	"testing"
)

func TestViewsShowAPartAndSaySo(t *testing.T) {
	s := newAPI(t, nil)
	a := s.do(t, "PUT", "/fhir/Observation/o", `{"resourceType":"Observation","id":"o","meta":{"tag":[{"code":"x"}]},"text":{"status":"generated","div":"<div>SUBSETTED</div>"},"extension":[{"url":"u","valueString":"v"}],"modifierExtension":[{"url":"u","valueCode":"v"}],`+
		`"status":"final","code":{"extension":[{"url":"u","valueCode":"v"}],"text":"c","coding":[{"code":"1","extension":[{"url":"u","valueCode":"v"}]}]},"_valueString":{"id":"1"},"valueString":"\u00e9","method":{"text":"m"},"note":[{"text":"n"}],"component":[{"code":{"text":"d"},"valueQuantity":{"value":1.00},"dataAbsentReason":{"text":"r"}}]}`, typeHeader)
	a.expect(t, "create", 201, `W/"1"`)
	f := func(query, want string) {
		t.Helper()
		for _, path := range []string{"/fhir/Observation/o", "/fhir/Observation/o/_history/1"} {
			a := s.do(t, "GET", path+"?"+query, "").expect(t, query, 200, `W/"1"`)
			_, got, _ := strings.Cut(a.body, `Z",`)
			if got != want {
				t.Errorf("%s:\n got %s\nwant %s", query, got, want)
			}
		}
	}
	const tag = `{"system":"http://terminology.hl7.org/CodeSystem/v3-ObservationValue","code":"SUBSETTED"}`
	const meta = `"tag":[{"code":"x"},` + tag + `]}`
	const narrative = `,"text":{"status":"generated","div":"<div>SUBSETTED</div>"}`
	const code = `"code":{"extension":[{"url":"u","valueCode":"v"}],"text":"c","coding":[{"code":"1","extension":[{"url":"u","valueCode":"v"}]}]}`
	const rest = `,"_valueString":{"id":"1"},"valueString":"\u00e9"`
	f("_summary=true", meta+`,"modifierExtension":[{"url":"u","valueCode":"v"}],"status":"final","code":{"text":"c","coding":[{"code":"1"}]}`+rest+`,"component":[{"code":{"text":"d"},"valueQuantity":{"value":1.00}}]}`)
	f("_summary=text", meta+narrative+`,"status":"final",`+code+`}`)
	const modifier = `,"modifierExtension":[{"url":"u","valueCode":"v"}]`
	f("_elements=value", meta+modifier+`,"status":"final",`+code+rest+`}`)
	f("_elements=Observation.valueString,%20note", meta+modifier+`,"status":"final",`+code+rest+`,"note":[{"text":"n"}]}`)
	data := s.do(t, "GET", "/fhir/Observation/o?_summary=data", "").body
	whole := s.do(t, "GET", "/fhir/Observation/o?_summary=false", "").body
	if want := strings.Replace(strings.Replace(whole, narrative, "", 1), `[{"code":"x"}]`, `[{"code":"x"},`+tag+`]`, 1); data != want {
		t.Errorf("_summary=data: %s", data)
	}
	s.do(t, "PUT", "/fhir/Bundle/b", `{"resourceType":"Bundle","id":"b","type":"collection","entry":[{"resource":{"resourceType":"Patient","active":true,"contact":[{"gender":"male"}]}}]}`, typeHeader)
	if a := s.do(t, "GET", "/fhir/Bundle/b?_summary=true", ""); !strings.HasSuffix(a.body, `"type":"collection","entry":[{"resource":{"resourceType":"Patient","active":true}}]}`) {
		t.Errorf("inside a Bundle: %s", a.body)
	}
	s.put(t, "a", `,"active":true,"birthDate":"1990"`)
	a = s.do(t, "GET", "/fhir/Patient/a?_elements=gender", "")
	if !strings.HasSuffix(a.body, `,"tag":[`+tag+`]},"active":true}`) {
		t.Errorf("without tags: %s", a.body)
	}
}

func TestViewRefusals(t *testing.T) {
	s := newAPI(t, nil)
	s.put(t, "a", `,"active":true`)
	f := func(path, text string, headers ...string) {
		t.Helper()
		a := s.do(t, "GET", path, "", headers...)
		if _, got := a.outcome(t); a.status != 400 || !strings.Contains(got, text) {
			t.Errorf("%s: got %d %q", path, a.status, got)
		}
	}
	f("/fhir/Patient/a?_summary=count", "_summary")
	f("/fhir/Patient/a?_summary=short", "_summary")
	f("/fhir/Patient/a?_summary=true&_elements=name", "cannot both")
	f("/fhir/Patient/a?_elements=nonsense", "'nonsense' of the parameter '_elements'")
	f("/fhir/Patient/a?_elements=a&_elements=b", "more than once")
	s.do(t, "GET", "/fhir/Patient/a?_elements=nonsense", "", "Prefer: handling=lenient").expect(t, "lenient", 200, `W/"1"`)
	part := `,"meta":{"tag":[{"code":"x"},{"system":"http://terminology.hl7.org/CodeSystem/v3-ObservationValue","code":"SUBSETTED"}]}`
	if _, text := s.put(t, "a", part).expect(t, "a part", 400, "").outcome(t); !strings.Contains(text, "SUBSETTED") {
		t.Errorf("a part: %q", text)
	}
	s.put(t, "a", `,"name":[{"text":"SUBSETTED"}]`).expect(t, "the word", 200, `W/"2"`)
}
