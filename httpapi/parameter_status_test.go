package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"kiln/bulk"
	"kiln/engine"
	"kiln/fhir"
	"kiln/internal/shareddata"
)

const (
	raceURL     = "http://example.org/SearchParameter/race"
	raceCode    = "Patient.extension.where(url = 'http://hl7.org/fhir/us/core/StructureDefinition/us-core-race').extension.value.code"
	raceText    = "Patient.extension('http://hl7.org/fhir/us/core/StructureDefinition/us-core-race').extension('text').value as string"
	birthPlace  = "Patient.extension.where(url='http://hl7.org/fhir/StructureDefinition/patient-birthPlace').value as Address"
	plainStatus = `,"status":"active"`
)

// definition is a SearchParameter for patients.
func definition(id, url, code, kind, expression, members string) string {
	return fmt.Sprintf(`{"resourceType":"SearchParameter","id":%q,"url":%q,"name":"x","description":"x","code":%q,"base":["Patient"],"type":%q,"expression":%q%s}`, id, url, code, kind, expression, members)
}

func (s *testServer) define(t *testing.T, id, url, code, kind, expression, members string) *answer {
	t.Helper()
	return s.do(t, "PUT", "/fhir/SearchParameter/"+id, definition(id, url, code, kind, expression, members), typeHeader)
}

// parameterState is what $status tells of a URL; "": nothing.
func (s *testServer) parameterState(t *testing.T, url string) string {
	t.Helper()
	var answer statusParameters
	a := s.do(t, "GET", "/fhir/SearchParameter/$status?url="+url, "").expect(t, "status", 200, "")
	if err := json.Unmarshal([]byte(a.body), &answer); err != nil || answer.Parameter[0].Name != "reindex" {
		t.Fatalf("%v in %s", err, a.body)
	}
	if len(answer.Parameter) == 1 {
		return ""
	}
	return answer.Parameter[1].Part[1].ValueString
}

// awaitEnabled asks until a parameter can be used; until then searches by it say
// that they cannot answer.
func (s *testServer) awaitEnabled(t *testing.T, url, search string) {
	t.Helper()
	for {
		switch state := s.parameterState(t, url); state {
		case statusEnabled:
			return
		case statusSupported:
			a := s.do(t, "GET", search, "")
			if a.status != 200 && (a.status != 503 || a.header.Get("Retry-After") == "" || !strings.Contains(a.body, "$status")) {
				t.Fatalf("while the index is built a search gives %d: %s", a.status, a.body)
			}
		default:
			t.Fatalf("the state of %s is %q", url, state)
		}
	}
}

// idsFound is the ids of a search's matches, sorted.
func (s *testServer) idsFound(t *testing.T, search string) []string {
	t.Helper()
	var bundle struct {
		Entry []struct{ Resource struct{ ID string } }
	}
	a := s.do(t, "GET", search, "")
	if err := json.Unmarshal([]byte(a.body), &bundle); err != nil || a.status != 200 {
		t.Fatalf("%s gives %d: %v, %.300s", search, a.status, err, a.body)
	}
	ids := []string{}
	for _, e := range bundle.Entry {
		ids = append(ids, e.Resource.ID)
	}
	slices.Sort(ids)
	return ids
}

// racePatient is what the test reads of a patient by itself.
type racePatient struct {
	id, line     string
	codes, texts []string
}

func (p racePatient) isWhite() bool { return slices.Contains(p.texts, "White") }

func racePatients(t *testing.T, most int) (all []racePatient) {
	t.Helper()
	for _, line := range shareddata.Lines(t, "data", "native-ndjson", "smart-1000-patients-partial") {
		if !bytes.HasPrefix(line, []byte(`{"resourceType":"Patient"`)) || len(all) == most {
			continue
		}
		type extension struct {
			URL, ValueString string
			ValueCoding      struct{ Code string }
			Extension        []struct {
				URL, ValueString string
				ValueCoding      struct{ Code string }
			}
		}
		var p struct {
			ID        string
			Extension []extension
		}
		if err := json.Unmarshal(line, &p); err != nil {
			t.Fatal(err)
		}
		r := racePatient{id: p.ID, line: string(line)}
		for _, e := range p.Extension {
			if !strings.HasSuffix(e.URL, "us-core-race") {
				continue
			}
			for _, inner := range e.Extension {
				r.codes = append(r.codes, inner.ValueCoding.Code)
				if inner.URL == "text" {
					r.texts = append(r.texts, inner.ValueString)
				}
			}
		}
		all = append(all, r)
	}
	return all
}

func idsOf(all []racePatient, has func(racePatient) bool) []string {
	ids := []string{}
	for _, p := range all {
		if has(p) {
			ids = append(ids, p.id)
		}
	}
	slices.Sort(ids)
	return ids
}

// A parameter over an extension of real patients: it is added, changed, taken
// away, and there after a restart.
func TestAddedParametersSearchRealPatients(t *testing.T) {
	patients, dir := racePatients(t, 120), t.TempDir()
	start := func(t *testing.T) *testServer {
		return newAPI(t, func(o *engine.Options, _ *bulk.Options, _ *Options) { o.Dir = dir })
	}
	byCode := func(t *testing.T, s *testServer, code string) {
		t.Helper()
		want := idsOf(patients, func(p racePatient) bool { return slices.Contains(p.codes, code) })
		if got := s.idsFound(t, "/fhir/Patient?_count=1000&race="+code); !slices.Equal(got, want) || len(want) == 0 {
			t.Errorf("race=%s finds %d patients, want %d", code, len(got), len(want))
		}
	}
	const white, search = "2106-3", "/fhir/Patient?race=2106-3"
	t.Run("added to runs and head", func(t *testing.T) {
		s := start(t)
		for i, p := range patients {
			s.do(t, "PUT", "/fhir/Patient/"+p.id, p.line, typeHeader).expect(t, "patient", 201, "-")
			if i%50 == 40 {
				if err := s.opts.Store.Flush(context.Background()); err != nil {
					t.Fatal(err)
				}
			}
		}
		s.do(t, "GET", search, "").expect(t, "unknown", 400, "")
		s.define(t, "race", raceURL, "race", "token", raceCode, plainStatus).expect(t, "define", 201, "-")
		s.awaitEnabled(t, raceURL, search)
		byCode(t, s, white)
		byCode(t, s, "2054-5")
		if a := s.do(t, "GET", "/fhir/metadata", ""); !strings.Contains(a.body, `{"name":"race","definition":"`+raceURL+`","type":"token"}`) {
			t.Error("the CapabilityStatement does not list it")
		}
		// Conditional interactions know it too.
		s.do(t, "PUT", "/fhir/Patient?race=nothing", `{"resourceType":"Patient","id":"cond"}`, typeHeader).expect(t, "conditional", 201, "-")
		s.do(t, "DELETE", "/fhir/Patient/cond?_hardDelete=true", "").expect(t, "purge", 204, "")
	})
	t.Run("after a restart, changed", func(t *testing.T) {
		s := start(t)
		s.awaitEnabled(t, raceURL, search)
		byCode(t, s, white)
		s.define(t, "race", raceURL, "race", "string", raceText, plainStatus).expect(t, "change", 200, "-")
		s.awaitEnabled(t, raceURL, search)
		want := idsOf(patients, racePatient.isWhite)
		if got := s.idsFound(t, "/fhir/Patient?_count=1000&race:exact=White"); !slices.Equal(got, want) || len(want) == 0 {
			t.Errorf("%d patients found by text, want %d", len(got), len(want))
		}
		if sorted := s.idsFound(t, "/fhir/Patient?_count=1000&_sort=race"); len(sorted) != len(patients) {
			t.Errorf("%d of %d patients sorted", len(sorted), len(patients))
		}
		s.do(t, "DELETE", "/fhir/SearchParameter/race", "").expect(t, "delete", 204, "-")
		s.do(t, "GET", search, "").expect(t, "deleted", 400, "")
		if state := s.parameterState(t, raceURL); state != "" {
			t.Errorf("a deleted parameter is %s", state)
		}
	})
	t.Run("after a restart, gone and there again", func(t *testing.T) {
		s := start(t)
		s.do(t, "GET", search, "").expect(t, "deleted", 400, "")
		s.define(t, "race", raceURL, "race", "token", raceCode, plainStatus).expect(t, "again", 201, "-")
		// The field was never forgotten, so there is nothing to wait for.
		if state := s.parameterState(t, raceURL); state != statusEnabled {
			t.Errorf("the parameter is %s", state)
		}
		byCode(t, s, white)
		s.do(t, "DELETE", "/fhir/SearchParameter/race?_hardDelete=true", "").expect(t, "purge", 204, "")
		s.do(t, "GET", search, "").expect(t, "purged", 400, "")
		if fields := len(s.opts.Store.Fields()); fields != 2 {
			t.Errorf("the store has %d fields", fields)
		}
	})
}

func TestUnusableParametersAreRefused(t *testing.T) {
	s := newAPI(t, nil)
	f := func(status int, text, code, kind, expression, members string) {
		t.Helper()
		a := s.define(t, "p", "http://example.org/p", code, kind, expression, members)
		if _, told := a.outcomeOrNothing(t); a.status != status || !strings.Contains(told, text) {
			t.Errorf("%s %s %s %s gives %d %q, want %d with %q", code, kind, expression, members, a.status, told, status, text)
		}
	}
	f(422, "Change it, or give it the status 'draft'", "gender", "token", raceCode, plainStatus)
	f(422, "is the one of http://hl7.org/fhir/SearchParameter/", "gender", "token", raceCode, plainStatus)
	f(422, "Patient has no element race", "race", "token", "Patient.race", plainStatus)
	f(422, "at character 9", "race", "token", "Patient.", plainStatus)
	f(422, "cannot be read from Address", "race", "token", birthPlace, plainStatus)
	f(422, "not supported", "race", "special", raceCode, plainStatus)
	f(422, "cannot stand in a search", "ra.ce", "token", raceCode, plainStatus)
	f(422, "component 1", "race", "composite", "Patient.contact", plainStatus+`,"component":[{"definition":"a","expression":"gender"},{"definition":"b","expression":"gender"}]`)
	f(201, "", "race", "token", "Patient.race", `,"status":"draft"`)
	f(422, "Patient has no element race", "race", "token", "Patient.race", plainStatus)
	f(200, "", "race", "string", birthPlace, plainStatus)
	if state := s.parameterState(t, "http://example.org/p"); state != statusEnabled {
		t.Errorf("the parameter is %s", state)
	}
	if a := s.define(t, "q", raceURL, "race", "token", raceCode, plainStatus); a.status != 422 || !strings.Contains(a.body, "is the one of http://example.org/p") {
		t.Errorf("a code is taken twice: %d %s", a.status, a.body)
	}
	// In one transaction the code goes from one to the other.
	bundle := `{"resourceType":"Bundle","type":"transaction","entry":[{"resource":` + definition("q", raceURL, "race", "token", raceCode, plainStatus) +
		`,"request":{"method":"PUT","url":"SearchParameter/q"}},{"request":{"method":"DELETE","url":"SearchParameter/p"}}]}`
	s.do(t, "POST", "/fhir", bundle, typeHeader).expect(t, "transaction", 200, "")
	if p, q := s.parameterState(t, "http://example.org/p"), s.parameterState(t, raceURL); p != "" || q != statusEnabled {
		t.Errorf("the parameters are %q and %q", p, q)
	}
	s.do(t, "PATCH", "/fhir/SearchParameter/q", `[{"op":"replace","path":"/status","value":"retired"}]`, "Content-Type: application/json-patch+json").expect(t, "retire", 200, "-")
	if q := s.parameterState(t, raceURL); q != "" {
		t.Errorf("a retired parameter is %q", q)
	}
	// R4's own parameters are data like any other.
	own := fhir.TypeByName([]byte("SearchParameter")).String()
	s.do(t, "PUT", "/fhir/"+own+"/gender", definition("gender", "http://hl7.org/fhir/SearchParameter/individual-gender", "gender", "token", "Patient.race", plainStatus), typeHeader).expect(t, "R4's", 201, "-")
}

// outcomeOrNothing is outcome for answers that may be something else.
func (a *answer) outcomeOrNothing(t *testing.T) (code, text string) {
	t.Helper()
	if a.status < 400 {
		return "", ""
	}
	return a.outcome(t)
}
