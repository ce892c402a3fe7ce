package httpapi

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"

	"kiln/httpapi/access"
)

// limitedExporter is a client of random system scopes, most of them filtered.
func (s *testServer) limitedExporter(t *testing.T, rng *rand.Rand, name string) string {
	t.Helper()
	filters := []string{"", "?code=lab", "?code=vital&status=final", "?code=lab,vital", "?subject=Patient/own", "?subject.family=Otherly", "?code:not=lab", "?nothing=1", "?_id=own"}
	var scopes []string
	for range 1 + rng.IntN(3) {
		typ := []string{"Observation", "Observation", "Observation", "Patient", "*"}[rng.IntN(5)]
		letters := []string{"rs", "rs", "rs", "cruds", "r", "s"}[rng.IntN(6)]
		scopes = append(scopes, "system/"+typ+"."+letters+filters[rng.IntN(len(filters))])
	}
	parsed, err := access.ParseScopes(strings.Join(scopes, " "))
	if err != nil || len(parsed.Malformed) > 0 {
		t.Fatal(scopes, err)
	}
	s.opts.Auth.(testAuth)[name] = &access.Principal{Issuer: "test", Subject: name, Scopes: parsed.Known, HasScopes: true}
	return strings.Join(scopes, " ")
}

// foundResources are the resources, byte for byte, that searches of all types give a
// client, where those may be read as well.
func (s *testServer) foundResources(t *testing.T, client, query string) (all []string) {
	t.Helper()
	for _, typ := range []string{"Group", "List", "Observation", "Patient", "Practitioner"} {
		a := s.as(t, client, "GET", "/fhir/"+typ+"?_count=1000"+query, "")
		if a.status == 403 {
			continue
		}
		var b struct {
			Entry []struct{ Resource json.RawMessage }
		}
		if err := json.Unmarshal([]byte(a.body), &b); err != nil || a.status != 200 {
			t.Fatalf("%d %s", a.status, a.body)
		}
		for _, e := range b.Entry {
			var r struct{ ResourceType, ID string }
			if err := json.Unmarshal(e.Resource, &r); err != nil {
				t.Fatal(err)
			}
			if s.as(t, client, "GET", "/fhir/"+r.ResourceType+"/"+r.ID, "").status == 200 {
				all = append(all, string(e.Resource))
			}
		}
	}
	slices.Sort(all)
	return all
}

// exportedLines are the lines of all files of an export, sorted: resources, and what was
// deleted as "Type/id".
func (s *testServer) exportedLines(t *testing.T, client string, m *jobResult) (resources, deleted []string) {
	t.Helper()
	for _, f := range slices.Concat(m.Output, m.Deleted) {
		a := s.as(t, client, "GET", f.URL, "")
		if a.status != 200 {
			t.Fatalf("%s: %d %s", f.URL, a.status, a.body)
		}
		for line := range strings.Lines(a.body) {
			if _, rest, ok := strings.Cut(line, `"method":"DELETE","url":"`); ok {
				name, _, _ := strings.Cut(rest, `"`)
				deleted = append(deleted, name)
				continue
			}
			resources = append(resources, strings.TrimSuffix(line, "\n"))
		}
	}
	slices.Sort(resources)
	slices.Sort(deleted)
	return resources, deleted
}

// TestLimitedExportsAreWhatIsFound: an export of a client with filtered scopes has the
// resources, byte for byte, that its searches of all types find, and tells of the
// deletions that it can read.
func TestLimitedExportsAreWhatIsFound(t *testing.T) {
	s := newGuarded(t)
	rng := rand.New(rand.NewPCG(3, 8))
	exports := 0
	for round := range 14 {
		s.moves(t, rng, 6)
		client := fmt.Sprint("random", round)
		scopes := s.limitedExporter(t, rng, client)
		query, filter := "", ""
		if rng.IntN(3) == 0 {
			filter = "code=lab"
			query = "&_type=Observation&_typeFilter=" + url.QueryEscape("Observation?"+filter)
		}
		a := s.as(t, client, "GET", "/fhir/$export?_since=2000-01-01"+query, "", asyncHeader, acceptHeader)
		if may, named := s.opts.Auth.(testAuth)[client], parseAddress([]byte("/fhir/Observation")).typ; !may.Has(access.Export, 0) || filter != "" && may.Export(named).None() {
			if a.status != 403 {
				t.Errorf("%s: %d %s", scopes, a.status, a.body)
			}
			continue
		}
		if a.status != 202 {
			t.Fatalf("%s, %s: %d %s", scopes, query, a.status, a.body)
		}
		exports++
		result := s.ended(t, client, a.header.Get("Content-Location")).result(t)
		got, deleted := s.exportedLines(t, client, result)
		var want []string
		if filter == "" {
			want = s.foundResources(t, client, "")
		} else {
			want = slices.DeleteFunc(s.foundResources(t, client, ""), func(r string) bool {
				return !strings.Contains(r, `"resourceType":"Observation"`) || !strings.Contains(r, `"code":"lab"`)
			})
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%s, %s:\n%s\nwant\n%s", scopes, query, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if told := s.deletedFor(t, client); filter == "" && !slices.Equal(deleted, told) {
			t.Fatalf("%s: %v were deleted, want %v", scopes, deleted, told)
		}
	}
	if exports < 7 {
		t.Errorf("only %d clients exported", exports)
	}
}

// deletedFor are the deleted resources that a client may read and find.
func (s *testServer) deletedFor(t *testing.T, client string) (all []string) {
	t.Helper()
	ids := []string{"own-gone", "other-gone"}
	for i := range 6 {
		ids = append(ids, fmt.Sprint("r", i))
	}
	who, observation := s.opts.Auth.(testAuth)[client], parseAddress([]byte("/fhir/Observation")).typ
	for _, id := range ids {
		if s.as(t, client, "GET", "/fhir/Observation/"+id, "").status != 410 {
			continue
		}
		both := &access.Principal{Scopes: slices.Clone(who.Scopes), HasScopes: true, Issuer: "test", Subject: client}
		for i := range both.Scopes { // those to search, as if they were to read
			if p := &both.Scopes[i].Permissions; *p&access.PermissionSearch != 0 {
				*p = access.PermissionRead
			} else {
				*p = 0
			}
		}
		s.opts.Auth.(testAuth)["both"] = both
		if !who.Export(observation).None() && s.as(t, "both", "GET", "/fhir/Observation/"+id, "").status == 410 {
			all = append(all, "Observation/"+id)
		}
	}
	slices.Sort(all)
	return all
}

// A file stays with who may still have what it was limited to.
func TestLimitedFilesAreForTheSameLimits(t *testing.T) {
	s := newGuarded(t)
	auth := s.opts.Auth.(testAuth)
	_, m := s.exported(t, "sys-filter", "$export")
	as := func(scopes string, status int) {
		t.Helper()
		parsed, err := access.ParseScopes(scopes)
		if err != nil {
			t.Fatal(err)
		}
		auth["same"] = &access.Principal{Issuer: "test", Subject: "sys-filter", Scopes: parsed.Known, HasScopes: true}
		if a := s.as(t, "same", "GET", m.Output[0].URL, ""); a.status != status {
			t.Errorf("%s: %d, want %d", scopes, a.status, status)
		}
	}
	as("system/Observation.rs?code=lab", 200)
	as("system/Observation.rs", 200)
	as("system/Observation.rs?code=vital system/Observation.rs?code=lab", 200)
	as("system/Observation.rs?code=vital", 403)
	as("system/Observation.r?code=lab system/Observation.s?code=vital", 403)
	as("system/Patient.rs", 403)
	if a := s.as(t, "exporter", "GET", "/fhir/$bulk-publish", ""); a.status != 404 {
		t.Errorf("a limited export is published: %d %s", a.status, a.body)
	}
}
