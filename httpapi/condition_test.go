package httpapi

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// However many ask at once, a conditional create creates one, and a conditional
// update too; the same holds for transactions.
func TestRacingConditionsCreateOne(t *testing.T) {
	s := newMemAPI(t)
	f := func(name string, send func() int, path string) {
		t.Helper()
		var created atomic.Int64
		var all sync.WaitGroup
		for range 16 {
			all.Go(func() {
				if send() == 201 {
					created.Add(1)
				}
			})
		}
		all.Wait()
		if b := s.do(t, "GET", path, "").bundle(t); b.Total != 1 {
			t.Errorf("%s: there are %d", name, b.Total)
		}
		if n := created.Load(); n != 1 && name != "transaction" {
			t.Errorf("%s: %d were answered as created", name, n)
		}
	}
	f("create", func() int {
		return s.do(t, "POST", "/fhir/Patient", `{"resourceType":"Patient","identifier":[{"value":"a"}]}`, typeHeader, "If-None-Exist: identifier=a").status
	}, "/fhir/Patient?identifier=a")
	f("update", func() int {
		return s.do(t, "PUT", "/fhir/Patient?identifier=b&active=true", `{"resourceType":"Patient","active":true,"identifier":[{"value":"b"}]}`, typeHeader).status
	}, "/fhir/Patient?identifier=b")
	f("transaction", func() int {
		a, _ := s.bundle(t, "transaction", nil, entry("POST", "Patient", `{"resourceType":"Patient","identifier":[{"value":"c"}]}`, `,"ifNoneExist":"identifier=c"`))
		return a.status
	}, "/fhir/Patient?identifier=c")
}

// A conditional update of one resource by many loses nothing.
func TestRacingConditionalPatchesAreAllKept(t *testing.T) {
	s := newMemAPI(t)
	s.put(t, "a", `,"identifier":[{"value":"a"}]`)
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			patch := fmt.Sprintf(`[{"op":"add","path":"/identifier/-","value":{"value":"p%d"}}]`, i)
			if a := s.do(t, "PATCH", "/fhir/Patient?identifier=a", patch, "Content-Type: application/json-patch+json"); a.status != 200 {
				t.Errorf("patch: %d %s", a.status, a.body)
			}
		})
	}
	all.Wait()
	if got := s.do(t, "GET", "/fhir/Patient/a", "").body; strings.Count(got, `{"value":"p`) != 16 || !strings.Contains(got, `"versionId":"17"`) {
		t.Errorf("patches are lost: %s", got)
	}
}

func TestConditionsInTransactions(t *testing.T) {
	s := newMemAPI(t)
	s.put(t, "old", `,"identifier":[{"value":"old"}]`)
	s.put(t, "gone", `,"identifier":[{"value":"gone"}]`)
	s.put(t, "patched", `,"identifier":[{"value":"patched"}]`)
	a, b := s.bundle(t, "transaction", nil,
		entry("DELETE", "Patient?identifier=gone", "", ""),
		entry("DELETE", "Patient?identifier=nothing", "", ""),
		entry("PUT", "Patient?identifier=old", `{"resourceType":"Patient","active":true,"identifier":[{"value":"old"}]}`, ""),
		named("urn:uuid:1", entry("PUT", "Patient?identifier=new", `{"resourceType":"Patient","identifier":[{"value":"new"}]}`, "")),
		entry("PATCH", "Patient?identifier=patched", patchBinary("application/json-patch+json", `[{"op":"add","path":"/active","value":true}]`), ""),
		entry("POST", "Observation", `{"resourceType":"Observation","status":"final","code":{"text":"x"},"subject":{"reference":"urn:uuid:1"},"performer":[{"reference":"Patient?identifier=old"}]}`, ""))
	if a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	want := []string{"204 No Content", "204 No Content", "200 OK", "201 Created", "200 OK", "201 Created"}
	for i, e := range b.Entry {
		if e.Response.Status != want[i] {
			t.Errorf("entry %d: %s, want %s", i, e.Response.Status, want[i])
		}
	}
	s.do(t, "GET", "/fhir/Patient/gone", "").expect(t, "gone", 410, `W/"2"`)
	s.do(t, "GET", "/fhir/Patient/old", "").expect(t, "old", 200, `W/"2"`)
	if found := s.do(t, "GET", "/fhir/Observation?subject:Patient.identifier=new&performer=Patient/old", "").bundle(t); found.Total != 1 {
		t.Errorf("the new patient is not referred to: %d", found.Total)
	}
}

func TestConditionalDeleteOfSeveral(t *testing.T) {
	s := newMemAPI(t)
	for i := range 5 {
		s.put(t, fmt.Sprintf("p%d", i), `,"active":true`)
	}
	s.do(t, "DELETE", "/fhir/Patient?active=true", "").expect(t, "several", 412, "")
	s.do(t, "DELETE", "/fhir/Patient?active=true&_count=3", "").expect(t, "three", 204, "")
	if b := s.do(t, "GET", "/fhir/Patient?active=true", "").bundle(t); b.Total != 2 {
		t.Errorf("%d are left", b.Total)
	}
	s.do(t, "DELETE", "/fhir/Patient?active=true&_count=100", "").expect(t, "the rest", 204, "")
	s.do(t, "DELETE", "/fhir/Patient?active=true", "").expect(t, "nothing", 204, "")
	s.put(t, "x", `,"active":false`)
	s.do(t, "DELETE", "/fhir/Patient?active=false", "", `If-Match: W/"7"`).expect(t, "another version", 412, "")
	s.do(t, "DELETE", "/fhir/Patient?active=false", "", `If-Match: W/"1"`).expect(t, "this version", 204, `W/"2"`)
}
