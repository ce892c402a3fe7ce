package httpapi

import (
	"encoding/json"
	"strings"
	"testing"

	"kiln/bulk"
	"kiln/engine"
)

// issues lists an answer's issues as "severity code expression: diagnostics".
func (a *answer) issues(t *testing.T) (lines []string) {
	t.Helper()
	var o struct {
		ResourceType string
		Issue        []struct {
			Severity, Code, Diagnostics string
			Expression                  []string
		}
	}
	if err := json.Unmarshal([]byte(a.body), &o); err != nil || o.ResourceType != "OperationOutcome" {
		t.Fatalf("not an OperationOutcome: %d %q (%v)", a.status, a.body, err)
	}
	for _, is := range o.Issue {
		lines = append(lines, is.Severity+" "+is.Code+" "+strings.Join(is.Expression, ",")+": "+is.Diagnostics)
	}
	return lines
}

func expectIssues(t *testing.T, what string, a *answer, status int, want ...string) {
	t.Helper()
	got := a.issues(t)
	ok := a.status == status && len(got) == len(want)
	for i := 0; ok && i < len(want); i++ {
		ok = strings.HasPrefix(got[i], want[i])
	}
	if !ok {
		t.Errorf("%s: got %d with issues\n%s\nwant %d with\n%s", what, a.status, strings.Join(got, "\n"), status, strings.Join(want, "\n"))
	}
}

func TestWritesOfMisbuiltResourcesAreRefused(t *testing.T) {
	s := newAPI(t, nil)
	bad := `{"resourceType":"Patient","id":"a","active":"yes","name":[{"given":["x"]},{"nick":"y"}],"birthDate":"1990-13-01"}`
	want := []string{
		"error structure Patient.active: Expected a boolean",
		`error structure Patient.name[1].nick: Unknown element "nick": HumanName has none of that name.`,
		`error value Patient.birthDate: "1990-13-01" is not a date`,
	}
	expectIssues(t, "update", s.do(t, "PUT", "/fhir/Patient/a", bad, typeHeader), 400, want...)
	expectIssues(t, "create", s.do(t, "POST", "/fhir/Patient", bad, typeHeader), 400, want...)
	expectIssues(t, "read", s.do(t, "GET", "/fhir/Patient/a", ""), 404, "error not-found")
	s.put(t, "a", `,"active":true`).expect(t, "a right one", 201, `W/"1"`)
	patch := `[{"op":"add","path":"/birthDate","value":"x"}]`
	expectIssues(t, "patch", s.do(t, "PATCH", "/fhir/Patient/a", patch, "Content-Type: application/json-patch+json"), 422, "error value Patient.birthDate: ")
}

func TestWritesThatOnlyEarnWarningsAreTaken(t *testing.T) {
	s := newAPI(t, nil)
	s.do(t, "PUT", "/fhir/Questionnaire/q", `{"resourceType":"Questionnaire","id":"q","status":"draft","item":[{"type":"display"}]}`, typeHeader).expect(t, "q", 201, `W/"1"`)
}

func TestStructureCheckCanBeTurnedOff(t *testing.T) {
	s := newAPI(t, func(_ *engine.Options, _ *bulk.Options, o *Options) { o.ValidateWrites = false })
	s.put(t, "a", `,"active":"yes"`).expect(t, "a", 201, `W/"1"`)
	expectIssues(t, "$validate", s.do(t, "POST", "/fhir/Patient/a/$validate", ""), 200, "error structure Patient.active: ")
}

func TestManyIssuesAreBounded(t *testing.T) {
	s := newAPI(t, nil)
	a := s.put(t, "a", `,"name":[`+strings.Repeat(`{"x":1},`, 999)+`{"x":1}]`)
	got := a.issues(t)
	if a.status != 400 || len(got) != 21 || got[20] != "information informational : 980 more issues are not listed." {
		t.Errorf("got %d with %d issues, the last %q", a.status, len(got), got[len(got)-1])
	}
}
