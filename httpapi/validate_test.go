package httpapi

import (
	"strings"
	"testing"
)

const allOK = "information informational : All OK"

func TestValidateTellsWhatIsWrong(t *testing.T) {
	s := newAPI(t, nil)
	s.put(t, "a", `,"active":true`).expect(t, "a", 201, "-")
	f := func(path, body string, status int, want ...string) {
		t.Helper()
		headers := []string{typeHeader}
		if body == "" {
			headers = nil
		}
		expectIssues(t, path+" "+body, s.do(t, "POST", "/fhir/"+path, body, headers...), status, want...)
	}
	const good, bad = `{"resourceType":"Patient","id":"a"}`, `{"resourceType":"Patient","active":1}`
	f("Patient/$validate", good, 200, allOK)
	f("Patient/$validate", bad, 200, "error structure Patient.active: ")
	f("Patient/$validate?mode=create", good, 200, allOK)
	f("Patient/$validate", `{"resourceType":"Patient","active":}`, 400, "error structure : The request body is refused: not valid JSON at byte 35")
	f("Patient/$validate", `{"resourceType":"Dog"}`, 200, "error structure Resource: \"Dog\" is not a resource type of R4.")
	f("Observation/$validate", good, 400, "error invalid : The resource is of type 'Patient', and the address is for type 'Observation'.")
	f("Questionnaire/$validate", `{"resourceType":"Questionnaire","status":"draft","item":[{"type":"display"}]}`, 200, "warning required Questionnaire.item[0].linkId: ")
	f("Dog/$validate", good, 404, "error not-supported")

	f("Patient/a/$validate", good, 200, allOK)
	f("Patient/a/$validate?mode=update", good, 200, allOK)
	f("Patient/b/$validate?mode=update", good, 200, "error invalid Patient.id: The resource's id 'a' is not the id of the address, 'b'.")
	f("Patient/$validate?mode=update", bad, 200, "error structure Patient.active: ", "error invalid Patient.id: The resource has no id")

	f("Patient/a/$validate", "", 200, allOK)
	f("Patient/a/$validate?mode=delete", "", 200, allOK)
	f("Patient/b/$validate", "", 404, "error not-found")
	f("Patient/b/$validate?mode=delete", "", 404, "error not-found")
	f("Patient/b_c/$validate", "", 404, "error not-found")
	f("Patient/$validate?mode=delete", "", 400, "error invalid : The mode 'delete' is for one resource")
	f("Patient/$validate", "", 400, "error invalid : There is no resource to validate")
	f("Patient/$validate?mode=guess", good, 400, "error invalid : The mode 'guess'")
	f("Patient/$validate?mode=profile", good, 501, "error not-supported : Validation against a profile")
	f("Patient/$validate?profile=http://x", good, 501, "error not-supported : Validation against a profile")
	f("Patient/$validate?other=1", good, 400, "error not-supported : The parameter 'other'")
	if got := s.do(t, "GET", "/fhir/Patient/a", ""); got.header.Get("ETag") != `W/"1"` {
		t.Errorf("validating changed the resource: %s", got.header.Get("ETag"))
	}
}

func TestValidateTakesParameters(t *testing.T) {
	s := newAPI(t, nil)
	f := func(path, parameters string, status int, want ...string) {
		t.Helper()
		body := `{"resourceType":"Parameters","parameter":[` + parameters + `]}`
		expectIssues(t, path+" "+parameters, s.do(t, "POST", "/fhir/"+path, body, typeHeader), status, want...)
	}
	f("Patient/$validate", `{"name":"resource","resource":{"resourceType":"Patient"}}`, 200, allOK)
	f("Patient/$validate", `{"name":"resource","resource":{"resourceType":"Patient","a":1}},{"name":"mode","valueCode":"create"}`, 200, "error structure Patient.a: ")
	f("Patient/$validate", `{"name":"mode","valueCode":"update"},{"name":"resource","resource":{"resourceType":"Patient"}}`, 200, "error invalid Patient.id: ")
	f("Patient/$validate", `{"name":"profile","valueUri":"http://x"},{"name":"resource","resource":{"resourceType":"Patient"}}`, 501, "error not-supported : Validation against a profile")
	f("Patient/$validate", `{"name":"resource","resource":{"resourceType":"Patient","id":"a","id":"b"}}`, 200, "error structure : The request body is refused: repeated key")
	f("Patient/$validate", `{"name":"resource","resource":1}`, 200, "error invalid : The request body is refused: not a FHIR resource")
	f("Patient/$validate", `{"name":1}`, 400, "error invalid : The Parameters of $validate cannot be read")
	f("Patient/$validate", ``, 400, "error invalid : There is no resource to validate")
	f("Parameters/$validate", `{"name":"x","valueCode":"y"}`, 200, allOK)
	f("Parameters/$validate", `{"name":"x","valueFoo":"y"}`, 200, "error structure Parameters.parameter[0].valueFoo: ")
	f("Parameters/$validate", `{"name":"resource","resource":{"resourceType":"Parameters","parameter":[{"valueCode":"x"}]}}`, 200, "error required Parameters.parameter[0].name: ")
}

func TestValidateIsInTheCapabilityStatement(t *testing.T) {
	body := newAPI(t, nil).do(t, "GET", "/fhir/metadata", "").body
	if n := strings.Count(body, `"operation":[{"name":"validate","definition":"http://hl7.org/fhir/OperationDefinition/Resource-validate"},`); n != 146 {
		t.Errorf("%d resource types list $validate", n)
	}
}
