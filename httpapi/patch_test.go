package httpapi

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

const (
	jsonPatch  = "Content-Type: application/json-patch+json"
	mergePatch = "Content-Type: application/merge-patch+json"
)

func TestPatchMakesTheNextVersion(t *testing.T) {
	s := newAPI(t, nil)
	const start = `,"text":{"status":"generated","div":"<div>\u00b5 <b>x</b></div>"},"extension":[{"url":"http://x","valueDecimal":1.00}],"birthDate":"1990"`
	s.put(t, "a", start).expect(t, "create", 201, `W/"1"`)
	path := "/fhir/Patient/a"
	f := func(what, body, header string, status int, etag, want string) {
		t.Helper()
		a := s.do(t, "PATCH", path, body, header).expect(t, what, status, etag)
		read := s.do(t, "GET", path, "").expect(t, "read after "+what, 200, etag)
		if a.body != read.body || read.plainBody(t) != `{"resourceType":"Patient","id":"a"`+want+`}` {
			t.Errorf("%s: answered %s\nread %s", what, a.body, read.body)
		}
	}
	f("JSON Patch", `[{"op":"test","path":"/meta/versionId","value":"1"},{"op":"replace","path":"/birthDate","value":"1991"}]`, jsonPatch, 200, `W/"2"`, strings.Replace(start, "1990", "1991", 1))
	f("same content", `[{"op":"replace","path":"/birthDate","value":"1991"}]`, jsonPatch, 200, `W/"2"`, strings.Replace(start, "1990", "1991", 1))
	f("merge patch", `{"birthDate":null,"text":null,"active":true}`, mergePatch, 200, `W/"3"`, `,"extension":[{"url":"http://x","valueDecimal":1.00}],"active":true`)
	f("FHIRPath Patch", `{"resourceType":"Parameters","parameter":[{"name":"operation","part":[{"name":"type","valueCode":"add"},{"name":"path","valueString":"Patient"},{"name":"name","valueString":"name"},{"name":"value","valueHumanName":{"text":"\u00e9"}}]}]}`, typeHeader, 200, `W/"4"`,
		`,"extension":[{"url":"http://x","valueDecimal":1.00}],"active":true,"name":[{"text":"\u00e9"}]`)
}

func TestPatchRefusals(t *testing.T) {
	s := newAPI(t, nil)
	s.put(t, "a", `,"active":true`)
	s.put(t, "gone", "")
	s.do(t, "DELETE", "/fhir/Patient/gone", "")
	f := func(id, body string, status int, code, text string, headers ...string) {
		t.Helper()
		a := s.do(t, "PATCH", "/fhir/Patient/"+id, body, headers...)
		if gotCode, got := a.outcome(t); a.status != status || gotCode != code || !strings.Contains(got, text) {
			t.Errorf("%s %s: got %d %s %q", id, body, a.status, gotCode, got)
		}
	}
	good := `[{"op":"replace","path":"/active","value":false}]`
	f("x", good, 404, "not-found", "Resource type 'Patient' with id 'x' couldn't be found.", jsonPatch)
	f("gone", good, 410, "deleted", "is deleted", jsonPatch)
	f("a", good, 415, "not-supported", "use one of application/json-patch+json", "Content-Type: text/plain")
	f("a", good, 412, "conflict", "The supplied version '7' did not match.", jsonPatch, `If-Match: W/"7"`)
	f("a", good, 400, "not-supported", "If-None-Match", jsonPatch, `If-None-Match: *`)
	f("a", good, 400, "invalid", "'all'", jsonPatch, `Prefer: return=all`)
	f("a", `[{"op":"test","path":"/active","value":false}]`, 422, "processing", "Operation 1 of the patch: The value at the path '/active'", jsonPatch)
	f("a", `[{"op":"remove","path":"/name"}]`, 422, "processing", "There is nothing at the path '/name'.", jsonPatch)
	f("a", `[{"op":"remove"}]`, 400, "invalid", "'path'", jsonPatch)
	f("a", `[`, 400, "invalid", "The patch is refused: not valid JSON at byte 1", jsonPatch)
	f("a", ``, 400, "invalid", "The patch is refused", jsonPatch)
	f("a", `{"id":"b"}`, 400, "invalid", "cannot change the resource's type or id", mergePatch)
	f("a", `{"id":null}`, 400, "invalid", "cannot change the resource's type or id", mergePatch)
	f("a", `{"resourceType":"Group"}`, 400, "invalid", "cannot change the resource's type or id", mergePatch)
	f("a", `{"resourceType":null}`, 422, "processing", "no resource", mergePatch)
	f("a", good, 400, "invalid", "Parameters", typeHeader)
	if got := s.do(t, "GET", "/fhir/Patient/a", "").expect(t, "read", 200, `W/"1"`).plainBody(t); got != `{"resourceType":"Patient","id":"a","active":true}` {
		t.Errorf("refused patches left %s", got)
	}
	s.do(t, "PATCH", "/fhir/Patient/a", good, jsonPatch, `If-Match: W/"1"`).expect(t, "If-Match", 200, `W/"2"`)
	a := s.do(t, "PATCH", "/fhir/Patient/a", `{"active":true}`, mergePatch, "If-Match: *", "Prefer: return=minimal").expect(t, "If-Match *", 200, `W/"3"`)
	if a.body != "" {
		t.Errorf("return=minimal: %s", a.body)
	}
}

func TestRacingPatchesAllCount(t *testing.T) {
	s := newAPI(t, nil)
	s.put(t, "a", `,"name":[{"text":"start"}]`)
	const writers, each = 4, 5
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				s.do(t, "PATCH", "/fhir/Patient/a", fmt.Sprintf(`[{"op":"add","path":"/name/-","value":{"text":"%d.%d"}}]`, w, i), jsonPatch).expect(t, "patch", 200, "-")
			}
		})
	}
	wg.Wait()
	a := s.do(t, "GET", "/fhir/Patient/a", "").expect(t, "read", 200, fmt.Sprintf(`W/"%d"`, 1+writers*each))
	if n := strings.Count(a.body, `"text"`); n != 1+writers*each {
		t.Errorf("%d of %d names are there", n, 1+writers*each)
	}
}
