package main

import (
	"net/http"
	"strings"
	"testing"
)

// The checks must be able to fail; these tests make them.

func TestChecksThatSayNothingAreRefused(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		_, err := parseChecks("t.txt", text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v instead of %q", text, err, want)
		}
	}
	f("check a\n> GET /x\n< 200\n", "lacks")
	f("check a\n< 200\nid = 1\n", "lacks")
	f("check a\n> GET /x\n", "lacks")
	f("check a\n> GET\n", "METHOD PATH")
	f("check a\n> GET /x\n> (dance: now)\n< 200\nid = 1\n", "directive")
	f("check a\n> GET /x\n< 200\nid is 1\n", "a fact is")
	f("check a\n> GET /x\n< 200\n< ETag is 1\n", "a header is")
	f("chek a\n", "not known")
}

func TestWrongAnswersFailTheirCheck(t *testing.T) {
	const (
		patient  = `{"resourceType":"Patient","id":"a","meta":{"versionId":"2"}}`
		outcome  = `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"not-found","diagnostics":"x"}]}`
		fhirJSON = "application/fhir+json; charset=utf-8"
	)
	f := func(expected string, status int, contentType, body, want string, header ...string) {
		t.Helper()
		file, err := parseChecks("t.txt", "check a\n> GET /fhir/Patient/a\n"+expected)
		if err != nil {
			t.Fatal(err)
		}
		got := &answer{status: status, header: http.Header{}, body: []byte(body)}
		if contentType != "" {
			got.header.Set("Content-Type", contentType)
		}
		for i := 0; i+1 < len(header); i += 2 {
			got.header.Set(header[i], header[i+1])
		}
		c := file.checks[0]
		wrong := strings.Join(append(c.general(got), c.compare(got, variables{"known": "a"})...), "; ")
		if want == "" && wrong != "" || !strings.Contains(wrong, want) {
			t.Errorf("%q, %d %q: found %q instead of %q", expected, status, body, wrong, want)
		}
	}
	f("< 200\nid = a\n", 200, fhirJSON, patient, "")
	f("< 200\nid = {known}\n", 200, fhirJSON, patient, "", "ETag", `W/"2"`)
	f("< 201\nid = a\n", 200, fhirJSON, patient, "status 200 instead of 201")
	f("< 200\nid = b\n", 200, fhirJSON, patient, `id is "a" instead of "b"`)
	f("< 200\nid ~ ^b\n", 200, fhirJSON, patient, "does not match")
	f("< 200\nid absent\n", 200, fhirJSON, patient, "should not be there")
	f("< 200\nname = b\n", 200, fhirJSON, patient, "name is absent")
	f("< 200\nid = {unknown}\n", 200, fhirJSON, patient, "is not known")
	f("< 200\nid = a\n", 200, fhirJSON, "oops", "not JSON")
	f("< 200\nid = a\n", 200, "", patient, "no Content-Type")
	f("< 200\nid = a\n", 200, fhirJSON, patient, "ETag", "ETag", `W/"1"`)
	f("< 200\n< ETag: W/\"1\"\n", 200, fhirJSON, patient, "ETag is", "ETag", `W/"2"`)
	f("< 404\nissue[0].code = not-found\n", 404, fhirJSON, outcome, "")
	f("< 404\nissue[0].code = not-found\n", 404, "application/json", outcome, "Content-Type application/json")
	f("< 404\nbody ~ gone\n", 404, "text/html", "<h1>gone</h1>", "HTML")
	f("< 404\nid = a\n", 404, fhirJSON, patient, "not an OperationOutcome")
	f("< 404\nissue[0].code = missing\n", 404, fhirJSON, strings.Replace(outcome, "not-found", "missing", 1), "no issue type missing")
	f("< 404\nissue[0].code = not-found\n", 404, fhirJSON, strings.Replace(outcome, `"x"`, `""`, 1), "says nothing")
	f("< 405\nissue[0].code = not-found\n", 405, fhirJSON, outcome, "without Allow")
	f("< 204\n< ETag absent\n", 204, fhirJSON, patient, "has a body")
}
