package httpapi

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"

	"kiln/bulk"
	"kiln/engine"
	"kiln/httpapi/access"
	"kiln/internal/vfs"
)

// testAuth knows clients by the token that is their name.
type testAuth map[string]*access.Principal

func (a testAuth) Authenticate(ctx *fasthttp.RequestCtx) (*access.Principal, error) {
	given := string(ctx.Request.Header.Peek("Authorization"))
	name, ok := strings.CutPrefix(given, "Bearer ")
	switch {
	case given == "":
		return nil, nil
	case !ok || a[name] == nil:
		return nil, &access.CredentialsError{Code: "invalid_token", Text: "The token is not known."}
	}
	return a[name], nil
}

// clients are those of the tests, by role and by kind of scope. All scopes that are
// about a patient are about Patient/own.
func clients(t testing.TB) testAuth {
	all := testAuth{}
	role := func(name string, roles access.Roles) {
		all[name] = &access.Principal{Issuer: "test", Subject: name, Roles: roles}
	}
	role("reader", access.RoleReader)
	role("writer", access.RoleWriter)
	role("contributor", access.RoleContributor)
	role("importer", access.RoleImporter)
	role("exporter", access.RoleExporter)
	role("admin", access.RoleAdmin)
	role("nobody", 0)
	scopes := func(name, text string, roles access.Roles, patient string) {
		parsed, err := access.ParseScopes(text)
		if err != nil || len(parsed.Malformed) > 0 {
			t.Fatalf("%q: %v, error %v", text, parsed.Malformed, err)
		}
		all[name] = &access.Principal{Issuer: "test", Subject: name, Roles: roles, Scopes: parsed.Known, HasScopes: true, Patient: patient}
	}
	scopes("sys-rs", "system/*.rs", 0, "")
	scopes("sys-v1", "system/*.* openid", 0, "")
	scopes("sys-obs", "system/Observation.rs", 0, "")
	scopes("sys-filter", "system/Observation.cruds?code=lab", 0, "")
	scopes("sys-cud", "system/*.cud", access.RoleImporter, "")
	scopes("user-all", "user/*.cruds", 0, "")
	scopes("user-reader", "user/*.cruds", access.RoleReader, "")
	scopes("user-admin", "user/*.cruds", access.RoleAdmin, "")
	scopes("pat-all", "patient/*.cruds", 0, "own")
	scopes("pat-rs", "patient/*.rs", 0, "own")
	scopes("pat-obs", "launch/patient patient/Observation.rs?code=lab", 0, "own")
	scopes("pat-none", "patient/*.cruds", access.RoleAdmin, "")
	scopes("no-scope", "openid fhirUser", access.RoleAdmin, "own")
	return all
}

const fixtureBase = `{"resourceType":"Patient","id":"own","active":true,"name":[{"family":"Ownly"}]}
{"resourceType":"Patient","id":"other","name":[{"family":"Otherly"}]}
{"resourceType":"Practitioner","id":"p","name":[{"family":"Healer"}]}
{"resourceType":"Group","id":"g","type":"person","actual":true,"member":[{"entity":{"reference":"Patient/own"}},{"entity":{"reference":"Patient/other"}}]}
{"resourceType":"List","id":"other","status":"current","mode":"working","subject":{"reference":"Patient/other"},"entry":[{"item":{"reference":"Observation/own"}}]}
{"resourceType":"Observation","id":"own","status":"final","code":{"coding":[{"code":"lab"}]},"subject":{"reference":"Patient/own"},"performer":[{"reference":"Practitioner/p"}]}
{"resourceType":"Observation","id":"own-vital","status":"final","code":{"coding":[{"code":"vital"}]},"subject":{"reference":"Patient/own"}}
{"resourceType":"Observation","id":"own-gone","status":"final","code":{"coding":[{"code":"lab"}]},"subject":{"reference":"Patient/own"}}
{"resourceType":"Observation","id":"other","status":"final","code":{"coding":[{"code":"lab"}],"text":"SECRET"},"subject":{"reference":"Patient/other"},"hasMember":[{"reference":"Observation/own"}],"performer":[{"reference":"Practitioner/p"}]}
{"resourceType":"Observation","id":"other-gone","status":"final","code":{"coding":[{"code":"lab"}],"text":"SECRET"},"subject":{"reference":"Patient/other"}}
`

// newGuarded is a server that knows its clients, with resources of two patients.
func newGuarded(t *testing.T) *testServer {
	t.Helper()
	s := newAPI(t, func(o *engine.Options, _ *bulk.Options, h *Options) {
		o.FS, o.Dir, o.CatalogInMem = vfs.NewMem(1), "data", true
		h.Auth, h.ValidateWrites = clients(t), false
	})
	s.fixture(t)
	return s
}

// fixture writes the resources, and deletes what is gone.
func (s *testServer) fixture(t *testing.T) {
	t.Helper()
	for line := range strings.Lines(fixtureBase) {
		var r struct{ ResourceType, ID string }
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		path := "/fhir/" + r.ResourceType + "/" + r.ID
		if a := s.as(t, "admin", "PUT", path, line); a.status >= 300 {
			t.Fatalf("PUT %s: %d %s", path, a.status, a.body)
		}
		if strings.HasSuffix(r.ID, "gone") {
			s.as(t, "admin", "DELETE", path, "")
		}
	}
}

// as sends a request of a client; "": of one without credentials.
func (s *testServer) as(t *testing.T, client, method, path, body string, headers ...string) *answer {
	t.Helper()
	if client != "" {
		headers = append(headers, "Authorization: Bearer "+client)
	}
	if body != "" && !slices.ContainsFunc(headers, func(h string) bool { return strings.HasPrefix(h, "Content-Type: ") }) {
		headers = append(headers, typeHeader)
	}
	return s.do(t, method, path, body, headers...)
}

// foundBy are the ids that a search gives a client, and its total; -1: none is told.
func (s *testServer) foundBy(t *testing.T, client, path string) string {
	t.Helper()
	a := s.as(t, client, "GET", path, "")
	var b struct {
		Total *int
		Entry []struct {
			Resource struct{ ResourceType, ID string }
		}
	}
	if a.status != 200 {
		return fmt.Sprint(a.status)
	}
	if err := json.Unmarshal([]byte(a.body), &b); err != nil {
		t.Fatalf("GET %s: %v in %s", path, err, a.body)
	}
	ids := []string{}
	for _, e := range b.Entry {
		ids = append(ids, e.Resource.ResourceType+"/"+e.Resource.ID)
	}
	slices.Sort(ids)
	if b.Total != nil {
		ids = append(ids, fmt.Sprint(*b.Total))
	}
	return strings.Join(ids, " ")
}

// Searches find, count, bring along and go through what their client may see, and
// nothing else is there.
func TestSearchesAreLimited(t *testing.T) {
	s := newGuarded(t)
	f := func(client, path, want string) {
		t.Helper()
		if got := s.foundBy(t, client, "/fhir/"+path); got != want {
			t.Errorf("%s, GET %s:\n%s\nwant\n%s", client, path, got, want)
		}
	}
	const mine = "Observation/own Observation/own-vital"
	f("reader", "Observation", "Observation/other "+mine+" 3")
	f("sys-obs", "Observation", "Observation/other "+mine+" 3")
	f("pat-rs", "Observation", mine+" 2")
	f("pat-rs", "Observation?_summary=count", "2")
	f("pat-rs", "Observation?_total=accurate&_count=1&_sort=-code", "Observation/own-vital 2")
	f("pat-obs", "Observation", "Observation/own 1")
	f("sys-filter", "Observation", "Observation/other Observation/own 2")
	f("pat-rs", "Patient", "Patient/own 1")
	f("pat-rs", "Practitioner", "0")
	f("sys-obs", "Patient", "403")
	f("sys-obs", "?_type=Patient", "403")
	f("pat-none", "Observation", "403")
	f("no-scope", "Observation", "403")
	f("pat-rs", "", "Group/g "+mine+" Patient/own 4") // R4 has the groups of a patient in its compartment
	f("sys-obs", "", "Observation/other "+mine+" 3")
	f("pat-rs", "?_type=Patient,Observation", mine+" Patient/own 3")

	f("reader", "Observation?_id=own&_include=*", "Observation/own Patient/own Practitioner/p 1")
	f("pat-rs", "Observation?_id=own&_include=*", "Observation/own Patient/own 1")
	f("sys-obs", "Observation?_id=own&_include=*", "Observation/own 1")
	f("reader", "Observation?_id=own&_revinclude=*", "List/other Observation/other Observation/own 1")
	f("pat-rs", "Observation?_id=own&_revinclude=*", "Observation/own 1")
	f("pat-rs", "Observation?_id=own&_include:iterate=*&_revinclude:iterate=*", "Group/g "+mine+" Patient/own 1")

	f("pat-rs", "Observation?subject.family=Ownly", mine+" 2")
	f("sys-obs", "Observation?subject.family=Ownly", "0")
	f("sys-obs", "Observation?subject:Patient.family=Otherly", "0")
	f("pat-rs", "Observation?performer:Practitioner.family=Healer", "0")
	f("reader", "Observation?_has:Observation:has-member:code=lab", "Observation/own 1")
	f("pat-rs", "Observation?_has:Observation:has-member:code=lab", "0")
	f("reader", "Observation?_list=other", "Observation/own 1")
	f("pat-rs", "Observation?_list=other", "0")
	f("pat-rs", "Observation?_filter=subject.family%20eq%20%22Otherly%22", "0")
	f("sys-obs", "Observation?_filter=subject.family%20eq%20%22Otherly%22", "0")
	f("sys-obs", "Observation?_filter=not(subject.family%20eq%20%22Otherly%22)", "Observation/other "+mine+" 3")
	f("pat-rs", "Observation?_explain=true", "400")
	f("pat-rs", "Patient?_contained=true", "0")

	f("pat-rs", "Patient/own/Observation", mine+" 2")
	f("pat-rs", "Patient/other/Observation", "404")
	f("pat-rs", "Patient/missing/Observation", "404")
	f("pat-rs", "Patient/own/*", "Group/g "+mine+" Patient/own 4")
	f("sys-obs", "Patient/own/Observation", "404")
	f("sys-obs", "Patient/missing/Observation", "404")
	f("reader", "Patient/own/$everything", "Group/g "+mine+" Patient/own Practitioner/p 4")
	f("pat-rs", "Patient/own/$everything", "Group/g "+mine+" Patient/own 4")
	f("pat-rs", "Patient/other/$everything", "404")
	f("sys-obs", "Observation/_history?_summary=count", "7")
}

// What is contained in resources is found in those that may be found.
func TestContainedSearchesAreLimited(t *testing.T) {
	s := newGuarded(t)
	for _, patient := range []string{"own", "other"} {
		body := `{"resourceType":"Observation","id":"in-` + patient + `","status":"final","code":{"text":"a"},"subject":{"reference":"Patient/` + patient + `"},"performer":[{"reference":"#p"}],
			"contained":[{"resourceType":"Patient","id":"p","name":[{"family":"Inside"}]},{"resourceType":"Practitioner","id":"q","name":[{"family":"Inside"}]}]}`
		if a := s.as(t, "admin", "PUT", "/fhir/Observation/in-"+patient, body); a.status != 201 {
			t.Fatal(a.body)
		}
	}
	f := func(client, path, want string) {
		t.Helper()
		if got := s.foundBy(t, client, "/fhir/"+path); got != want {
			t.Errorf("%s, GET %s:\n%s\nwant\n%s", client, path, got, want)
		}
	}
	f("reader", "Patient?_contained=true&family=Inside", "Observation/in-other Observation/in-own 2")
	f("pat-rs", "Patient?_contained=true&family=Inside", "Observation/in-own 1")
	f("pat-rs", "Patient?_contained=both&_containedType=contained", "Patient/own Patient/p 2")
	f("pat-rs", "Patient?_contained=true&_summary=count", "1")
	f("pat-rs", "Practitioner?_contained=true", "Observation/in-own 1")
	f("pat-obs", "Observation?_contained=true", "0")
	f("sys-filter", "Observation?_contained=both", "Observation/other Observation/own 2")
	f("sys-obs", "Patient?_contained=true", "403")
}

// Whose a resource is does not depend on what its reader says that the server is called.
func TestTheHostMakesNobodyAPatient(t *testing.T) {
	s := newGuarded(t)
	s.as(t, "admin", "PUT", "/fhir/Observation/far", `{"resourceType":"Observation","id":"far","status":"final","code":{"text":"SECRET"},"subject":{"reference":"http://elsewhere.example/fhir/Patient/own"}}`)
	for _, path := range []string{"Observation?_id=far", "Observation/far", "Observation?code:text=secret", "Patient/own/Observation?_id=far"} {
		request := "GET /fhir/" + path + " HTTP/1.1\r\nHost: elsewhere.example\r\nAuthorization: Bearer pat-rs\r\nConnection: close\r\n\r\n"
		for _, a := range s.raw(t, request) {
			if strings.Contains(a.body, "SECRET") {
				t.Errorf("GET %s: %d %s", path, a.status, a.body)
			}
		}
	}
}

// The histories that a limited client reads begin and end with its compartment.
func TestHistoriesAreLimited(t *testing.T) {
	s := newGuarded(t)
	observation := func(patient, text string) string {
		return `{"resourceType":"Observation","id":"moved","status":"final","code":{"text":"` + text + `","coding":[{"code":"lab"}]},"subject":{"reference":"Patient/` + patient + `"}}`
	}
	s.as(t, "admin", "PUT", "/fhir/Observation/moved", observation("other", "SECRET"))
	s.as(t, "admin", "PUT", "/fhir/Observation/moved", observation("own", "mine"))
	s.as(t, "admin", "DELETE", "/fhir/Observation/moved", "")
	f := func(client, path string, status int, total string) {
		t.Helper()
		a := s.as(t, client, "GET", "/fhir/Observation/"+path, "")
		if a.status != status || total != "" && !strings.Contains(a.body, `"total":`+total+`,`) {
			t.Errorf("%s, GET %s: %d %s", client, path, a.status, a.body)
		}
		if client != "reader" && strings.Contains(a.body, "SECRET") {
			t.Errorf("%s, GET %s tells the secret", client, path)
		}
		if status == 404 && (a.header.Get("ETag") != "" || a.header.Get("Last-Modified") != "") {
			t.Errorf("%s, GET %s has headers of what is not there: %v", client, path, a.header)
		}
	}
	f("reader", "moved/_history", 200, "3")
	f("pat-rs", "moved/_history", 200, "2")
	f("pat-rs", "moved/_history/1", 404, "")
	f("pat-rs", "moved/_history/2", 200, "")
	f("pat-rs", "moved/_history/3", 410, "")
	f("pat-rs", "moved", 410, "")
	f("pat-rs", "own-gone", 410, "")
	f("pat-rs", "other-gone", 404, "")
	f("pat-rs", "other-gone/_history", 404, "")
	f("pat-rs", "other-gone/_history/2", 404, "")
	f("pat-rs", "other/_history", 404, "")
	s.as(t, "admin", "PUT", "/fhir/Observation/moved", observation("other", "SECRET"))
	f("pat-rs", "moved/_history", 404, "")
	f("pat-rs", "moved/_history/2", 404, "")
}

// A limited client writes into what it reaches, out of what it reaches, and is told of
// the rest what it is told of what is missing.
func TestWritesAreLimited(t *testing.T) {
	s := newGuarded(t)
	observation := func(id, patient, code string) string {
		text := `{"resourceType":"Observation","id":"` + id + `","status":"final","code":{"coding":[{"code":"` + code + `"}]},"subject":{"reference":"Patient/` + patient + `"}}`
		return strings.Replace(text, `"id":"",`, "", 1)
	}
	patch := func(patient string) string {
		return `[{"op":"replace","path":"/subject/reference","value":"Patient/` + patient + `"}]`
	}
	const jsonPatch = "Content-Type: application/json-patch+json"
	f := func(client, request, body string, status int, headers ...string) *answer {
		t.Helper()
		method, path, _ := strings.Cut(request, " ")
		a := s.as(t, client, method, "/fhir/"+path, body, headers...)
		if a.status != status {
			t.Errorf("%s, %s: %d %s, want %d", client, request, a.status, a.body, status)
		}
		return a
	}
	f("pat-all", "POST Observation", observation("", "own", "lab"), 201)
	f("pat-all", "POST Observation", observation("", "other", "lab"), 403)
	f("pat-all", "POST Patient", `{"resourceType":"Patient"}`, 403)
	f("pat-all", "POST Practitioner", `{"resourceType":"Practitioner"}`, 403)
	f("pat-all", "PUT Observation/own", observation("own", "own", "other-code"), 200)
	f("pat-all", "PUT Observation/own", observation("own", "other", "lab"), 403)
	f("pat-all", "PUT Observation/other", observation("other", "own", "lab"), 404)
	f("pat-all", "PUT Observation/missing", observation("missing", "own", "lab"), 404)
	f("pat-all", "PUT Observation/other", observation("other", "own", "lab"), 404, `If-Match: W/"1"`)
	f("pat-all", "PUT Observation/other", observation("other", "own", "lab"), 404, `If-None-Match: *`)
	f("pat-all", "PUT Observation/own", observation("own", "own", "lab"), 412, `If-None-Match: *`)
	f("pat-all", "PUT Observation/own", observation("own", "own", "lab"), 412, `If-Match: W/"1"`)
	f("pat-all", "PUT Observation/own", observation("own", "own", "lab"), 200, `If-Match: W/"2"`)
	f("pat-all", "PUT Observation/own-gone", observation("own-gone", "own", "lab"), 201)
	f("pat-all", "PATCH Observation/own", patch("other"), 403, jsonPatch)
	f("pat-all", "PATCH Observation/other", patch("own"), 404, jsonPatch)
	f("pat-all", "DELETE Observation/other", "", 404)
	f("pat-all", "DELETE Observation/missing", "", 404)
	f("pat-all", "DELETE Observation/own-vital", "", 204)
	f("pat-rs", "DELETE Observation/own", "", 403)
	f("sys-filter", "PUT Observation/own", observation("own", "own", "vital"), 403)
	f("sys-filter", "POST Observation", observation("", "other", "lab"), 201)

	f("pat-all", "POST Observation", observation("", "own", "lab"), 201, "If-None-Exist: subject=Patient/other")
	f("writer", "POST Observation", observation("", "own", "lab"), 403, "If-None-Exist: code=lab")
	f("pat-all", "PUT Observation?_id=other", observation("other", "own", "lab"), 404)
	f("pat-all", "PUT Observation?subject=Patient/other", observation("", "own", "lab"), 201)
	f("pat-all", "DELETE Observation?_id=other", "", 204)
	f("pat-all", "PATCH Observation?_id=other", patch("own"), 404, jsonPatch)
	f("reader", "GET Observation/other", "", 200)
	if a := f("writer", "PATCH Observation/other", patch("other"), 200, jsonPatch); a.body != "" {
		t.Errorf("who may not read is given %s", a.body)
	}
	f("contributor", "DELETE Observation/own?_hardDelete=true", "", 403)
	f("contributor", "DELETE Observation/own/$purge-history", "", 403)
	f("contributor", "POST SearchParameter", `{"resourceType":"SearchParameter"}`, 403)
	f("user-reader", "DELETE Observation/own", "", 403)
	f("admin", "DELETE Observation/own?_hardDelete=true", "", 204)
}

// Entries of a batch are decided about one by one, a transaction as a whole.
func TestBundlesAreLimited(t *testing.T) {
	s := newGuarded(t)
	entries := []string{
		`{"request":{"method":"GET","url":"Observation/own"}}`, `{"request":{"method":"GET","url":"Observation/other"}}`,
		`{"request":{"method":"GET","url":"Practitioner/p"}}`, `{"request":{"method":"GET","url":"Observation?_summary=count"}}`,
		`{"request":{"method":"DELETE","url":"Observation/own?_hardDelete=true"}}`, `{"request":{"method":"GET","url":"$bulk-publish"}}`,
		`{"request":{"method":"POST","url":"$backup"}}`,
		`{"resource":{"resourceType":"Observation","status":"final","code":{"text":"a"},"subject":{"reference":"Patient/other"}},"request":{"method":"POST","url":"Observation"}}`,
	}
	bundle := func(kind string, entries ...string) string {
		return `{"resourceType":"Bundle","type":"` + kind + `","entry":[` + strings.Join(entries, ",") + `]}`
	}
	a := s.as(t, "pat-all", "POST", "/fhir", bundle("batch", entries...))
	var got []string
	var b struct {
		Entry []struct{ Response struct{ Status string } }
	}
	if err := json.Unmarshal([]byte(a.body), &b); err != nil || a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	for _, e := range b.Entry {
		got = append(got, e.Response.Status[:3])
	}
	if want := "200 404 404 200 403 403 403 403"; strings.Join(got, " ") != want || strings.Contains(a.body, "SECRET") {
		t.Errorf("entries are answered %v, want %s: %s", got, want, a.body)
	}
	mine := `{"resource":{"resourceType":"Observation","id":"own","status":"final","code":{"text":"new"},"subject":{"reference":"Patient/own"}},"request":{"method":"PUT","url":"Observation/own"}}`
	theirs := strings.ReplaceAll(mine, "own", "other")
	linked := `{"resource":{"resourceType":"Observation","status":"final","code":{"text":"new"},"subject":{"reference":"Patient?family=Otherly"}},"request":{"method":"POST","url":"Observation"}}`
	f := func(status int, entries ...string) {
		t.Helper()
		if a := s.as(t, "pat-all", "POST", "/fhir", bundle("transaction", entries...)); a.status != status {
			t.Errorf("%d %s, want %d", a.status, a.body, status)
		}
	}
	f(403, mine, theirs)
	f(403, mine, entries[7])
	f(404, mine, entries[1])
	f(412, mine, linked)
	if a := s.as(t, "reader", "GET", "/fhir/Observation/own/_history?_summary=count", ""); !strings.Contains(a.body, `"total":1,`) {
		t.Errorf("a transaction that was denied wrote: %s", a.body)
	}
	f(200, mine)
}

// A page's links are for who was given them.
func TestPagesAreTheirClients(t *testing.T) {
	s := newGuarded(t)
	for _, path := range []string{"/fhir/Observation?_count=1", "/fhir/Observation/own/_history?_count=1"} {
		s.fixture(t)
		s.as(t, "admin", "PUT", "/fhir/Observation/own", `{"resourceType":"Observation","id":"own","status":"final","code":{"text":"`+path+`"},"subject":{"reference":"Patient/own"}}`)
		var b struct {
			Link []struct{ Relation, URL string }
		}
		a := s.as(t, "pat-rs", "GET", path, "")
		if err := json.Unmarshal([]byte(a.body), &b); err != nil || len(b.Link) < 2 || b.Link[1].Relation != "next" {
			t.Fatalf("no next page: %s", a.body)
		}
		for client, status := range map[string]int{"pat-rs": 200, "reader": 400, "pat-all": 400, "admin": 400, "": 401} {
			if a := s.as(t, client, "GET", b.Link[1].URL, ""); a.status != status {
				t.Errorf("%s, %s: %d, want %d", client, path, a.status, status)
			}
		}
	}
}

// 401 is for who is not known, with what OAuth wants to be told.
func TestWhoIsNotKnown(t *testing.T) {
	s := newGuarded(t)
	f := func(path, authorization string, status int, challenge string) {
		t.Helper()
		var headers []string
		if authorization != "" {
			headers = []string{"Authorization: " + authorization}
		}
		a := s.do(t, "GET", path, "", headers...)
		if a.status != status || !strings.HasPrefix(a.header.Get("WWW-Authenticate"), challenge) {
			t.Errorf("GET %s with %q: %d, WWW-Authenticate %q", path, authorization, a.status, a.header.Get("WWW-Authenticate"))
		}
		if status == 401 {
			a.outcome(t)
		}
	}
	f("/fhir/metadata", "", 200, "")
	f("/fhir/metadata", "Bearer wrong", 200, "")
	f("/healthz", "", 200, "")
	f("/fhir/Patient/own", "", 401, "Bearer")
	f("/fhir/Patient/missing", "", 401, "Bearer")
	f("/fhir/Nothing/own", "", 401, "Bearer")
	f("/fhir/Patient?nothing=1", "", 401, "Bearer")
	f("/metrics", "", 401, "Bearer")
	f("/fhir/Patient/own", "Bearer wrong", 401, `Bearer realm="kiln", error="invalid_token"`)
	f("/fhir/Patient/own", "Bearer reader", 200, "")
	if a := s.do(t, "OPTIONS", "/fhir/Patient/own", ""); a.status != 204 {
		t.Errorf("OPTIONS: %d", a.status)
	}
}
